"""Names from lists, and what lies on disk under them: nothing that a list names may leave the root."""

import errno
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from wilss.errors import ManifestError

__all__ = ["IMAGE_SUFFIXES", "Folders", "fault_of_name", "printable", "read_bytes", "read_lines", "without_suffix"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_NAME, _SHOWN = 1024, 200
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


def read_lines(path: Path) -> list[str]:
    """The lines of a list that are not blank, without spaces around them.

    UTF-8 with or without a mark, UTF-16 with one; any line ends. Raises ManifestError for other encodings.
    """
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
    return [line for raw in re.split(r"\r\n|\r|\n", text) if (line := raw.strip())]


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The content of a file that the manifest names, or its first `most` bytes. Raises ManifestError with the mend."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe would be waited on for ever
            raise ManifestError(f"{path} is no plain file; put a file in its place, or correct its name.")
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise ManifestError(f"{path} is not there; copy it there, or correct its name in the manifest.") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from None


def fault_of_name(name: str) -> str | None:
    """Why a name from a list must not be joined to the root, or None: the name alone decides, links may be
    followed.
    """
    if _SURROGATE.search(name):  # how Python shows the bytes of a file name that is not UTF-8
        return "is not UTF-8"
    if _CONTROL.search(name):
        return "holds control characters"
    if name.startswith(("/", "\\", "~")) or _DRIVE.match(name):
        return "is an absolute path"
    if ".." in re.split(r"[\\/]", name):
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
    """`name` without .jpg, .jpeg, .png or .webp; other dots belong to the name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


@dataclass
class Folders:
    """What lies in the folders of a data set; each is listed once, so that 10,000 images cost no stat at all."""

    _listed: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, folder: str, name: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Path | None:
        """The file `name` under `folder`, as it is written or with one of `suffixes`; None if there is none."""
        parent, _, last = name.rpartition("/")
        here = os.path.join(folder, parent) if parent else folder
        files = self.files(here)
        for candidate in (last, *(f"{last}{suffix}" for suffix in suffixes)):
            if (found := files.get(candidate)) is not None:
                return Path(here, found)
        return None

    def files(self, folder: str) -> dict[str, str]:
        """File names by themselves and by their lower-case endings; nothing where there is no folder."""
        if folder not in self._listed:
            self._listed[folder] = _list(folder)
        return self._listed[folder]


def _list(folder: str) -> dict[str, str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return {}
        raise ManifestError(
            f"{folder} cannot be listed ({error.strerror}); check the path, its links and its permissions."
        ) from None
    files = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        files[stem + suffix.lower()] = name
        files[name] = name
    return files
