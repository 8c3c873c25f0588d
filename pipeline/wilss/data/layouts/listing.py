"""From images and their tags to records: every fault of a single image becomes a sentence in its record."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wilss.data.layouts.spec import DataSpec
from wilss.data.layouts.table import Records, Tags
from wilss.data.layouts.tags import TagTable, read_tags
from wilss.data.layouts.text import some
from wilss.data.taxonomy import closest
from wilss.errors import ManifestError

__all__ = ["Listing", "make_listing"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All images of a split. exact: the list already is a step's selection; it is not to be filtered again."""

    records: Records
    warnings: tuple[str, ...] = ()
    exact: bool = False


def make_listing(
    spec: DataSpec,
    split: str,
    found: Records,
    *,
    warnings: Iterable[str] = (),
    exact: bool = False,
    lenient: bool = False,
    tags: TagTable | None = None,
) -> Listing:
    """Join images, as far as the disk goes, with their tags.

    lenient: for evaluation, where labels count and tags do not: an image without tags, or tags that cannot
    be read, are no fault. tags: where the caller knows them already.
    """
    if tags is None:
        tags = _tags(spec, split, found, lenient)
    records = found.tagged(_facts(spec, found, tags, lenient))
    empty = [image_id for image_id, ids, problem in records.facts() if not ids and problem is None]
    told = tuple(warnings)
    if empty and not lenient:
        who = f"no class and so no step for {some(empty)} of {split!r}"
        told += (f"{spec.at('splits')}: {who}; tag them, or take them off the list.",)
    return Listing(records=records, warnings=told, exact=exact)


def _tags(spec: DataSpec, split: str, found: Records, lenient: bool) -> TagTable:
    if lenient and spec.tags.kind == "masks":
        return TagTable({})
    try:
        return read_tags(spec, split, found)
    except ManifestError:
        if lenient:
            return TagTable({})
        raise


def _facts(spec: DataSpec, found: Records, tags: TagTable, lenient: bool) -> Iterator[tuple[Tags, str | None]]:
    """Tags and problem of each image."""
    ids_of = functools.cache(spec.ids_of)  # images share their tags
    for place, (image_id, _, problem) in enumerate(found.facts()):
        names = tags.names.get(image_id)
        ids, strange = ids_of(names or ())
        if problem is None and not lenient:
            problem = tags.problems.get(image_id)
            if problem is None and (names is None or strange):
                problem = _tag_problem(spec, found[place].path, names, strange)
        yield ids, problem


def _tag_problem(spec: DataSpec, path: Path, names: tuple[str, ...] | None, strange: tuple[str, ...]) -> str:
    if names is None:
        return (
            f"{path} has no tags (from {spec.tags.kind}{f', {spec.tags.file}' if spec.tags.file else ''}); add "
            "them, or leave the image out of the list."
        )
    return (
        f"{path} is tagged {strange[0]!r}, which is no class of "
        f"{spec.taxonomy.name}{closest(strange[0], spec.taxonomy.class_names)}; correct the tag, or list it in "
        "`tags.ignore`."
    )
