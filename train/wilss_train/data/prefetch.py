"""Batches that threads make ahead of the training that takes them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["made_ahead"]

_AHEAD = 3  # steps whose batches are being made while one is trained on

Waiting = TypeVar("Waiting")
Made = TypeVar("Made")


def made_ahead(
    submit: Callable[[ThreadPoolExecutor, int], Waiting],
    collect: Callable[[Waiting], Made],
    first: int,
    last: int,
    *,
    workers: int,
) -> Iterator[Made]:
    """What `collect` makes of the optimiser steps `first` to `last` - 1, in their order.

    submit: hands the work of a step to the pool; collect: waits for it. What was begun is dropped when nobody asks on.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        waiting: deque[Waiting] = deque()
        try:
            for step in range(first, last):
                waiting.append(submit(pool, step))
                if len(waiting) > _AHEAD:
                    yield collect(waiting.popleft())
            while waiting:
                yield collect(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
