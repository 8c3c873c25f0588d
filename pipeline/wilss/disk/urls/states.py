"""What tells that a file in a bucket is another one, without reading it, as size and times do on disk: its version."""

import bisect
import hashlib
import threading
from array import array
from pathlib import Path
from typing import Any

from . import fetching
from .path import UrlPath


class FileStates:
    """The versions of files in buckets as they are when they are first asked for: each folder is listed once.

    Of each file 16 bytes are kept. May be asked by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, tuple[array[int], array[int]]] = {}

    def of(self, path: UrlPath) -> int | None:
        """A number of 64 bits, above 0, that is another one for another version; None where there is no such file."""
        with self._lock:
            if path.parent not in self._folders:
                self._folders[path.parent] = _listed(path.parent)
            names, states = self._folders[path.parent]
        place = bisect.bisect_left(names, hash(path.name))
        return states[place] if place < len(names) and names[place] == hash(path.name) else None


def state_now(path: UrlPath) -> int | None:
    """The same of one file, asked of the server."""
    known = fetching.head(path.url)
    return None if known is None else _state(known)


def _listed(folder: Path) -> "tuple[array[int], array[int]]":
    """Hashes of the names in a folder, sorted, and the states of these files."""
    assert isinstance(folder, UrlPath)
    files = fetching.files(folder.url)
    known = sorted((hash(str(file["path"]).rpartition("/")[2]), _state(file)) for file in files)
    return array("q", (name for name, _ in known)), array("Q", (state for _, state in known))


def _state(known: dict[str, Any]) -> int:
    """Of what a listing and a look at one file both say.

    The look alone tells the version of a bucket that has some, Azure quotes an e_tag in it alone, and its time has
    whole seconds.
    """
    tag = str(known.get("e_tag") or "").strip('"') or int(known["last_modified"].timestamp())
    facts = f"{tag}\0{known['size']}"
    return int.from_bytes(hashlib.sha256(facts.encode()).digest()[:8], "little") or 1
