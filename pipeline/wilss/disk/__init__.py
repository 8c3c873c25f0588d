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
    refuse_existing,
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
from .lock import SharedLock, waiting_lock, writer_lock

__all__ = [
    "BUILDING_SUFFIX",
    "PARTIAL_SUFFIX",
    "AppendedFile",
    "SharedLock",
    "built_beside",
    "cache_folder",
    "make_folder",
    "refuse_existing",
    "remove_tree",
    "require_writable",
    "settle",
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
