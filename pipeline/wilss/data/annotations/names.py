"""Which of our images a file of another tool means: by its name, with or without folders and ending."""

import os
import re
from collections.abc import Iterable
from urllib.parse import parse_qs, unquote, urlsplit

from wilss.data.layouts.files import IMAGE_SUFFIXES
from wilss.data.names import NameIndex, Names, composed

#: What Label Studio puts before the name of a file that was uploaded.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
#: What it leaves out of that name, once blanks are `_`.
_LEFT_OUT = re.compile(r"[^-\w.]")


class ImageNames:
    """Finds image ids by what other tools call their files."""

    def __init__(self, image_ids: Iterable[str]) -> None:
        self._ids = Names(image_ids)
        self._index = NameIndex(self._ids)
        self._by_last: dict[str, list[str]] | None = None
        self._by_upload: dict[str, list[str]] | None = None

    def has(self, image_id: str) -> bool:
        """Whether an id is one of them."""
        return self._index.find(image_id) is not None

    def find(self, name: str) -> str | None:
        """The id that a file's name or address means; None where no id, or more than one, could be meant.

        Folders before an id are left out, and so is an ending, and what Label Studio adds. Where a tool has dropped an
        id's own folders, its last part must be that of one id alone.
        """
        found = self._find(name)
        return self._find(unquote(name)) if found is None and "%" in name else found

    def _find(self, name: str) -> str | None:
        plain = _plain(name)
        for parts in _endings(plain):
            for candidate in _without_ending(parts):
                if (known := self._spelt(candidate)) is not None:
                    return known
        last = plain.rpartition("/")[2]
        for candidate in (last, _UPLOADED.sub("", last)):
            for stem in _without_ending(candidate):
                if len(found := self._named(stem)) == 1:
                    return found[0]
        return self._uploaded(last)

    def _uploaded(self, last: str) -> str | None:
        """The one id whose file Label Studio calls so after an upload, which changes blanks and brackets."""
        if not _UPLOADED.match(last):
            return None
        if self._by_upload is None:
            self._by_upload = {}
            for image_id in self._ids:
                self._by_upload.setdefault(_as_uploaded(image_id.rpartition("/")[2]), []).append(image_id)
        stems = _without_ending(_as_uploaded(_UPLOADED.sub("", last)))
        found = {image_id for stem in stems for image_id in self._by_upload.get(stem, ())}
        return found.pop() if len(found) == 1 else None

    def _spelt(self, name: str) -> str | None:
        """The id that is `name`, or else is `name` once both are composed."""
        place = int(self._index.find_spelt([name])[0])
        return None if place < 0 else self._ids[place]

    def _named(self, last: str) -> list[str]:
        """The ids with this last part."""
        if self._by_last is None:
            self._by_last = {}
            for image_id in self._ids:
                self._by_last.setdefault(composed(image_id.rpartition("/")[2]), []).append(image_id)
        return self._by_last.get(composed(last), [])


def _plain(name: str) -> str:
    """The path inside an address: `/data/local-files/?d=a/b.jpg`, `s3://bucket/a/b.jpg` and plain names."""
    if "?d=" in name:
        return parse_qs(urlsplit(name).query).get("d", [name])[0]
    if "://" in name:
        return unquote(urlsplit(name).path)
    return name


def _as_uploaded(name: str) -> str:
    """A file's name as Label Studio keeps it: blanks as `_`, without brackets, commas and their like."""
    return _LEFT_OUT.sub("", composed(name).strip().replace(" ", "_"))


def _endings(name: str) -> Iterable[str]:
    """A path, and what is left of it with one folder after the other taken off."""
    while True:
        yield name
        _, found, name = name.partition("/")
        if not found:
            return


def _without_ending(name: str) -> tuple[str, ...]:
    """A name with and without the ending of an image."""
    stem, suffix = os.path.splitext(name)
    return (name, stem) if suffix.lower() in IMAGE_SUFFIXES else (name,)
