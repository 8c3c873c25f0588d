"""`ObjectFolder`: a folder of files in a bucket (S3 and what speaks it, Google's, Azure's).

A bucket has no rename and no lock. In their place:

    step-1.zarr/...           the store, the same files as on disk
    step-1.zarr.lock          who writes it, see `object_lock`
    step-1.zarr.building/...  a store that is being built (`built_beside`)
    step-1.zarr.whole         the names of its files, written once it is whole; then they are copied into the store's
                              place, its `zarr.json` last, after that of the former store went first

What a killed `built_beside` left is finished by `settle` where there is a `.whole`, and thrown away where there is
none. Listings may come late; what was written here is known without them.
"""

import contextlib
import functools
import json
import os
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from wilss.errors import ParameterError
from wilss.process import map_in_threads

from .buckets import Bucket, client_below
from .folder import Folder, OpenedFile, Watch
from .kept import KeptBytes
from .locations import BEGUN, ObjectUrl
from .object_lock import object_lock, require_right

_T = TypeVar("_T")
_R = TypeVar("_R")

_ROOT = "zarr.json"
_THREADS = 16
#: How many slashes the name of a file has at most that is not of a shard: `tags/c/0/0`.
_VECTOR_DEPTH = 3
#: MiB of shards that are kept in memory once they were read; this variable of the environment says another number.
_KEPT_MIB = "256"
_MEMORY = "WILSS_SHARD_MEMORY"

#: The names that this process wrote below a URL while something is being built there.
_WRITTEN: dict[ObjectUrl, set[str]] = {}


class ObjectFolder(Folder):
    """A folder in a bucket."""

    # ruff: noqa: D102 (what the methods do is said by `Folder`)

    location: ObjectUrl
    is_far = True

    def __init__(self, location: ObjectUrl) -> None:
        super().__init__(location)
        self._bucket, self._kept = Bucket(location), _kept()
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.location,)

    # -- reading --------------------------------------------------------------------------------------------

    def exists(self, name: str = "") -> bool:
        if name:
            return self._bucket.head(self._key(name)) is not None
        if self.exists(_ROOT):
            return True
        is_anything = any(True for _ in self._bucket.list(self.location.key))
        # Half of its files may be there, of a store that takes its place or is begun by many (`shared.upload_once`).
        # Both say so before they write any, so this is asked after what there is.
        if any(self._bucket.head(self._beside(mark)) is not None for mark in ("whole", f"parts/{BEGUN}")):
            return False
        return is_anything

    def read(self, name: str) -> bytes:
        return self._bucket.get(self._key(name))

    @contextlib.contextmanager
    def open(self, name: str, version: str = "") -> Iterator[OpenedFile]:
        """A whole file is one request, where its index and its parts would be many."""
        key = self.location, name, version
        if (watch := getattr(self._of_thread, "watch", None)) is not None:
            watch.note(key)
        yield _Fetched(self._kept.get(key, lambda: self.read(name)) if version else self.read(name))

    def files(self, below: str = "") -> Iterator[tuple[str, int]]:
        start = len(self.location.key) + 1
        for key, size in self._bucket.list(self._key(below) if below else self.location.key):
            yield key[start:], size

    def signature(self, name: str) -> Hashable:
        known = self._bucket.head(self._key(name))
        return None if known is None else (known.get("e_tag"), known.get("version"), known["size"])

    def watch(self) -> Watch:
        self._of_thread.watch = watch = _Watch(self._kept)
        return watch

    def each(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        return map_in_threads(function, items, _THREADS)

    # -- writing --------------------------------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> None:
        require_right(self.location)
        self._bucket.put(self._key(name), data)
        self._note(name)

    def create(self, name: str, data: bytes) -> bool:
        require_right(self.location)
        self._note(name)
        return self._bucket.create(self._key(name), data)

    def remove(self, name: str) -> None:
        require_right(self.location)
        self._bucket.delete([self._key(name)])
        if self.location in _WRITTEN:
            _WRITTEN[self.location].discard(name)

    def take(self, other: Folder, source: str, target: str) -> None:
        """Within a bucket the server copies it."""
        if isinstance(other, ObjectFolder) and other._bucket.root == self._bucket.root:
            require_right(self.location)
            self._bucket.copy(other._key(source), self._key(target))
            self._note(target)
        else:
            self.write(target, other.read(source))

    # -- the whole --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def drafted(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="wilss-") as draft:
            place = Path(draft) / self.location.name
            yield place
            files = sorted(file for file in place.rglob("*") if file.is_file())
            names = [file.relative_to(place).as_posix() for file in files]
            _each(lambda name: self.write(name, (place / name).read_bytes()), [n for n in names if n != _ROOT])
            if _ROOT in names:
                self.write(_ROOT, (place / _ROOT).read_bytes())

    @contextlib.contextmanager
    def built_beside(self) -> Iterator[Folder]:
        self.settle()
        building = ObjectFolder(self.location.with_name(f"{self.location.name}.building"))
        _WRITTEN[building.location] = set()
        try:
            yield building
            names = _WRITTEN.pop(building.location) | {name for name, _ in building.files()}
            require_right(self.location)
            self._bucket.put(self._beside("whole"), json.dumps(sorted(names)).encode())
        finally:
            _WRITTEN.pop(building.location, None)
            self.settle()

    def settle(self) -> None:
        require_right(self.location)
        building = ObjectFolder(self.location.with_name(f"{self.location.name}.building"))
        try:
            names = json.loads(self._bucket.get(self._beside("whole")))
        except FileNotFoundError:
            building._throw_away()
            return
        self._throw_away(but=names)
        _each(lambda name: self.take(building, name, name), [name for name in names if name != _ROOT])
        if _ROOT in names:
            self.take(building, _ROOT, _ROOT)
        self._bucket.delete([self._beside("whole")])
        building._throw_away(also=names)

    def lock(self) -> AbstractContextManager[None]:
        return object_lock(self._bucket, self.location)

    def sweep(self) -> int:
        return 0  # what is not whole is not there

    def sweep_of(self, name: str) -> int:
        return 0

    def require_writable(self) -> None:
        self._bucket.now(self.location.key)

    def for_zarr(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(client_below(self.location), read_only=True)

    # -----------------------------------------------------------------------------------------------------------

    def _throw_away(self, *, but: Iterable[str] = (), also: Iterable[str] = ()) -> None:
        """Remove what is here: first what says what is here, then what that is, which lies deeper.

        but: what is about to be replaced; of it only what lies as high as the vectors goes. also: what a listing may
        not know of yet.
        """
        names = {*also, *(name for name, _ in self.files())}
        kept = {name for name in but if name.count("/") > _VECTOR_DEPTH}
        for depth in sorted({name.count("/") for name in names}):
            _each(self.remove, [name for name in names - kept if name.count("/") == depth])

    def _key(self, name: str) -> str:
        return f"{self.location.key}/{name}"

    def _beside(self, ending: str) -> str:
        return f"{self.location.key}.{ending}"

    def _note(self, name: str) -> None:
        if self.location in _WRITTEN:
            _WRITTEN[self.location].add(name)


class _Watch(Watch):
    """What is kept in memory beyond doubt is no newer than it was."""

    def __init__(self, kept: KeptBytes) -> None:
        self._kept = kept
        self._read: list[tuple[ObjectUrl, str, str]] = []
        self._doubtful = False

    def note(self, key: tuple[ObjectUrl, str, str]) -> None:
        self._read.append(key)
        self._doubtful = self._doubtful or not self._kept.is_confirmed(key)

    @property
    def is_doubtful(self) -> bool:
        return self._doubtful

    def keep(self) -> None:
        if self._doubtful:
            self._kept.confirm(key for key in self._read if key[2])

    def drop(self) -> None:
        self._kept.drop(self._read)


class _Fetched(OpenedFile):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


@functools.cache
def _kept() -> KeptBytes:
    """What this process keeps in memory of all buckets. Raises ParameterError for a wrong variable."""
    asked = os.environ.get(_MEMORY) or _KEPT_MIB
    if not asked.isdecimal():
        raise ParameterError(
            f"{_MEMORY} is {asked!r}, which is no number of MiB; set e.g. {_MEMORY}=1024, or unset it."
        )
    return KeptBytes(int(asked) << 20)


def _each(function: Callable[[str], None], names: Iterable[str]) -> None:
    """Call a function with every name, several at a time; raises what the first of them raises."""
    for _ in map_in_threads(function, names, _THREADS):
        pass
