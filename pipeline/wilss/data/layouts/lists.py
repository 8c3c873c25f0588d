"""Which images a list names: a plain list of ids, the field's two-column lists, WILSON's index arrays."""

import math
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.files import fault_of_name, lines_of, printable, without_suffix
from wilss.data.layouts.spec import DataSpec, SplitSpec
from wilss.data.names import Names, Register, some
from wilss.disk import is_file, is_folder, joined
from wilss.errors import ManifestError, WilssError

_PAIR = re.compile(r"^/?(\S+\.(?:jpe?g|png|webp|tiff?|bmp))\s+/?(\S+\.(?:png|tiff?|bmp))$", re.IGNORECASE)
_HOMES = ("ImageSets/Segmentation/{}.txt", "splits/{}.txt", "{}.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of a list.

    image: path under the root, with or without its ending. label: likewise, if the list says it.
    fault: why the name must not be used, else None.
    """

    image_id: str
    image: str
    label: str | None = None
    fault: str | None = None


class Entries(Sequence[Entry]):
    """Lines of a list, each taken apart when it is asked for.

    images: the folder that plain ids lie in. rows: which of `lines`, in which order; all of them by default.
    """

    def __init__(self, lines: Sequence[str], images: str, rows: Sequence[int] | None = None) -> None:
        self._lines, self._images = lines, images
        self._rows = range(len(lines)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> "Entries": ...
    def __getitem__(self, place: int | slice) -> "Entry | Entries":
        if isinstance(place, slice):
            return Entries(self._lines, self._images, self._rows[place])
        return _entry(self._lines[self._rows[place]], self._images)

    def __iter__(self) -> Iterator[Entry]:
        return (_entry(self._lines[row], self._images) for row in self._rows)

    def at(self, places: Sequence[int]) -> "Entries":
        """The entries at these places."""
        return Entries(self._lines, self._images, array("q", (self._rows[place] for place in places)))


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """What a list names, in its order, each once.

    exact: it was an index array, which already is a step's selection.
    """

    path: Path
    entries: Sequence[Entry]
    warnings: tuple[str, ...] = ()
    exact: bool = False


def read_list(spec: DataSpec, split: SplitSpec, images: str) -> ImageList:
    """The list of a split; `images` is the folder that plain ids lie in.

    Raises ManifestError for a list that is useless.
    """
    path = find_list(spec, split.list)
    if path.suffix == ".npy":
        into = find_list(spec, split.into)
        whole = Names(lines_of(into))
        entries = Entries(whole, images, _indices(path, len(whole), into))
    else:
        entries = Entries(Names(lines_of(path)), images)
    if not entries:
        raise ManifestError(f"{path} names no image; write one per line, or drop the split from the manifest.")
    first, warnings = unique((entry.image_id for entry in entries), path)
    chosen = entries if len(first) == len(entries) else entries.at(first)
    return ImageList(path=path, entries=chosen, warnings=warnings, exact=path.suffix == ".npy")


def list_files(spec: DataSpec, split: SplitSpec) -> tuple[Path, ...]:
    """The files that decide which images the split holds."""
    path = find_list(spec, split.list)
    return (path, find_list(spec, split.into)) if path.suffix == ".npy" else (path,)


def find_list(spec: DataSpec, name: str) -> Path:
    """The file of a list: a path from the manifest's folder or the root, or a name in the layout's places."""
    if name.endswith((".txt", ".npy")):
        places = [joined(spec.base, name), joined(spec.root, name)]
    else:
        places = [spec.root / home.format(name) for home in _HOMES]
    for place in places:
        if is_file(place):
            return place
    require_root(spec)
    raise ManifestError(
        f"{spec.at('splits')}: the list {name!r} is not there (looked for {' and '.join(map(str, places))}); copy it "
        "there, or correct `splits`."
    )


def require_root(spec: DataSpec) -> None:
    """Raise ManifestError unless the data folder is there."""
    try:
        there = spec.root.stat() is not None
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise ManifestError(
            f"{spec.at('path')}: the data folder {spec.root} cannot be opened ({error.strerror}); check its links."
        ) from None
    if not there:
        raise ManifestError(
            f"{spec.at('path')}: the data folder {spec.root} is not there; copy or link the data there, or correct "
            "`path`."
        )
    if not is_folder(spec.root):
        raise ManifestError(f"{spec.at('path')}: {spec.root} is no folder; name the folder of the data.")


def unique(image_ids: Iterable[str], path: Path) -> tuple[Sequence[int], tuple[str, ...]]:
    """Where every id comes first, and a sentence about those that come again."""
    known, first, again = Register(), array("q"), set[int]()
    for place, image_id in enumerate(image_ids):
        known_as = known.add(image_id)
        if known_as == len(first):
            first.append(place)
        else:
            again.add(known_as)
    if not again:
        return first, ()
    twice = [known[place] for place in sorted(again)]
    return first, (f"{path} names {some(twice)} more than once; each is used once.",)


def load_array(path: Path) -> NDArray[Any]:
    """An array of any shape [...] from an npy file, never through pickle. Raises ManifestError."""
    try:
        with path.open("rb") as file:
            _require_whole(file)
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
    except WilssError:
        raise
    except FileNotFoundError:
        raise ManifestError(f"{path} is not there; copy it there, or correct the manifest.") from None
    except ValueError as error:
        if "pickle" not in str(error):
            raise ManifestError(f"{path} is no whole npy file ({error}); copy it again.") from None
        raise ManifestError(
            f"{path} holds pickled objects, which could run code and are never loaded; where you trust it, save it "
            "as plain numbers: d = np.load(f, allow_pickle=True); np.save(f, np.stack([d[i] for i in ids]))."
        ) from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error}); copy it again, or check its permissions.") from None
    except Exception as error:  # numpy's reader of headers raises nearly anything on damaged bytes
        raise ManifestError(f"{path} is no whole npy file ({error}); copy it again.") from None
    if not isinstance(loaded, np.ndarray):
        raise ManifestError(f"{path} is an archive of arrays, not one array; save it with np.save.")
    return loaded


def _require_whole(file: IO[bytes]) -> None:
    """ValueError for an npy file whose header claims more than the file has, before memory is taken for it."""
    if file.read(6) != b"\x93NUMPY":
        return  # np.load says what it is instead
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    begins = file.tell()
    claimed, there = math.prod(shape) * dtype.itemsize, file.seek(0, os.SEEK_END) - begins
    if claimed > there and not dtype.hasobject:
        raise ValueError(f"its header promises {claimed} bytes, and {there} are there")


def _indices(path: Path, count: int, into: Path) -> Sequence[int]:
    loaded = load_array(path)
    if loaded.ndim != 1 or loaded.dtype.kind not in "iu":
        raise ManifestError(
            f"{path} is {loaded.dtype} of shape {loaded.shape}, not a row of whole numbers; name an index array."
        )
    wrong = loaded[(loaded < 0) | (loaded >= count)]
    if wrong.size:
        raise ManifestError(
            f"{path} has the index {wrong[0]}, but {into} has {count} lines; name the list that it was made for as "
            "`into`."
        )
    return array("q", loaded.astype(np.int64).tobytes())


def image_in(line: str) -> str:
    """The image in a line of a list: its first column, where the second one is a label's file, else all of it."""
    pair = _PAIR.match(line)
    return pair[1] if pair else line


def _entry(line: str, images: str) -> Entry:
    pair = _PAIR.match(line)
    inside = f"{images}/" if images else ""
    if pair:
        name, label = pair[1], pair[2]
    else:
        name, label = line.removeprefix("/") if inside and line.startswith(f"/{inside}") else line, None
    fault = fault_of_name(name) or (fault_of_name(label) if label else None)
    if not pair and not name.startswith(inside):
        name = inside + name
    image_id = without_suffix(name.removeprefix(inside)) if fault is None else printable(line)
    return Entry(image_id=image_id, image=name, label=label, fault=fault)
