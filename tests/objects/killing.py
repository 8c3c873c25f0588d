"""A kill at a certain request to a bucket, in this process."""

from collections.abc import Sequence
from typing import Any

import pytest

from wilss.disk import buckets


class KilledError(BaseException):
    """As a kill: nothing is done after it."""


def count_down(patch: pytest.MonkeyPatch, methods: Sequence[str]) -> list[int]:
    """Let as many requests of these kinds through as the one number says that is returned, and may be set anew."""
    left = [0]
    for method in methods:
        whole = getattr(buckets.Bucket, method)

        def counted(self: Any, *arguments: Any, whole: Any = whole) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return whole(self, *arguments)

        patch.setattr(buckets.Bucket, method, counted)
    return left
