"""Images that are there with tags or labels and on no list, as those that came after a manifest's lists were made."""

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wilss.data.layouts import DataSpec, ImageRecord
from wilss.data.layouts.files import IMAGE_SUFFIXES, without_suffix
from wilss.data.layouts.listing import read_others
from wilss.data.layouts.named_images import NamedImages
from wilss.data.layouts.tag_table import TagRows
from wilss.data.layouts.tags import read_rows, tag_files
from wilss.data.names import some
from wilss.disk import UrlPath, path_of, walk
from wilss.errors import ManifestError, counted

if TYPE_CHECKING:
    from wilss.data.manifest.manifest import Manifest


class Strangers(NamedTuple):
    """Names in a table that no split has: of nothing below the data folder, and of images that lie there."""

    nobody: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()


def strangers_of(spec: DataSpec, table: TagRows, listed: Sequence[NamedImages]) -> Strangers:
    """The names in a table that none of `listed`, the images of every split, is called."""
    names = dict.fromkeys(row.image for row in table.rows)
    strange = [name for name in names if not any(name in images for images in listed)]
    if not strange:
        return Strangers()
    on_disk = _images_below(spec.root).limited(listed[0].beginnings if listed else None)
    unlisted = tuple(name for name in strange if name in on_disk)
    return Strangers(nobody=tuple(name for name in strange if name not in on_disk), unlisted=unlisted)


def told_rows(path: Path, spec: DataSpec, images: Sequence[str]) -> Iterator[str]:
    """A sentence for the rows of a table at `path` whose images are there and on no list."""
    if images:
        yield f"{path} has rows of {some(images)} {_remedy(spec)}"


def told_namesakes(path: Path, table: TagRows, listed: Sequence[NamedImages]) -> Iterator[str]:
    """A sentence for the names in a table at `path` that mean one image in one split and another one in another."""
    several: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(row.image for row in table.rows) if len(listed) > 1 else ():
        found = [(images, places[0]) for images in listed if len(places := images.find(name)) == 1]
        if len(found) > 1 and len(means := dict.fromkeys(images.path(place) for images, place in found)) > 1:
            several[name] = tuple(means)
    if several:
        name, paths = next(iter(several.items()))
        yield (
            f"{path} has {counted(len(several), 'row')} of a name that is another image in another split ({name!r} is "
            f"{some(paths)}), each of which gets these tags; write their paths there."
        )


def told_repeats(path: Path, table: TagRows, listed: Sequence[NamedImages]) -> Iterator[str]:
    """A sentence for images with several rows of other tags in a table at `path`, unless it has a row for every tag."""
    if table.is_long:
        return
    differ: list[str] = []
    for images in listed:
        first: dict[int, tuple[str, ...]] = {}
        others: dict[int, None] = {}
        for row in table.rows:
            if len(places := images.find(row.image)) == 1:
                known = first.setdefault(places[0], row.tags)
                if known is not row.tags and set(known) != set(row.tags):
                    others[places[0]] = None
        differ += [images.ids[place] for place in others]
    if differ:
        yield f"{path} has several rows, with other tags, of {some(differ)}, which get all of them; keep the right row."


def told_files(manifest: "Manifest", name: str) -> Iterator[str]:
    """A sentence for the images of a data set, laid out as a folder, that a label or their folder tags, on no list.

    None where tags come from elsewhere, where a split is a folder and not a list, or where the data lie in a bucket.
    """
    spec = manifest.data[name]
    told_by_files = spec.layout == "folder" and spec.tags.kind in ("masks", "folders")
    if not told_by_files or isinstance(spec.root, UrlPath) or not all(map(_is_list, _lists(spec))):
        return
    listed = {
        str(record.path) for split in spec.splits for record in manifest.listing(name, split, lenient=None).records
    }
    by_labels = spec.tags.kind == "masks"
    others = {str(record.path): record for record in _others(spec, listed) if str(record.path) not in listed}
    unlisted = [one.image_id for one in others.values() if (one.label is not None if by_labels else one.tags)]
    if unlisted:
        yield f"{spec.root} holds {some(unlisted)} with {'labels' if by_labels else 'tags'} {_remedy(spec)}"


def told_unlisted(manifest: "Manifest", name: str) -> Iterator[str]:
    """The sentences of `told_rows` and `told_files` for a data set; none where a list or table cannot be read.

    None where the data lie in a bucket either, all names of which a run would have to list.
    """
    spec = manifest.data[name]
    with suppress(ManifestError):
        if spec.tags.kind == "csv" and not isinstance(spec.root, UrlPath):
            (path,) = tag_files(spec, next(iter(spec.splits)))
            records = [manifest.listing(name, split, lenient=None).records for split in spec.splits]
            table, listed = read_rows(spec, *records)
            yield from told_namesakes(path, table, listed)
            yield from told_repeats(path, table, listed)
            yield from told_rows(path, spec, strangers_of(spec, table, listed).unlisted)
        yield from told_files(manifest, name)


def _others(spec: DataSpec, listed: Set[str]) -> Iterator[ImageRecord]:
    """Every image where those of a split may lie, but for the paths `listed`, with its label or tags."""
    places = {(chosen.images, chosen.labels): split for split, chosen in spec.splits.items()}
    for split in places.values():
        yield from read_others(spec, split, listed)


def _lists(spec: DataSpec) -> list[str]:
    return [split.list for split in spec.splits.values()]


def _is_list(name: str) -> bool:
    return name.endswith((".txt", ".npy"))


def _remedy(spec: DataSpec) -> str:
    """The end of a sentence: what becomes of such images, and what can be done about it."""
    lists = [name for name in _lists(spec) if name.endswith(".txt")]
    where = f" ({', '.join(dict.fromkeys(lists))})" if lists else ""
    return (
        f"that no split of this manifest lists, left out of all steps; write those to learn from into a list{where}, "
        "and leave others, as of a test, as they are."
    )


def _images_below(root: Path) -> NamedImages:
    """Every image below a folder."""
    paths = [
        (path_of(folder) / name).relative_to(root).as_posix()
        for folder, _, names in walk(root)
        for name in names
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    ]
    return NamedImages([without_suffix(path) for path in paths], paths.__getitem__)
