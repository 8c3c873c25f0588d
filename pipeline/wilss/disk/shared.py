"""Files that many processes write at once, on any machines, without a lock: the first wins, and all agree who it was.

What decides on disk is one call to the file system that is whole or not done also over NFS: a hard link to a finished
file, and the rename of a folder onto a name that nobody has. Unlike a `Folder`, a `SharedFolder` is not made by writing
to it: who still writes to one that was discarded is told.
"""

import errno
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from .files import (
    BUILDING_SUFFIX,
    FORMER_SUFFIX,
    create_if_absent,
    own_name,
    remove_tree,
    sync_folder,
    sync_tree,
    unlink,
    write_into,
)
from .folder import Folder, LocalFolder
from .locations import BEGUN, Location
from .places import folder_at

#: What `build_once` and `discard` leave where they are killed.
_LEFT = re.compile(rf"\.[0-9a-f]{{32}}({BUILDING_SUFFIX}|{FORMER_SUFFIX})$")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


class SharedFolder(ABC):
    """Files by name that any number of processes write, none of them their owner. Methods raise OSError.

    What writes raises FileNotFoundError where the folder was discarded.
    """

    @abstractmethod
    def is_begun(self) -> bool:
        """Whether it is there."""

    @abstractmethod
    def begin(self) -> None:
        """Make it, if it is not there."""

    @abstractmethod
    def names(self) -> list[str]:
        """All files in it; none where it is not there."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A whole file."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless somebody has; whether it was this call. Whoever sees it sees all of it."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def move(self, name: str, folder: Folder, target: str) -> bool:
        """Give a file its place in a folder; False where it has left already."""

    @abstractmethod
    def discard(self) -> None:
        """Remove all of it."""


class LocalSharedFolder(SharedFolder):
    """One on disk."""

    # ruff: noqa: D102 (what the methods do is said by `SharedFolder`)

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_begun(self) -> bool:
        return self._path.is_dir()

    def begin(self) -> None:
        self._path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        try:
            return os.listdir(self._path)
        except FileNotFoundError:
            return []

    def has(self, name: str) -> bool:
        return (self._path / name).exists()

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def create(self, name: str, data: bytes) -> bool:
        return create_if_absent(self._path / name, data)

    def write(self, name: str, data: bytes) -> None:
        write_into(self._path / name, data)

    def remove(self, name: str) -> None:
        unlink(self._path / name)

    def move(self, name: str, folder: Folder, target: str) -> bool:
        return move_in(self._path / name, Path(str(folder.location), target))

    def discard(self) -> None:
        """It loses its name first, so that others notice at once."""
        discard(self._path)


class SharedObjects(SharedFolder):
    """One in a bucket, which has no folders: a key says that it is begun.

    Writing to one that was discarded raises nothing there. Whoever creates a name looks afterwards whether what the
    names are about is still as it was, and does no more where it is not.
    """

    # ruff: noqa: D102

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def is_begun(self) -> bool:
        return self._folder.exists(BEGUN)

    def begin(self) -> None:
        self._folder.create(BEGUN, b"begun")

    def names(self) -> list[str]:
        return [name for name, _ in self._folder.files()]

    def has(self, name: str) -> bool:
        return self._folder.exists(name)

    def read(self, name: str) -> bytes:
        return self._folder.read(name)

    def create(self, name: str, data: bytes) -> bool:
        return self._folder.create(name, data)

    def write(self, name: str, data: bytes) -> None:
        self._folder.write(name, data)

    def remove(self, name: str) -> None:
        self._folder.remove(name)

    def move(self, name: str, folder: Folder, target: str) -> bool:
        """Copied, then removed: others may do the same at the same time."""
        try:
            folder.take(self._folder, name, target)
        except FileNotFoundError:
            return False
        self._folder.remove(name)
        return True

    def discard(self) -> None:
        for _ in self._folder.each(self._folder.remove, self.names()):
            pass


def shared_folder_at(location: Location) -> SharedFolder:
    """The shared folder at a location."""
    return LocalSharedFolder(location) if isinstance(location, Path) else SharedObjects(folder_at(location))


def move_in(source: Path, target: Path) -> bool:
    """Give a finished file its place; False where it has left already. The folder of `target` is made."""
    if not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except FileNotFoundError:  # somebody else was quicker
        return False
    sync_folder(target.parent)
    return True


def build_once(path: Path, build: Callable[[Path], object]) -> bool:
    """Build a folder under a name of its own and name it `path` unless something is; whether it was this call."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    building = own_name(path, BUILDING_SUFFIX)
    try:
        build(building)
        sync_tree(building)
        building.rename(path)
    except OSError as error:
        if error.errno in _TAKEN or (isinstance(error, FileNotFoundError) and path.exists()):
            return False
        raise
    finally:
        remove_tree(building)
    sync_folder(path.parent)
    return True


def upload_once(folder: Folder, build: Callable[[Path], object], last: str, beside: SharedFolder) -> bool:
    """The same in a bucket: whether what is being built there is this; False where it is another one.

    Any number of processes may build the same at once. last: the file without which nothing is there. beside: where the
    first says what it builds, before it does.
    """
    with tempfile.TemporaryDirectory() as scratch:
        built = LocalFolder(Path(scratch) / "built")
        build(built.location)
        files = {name: built.read(name) for name, _ in built.files()}
    if not beside.create(BEGUN, files[last]) and beside.read(BEGUN) != files[last]:
        return False
    for name in sorted(files.keys() - {last}):
        folder.create(name, files[name])  # never in the place of what somebody has made of it meanwhile
    folder.create(last, files[last])
    return True


def discard(folder: Path) -> None:
    """Remove a folder that others may be writing to: it loses its name first, so that they notice at once."""
    former = own_name(folder, FORMER_SUFFIX)
    try:
        folder.rename(former)
    except FileNotFoundError:
        return
    remove_tree(former)


def left_of(path: Location) -> list[Path]:
    """What killed calls of `build_once` and `discard` left of the folder `path` or of one whose name begins so."""
    if not isinstance(path, Path):  # where nothing is ever renamed
        return []
    beside = path.parent.iterdir() if path.parent.is_dir() else iter(())
    return [left for left in beside if left.name.startswith(f"{path.name}.") and _LEFT.search(left.name)]


def sweep_shared(path: Location) -> None:
    """Remove that, once nobody builds or discards there."""
    for left in left_of(path):
        remove_tree(left)
