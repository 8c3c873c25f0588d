"""Which turns of a drill `make test` takes; `make test-long` takes the others."""

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["turns"]


def turns(every: Iterable[Any], short: Iterable[Any]) -> list[Any]:
    """Values for `parametrize`: those of `short` for `make test`, the others of `every` for the long form.

    A value is one argument, or a tuple of several.
    """
    chosen = list(short)
    rest = [value for value in every if value not in chosen]
    return [_param(value) for value in chosen] + [_param(value, pytest.mark.long) for value in rest]


def _param(value: Any, *marks: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks)
