"""A disk that breaks where a test wants it to, under everything that Python writes.

`watched()` records every operation with the kind of write that it belongs to, which its path tells; with a `Fault` it
breaks one of them.
What is written by C code alone would go unseen: the tests compare what lies on disk afterwards with what was recorded.
"""

import builtins
import contextlib
import errno
import functools
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import wilss.disk

__all__ = ["KINDS_OF_WRITE", "WAYS", "Fault", "Operation", "Recording", "Way", "lies_on_disk", "watched"]

Way = Literal["kill", "EIO", "ENOSPC", "EACCES", "short"]
WAYS: tuple[Way, ...] = ("kill", "EIO", "ENOSPC", "EACCES", "short")

#: Kind of write -> the operations of it, each with its path in a scene's folder; the first that fits counts.
KINDS_OF_WRITE = {
    "lock": r"\w+ (s\.zarr|run|shapes)\.(lock|owner\.json)",
    "folder of results": r"\w+ (\.|run)",
    "store.stamps": r"(?!remove .*\.partial)\w+ s\.zarr\.stamps.*",
    "store.probe": r"open (\.|s\.zarr)",
    "parts.receipt": r"\w+ s\.zarr\.parts/\w+/\d+\.\d+\.receipt.*",
    "parts.file": r"\w+ s\.zarr\.parts.*",
    "store.building": r"\w+ s\.zarr(\.[0-9a-f]{32})?\.building.*",
    "store.replace": r"(rename s\.zarr|\w+ s\.zarr\.former.*)",
    "store.shard": r"(?!remove .*\.partial)\w+ s\.zarr/(mask|void|score|attention|seeds)/.*",
    "store.vectors": r"(?!remove .*\.partial)\w+ s\.zarr/(?!zarr\.json).*",
    "store.seal": r"(?!remove .*\.partial)\w+ s\.zarr(/zarr\.json.*)?",
    "sweep": r"remove .*\.partial",
    "review": r"(?!remove .*\.partial)\w+ s\.review.*",
    "run.clear": r"remove run/(?!state|.*\.building).*",
    "run.identity": r"\w+ run/run\.json.*",
    "run.log": r"\w+ run/log\.jsonl.*",
    "run.curves": r"\w+ run/tensorboard.*",
    "run.done": r"\w+ run/done\.json.*",
    "state.prune": r"remove run/state.*",
    "state": r"\w+ run/state.*",
    "checkpoint": r"\w+ run/model\.safetensors.*",
    "labeller": r"\w+ run/labeller\.safetensors.*",
    "memory": r"\w+ run/memory\.zarr.*",
    "report": r"\w+ run/report\..*",
    "result": r"\w+ scores\.json.*",
    "export": r"\w+ png.*",
    "manifest": r"\w+ (new\.yaml|data-(train|val)\.txt).*",  # and the lists of a split that it draws
    "manifest.lock": r"\w+ data_manifest\.lock.*",
    "supports": r"\w+ supports.*",
    "built-in data": r"\w+ shapes(\.building.*|\.former.*)?",
    "text cache": r"\w+ cache.*",
}
#: TensorBoard writes by itself.
WRITTEN_BY_LIBRARIES = ("run.curves",)

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEEDS_SPACE = ("open", "write", "mkdir", "rename")
#: What is no file of anybody's: pipes, devices, and Python's own cache of bytecode.
_NOBODYS = ("/dev/", "/proc/", "pipe:", "socket:", "anon_inode:")


@dataclass(frozen=True)
class Operation:
    """One thing done to the disk. what: open (to write), write, fsync, rename, link, mkdir, remove, change.

    kind: of write, see `KINDS_OF_WRITE`; None where it is none of them. is_ours: it went by `wilss.disk`.
    """

    kind: str | None
    what: str
    path: str = field(compare=False)
    source: str = field(default="", compare=False)  # of a rename
    is_ours: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Fault:
    """Break the operation `what` of a kind of write when it comes for the `number`th time (from 0).

    way: "kill" is SIGKILL, a write being half done. "short": half of a write is on disk; the other half meets a full
    disk, or, in an unbuffered file, is left to the caller. "ENOSPC": the disk stays full. "EIO", "EACCES": this
    operation alone.
    """

    kind: str
    what: str
    way: Way
    number: int = 0


@dataclass
class Recording:
    """What was done, in order, and whether the fault came to pass."""

    operations: list[Operation] = field(default_factory=list)
    broke: bool = False

    @property
    def strays(self) -> list[Operation]:
        """Changes of no kind that is known, or that went past `wilss.disk`. An fsync changes nothing."""
        return [
            operation
            for operation in self.operations
            if operation.what != "fsync"
            and (operation.kind is None or not (operation.is_ours or operation.kind in WRITTEN_BY_LIBRARIES))
        ]

    def written(self) -> set[str]:
        """Paths that were opened to be written, or came to be by the rename of such a file or of a folder above it."""
        found: set[str] = set()
        for one in self.operations:
            if one.what in ("open", "link"):
                found.add(one.path)
            if one.what == "rename":
                found |= {one.path + path[len(one.source) :] for path in found if _is_in(path, one.source)}
        return found


@contextlib.contextmanager
def watched(root: Path, fault: Fault | None = None) -> Iterator[Recording]:
    """Put this disk under the process. root: the folder that all is to be written in."""
    disk = _Disk(str(root), fault)
    names = ("replace", "rename", "mkdir", "unlink", "remove", "rmdir", "fsync", "open", "write", "pwrite", "link",
             "symlink", "truncate", "ftruncate", "chmod", "utime")  # fmt: skip
    before = {name: getattr(os, name) for name in names}
    real_open = io.open
    try:
        for name, real in before.items():
            setattr(os, name, functools.wraps(real)(getattr(disk, f"_{_KINDS_OF[name]}")(real)))
        io.open = builtins.open = disk.opened(real_open)
        yield disk.recording
    finally:
        io.open = builtins.open = real_open
        for name, real in before.items():
            setattr(os, name, real)


_KINDS_OF = {
    "replace": "rename", "rename": "rename", "link": "link", "symlink": "link", "mkdir": "mkdir",
    "unlink": "remove", "remove": "remove", "rmdir": "remove", "fsync": "fsync", "open": "open", "write": "raw",
    "pwrite": "raw", "truncate": "change", "ftruncate": "change", "chmod": "change", "utime": "change",
}  # fmt: skip


class _Disk:
    """Every operation comes by `meet`, which records it and breaks it if it is the one."""

    def __init__(self, root: str, fault: Fault | None) -> None:
        self._root, self.recording = root, Recording()
        self._fault, self._left, self._full = fault, 0 if fault is None else fault.number, False

    def meet(self, what: str, path: str, source: str = "") -> Way | None:
        """Record an operation. Raises OSError, or kills, where it is to break; a half write is the caller's to make."""
        if not _is_in(path, self._root) and (path.startswith(_NOBODYS) or "__pycache__" in path):
            return None
        found = Operation(self._kind_of(what, path), what, path, source, _is_ours(path))
        self.recording.operations.append(found)
        if self._full and what in _NEEDS_SPACE and found.kind is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if not self._is_due(found):
            return None
        assert self._fault is not None
        self.recording.broke = True
        way = self._fault.way
        if what == "write" and way in ("kill", "short"):
            return way
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self._full = way in ("ENOSPC", "short")
        number = errno.ENOSPC if way == "short" else getattr(errno, way)
        raise OSError(number, os.strerror(number), path)

    def _kind_of(self, what: str, path: str) -> str | None:
        if not _is_in(path, self._root):
            return None
        operation = f"{what} {os.path.relpath(path, self._root)}"
        return next((kind for kind, pattern in KINDS_OF_WRITE.items() if re.fullmatch(pattern, operation)), None)

    def _is_due(self, found: Operation) -> bool:
        fault = self._fault
        if fault is None or self.recording.broke or (found.kind, found.what) != (fault.kind, fault.what):
            return False
        self._left -= 1
        return self._left < 0

    def write(self, real: Callable[[Any], int], data: Any, path: str, *, flush: Callable[[], Any], raw: bool) -> int:
        """A write, of which half may be made."""
        kind = self.meet("write", path)
        if kind is None:
            return real(data)
        half = real(data[: len(data) // 2] if isinstance(data, str) else memoryview(data).cast("B")[: len(data) // 2])
        flush()
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if raw:
            return half
        self._full = True
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def opened(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            if not set(mode) & set("wax+"):
                return real(file, mode, *more, **named)
            path = _path_of(file)
            self.meet("open", path)
            return _Watched(real(file, mode, *more, **named), path, self)

        return call

    def _rename(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **named: Any) -> Any:
            self.meet("rename", _path_of(target, named.get("dst_dir_fd")), _path_of(source, named.get("src_dir_fd")))
            return real(source, target, **named)

        return call

    def _link(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **named: Any) -> Any:
            self.meet("link", _path_of(target, named.get("dst_dir_fd")), _path_of(source, named.get("src_dir_fd")))
            return real(source, target, **named)

        return call

    def _plain(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **named: Any) -> Any:
            self.meet(what, _path_of(path, named.get("dir_fd")))
            return real(path, *more, **named)

        return call

    def _mkdir(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **named: Any) -> Any:
            if not os.path.isdir(path):  # else nothing is made, and nothing can break
                self.meet("mkdir", _path_of(path, named.get("dir_fd")))
            return real(path, *more, **named)

        return call

    def _remove(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, **named: Any) -> Any:
            where = _path_of(path, named.get("dir_fd"))
            if os.path.lexists(where):
                self.meet("remove", where)
            return real(path, *more, **named)

        return call

    def _fsync(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return self._plain("fsync", real)

    def _change(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return self._plain("change", real)

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, flags: int, *more: Any, **named: Any) -> Any:
            if flags & _WRITING:
                self.meet("open", _path_of(path, named.get("dir_fd")))
            return real(path, flags, *more, **named)

        return call

    def _raw(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, data: Any, *more: Any) -> int:
            path = _path_of(descriptor)
            return self.write(lambda part: int(real(descriptor, part, *more)), data, path, flush=lambda: None, raw=True)

        return call


class _Watched:
    """An open file whose writes the disk hears of; all else is the file's own."""

    def __init__(self, file: Any, path: str, disk: _Disk) -> None:
        self._file, self._path, self._disk = file, path, disk

    def write(self, data: Any) -> int:
        raw = isinstance(self._file, io.RawIOBase)
        return self._disk.write(self._file.write, data, self._path, flush=self._file.flush, raw=raw)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Watched":
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._file)


def _path_of(file: Any, folder: int | None = None) -> str:
    """An absolute path, of a path or a descriptor; folder: the descriptor that a relative one belongs to."""
    if isinstance(file, int):
        return os.readlink(f"/proc/self/fd/{file}")
    name = os.fsdecode(file)
    if folder is not None and not os.path.isabs(name):
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    return os.path.abspath(name)


_DISK = os.path.dirname(wilss.disk.__file__)


def _is_ours(path: str) -> bool:
    """Whether an operation comes from `wilss.disk`, or is a library's in a folder that `built_beside` gave."""
    frame: Any = sys._getframe()
    while frame is not None and os.path.dirname(frame.f_code.co_filename) != _DISK:
        frame = frame.f_back
    return frame is not None or f"{wilss.disk.BUILDING_SUFFIX}/" in f"{path}/"


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def lies_on_disk(root: Path) -> set[str]:
    """Every file below `root`."""
    return {str(path) for path in root.rglob("*") if path.is_file()}
