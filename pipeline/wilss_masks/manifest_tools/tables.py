"""How the table of a data set was read: its form, rows of no image, images without a row, columns that are not read."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wilss.data.layouts import DataSpec, Records
from wilss.data.layouts.files import IMAGE_SUFFIXES, without_suffix
from wilss.data.layouts.named_images import NamedImages
from wilss.data.layouts.tag_table import Row, TagRows
from wilss.data.layouts.tags import read_rows, tag_files
from wilss.data.manifest import Manifest, strangers_of, told_namesakes, told_repeats, told_rows
from wilss.data.names import composed, some
from wilss.data.taxonomy import same_class
from wilss.errors import ManifestError, counted

from .text import scalar

#: A tag of so few images may be a slip for one of so many, if this share of their letters is the same.
_RARE, _COMMON, _NEAR = 2, 5, 0.8


@dataclass(frozen=True, kw_only=True)
class TableReport:
    """form: how it was read, as a sentence. warnings: what in it is of no use, a sentence each.

    path: the table. counts: of how many images each tag is.
    """

    path: Path
    form: str
    warnings: tuple[str, ...]
    counts: Mapping[str, int]

    def doubts(self) -> Iterator[str]:
        """A sentence for every rare tag that is nearly the name of a common one, and may be it, misspelt."""
        common = [tag for tag, many in self.counts.items() if many >= _COMMON]
        for rare, few in self.counts.items():
            near = next((tag for tag in common if _is_near(rare, tag)), None) if few <= _RARE else None
            if near is not None:
                images = counted(few, "image")
                said = f"the tag {rare!r} of {images} may be {near!r}, misspelt; correct it and run init again"
                yield f"{self.path}: {said}."


def table_reports(manifest: Manifest) -> Iterator[TableReport]:
    """A report of every data set whose tags come from a table; those that cannot be read at all are passed over."""
    for name, spec in manifest.data.items():
        if spec.tags.kind == "csv":
            try:
                yield _report(spec, [manifest.listing(name, split, lenient=True).records for split in spec.splits])
            except ManifestError:
                continue


def folder_classes(manifest: Manifest) -> Iterator[str]:
    """A sentence for every data set whose classes are the names of folders, with the images of each."""
    for name, spec in manifest.data.items():
        if spec.tags.kind == "folders":
            records = [
                record for split in spec.splits for record in manifest.listing(name, split, lenient=True).records
            ]
            counts = Counter(tag for record in records for tag in record.tags)
            named = [f"{spec.taxonomy.name_of(tag)} {counts[tag]}" for tag in sorted(counts)]
            if not named:
                yield f"{spec.root}: no folder has the name of a class; correct `names` or `tags` in the manifest."
                continue
            yield f"{spec.root}: the names of the folders are the classes; images of each: {', '.join(named)}."


def _report(spec: DataSpec, splits: Sequence[Records]) -> TableReport:
    """splits: the images of every split; a row may also name an image on disk that none of them has."""
    (path,) = tag_files(spec, next(iter(spec.splits)))
    table, listed = read_rows(spec, *splits)
    names = list(dict.fromkeys(row.image for row in table.rows))
    known = {(split, place) for split, images in enumerate(listed) for name in names for place in images.find(name)}
    strangers = strangers_of(spec, table, listed)
    without = [
        image_id
        for split, images in enumerate(listed)
        for place, image_id in enumerate(images.ids)
        if (split, place) not in known
    ]
    count = len(known) + len(without)
    return TableReport(
        path=path,
        form=f"{path}: {table.form}; {len(known)} of {count} images have a row.{_begun(names, listed)}",
        warnings=(
            *_sentences(path, spec, table, strangers.nobody, without),
            *told_namesakes(path, table, listed),
            *told_repeats(path, table, listed),
            *told_rows(path, spec, strangers.unlisted),
        ),
        counts=Counter(tag for row in table.rows for tag in row.tags),
    )


def _begun(names: Sequence[str], listed: Sequence[NamedImages]) -> str:
    """A sentence where all names begin in one and the same folder above the data folder, which may be another one."""
    found = {one for images in listed for name in names if (one := images.beginning(name)) is not None}
    if len(found) != 1 or found == {()}:
        return ""
    (folders,) = found
    return f" Its names begin with {'/'.join(folders)}/, which is taken for the data folder."


def _is_near(first: str, second: str) -> bool:
    """Whether two words differ by a slip: the same letters, or nearly all of them in the same order.

    Spellings of one class are no slips.
    """
    if same_class(first) == same_class(second):
        return False
    matcher = difflib.SequenceMatcher(None, first.casefold(), second.casefold())
    if matcher.real_quick_ratio() < _NEAR or matcher.quick_ratio() < _NEAR:  # neither is ever below the ratio
        return False
    return matcher.ratio() >= _NEAR or sorted(first.casefold()) == sorted(second.casefold())


def _by_case(nobody: Sequence[str], without: Sequence[str]) -> str:
    """The end of a sentence where names of no image are those of images but for their upper and lower case."""
    spelt = {_last(image_id).casefold(): image_id for image_id in without}
    pairs = [(name, spelt.get(_last(name).casefold())) for name in nobody]
    found = [(name, image_id) for name, image_id in pairs if image_id is not None and _last(name) != _last(image_id)]
    if not found:
        return ""
    (name, image_id), many = found[0], len(found)
    return f"; {many} of them would be found but for upper and lower case ({name} is {image_id})"


def _last(name: str) -> str:
    """A name without folders and ending."""
    return without_suffix(composed(name.replace("\\", "/").rpartition("/")[2]))


def _sentences(
    path: Path, spec: DataSpec, table: TagRows, nobody: Sequence[str], without: Sequence[str]
) -> Iterator[str]:
    header = _unread_header(spec, table, nobody)
    if header is not None:
        nobody = nobody[1:]
        shown, tags = ", ".join(map(scalar, (header.image, *header.tags))), ", ".join(map(scalar, header.tags))
        said = f"{{from: csv, file: {scalar(path.name)}, image: {scalar(header.image)}, columns: [{tags}]}}"
        yield (
            f"{path}: its first line ({shown}) looks like a header, and was read as a row; call these columns `image` "
            f"and `tags` there, or write `tags: {said}` into the manifest."
        )
    if nobody:
        listed = ", ".join(nobody[:5]) + (", ..." if len(nobody) > 5 else "")
        count = counted(len(nobody), "row")
        said = f"{path} has {count} of no image below {spec.root} ({listed}); correct the names, or remove them"
        yield f"{said}{_by_case(nobody, without)}."
    if without:
        yield f"{path} has no row of {some(without)}; tag them (nothing behind the comma for none of the classes)."
    unread = [name for name in table.ignored if name not in table.counts]
    if unread:
        yield f"{path}: its {_columns(unread)} not read; name those with tags by `tags: {{columns: [...]}}`."
    if table.counts:
        yield (
            f"{path}: its {_columns(table.counts)} not read, for there are other numbers than 0 and 1; if they count a "
            "class, write 1 there for more."
        )
    if table.mask is not None and spec.tags.mask is None:
        yield f"{path}: its column {table.mask} is not read; write `mask: {table.mask}` into `tags` if it names labels."


def _unread_header(spec: DataSpec, table: TagRows, nobody: Sequence[str]) -> Row | None:
    """The first row where it may be headings in words that are not known: of no image, no class, and no other row."""
    if table.head or len(table.rows) < 2 or not nobody or nobody[0] != table.rows[0].image:
        return None
    first, *others = table.rows
    is_word = not first.image.lower().endswith(IMAGE_SUFFIXES) and not any(map(str.isdigit, first.image))
    below = {tag for row in others for tag in row.tags}
    unknown = all(spec.taxonomy.find(tag) is None and tag not in spec.tags.ignore for tag in first.tags)
    return first if first.tags and is_word and unknown and not below & set(first.tags) else None


def _columns(names: Sequence[str]) -> str:
    return f"columns {', '.join(names)} are" if len(names) > 1 else f"column {names[0]} is"
