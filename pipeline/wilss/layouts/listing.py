"""From names, tags and labels to records: every fault of a single image becomes a sentence in its record."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wilss.errors import ManifestError
from wilss.layouts.records import ImageRecord, Label
from wilss.layouts.spec import DataSpec
from wilss.layouts.tags import TagTable, read_tags
from wilss.layouts.words import some
from wilss.taxonomy import closest

__all__ = ["Found", "Listing", "make_listing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """An image of a list, as far as the disk goes. problem: a sentence why it cannot be used, else None."""

    image_id: str
    path: Path
    label: Label | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All images of a split. exact: the list already is a step's selection; it is not to be filtered again."""

    records: tuple[ImageRecord, ...]
    warnings: tuple[str, ...] = ()
    exact: bool = False


def make_listing(
    spec: DataSpec,
    split: str,
    found: Sequence[Found],
    *,
    warnings: Iterable[str] = (),
    exact: bool = False,
    lenient: bool = False,
    tags: TagTable | None = None,
) -> Listing:
    """Join images with their tags.

    lenient: for evaluation, where labels count and tags do not: an image without tags, or tags that cannot
    be read, are no fault. tags: where the caller knows them already.
    """
    if tags is None:
        tags = _tags(spec, split, found, lenient)
    records = tuple(_record(spec, image, tags, lenient) for image in found)
    empty = [record.image_id for record in records if not record.tags and record.problem is None]
    told = tuple(warnings)
    if empty and not lenient:
        who = f"no class and so no step for {some(empty)} of {split!r}"
        told += (f"{spec.at('splits')}: {who}; tag them, or take them off the list.",)
    return Listing(records=records, warnings=told, exact=exact)


def _tags(spec: DataSpec, split: str, found: Sequence[Found], lenient: bool) -> TagTable:
    labels = {image.image_id: image.label for image in found if image.problem is None}
    if lenient and spec.tags.kind == "masks":
        return TagTable({})
    try:
        return read_tags(spec, split, labels)
    except ManifestError:
        if lenient:
            return TagTable({})
        raise


def _record(spec: DataSpec, image: Found, tags: TagTable, lenient: bool) -> ImageRecord:
    names = tags.names.get(image.image_id)
    ids, strange = spec.ids_of(names or ())
    problem = image.problem
    if problem is None and not lenient:
        problem = tags.problems.get(image.image_id) or _tag_problem(spec, image, names, strange)
    return ImageRecord(image_id=image.image_id, path=image.path, tags=ids, label=image.label, problem=problem)


def _tag_problem(spec: DataSpec, image: Found, names: tuple[str, ...] | None, strange: tuple[str, ...]) -> str | None:
    if names is None:
        return (
            f"{image.path} has no tags (from {spec.tags.kind}{f', {spec.tags.file}' if spec.tags.file else ''}); add "
            "them, or leave the image out of the list."
        )
    if strange:
        return (
            f"{image.path} is tagged {strange[0]!r}, which is no class of "
            f"{spec.taxonomy.name}{closest(strange[0], spec.taxonomy.class_names)}; correct the tag, or list it in "
            "`tags.ignore`."
        )
    return None
