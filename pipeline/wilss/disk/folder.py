"""`Folder`: the files of a store by their names, wherever they lie; all that `wilss.store` knows of disks.

Two kinds: `LocalFolder` here, and `ObjectFolder` (in `objects`) for buckets. Both keep the same promises:

* a file is written whole or not at all, and stays through a power cut once `write` or `create` has returned;
* `create` writes a file that is not there yet, and says who came first: of any number of processes, on any number of
  machines, that create one name at the same time exactly one is told True, and its bytes are what is there from then
  on. The others are told False and have changed nothing; they `read` the file to learn who came first. A caller whose
  answer was lost on the way may be told True for bytes that are its own, so what tells callers apart belongs into the
  bytes. A caller that is killed has created the whole file or none;
* files are replaced and never changed in place, so what `open` gave stays one version of a file;
* a name that is not there is FileNotFoundError.

Names are relative and have slashes: `mask/c/0/0/0/0`.
"""

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from .files import (
    PARTIAL_SUFFIX,
    built_beside,
    create_if_absent,
    make_folder,
    require_writable,
    settle,
    sweep_partials,
    sweep_partials_of,
    unlink,
    write_atomically,
)
from .locations import Location
from .lock import writer_lock

_T = TypeVar("_T")
_R = TypeVar("_R")


class OpenedFile(ABC):
    """One version of a file, read in pieces. size: in bytes."""

    size: int

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from `offset`; fewer where the file ends before. Raises OSError."""


class Watch:
    """What one thread reads of files that others may replace meanwhile; on disk all of it may be new."""

    @property
    def is_doubtful(self) -> bool:
        """Whether anything was read that may be newer than what the reader knows of the store."""
        return True

    def keep(self) -> None:
        """All that was read is what it was asked for by its version, and may be kept as such."""

    def drop(self) -> None:
        """It is not."""


class Folder(ABC):
    """Files by name, see the module. `location` is what a user calls it.

    Methods raise OSError, or StoreError with a sentence where a server does not answer or refuses.
    """

    #: Whether reading takes long, so that it pays to read ahead.
    is_far = False

    def __init__(self, location: Location) -> None:
        self.location = location

    def __str__(self) -> str:
        return str(self.location)

    # -- reading --------------------------------------------------------------------------------------------

    @abstractmethod
    def exists(self, name: str = "") -> bool:
        """Whether a file of this name is there, plain and no pipe; without a name, whether there is anything at all."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A whole file."""

    @abstractmethod
    def open(self, name: str, version: str = "") -> AbstractContextManager[OpenedFile]:
        """One version of a file, to be read in pieces.

        version: a name of ours for what the file holds, "" for none; what was read under one may be kept for the next
        who asks for the same.
        """

    @abstractmethod
    def files(self, below: str = "") -> Iterator[tuple[str, int]]:
        """Name and size of all files in the folder `below`, in any order, but what a killed writer left unfinished."""

    @abstractmethod
    def signature(self, name: str) -> Hashable:
        """What differs once the file was replaced, without reading it; None where there is none."""

    @abstractmethod
    def watch(self) -> "Watch":
        """Of what this thread reads from now on."""

    def each(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """`function` of each item, in order; several at a time where each waits for an answer."""
        return map(function, items)

    # -- writing --------------------------------------------------------------------------------------------

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file, in the place of what has the name."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write a file if none has the name, and say whether it was this call that did; see the module."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def take(self, other: "Folder", source: str, target: str) -> None:
        """Have the file `source` of another folder of this kind as `target`, without reading it where that can be."""

    # -- the whole --------------------------------------------------------------------------------------------

    @abstractmethod
    def drafted(self) -> AbstractContextManager[Path]:
        """A folder on disk for libraries that write files themselves; at the end what they wrote is in this one."""

    @abstractmethod
    def built_beside(self) -> "AbstractContextManager[Folder]":
        """Another folder to build in, which takes this one's place at the end, or nothing does where the body raises.

        Whoever reads meanwhile reads the former one, or is told that it is gone. What a kill left is undone, or
        finished, by the next call, or by `settle`.
        """

    @abstractmethod
    def settle(self) -> None:
        """Undo or finish what a killed `built_beside` left."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """The right to write the store in this folder. Raises StoreError, naming the holder, where somebody has it."""

    @abstractmethod
    def sweep(self) -> int:
        """Remove what a killed writer left unfinished; how many files there were."""

    @abstractmethod
    def sweep_of(self, name: str) -> int:
        """The same for one file, which nobody else may be writing."""

    @abstractmethod
    def require_writable(self) -> None:
        """Raise OSError or StoreError unless files can be written beside and in this folder."""

    @abstractmethod
    def for_zarr(self) -> Any:
        """What zarr and xarray open as this folder."""


class LocalFolder(Folder):
    """A folder on disk.

    lasting: False for one that is being built, all of which is synced at its end (`sync_tree`).
    """

    # ruff: noqa: D102 (what the methods do is said by `Folder`)

    location: Path

    def __init__(self, location: Path, *, lasting: bool = True) -> None:
        super().__init__(location)
        self._lasting = lasting

    def exists(self, name: str = "") -> bool:
        return (self.location / name).is_file() if name else self.location.exists()

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    @contextlib.contextmanager
    def open(self, name: str, version: str = "") -> Iterator[OpenedFile]:
        with self.path(name).open("rb") as file:
            yield _LocalFile(file.fileno())

    def files(self, below: str = "") -> Iterator[tuple[str, int]]:
        for file in (self.location / below).rglob("*"):
            if not (file.is_dir() or file.name.endswith(PARTIAL_SUFFIX)):
                yield file.relative_to(self.location).as_posix(), file.stat().st_size

    def signature(self, name: str) -> Hashable:
        """A file that is replaced is another one."""
        try:
            state = os.stat(f"{self.location}/{name}")
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size

    def watch(self) -> "Watch":
        return Watch()

    def write(self, name: str, data: bytes) -> None:
        write_atomically(self.path(name), data, lasting=self._lasting)

    def create(self, name: str, data: bytes) -> bool:
        path = self.path(name)
        make_folder(path.parent)
        return create_if_absent(path, data)

    def remove(self, name: str) -> None:
        unlink(self.path(name))

    def take(self, other: Folder, source: str, target: str) -> None:
        """A file of a store is replaced and never changed, so both may have the same; else it is copied."""
        file, path = Path(str(other.location), source), self.path(target)
        make_folder(path.parent)
        try:
            os.link(file, path)
        except OSError:
            shutil.copyfile(file, path)

    @contextlib.contextmanager
    def drafted(self) -> Iterator[Path]:
        yield self.location

    @contextlib.contextmanager
    def built_beside(self) -> Iterator[Folder]:
        with built_beside(self.location) as building:
            yield LocalFolder(building, lasting=False)

    def settle(self) -> None:
        settle(self.location)

    def lock(self) -> AbstractContextManager[None]:
        make_folder(self.location.parent)
        return writer_lock(self.location)

    def sweep(self) -> int:
        return sweep_partials(self.location)

    def sweep_of(self, name: str) -> int:
        return sweep_partials_of(self.path(name))

    def require_writable(self) -> None:
        for folder in (self.location.parent, self.location):
            try:
                if folder is not self.location:
                    make_folder(folder)
                if folder.is_dir():
                    require_writable(folder)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(folder)) from error

    def for_zarr(self) -> Path:
        return self.location

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.location.joinpath(*name.split("/"))


class _LocalFile(OpenedFile):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)
