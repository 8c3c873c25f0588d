"""Data that lie in a bucket: `UrlPath`, which readers of data take as they take a path on disk; never written.

Bytes that were fetched are kept for a while, in memory and on disk, see `fetching`.
"""

from .copying import copied, on_disk
from .path import UrlPath, absolute, data_path, joined, path_of, seen_from
from .searching import file_names, is_file, is_folder, is_there_at, threads_for, walk
from .states import FileStates, state_now

__all__ = [
    "FileStates",
    "UrlPath",
    "absolute",
    "copied",
    "data_path",
    "file_names",
    "is_file",
    "is_folder",
    "is_there_at",
    "joined",
    "on_disk",
    "path_of",
    "seen_from",
    "state_now",
    "threads_for",
    "walk",
]
