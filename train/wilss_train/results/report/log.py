"""The log of a run: one JSON object per line, only ever appended to.

What depends on wall time stands under the key "timing" of a line and nowhere else, so that a run that was killed
and resumed writes, "timing" aside, the very lines of one that was not.

    {"kind":"start","step":0,"run":{...}}
    {"kind":"step","step":..,"steps":..,"epoch":..,"losses":{..},"lr":{..},
     "timing":{"seconds":..,"images_per_second":..}}
    {"kind":"image","step":..,"image":id,"error":sentence}
    {"kind":"end","step":..}
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wilss.disk import AppendedFile, write_atomically
from wilss.errors import CheckpointError

LOG_FILE = "log.jsonl"

Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, as the loop says it every few steps and as a step line of the log holds it.

    epoch: from 0. losses: mean terms since it was last said; NaN for one that was not finite in a log that is read.
    seconds: of work since this process began to train; in a log that is read, over all restarts. images_per_second:
    since it was last said.
    """

    step: int
    steps: int
    epoch: int
    losses: Mapping[str, float]
    lr: Mapping[str, float]
    seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """A log that was read. run: what the start line says; failed: image id -> sentence; ended: ran to its end."""

    run: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Progress, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def seconds(self) -> float:
        """Seconds of work, over all restarts; what a killed process did after its last state is not in it."""
        return self.steps[-1].seconds if self.steps else 0.0

    @property
    def images_per_second(self) -> float:
        """The mean over the run's seconds of work; 0 where nothing was timed."""
        begins = (0.0, *(line.seconds for line in self.steps))
        spent = [max(line.seconds - begin, 0.0) for line, begin in zip(self.steps, begins, strict=False)]
        images = sum(s * line.images_per_second for s, line in zip(spent, self.steps, strict=True))
        return images / sum(spent) if sum(spent) else 0.0


class TrainingLog:
    """Writes a run's log, every line at once and whole; one process writes. Use `open`, and as a context."""

    def __init__(self, path: Path, entries: list[Entry]) -> None:
        """For `open` alone: `entries` are what the file at `path` holds already."""
        self.path = path
        self._started = any(entry["kind"] == "start" for entry in entries)
        self._failed = {entry.get("image") for entry in entries if entry["kind"] == "image"}
        timings = [entry.get("timing") or {} for entry in entries if entry["kind"] == "step"]
        self._seconds_before = float(timings[-1].get("seconds") or 0.0) if timings else 0.0
        with _disk_errors(path):
            self._file = AppendedFile(path)

    @classmethod
    def open(cls, path: Path, *, keep_steps_up_to: int = 0) -> Self:
        """The log at `path`, made if it is not there, cut back to what was written up to a step.

        keep_steps_up_to: the step of the state from which the run resumes; 0 starts again, start line included. All
        lines of later steps go, as do an end line and a torn last line. The file is rewritten under another name
        and renamed, and only if something goes. Raises CheckpointError where it is damaged or cannot be written.
        """
        with _disk_errors(path):
            data = path.read_bytes() if path.exists() else b""
            entries = [entry for entry in _entries(path, data) if _is_kept(entry, keep_steps_up_to)]
            kept = b"".join(_line(entry) for entry in entries)
            if kept != data or not path.exists():
                write_atomically(path, kept)
        return cls(path, entries)

    def start(self, run: Mapping[str, Any]) -> None:
        """Say what is run; a resumed run keeps the line that it started with."""
        if not self._started:
            self._write({"kind": "start", "step": 0, "run": plain(run)})
        self._started = True

    def step(self, progress: Progress) -> None:
        """A step line, with the seconds before a restart added. A loss that is not finite is written as null."""
        line = asdict(progress)
        seconds = self._seconds_before + line.pop("seconds")
        line["timing"] = {"seconds": seconds, "images_per_second": line.pop("images_per_second")}
        self._write({"kind": "step", **plain(line)})

    def image(self, image_id: str, error: str, *, step: int) -> None:
        """Name an image that could not be used, at the step that met it; the second time nothing is written."""
        if image_id not in self._failed:
            self._write({"kind": "image", "step": step, "image": image_id, "error": error})
        self._failed.add(image_id)

    def end(self, *, step: int, **facts: Any) -> None:
        """The run came to its end."""
        self._write({"kind": "end", "step": step, **plain(facts)})

    def sync(self) -> None:
        """Put all lines on disk: call this before saving a state, else a power cut may leave gaps before it."""
        with _disk_errors(self.path):
            self._file.sync()

    def close(self) -> None:
        """Let go of the file; nothing can be written after."""
        self._file.close()

    def __enter__(self) -> Self:
        """The log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, whatever happened."""
        self.close()

    def _write(self, entry: Entry) -> None:
        with _disk_errors(self.path):
            self._file.append(_line(entry))


def read_log(path: Path) -> RunLog:
    """All of a log but a torn last line. Raises CheckpointError where it is missing or damaged."""
    with _disk_errors(path):
        entries = _entries(path, path.read_bytes())
    try:
        return RunLog(
            run=next((entry["run"] for entry in entries if entry["kind"] == "start"), {}),
            steps=tuple(_step(entry) for entry in entries if entry["kind"] == "step"),
            failed={entry["image"]: str(entry["error"]) for entry in entries if entry["kind"] == "image"},
            ended=any(entry["kind"] == "end" for entry in entries),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: a line lacks {error}; copy it again, or train again.") from error


def plain(value: Any) -> Any:
    """`value` as JSON can say it: tuples and sets as lists, paths as text, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=str)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy's numbers and arrays, torch's tensors
        return plain(value.tolist())
    return str(value)


def _step(entry: Entry) -> Progress:
    timing = entry.get("timing", {})
    return Progress(
        step=int(entry["step"]),
        steps=int(entry["steps"]),
        epoch=int(entry["epoch"]),
        losses={str(name): _number(value) for name, value in entry["losses"].items()},
        lr={str(name): _number(value) for name, value in entry["lr"].items()},
        seconds=float(timing.get("seconds") or 0.0),
        images_per_second=float(timing.get("images_per_second") or 0.0),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _is_kept(entry: Entry, last: int) -> bool:
    return last > 0 and entry["kind"] != "end" and entry["step"] <= last


def _line(entry: Entry) -> bytes:
    return json.dumps(entry, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _entries(path: Path, data: bytes) -> list[Entry]:
    """All entries up to a torn end; an unreadable line that readable ones follow is damage, and refused."""
    lines = data.split(b"\n")
    parsed = [_entry(line) for line in lines[:-1]]  # what no line end follows was not written to its end
    whole = len(parsed)
    while whole and parsed[whole - 1] is None:
        whole -= 1
    entries = [entry for entry in parsed[:whole] if entry is not None]
    if len(entries) < whole:
        raise CheckpointError(
            f"{path} is damaged: line {parsed.index(None) + 1} cannot be read; copy it again, or move it "
            "away and train again."
        )
    return entries


def _entry(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        return None
    return entry if isinstance(entry.get("step"), int) else None


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path} is not there; `wilss-train` writes it while it trains.") from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read or written ({error.strerror or error}); fix that and run the same command again."
        ) from error
