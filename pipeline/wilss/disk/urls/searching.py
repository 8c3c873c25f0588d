"""What `os` says of folders, for paths on disk and in buckets alike."""

import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from . import fetching
from .path import UrlPath, path_of

#: By folder below the top the names of the folders and files in it.
_Folders: TypeAlias = dict[str, tuple[set[str], list[str]]]


#: Requests at a time.
_THREADS = 32


def threads_for(path: Path, usual: int) -> int:
    """How many threads read files that lie as `path` does: many where each waits for an answer."""
    return _THREADS if isinstance(path, UrlPath) else usual


def is_file(path: Path) -> bool:
    """Whether a file is there; unlike pathlib's it raises nothing for a name that is too long."""
    return path.is_file() if isinstance(path, UrlPath) else os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Whether a folder is there, likewise."""
    return path.is_dir() if isinstance(path, UrlPath) else os.path.isdir(path)


def is_there_at(path: Path) -> bool:
    """Whether anything is there, likewise."""
    return path.exists() if isinstance(path, UrlPath) else os.path.exists(path)


def file_names(folder: str) -> Iterator[str]:
    """The names of the files in a folder, and of links. Raises OSError."""
    if isinstance(path := path_of(folder), UrlPath):
        yield from fetching.folder(path.url)[1]
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry.name


def walk(top: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`: each folder below `top`, and the names of the folders and files in it."""
    return _walk(top) if isinstance(top, UrlPath) else os.walk(top, onerror=onerror)


def _walk(top: UrlPath) -> Iterator[tuple[str, list[str], list[str]]]:
    """One listing of all that is below, since a request for each folder would take long."""
    folders: _Folders = {"": (set(), [])}
    for name in fetching.below(top.url):
        parent, _, last = name.rpartition("/")
        _noted(folders, parent)[1].append(last)
    waiting = [""]
    while waiting:
        here = waiting.pop()
        below, files = sorted(folders[here][0]), folders[here][1]
        yield str(top / here), below, files
        waiting += [posixpath.join(here, name) for name in reversed(below)]


def _noted(folders: _Folders, folder: str) -> tuple[set[str], list[str]]:
    """What is in a folder, which is noted in those above it."""
    if folder not in folders:
        parent, _, last = folder.rpartition("/")
        _noted(folders, parent)[0].add(last)
        folders[folder] = (set(), [])
    return folders[folder]
