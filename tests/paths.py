"""Where a store lies that a test made on disk."""

from pathlib import Path

from wilss.store import MaskStore


def on_disk(store: MaskStore) -> Path:
    """The folder of a store that is not in a bucket."""
    assert isinstance(store.path, Path)
    return store.path
