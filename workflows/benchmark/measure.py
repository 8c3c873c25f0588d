"""Timing: what is compared runs interleaved in one process, and a figure is a median with its spread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A median, and the smallest and largest of the repeats it came from."""

    median: float
    low: float
    high: float
    repeats: int

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"

    def as_json(self) -> dict[str, Any]:
        """For benchmark.json."""
        return asdict(self)


def figure(values: list[float]) -> Figure:
    """The median of `values` with its spread."""
    return Figure(median=statistics.median(values), low=min(values), high=max(values), repeats=len(values))


def wall_seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def cpu_seconds(action: Callable[[], object]) -> float:
    """How much processor time, over all threads, `action` takes."""
    started = time.process_time()
    action()
    return time.process_time() - started


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[Callable[[], object]], float] = wall_seconds,
) -> dict[str, list[float]]:
    """Run all `actions` in turn, `repeats` times, after one round that is not counted."""
    for action in actions.values():
        action()
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            taken[name].append(clock(action))
    return taken


def ratios(above: list[float], below: list[float]) -> Figure:
    """The median of above / below, round by round."""
    return figure([a / b for a, b in zip(above, below, strict=True)])
