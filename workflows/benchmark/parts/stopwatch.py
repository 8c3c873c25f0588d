"""Timers around named functions of the real code: each stage's own wall and processor seconds, bytes and operations.

The functions are replaced while measuring and put back afterwards; nothing in the packages knows of it. A stage's
time is its own: what wrapped functions inside it take is theirs. The code must run in one lane, whatever threads it
runs in, since processor time is that of the whole process.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from .flops import counter

Name = str | Callable[..., str]
#: Where a function lies, its attribute there, and its stage: a word, or what says it from the arguments.
Place = tuple[Any, str, Name]


@dataclass(kw_only=True)
class Spent:
    """What a stage took. nbytes: of all arrays given to it and made by it."""

    wall: float = 0.0
    cpu: float = 0.0
    nbytes: float = 0.0
    flops: float = 0.0
    calls: int = 0


@dataclass
class _Frame:
    wall: float = 0.0
    cpu: float = 0.0
    flops: float = 0.0


class Stopwatch:
    """Adds up what every stage takes. counting: count bytes and operations instead, which takes time itself."""

    def __init__(self, *, counting: bool = False) -> None:
        self.spent: dict[str, Spent] = {}
        self._counting = counting
        self._here = threading.local()

    @contextlib.contextmanager
    def around(self, places: Sequence[Place]) -> Iterator["Stopwatch"]:
        """Time these functions while the context lasts."""
        before = [(owner, name, vars(owner)[name]) for owner, name, _ in places]
        for owner, name, stage in places:
            setattr(owner, name, self._in_place_of(vars(owner)[name], stage))
        try:
            yield self
        finally:
            for owner, name, value in reversed(before):
                setattr(owner, name, value)

    def _in_place_of(self, function: Any, stage: Name) -> Any:
        """A class method stays one: classes that inherit it are told apart by its first argument."""
        if isinstance(function, (classmethod, staticmethod)):
            return type(function)(self._wrapped(function.__func__, stage))
        return self._wrapped(function, stage)

    def _wrapped(self, function: Callable[..., Any], stage: Name) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            name = stage if isinstance(stage, str) else stage(*args, **kwargs)
            if self._counting:
                return self._counted(name, function, args, kwargs)
            return self._timed(name, function, args, kwargs)

        return timed

    def _timed(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        frames = self._frames()
        frames.append(_Frame())
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            inside = frames.pop()
            spent = self.spent.setdefault(name, Spent())
            spent.wall += wall - inside.wall
            spent.cpu += cpu - inside.cpu
            spent.calls += 1
            if frames:
                frames[-1].wall += wall
                frames[-1].cpu += cpu

    def _counted(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        frames = self._frames()
        frames.append(_Frame())
        with counter() as operations:
            result = function(*args, **kwargs)
        flops, inside = operations.get_total_flops(), frames.pop()
        spent = self.spent.setdefault(name, Spent())
        spent.flops += flops - inside.flops
        spent.nbytes += nbytes_of((args, kwargs, result))
        spent.calls += 1
        if frames:
            frames[-1].flops += flops
        return result

    def _frames(self) -> list[_Frame]:
        if not hasattr(self._here, "frames"):
            self._here.frames = []
        frames: list[_Frame] = self._here.frames
        return frames


def nbytes_of(value: Any) -> int:
    """Bytes of all arrays, tensors and byte strings in arguments and results.

    An optimiser reads weights, gradients and momenta, and writes the first and the last; networks count nothing.
    """
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return int(value.nbytes)
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, torch.optim.Optimizer):
        return 5 * sum(int(weight.nbytes) for group in value.param_groups for weight in group["params"])
    if isinstance(value, Mapping):
        return sum(nbytes_of(one) for one in value.values())
    if isinstance(value, (tuple, list)):
        return sum(nbytes_of(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(nbytes_of(getattr(value, one.name)) for one in fields(value))
    return 0
