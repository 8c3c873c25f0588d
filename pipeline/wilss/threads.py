"""Work in threads whose results come in order, with few of them waiting at any time."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_MOST_THREADS = 16
_AHEAD = 4


def map_in_threads(
    function: Callable[[_T], _R],
    items: Iterable[_T],
    threads: int | None = None,
    *,
    ahead: int = 0,
    weight: Callable[[_T], int] = lambda item: 0,
    heaviest: int = 1,
) -> Generator[_R, None, None]:
    """`function` of each item, in order; a few items for each thread are begun before their results are asked for.

    `Executor.map` begins with a future for every item, a kilobyte each. threads: None for one per core of this
    process, at most 16. ahead: so many items at least are begun. weight, heaviest: no item is begun while those that
    are begun weigh so much together. Where nobody asks on, those that are not begun never are.
    """
    count = threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    most, held = max(_AHEAD * count, ahead), 0
    running = deque[tuple[int, Future[_R]]]()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                running.append((weight(item), pool.submit(function, item)))
                held += running[-1][0]
                while len(running) >= most or held >= heaviest:
                    weighs, result = running.popleft()
                    held -= weighs
                    yield result.result()
            while running:
                yield running.popleft()[1].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
