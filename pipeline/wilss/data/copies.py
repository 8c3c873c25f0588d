"""Images whose files are copies of each other: of one name, with the same bytes."""

import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from wilss.data.layouts import ImageRecord
from wilss.digests import digest_of_file
from wilss.disk import UrlPath


def groups_of_copies(
    records: Iterable[ImageRecord], is_wanted: Callable[[Sequence[ImageRecord]], bool]
) -> list[list[ImageRecord]]:
    """The groups of images whose files have one name and the same bytes, of those groups that `is_wanted` takes.

    A file is looked at and read once at most, and read only where a wanted group has its name and size: no two files
    are held against each other, since of some names there are many, as in data of a folder for each case. What lies in
    a bucket, is no plain file or cannot be read is in no group.
    """
    groups = [list(records)]
    for same in (_name, _size_of, digest_of_file):
        groups = [group for mixed in groups for group in _grouped(mixed, same) if is_wanted(group)]
    return groups


def _grouped(records: Iterable[ImageRecord], same: Callable[[Path], object]) -> Iterable[list[ImageRecord]]:
    groups: dict[object, list[ImageRecord]] = {}
    for record in records:
        try:
            fact = same(record.path)
        except OSError:
            continue
        groups.setdefault(fact, []).append(record)
    return groups.values()


def _name(path: Path) -> str:
    return path.name


def _size_of(path: Path) -> int:
    """The size of a plain file on disk. Raises OSError for any other: a pipe would be waited on for ever."""
    if isinstance(path, UrlPath) or not stat.S_ISREG((state := path.stat()).st_mode):
        raise OSError(f"{path} is no plain file on disk")
    return state.st_size
