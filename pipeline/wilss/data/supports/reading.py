"""`read_supports`: the few annotated images of a step, from the manifest, a YAML file or a folder with one."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest, SupportRow
from wilss.data.manifest.build import class_id
from wilss.data.manifest.supports import parse_rows
from wilss.data.manifest.text import Key, Where, read_yaml
from wilss.data.supports.annotated import annotated_supports
from wilss.data.supports.maps import SupportMap
from wilss.data.supports.spec import SupportSpec, spec_of
from wilss.data.taxonomy import closest
from wilss.disk import data_path, is_folder, is_there_at
from wilss.errors import ManifestError, OneImageError
from wilss.randomness import seed_for

SUPPORTS_FILE = "supports.yaml"
#: Files of annotation tools.
TOOL_ENDINGS = (".json", ".xml", ".zip", ".parquet")


@dataclass(frozen=True)
class Support:
    """A support and its image."""

    spec: SupportSpec
    record: ImageRecord

    @cached_property
    def map(self) -> SupportMap:
        """What it says of every pixel, uint8 [H, W]; read once. Raises SupportError or ImageError."""
        return self.spec.read(self.record)


@dataclass(frozen=True, kw_only=True)
class SupportSet:
    """The supports of a step, by class and image. title: where they stand. classes: id -> name of the step's classes.

    problems: a sentence for every support that cannot be used, where they were asked for.
    """

    title: str
    classes: Mapping[int, str]
    supports: tuple[Support, ...]
    problems: tuple[str, ...] = ()

    def of(self, identity: int) -> tuple[Support, ...]:
        """The supports of one class."""
        return tuple(support for support in self.supports if support.spec.class_id == identity)

    def shots(self, count: int, seed: int = 0) -> "SupportSet":
        """`count` supports of every class, drawn by name: the same on any machine. 0 takes all there are.

        Raises ManifestError for a class that has too few, or none.
        """
        chosen: list[Support] = []
        for identity, name in self.classes.items():
            there = self.of(identity)
            self._require(name, len(there), count)
            drawn = sorted(there, key=lambda one: seed_for(seed, "supports", name, one.spec.image_id))
            chosen += drawn[: count or None]
        return replace(self, supports=_in_order(chosen))

    def usable(self) -> "SupportSet":
        """Those whose maps can be read."""
        return replace(self, supports=tuple(support for support in self.supports if _problem(support) is None))

    @cached_property
    def digest(self) -> str:
        """sha256 of all that the supports say: images, classes, maps, and whether a map is somebody's whole mask."""
        digest = hashlib.sha256()
        for support in self.supports:
            spec, support_map = support.spec, support.map
            head = f"{spec.image_id}\n{self.classes[spec.class_id]}\n{support_map.shape[0]} {support_map.shape[1]}\n"
            head += f"{spec.kind == 'mask'}\n"
            digest.update(head.encode("utf-8", "surrogateescape"))
            digest.update(support_map.tobytes())
        return digest.hexdigest()

    def _require(self, name: str, there: int, wanted: int) -> None:
        if not there:
            raise ManifestError(
                f"{self.title} has no support of the class {name!r}; annotate an image of it, or draw supports from "
                "pixel labels with `wilss-masks supports draw`."
            )
        if there < wanted:
            raise ManifestError(
                f"{self.title} has {there} support(s) of the class {name!r}, fewer than the {wanted} shots; annotate "
                f"more images, or use {there} shots."
            )


def read_supports(manifest: Manifest, step: int, path: Path | str | None = None, *, every: bool = True) -> SupportSet:
    """The supports of a step. path: those that take the place of the manifest's own.

    It is a YAML file, a folder with supports.yaml, or what an annotation tool wrote, see `wilss.data.annotations`.
    every: raise at the first support that cannot be used; else leave such supports out and tell of them in
    `problems`. Maps are not read yet. Raises ManifestError where there is no list at all, or its form is wrong.
    """
    found: list[Support] = []
    problems: list[str] = []
    title, given = _given(manifest, step, path)
    for support in given:
        if isinstance(support, Support):
            found.append(support)
        elif every:
            raise support
        else:
            problems.append(str(support))
    classes = {identity: manifest.taxonomy.name_of(identity) for identity in manifest.protocol.new(step)}
    return SupportSet(title=title, classes=classes, supports=_in_order(found), problems=tuple(problems))


def problems_of(supports: SupportSet) -> Iterator[str]:
    """A sentence for every support whose map cannot be read, and for every class without one."""
    yield from supports.problems
    yield from filter(None, map(_problem, supports.supports))
    for identity, name in supports.classes.items():
        if not supports.of(identity):
            yield f"{supports.title} has no support of the class {name!r}; annotate an image of it."


def _problem(support: Support) -> str | None:
    """Why its map cannot be read, or None."""
    try:
        _ = support.map
    except OneImageError as error:
        return str(error)
    return None


def _given(manifest: Manifest, step: int, path: Path | str | None) -> tuple[str, Iterator[Support | ManifestError]]:
    """Where the supports stand, and each of them, or why it cannot be used."""
    manifest.protocol.new(step)
    listed = manifest.supports.get(step)
    named = path if path is not None or listed is None else listed.path
    if named is not None and _is_of_a_tool(data_path(named)):
        return str(named), _drawn_elsewhere(data_path(named), manifest, step)
    title, rows, where, key = _rows(manifest, step, path)
    reader = _Reader(manifest, step, where)
    return title, (reader.read_or_say(row, (*key, number)) for number, row in enumerate(rows))


def _is_of_a_tool(path: Path) -> bool:
    """Whether a path is no list of ours: it has another ending, or is a folder of files without such a list."""
    if path.is_dir():
        return not (path / SUPPORTS_FILE).exists() and any(path.iterdir())
    return path.suffix.lower() in TOOL_ENDINGS and path.exists()


def _drawn_elsewhere(path: Path, manifest: Manifest, step: int) -> Iterator[Support | ManifestError]:
    records = {record.image_id: record for record in manifest.images(step).records}
    for spec in annotated_supports(path, manifest, step, records):
        if isinstance(spec, ManifestError):
            yield spec
        elif (problem := records[spec.image_id].problem) is not None:
            yield ManifestError(f"{spec.where}: {problem}")
        else:
            yield Support(spec, records[spec.image_id])


class _Reader:
    """Turns rows into supports: classes and images must be those of the step."""

    def __init__(self, manifest: Manifest, step: int, where: Where) -> None:
        self._manifest, self._step, self._where = manifest, step, where
        self._records = {record.image_id: record for record in manifest.images(step).records}
        self._seen: dict[tuple[str, int], Key] = {}

    def read_or_say(self, row: SupportRow, key: Key) -> Support | ManifestError:
        """A support, or why it cannot be used."""
        try:
            return self._read(row, key)
        except ManifestError as error:
            return error

    def _read(self, row: SupportRow, key: Key) -> Support:
        spec = spec_of(row, self._class(row, key), self._where, key)
        before = self._seen.setdefault((spec.image_id, spec.class_id), key)
        if before != key:
            raise self._where.error(
                key, f"is the same image and class as {self._where.at(before)}; keep one (`boxes` takes several)."
            )
        return Support(spec, self._record(row, key))

    def _class(self, row: SupportRow, key: Key) -> int:
        identity = class_id(row.cls, self._manifest.taxonomy, self._where, (*key, "class"))
        new = self._manifest.protocol.new(self._step)
        if identity not in new:
            names = ", ".join(self._manifest.taxonomy.name_of(one) for one in new)
            raise self._where.error(
                (*key, "class"), f"{row.cls!r} is no class of step {self._step}; its classes are {names}."
            )
        return identity

    def _record(self, row: SupportRow, key: Key) -> ImageRecord:
        record = self._records.get(row.image)
        if record is None:
            raise self._where.error(
                (*key, "image"),
                f"{row.image!r} is no image of step {self._step}'s list{closest(row.image, self._records)}.",
            )
        if record.problem is not None:
            raise self._where.error(key, record.problem)
        return record


def _rows(manifest: Manifest, step: int, path: Path | str | None) -> tuple[str, tuple[SupportRow, ...], Where, Key]:
    listed = manifest.supports.get(step)
    if path is None and listed is not None and listed.path is None:
        return listed.where.at(listed.key), listed.rows, listed.where, listed.key
    named = path if path is not None or listed is None else listed.path
    if named is None:
        raise ManifestError(
            f"{manifest.path} names no supports of step {step}; add `supports: {{{step}: FOLDER}}`, or give them with "
            "--supports."
        )
    file = _file(data_path(named))
    content, where = read_yaml(file, "supports draw")
    return str(file), parse_rows(content, where), where, ()


def _file(path: Path) -> Path:
    """The YAML file itself. Raises ManifestError where it is missing."""
    file = path / SUPPORTS_FILE if is_folder(path) else path
    if not is_there_at(file):
        what = f"{path} is a folder without {SUPPORTS_FILE}" if path.is_dir() else f"{path} is not there"
        raise ManifestError(f"{what}; correct the path, or draw supports there with `wilss-masks supports draw`.")
    return file


def _in_order(supports: list[Support]) -> tuple[Support, ...]:
    """By class and image, so that the order of a list changes nothing."""
    return tuple(sorted(supports, key=lambda one: (one.spec.class_id, one.spec.image_id)))
