"""Writing folders so that they are either whole or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .files import sync, sync_folder

BUILDING_SUFFIX = ".building"
_FORMER_SUFFIX = ".former"


@contextlib.contextmanager
def built_beside(path: Path) -> Iterator[Path]:
    """A name beside `path` to build a folder under; it becomes `path` at the end, by a rename, once it is on disk.

    What had the name before goes then, or stays where the body raises. A kill between the two renames leaves the
    former folder under another name; the next call brings it back first.
    """
    building, former = (path.with_name(f"{path.name}{ending}") for ending in (BUILDING_SUFFIX, _FORMER_SUFFIX))
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path)
    try:
        yield building
        sync_tree(building)
        if path.exists():
            path.rename(former)
        building.rename(path)
        sync_folder(path.parent)
    finally:
        settle(path)


def settle(path: Path) -> None:
    """Undo what a killed `built_beside` left: bring the former folder back where none has the name, remove the rest."""
    building, former = (path.with_name(f"{path.name}{ending}") for ending in (BUILDING_SUFFIX, _FORMER_SUFFIX))
    if former.exists() and not path.exists():
        former.rename(path)
    for left_over in (building, former):
        remove_tree(left_over)


def make_folder(path: Path) -> None:
    """Make `path` and the folders above it, if they are not there. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder; what cannot be removed stays, and is no error."""
    shutil.rmtree(path, ignore_errors=True)


def sync_tree(path: Path) -> None:
    """fsync every file and folder of a tree, for what zarr wrote without doing so."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync(Path(folder, name))
        sync_folder(Path(folder))
