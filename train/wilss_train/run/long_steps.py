"""Stopping inside a long step: while it is at work the weights are those of the step before, and can be saved."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Self

_LOOKS = 0.2  # seconds between two looks at whether somebody asked
_GRACE = 3.0  # seconds that a step has to end by itself


class LongSteps:
    """Watches for a stop from a thread of its own; where a step does not end soon, `leave` is called beside it.

    asked: whether somebody wants to stop. leave: saves, and ends the process; it is called while the block of
    `unchanged` is at work, and until it returns no weight changes. None waits for the end of every step.
    """

    def __init__(self, asked: Callable[[], bool], leave: Callable[[], None] | None) -> None:
        self._asked, self._leave = asked, leave
        self._over = threading.Event()
        self._changing = threading.Lock()  # held by the loop while weights change

    def __enter__(self) -> Self:
        self._changing.acquire()
        if self._leave is not None:
            threading.Thread(target=self._watch, args=(self._leave,), name="stop", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._changing.release()

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Around what of a step changes no weights: its images and gradients.

        `leave` may be called as soon as the block begins, so that whatever it reads has to be there before.
        """
        self._changing.release()
        try:
            yield
        finally:
            self._changing.acquire()

    def _watch(self, leave: Callable[[], None]) -> None:
        while not self._over.wait(_LOOKS):
            if self._asked():
                break
        if self._over.wait(_GRACE):
            return
        with self._changing:
            if not self._over.is_set():
                leave()
