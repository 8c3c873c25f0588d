"""What has been read once and is kept while there is room."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Kept"]

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Values by key, up to so many MiB; several threads may ask at once.

    Those that come first stay and nothing is thrown out: an epoch visits everything once, and a queue would forget each
    just before it is wanted again.
    """

    def __init__(self, mib: float) -> None:
        self._room = int(mib * 2**20)
        self._values: dict[Key, Value] = {}
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value of `key`, made where it is not kept. size: of a value, in bytes."""
        value = self._values.get(key)
        return self._keep(key, make(), size) if value is None else value

    def _keep(self, key: Key, value: Value, size: Callable[[Value], int]) -> Value:
        taken = size(value)
        with self._lock:
            if taken <= self._room and key not in self._values:
                self._room -= taken
                self._values[key] = value
        return value
