"""The one home of writing to disk: whole files and folders or none, and every write at a named point."""

from .files import (
    PARTIAL_SUFFIX,
    append_file,
    sweep_partials,
    sweep_partials_of,
    sync_file,
    sync_folder,
    unlink,
    write_atomically,
)
from .folders import BUILDING_SUFFIX, built_beside, make_folder, remove_tree, settle, sync_tree
from .write_points import WritePoint, at, point_of

__all__ = [
    "BUILDING_SUFFIX",
    "PARTIAL_SUFFIX",
    "WritePoint",
    "append_file",
    "at",
    "built_beside",
    "make_folder",
    "point_of",
    "remove_tree",
    "settle",
    "sweep_partials",
    "sweep_partials_of",
    "sync_file",
    "sync_folder",
    "sync_tree",
    "unlink",
    "write_atomically",
]
