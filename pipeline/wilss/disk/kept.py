"""A bounded cache of bytes in memory: what is fetched from far is fetched once, also where several threads ask."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable


class KeptBytes:
    """At most `limit` bytes, those asked for last. What does not exist is kept, too, as FileNotFoundError.

    Something is doubtful until whoever asked for it has said that it is what it was asked for (`confirm`).
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, bytes | None] = OrderedDict()
        self._confirmed: set[Hashable] = set()
        self._fetching: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, fetch: Callable[[], bytes]) -> bytes:
        """What is kept under `key`, else what `fetch` gives. Raises what `fetch` raises."""
        with self._lock:
            if key in self._kept:
                return self._use(key)
            own = self._fetching.setdefault(key, threading.Lock())
        with own:  # others that want the same wait for it
            with self._lock:
                if key in self._kept:
                    return self._use(key)
            try:
                data = self._fetched(fetch)
                with self._lock:  # before it is fetched no longer: who asks in between would fetch it again
                    self._keep(key, data)
            finally:
                with self._lock:
                    self._fetching.pop(key, None)
        return _present(data)

    @staticmethod
    def _fetched(fetch: Callable[[], bytes]) -> bytes | None:
        try:
            return fetch()
        except FileNotFoundError:
            return None

    def is_confirmed(self, key: Hashable) -> bool:
        """Whether something is kept under `key`, and beyond doubt."""
        with self._lock:
            return key in self._confirmed

    def confirm(self, keys: Iterable[Hashable]) -> None:
        """What is kept under these keys is what it should be."""
        with self._lock:
            self._confirmed.update(key for key in keys if key in self._kept)

    def drop(self, keys: Iterable[Hashable]) -> None:
        """Keep these no longer."""
        with self._lock:
            for key in keys:
                self._forget(key)

    def _use(self, key: Hashable) -> bytes:
        self._kept.move_to_end(key)
        return _present(self._kept[key])

    def _keep(self, key: Hashable, data: bytes | None) -> None:
        if len(data or b"") > self._limit:
            return
        self._size += len(data or b"") - len(self._kept.get(key) or b"")  # two may have fetched what was dropped
        self._kept[key] = data
        while self._size > self._limit:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Hashable) -> None:
        self._size -= len(self._kept.pop(key, None) or b"")
        self._confirmed.discard(key)


def _present(data: bytes | None) -> bytes:
    if data is None:
        raise FileNotFoundError
    return data
