"""Names from lists, and what lies on disk under them: nothing that a list names may leave the root."""

import errno
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wilss.data.names import Register, composed
from wilss.disk import UrlPath, file_names, path_of
from wilss.errors import ManifestError

#: Of images; a name without one is tried with each in this order.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
#: Of label files, likewise.
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")

_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE = re.compile(r"[^\r\n]+")
_LONGEST_NAME, _SHOWN = 1024, 200
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


def read_lines(path: Path) -> list[str]:
    """The lines of a list that are not blank, without spaces around them.

    UTF-8 with or without a mark, UTF-16 with one; any line ends. Raises ManifestError for other encodings.
    """
    return list(lines_of(path))


def lines_of(path: Path) -> Iterator[str]:
    """`read_lines` for lists of a million lines: one at a time. The file is read, and refused, at once."""
    return (line for raw in _LINE.finditer(read_text(path)) if (line := raw[0].strip()))


def read_text(path: Path) -> str:
    """A text file as it is, whatever its encoding of `read_lines`. Raises ManifestError."""
    content = read_bytes(path)
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text (byte {error.start} cannot be read); save it as UTF-8, e.g. with `iconv -f "
            "latin1 -t utf-8`."
        ) from None
    if "\0" in text:
        raise ManifestError(f"{path} is a binary file, not a list; name a text file with an image per line.")
    return text


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The content of a file that the manifest names, or its first `most` bytes. Raises ManifestError with the fix."""
    try:
        if isinstance(path, UrlPath):
            return path.read_bytes()[: most if most >= 0 else None]
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe would be waited on for ever
            raise ManifestError(f"{path} is no plain file; put a file in its place, or correct its name.")
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise ManifestError(f"{path} is not there; copy it there, or correct its name in the manifest.") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from None


def fault_of_name(name: str) -> str | None:
    """Why a name from a list must not be joined to the root, or None.

    The name alone decides; links may be followed.
    """
    if _SURROGATE.search(name):  # how Python shows the bytes of a file name that is not UTF-8
        return "is not UTF-8"
    if _CONTROL.search(name):
        return "holds control characters"
    if name.startswith(("/", "\\", "~")) or _DRIVE.match(name):
        return "is an absolute path"
    if ".." in name and ".." in re.split(r"[\\/]", name):
        return "leads out of the data folder"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return "is longer than any path"
    if name in ("", ".") or name.endswith("/"):
        return "names no file"
    return None


def printable(text: str) -> str:
    """`text` with a mark in the place of what cannot be shown, and not too long to stand in a store and a message."""
    text = text if len(text) <= _LONGEST_NAME else f"{text[:_SHOWN]}..."
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def without_suffix(name: str) -> str:
    """`name` without the ending of an image (`IMAGE_SUFFIXES`); other dots belong to the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


class _Folder:
    """The files of a folder by their names, and by another spelling: composed, the ending in lower case (a.JPG: a.jpg).

    The file itself goes before those that are spelt otherwise, and of these the last in order. path: of the folder.
    """

    def __init__(self, path: str, names: Iterable[str]) -> None:
        self.path = path
        self._names, self._lower, self._places = Register(), Register(), array("i")
        for name in names:
            place = self._names.add(name)
            stem, suffix = os.path.splitext(name)
            if (other := composed(stem) + suffix.lower()) != name:
                self._add_lower(other, place)

    def _add_lower(self, lower: str, place: int) -> None:
        at = self._lower.add(lower)
        if at == len(self._places):
            self._places.append(place)
        elif self._names[place] > self._names[self._places[at]]:
            self._places[at] = place

    def __bool__(self) -> bool:
        return bool(self._names)

    def find(self, name: str) -> str | None:
        if name in self._names:
            return name
        plain = composed(name)
        if plain != name and plain in self._names:
            return plain
        at = self._lower.find(plain) if self._places else None
        return None if at is None else self._names[self._places[at]]


@dataclass
class Folders:
    """What lies in the folders of a data set; each is listed once, so that 10,000 images cost no stat at all."""

    _listed: dict[str, _Folder] = field(default_factory=dict)

    def find(self, folder: str, name: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Path | None:
        """The file `name` under `folder`, as it is written or with one of `suffixes`; None if there is none."""
        parent, _, last = name.rpartition("/")
        here = os.path.join(folder, parent) if parent else folder
        if here not in self._listed:
            self._listed[here] = _list(here)
        files = self._listed[here]
        for candidate in (last, *(f"{last}{suffix}" for suffix in suffixes)) if files else ():
            if (known := files.find(candidate)) is not None:
                return path_of(os.path.join(files.path, known))
        return None


def _list(folder: str) -> _Folder:
    try:
        return _Folder(folder, file_names(folder))
    except (FileNotFoundError, NotADirectoryError):
        other = _spelt_otherwise(folder)
        return _Folder(folder, ()) if other is None else _list(other)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _Folder(folder, ())
        raise ManifestError(
            f"{folder} cannot be listed ({error.strerror}); check the path, its links and its permissions."
        ) from None


def _spelt_otherwise(folder: str) -> str | None:
    """The one folder that is there and whose path is `folder` once both are composed; None where there is none."""
    parent, last = os.path.split(folder)
    if folder.isascii() or not last:
        return None
    above = parent if os.path.isdir(parent) else _spelt_otherwise(parent)
    if above is None:
        return None
    try:
        names = [name for name in os.listdir(above) if composed(name) == composed(last)]
    except OSError:
        return None
    return os.path.join(above, names[0]) if len(names) == 1 and names[0] != last else None
