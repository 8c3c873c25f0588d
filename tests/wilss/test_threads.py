"""How much `map_in_threads` begins before somebody asks for the first result, and that results come in order."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from wilss.threads import map_in_threads, own_cores


def begun(count: int, **options: Any) -> tuple[int, list[int]]:
    """How many of `count` items were begun when the first result came, and all results."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(count):
            taken.append(number)
            yield number

    results = map_in_threads(lambda number: -number, items(), **options)
    first = next(results)
    return len(taken), [first, *results]


@pytest.mark.parametrize(
    ("count", "options", "ahead"),
    [
        (40, {"threads": 2}, 8),
        (40, {"threads": 2, "ahead": 12}, 12),
        (3, {"threads": 2}, 3),
        (40, {"threads": 2, "weight": lambda number: 10, "heaviest": 25}, 3),
        (40, {"threads": 2, "weight": lambda number: 100, "heaviest": 25}, 1),
        (40, {"threads": 2, "weight": lambda number: number, "heaviest": 25}, 8),
    ],
)
def test_no_more_is_begun_than_is_wanted(count: int, options: dict[str, Any], ahead: int) -> None:
    assert begun(count, **options) == (ahead, [-number for number in range(count)])


@pytest.mark.parametrize("cores", [1, 3])
def test_threads_are_those_of_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert begun(40)[0] == 4 * cores


def test_an_error_comes_in_its_place() -> None:
    results = map_in_threads(lambda number: 6 // number, [3, 2, 0, 1], 2)
    assert (next(results), next(results)) == (2, 3)
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(
    ("said", "beside", "cores"),
    [
        ("3", "", 3),
        ("5,2", "", 5),
        ("", "", 4),
        ("many", "", 4),
        ("0", "", 4),
        ("1", "2", 2),
        ("3", "2", 3),
        ("1", "1", 1),
    ],
)
def test_a_process_works_on_as_many_cores_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, said: str, beside: str, cores: int
) -> None:
    """A launcher sets OMP_NUM_THREADS=1 for each of several processes unasked; beside others the 1 is no wish."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
    assert own_cores() == cores
    assert begun(40)[0] == 4 * cores
