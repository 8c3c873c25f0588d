"""The files of a journal's events: the one that this process appends to, and those of all, read as they grow."""

import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path

from wilss.disk import AppendedFile, SharedLock, sweep_partials, sync_folder
from wilss.store.review_folder import EVENTS

from .lines import Line, Undo, line_of

LOCK = "writers.lock"


class OwnEvents:
    """The events of this process, in the file `path`.

    ids: of the corrections in it. is_broken: a write failed; nothing may follow it.
    """

    def __init__(self, folder: Path) -> None:
        self._shared = SharedLock(folder / LOCK)
        if self._shared.is_alone:  # else somebody may be writing them just now
            sweep_partials(folder)
        self.writer, self.ids, self.is_broken = uuid.uuid4().hex[:16], list[str](), False
        self.path = folder / EVENTS.format(writer=self.writer)
        self._count, self._file = 0, AppendedFile(self.path)
        self.close = weakref.finalize(self, _close, self._file, self._shared)
        sync_folder(folder)

    def append(self, line: Line | Undo) -> str:
        """Add a line, not yet on disk; its id. Raises OSError."""
        data = line_of(line)
        self.is_broken = True
        self._file.append(data)
        self.is_broken = False
        identity = f"{self.writer}:{self._count}"
        self._count += 1
        if isinstance(line, Line):
            self.ids.append(identity)
        return identity

    def sync(self) -> None:
        """Put all lines on disk. Raises OSError."""
        before, self.is_broken = self.is_broken, True
        self._file.sync()
        self.is_broken = before


class EventsFile:
    """The events of some process, read as they come. rest: whether bytes follow the last whole line."""

    def __init__(self, path: Path) -> None:
        self.path, self.writer = path, path.name.removeprefix("events-").removesuffix(".jsonl")
        self.rest = False
        self._offset, self._count = 0, 0

    def new_lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every whole line that was appended since. Raises OSError."""
        if self.path.stat().st_size <= self._offset:
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        *lines, rest = data.split(b"\n")
        self._offset += len(data) - len(rest)
        self.rest = bool(rest)
        for line in lines:
            self._count += 1
            yield self._count - 1, line


def _close(*files: AppendedFile | SharedLock) -> None:
    for file in files:
        file.close()
