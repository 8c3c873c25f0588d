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

__all__ = [
    "BUILDING_SUFFIX",
    "PARTIAL_SUFFIX",
    "AppendedFile",
    "Folder",
    "LocalFolder",
    "Location",
    "ObjectUrl",
    "OpenedFile",
    "SharedFolder",
    "SharedLock",
    "Watch",
    "built_beside",
    "cache_folder",
    "folder_at",
    "is_there",
    "left_of",
    "location_of",
    "make_folder",
    "part_lock",
    "refuse_existing",
    "remove_tree",
    "require_writable",
    "resolved",
    "settle",
    "shared_folder_at",
    "sweep_partials",
    "sweep_partials_of",
    "sync_folder",
    "unlink",
    "waiting_lock",
    "write_atomically",
    "write_output",
    "writer_lock",
    "writing",
]
