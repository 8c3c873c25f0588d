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


def own_cores() -> int:
    """How many cores this process works on: as many as OMP_NUM_THREADS says, else its share of those that it may use.

    A launcher says how many processes it has started on this machine (LOCAL_WORLD_SIZE), and sets OMP_NUM_THREADS=1 for
    each where nobody set it; beside others the 1 is therefore no wish, and the cores are shared.
    """
    beside = _number("LOCAL_WORLD_SIZE") or 1
    wanted = _number("OMP_NUM_THREADS")
    if wanted and (beside == 1 or wanted > 1):
        return wanted
    return max(1, len(os.sched_getaffinity(0)) // beside)


def _number(variable: str) -> int:
    """A variable of the environment as a number; of a list (OpenMP's, by level of nesting) the first; 0 for none."""
    word = os.environ.get(variable, "").partition(",")[0].strip()
    return int(word) if word.isdecimal() else 0


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

    `Executor.map` begins with a future for every item, a kilobyte each. threads: None for `own_cores` of them,
    at most 16. ahead: so many items at least are begun. weight, heaviest: no item is begun while those that
    are begun weigh so much together. Where nobody asks on, those that are not begun never are.
    """
    count = threads or min(own_cores(), _MOST_THREADS)
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
