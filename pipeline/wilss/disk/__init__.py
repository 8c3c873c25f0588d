"""The one home of writing to disk: whole files and folders or none.

Every write of ours goes through here, but for what libraries write into a folder that `built_beside` gives. The tests
of faults break each kind of write in every way, and fail where a write went past this package.
"""

from .files import (
    BUILDING_SUFFIX,
    PARTIAL_SUFFIX,
    AppendedFile,
    built_beside,
    cache_folder,
    make_folder,
    remove_tree,
    require_writable,
    settle,
    sweep_partials,
    sweep_partials_of,
    sync_folder,
    unlink,
    write_atomically,
    write_output,
    writing,
)
from .folder import Folder, LocalFolder, OpenedFile, Watch
from .locations import Location, ObjectUrl, location_of, resolved
from .lock import SharedLock, part_lock, waiting_lock, writer_lock
from .places import folder_at, is_there, refuse_existing
from .shared import SharedFolder, left_of, shared_folder_at
from .urls import (
    FileStates,
    UrlPath,
    absolute,
    data_path,
    is_file,
    is_folder,
    is_there_at,
    joined,
    names_in,
    path_of,
    state_now,
    threads_for,
    walk,
)

__all__ = [
    "BUILDING_SUFFIX",
    "PARTIAL_SUFFIX",
    "AppendedFile",
    "FileStates",
    "Folder",
    "LocalFolder",
    "Location",
    "ObjectUrl",
    "OpenedFile",
    "SharedFolder",
    "SharedLock",
    "UrlPath",
    "Watch",
    "absolute",
    "built_beside",
    "cache_folder",
    "data_path",
    "folder_at",
    "is_file",
    "is_folder",
    "is_there",
    "is_there_at",
    "joined",
    "left_of",
    "location_of",
    "make_folder",
    "names_in",
    "part_lock",
    "path_of",
    "refuse_existing",
    "remove_tree",
    "require_writable",
    "resolved",
    "settle",
    "shared_folder_at",
    "state_now",
    "sweep_partials",
    "sweep_partials_of",
    "sync_folder",
    "threads_for",
    "unlink",
    "waiting_lock",
    "walk",
    "write_atomically",
    "write_output",
    "writer_lock",
    "writing",
]
