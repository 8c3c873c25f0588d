"""Which turns of a drill `make test` takes; `make test-wide` or `make test-long` takes the others."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

__all__ = ["forms", "leave_few", "turns"]


def turns(every: Iterable[Any], short: Iterable[Any]) -> list[Any]:
    """Values for `parametrize`: those of `short` for `make test`, the others of `every` for the long form.

    A value is one argument, or a tuple of several.
    """
    return _divided(every, short, pytest.mark.long)


def forms(every: Iterable[Any], short: Iterable[Any]) -> list[Any]:
    """The same where the others are for `make test-wide`: they take seconds, and try once more what `short` tries."""
    return _divided(every, short, pytest.mark.wide)


def _divided(every: Iterable[Any], short: Iterable[Any], mark: Any) -> list[Any]:
    chosen = list(short)
    return [_param(value) for value in chosen] + [_param(value, mark) for value in every if value not in chosen]


def _param(value: Any, *marks: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks)


def leave_few(cases: Sequence[pytest.Item]) -> None:
    """Mark all cases of a test as wide but so many as its mark `few` says: the first, the last, and some between."""
    mark = cases[0].get_closest_marker("few")
    if mark is None:
        return
    (count,) = mark.args
    last = len(cases) - 1
    stay = {round(place * last / (count - 1)) for place in range(count)} if count > 1 else {0}
    for place, case in enumerate(cases):
        if place not in stay:
            case.add_marker(pytest.mark.wide)
