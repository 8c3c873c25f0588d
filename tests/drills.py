"""Which turns of a drill `make test` takes; `make test-wide` or `make test-long` takes the others."""

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["forms", "turns"]


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
