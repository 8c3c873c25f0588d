"""VOC's annotation files, read without ever following what an XML file may ask for."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.parsers import expat

from wilss.disk import threads_for
from wilss.process import map_in_threads

_LARGEST = 1 << 20


class _RefusedError(Exception):
    """The file holds what no annotation needs."""


def read_annotations(
    folder: Path, image_ids: Iterable[str], *, difficult: bool
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, str]]:
    """Class names by image id, and a sentence for every file that cannot be read.

    Ids without a file are in neither.
    """
    names: dict[str, tuple[str, ...]] = {}
    problems: dict[str, str] = {}
    ids = tuple(image_ids)
    for image_id, found in zip(ids, _all_found(folder, ids, difficult), strict=True):
        if isinstance(found, str):
            problems[image_id] = found
        elif found is not None:
            names[image_id] = found
    return names, problems


def _all_found(folder: Path, image_ids: Sequence[str], difficult: bool) -> Iterator[tuple[str, ...] | str | None]:
    """What `_found` finds for each image; several at a time where each waits for an answer."""
    find = functools.partial(_found, difficult=difficult)
    paths = (folder / f"{image_id}.xml" for image_id in image_ids)
    threads = threads_for(folder, 1)
    return map(find, paths) if threads == 1 else map_in_threads(find, paths, threads)


def _found(path: Path, difficult: bool) -> tuple[str, ...] | str | None:
    """Class names; a sentence for a file that cannot be read; None for one that is not there."""
    try:
        return _objects(_content(path), difficult)
    except FileNotFoundError:
        return None
    except (OSError, expat.ExpatError, _RefusedError, ValueError) as error:
        return f"{path} cannot be read ({error}); fix or remove it."


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise _RefusedError("it is larger than 1 MiB")
    return content


def _objects(content: bytes, difficult: bool) -> tuple[str, ...]:
    """Names of the objects, once each; with `difficult` also of those so marked."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.Parse(content, True)
    return tuple(dict.fromkeys(name for name, hard in reader.objects if name and (difficult or not hard)))


def _refuse_doctype(*declaration: object) -> None:
    raise _RefusedError("it declares a document type, which annotations do not need")


class _Reader:
    """Collects (name, difficult) of annotation/object; parts of an object have names too, which do not count."""

    def __init__(self) -> None:
        self.objects: list[tuple[str, bool]] = []
        self._path: list[str] = []
        self._fields: dict[str, str] = {}

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._path.append(tag)
        if self._path == ["annotation", "object"]:
            self._fields = {}

    def text(self, text: str) -> None:
        if self._path[:2] == ["annotation", "object"] and len(self._path) == 3:
            self._fields[self._path[2]] = self._fields.get(self._path[2], "") + text

    def end(self, tag: str) -> None:
        if self._path == ["annotation", "object"]:
            hard = self._fields.get("difficult", "0").strip() == "1"
            self.objects.append((self._fields.get("name", "").strip(), hard))
        self._path.pop()
