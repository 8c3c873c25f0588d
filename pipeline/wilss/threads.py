"""Work in threads whose results come in order, with few of them waiting at any time."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_MOST_THREADS = 16
_AHEAD = 4


def map_in_threads(
    function: Callable[[_T], _R], items: Iterable[_T], threads: int | None = None, *, ahead: int = 0
) -> Generator[_R, None, None]:
    """`function` of each item, in order; a few items for each thread are begun before their results are asked for.

    `Executor.map` begins with a future for every item, a kilobyte each. threads: None for one per core, at most 16.
    ahead: so many items at least are begun. Where nobody asks on, those that are not begun never are.
    """
    count = threads or min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(count) as pool:
        waiting = iter(items)
        running = deque(pool.submit(function, item) for item in itertools.islice(waiting, max(_AHEAD * count, ahead)))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(function, item) for item in itertools.islice(waiting, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
