"""A table of tags as people and programs write it: any of four separators, with or without a header, long or wide.

What `tags` in the manifest does not say is told apart by the content, and by which cells name an image.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wilss.data.layouts.files import IMAGE_SUFFIXES, read_text
from wilss.data.layouts.flag_columns import NO, YES, all_flags, are_meant_as_flags, is_count, some_flags
from wilss.data.layouts.spec import TagsSpec
from wilss.data.taxonomy import closest
from wilss.errors import ManifestError

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
#: Blanks, zero width space, word joiner and byte order mark; joiners of letters are parts of names.
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"
_LOOKED_AT = 200
_IMAGE_HEAD = re.compile(r"(image|img|photo|picture|file)s?(id|name|path|file)?|id|name|path")
_TAG_HEAD = re.compile(r"(tag|label|class|classe|category|categorie|keyword|concept|object)s?(name|names)?\d*")
_MASK_HEAD = re.compile(
    r"(seg|segmentation|label|annotation)?masks?(path|file|filename|name)?|(segmentation|label)(path|file)"
)
#: Headings of 0 and 1 that say how images are divided; `train` is a class as well, but not beside one of these.
_DIVISION_HEAD = re.compile(r"(is)?(val|valid|validation|test|testing)(set|split)?|istrain(ing)?|folds?|splits?|subset")
_TRAIN_HEADS = ("train", "training")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


class Row(NamedTuple):
    """What a table says of an image: its name as it is written, class names, and its label file ("" for none)."""

    image: str
    tags: tuple[str, ...]
    mask: str


@dataclass(frozen=True, kw_only=True)
class TagRows:
    """All rows of a table.

    form: how it was read, in words. is_long: whether it has a row for every tag. head: the cells of its header, none
    where it was read as having none. classes: those that head columns of 0 and 1. mask: the heading of a column that
    names label files, whether it is read or not. ignored: headings that are not read; counts: those of them, beside
    columns of 0 and 1, under which there are whole numbers from 0.
    """

    rows: tuple[Row, ...]
    form: str
    is_long: bool = False
    head: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    mask: str | None = None
    ignored: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Which column holds what. flags: the tags are 1 under the name of a class. head: None where there is no header."""

    image: int
    tags: tuple[int, ...]
    flags: bool
    mask: int | None
    head: Sequence[str] | None


def read_table(
    path: Path, spec: TagsSpec, *, is_image: Callable[[str], bool], is_class: Callable[[str], bool] | None = None
) -> TagRows:
    """The rows of a table. is_image: whether a cell names an image; is_class: likewise, None where nobody knows yet.

    Raises ManifestError where it is no table, or could be read in two ways.
    """
    text = read_text(path)
    separator = spec.separator or _separator(path, text, is_image)
    grid = _grid(path, text, separator)
    if not grid:
        raise ManifestError(f"{path} is empty; write a row per image: its id, a comma, its tags with `;` between.")
    columns = _Table(path=path, grid=grid, spec=spec, is_image=is_image, is_class=is_class).columns()
    body = grid if columns.head is None else grid[1:]
    if columns.flags:
        _require_flags(path, body, columns)
    rows = tuple(_row(cells, columns, spec, is_class) for cells in body if len(cells) > columns.image)
    head = columns.head or ()
    used = {columns.image, columns.mask, *columns.tags}
    ignored = [column for column, name in enumerate(head) if column not in used and name]
    return TagRows(
        rows=rows,
        form=f"{_SEPARATORS[separator]}-separated, {_form(columns, rows)}",
        is_long=_is_long(columns, rows),
        head=tuple(head),
        classes=tuple(head[column] for column in columns.tags) if columns.flags else (),
        mask=None if columns.mask is None else _heading(head, columns.mask),
        ignored=tuple(head[column] for column in ignored),
        counts=tuple(head[column] for column in ignored if columns.flags and is_count(body, column)),
    )


# -- rows and columns ---------------------------------------------------------------------------------------


def _separator(path: Path, text: str, is_image: Callable[[str], bool]) -> str:
    """The one under which most rows name an image, and of equal ones that which always comes first in a line."""
    lines = [line for line in text.splitlines() if line.strip()][:_LOOKED_AT]
    there = [separator for separator in _SEPARATORS if any(separator in line for line in lines)]
    if len(there) <= 1:
        return there[0] if there else ","
    hits = {one: max(_hits(_grid(path, "\n".join(lines), one), is_image), default=0) for one in there}
    best = [one for one in there if hits[one] == max(hits.values())]
    firsts = {min(best, key=lambda one: (line + one).index(one)) for line in lines if set(best) & set(line)}
    if len(best) > 1 and len(firsts) > 1:
        named = " or ".join(f"`{_shown(one)}`" for one in best)
        raise ManifestError(
            f"{path} may be separated by {named}; say by which in the manifest: `tags: {{from: csv, file: {path.name}, "
            f'separator: "{_shown(best[0])}"}}`, or with --separator of `manifest init`.'
        )
    return best[0] if len(best) == 1 else firsts.pop()


def _shown(separator: str) -> str:
    return separator.replace("\t", "\\t")


def _grid(path: Path, text: str, separator: str) -> list[list[str]]:
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t")
        cells = ([_bare(cell) for cell in row] for row in rows)
        return [row for row in cells if any(row)]
    except csv.Error as error:
        raise ManifestError(f"{path} is not a table of separated values ({error}); fix that line.") from None


def _hits(grid: Sequence[Sequence[str]], is_image: Callable[[str], bool]) -> list[int]:
    """How many cells of each column name an image."""
    width = max(map(len, grid), default=0)
    return [sum(len(row) > column and is_image(row[column]) for row in grid) for column in range(width)]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The cells of a table, the first row maybe a header; is_image, is_class: see `read_table`."""

    path: Path
    grid: Sequence[Sequence[str]]
    spec: TagsSpec
    is_image: Callable[[str], bool]
    is_class: Callable[[str], bool] | None

    def columns(self) -> _Columns:
        """Which column holds what: by `spec` where it says so, else by what the cells are."""
        grid, first, spec = self.grid, self.grid[0], self.spec
        image = self._image_column()
        asked = bool(spec.image or spec.columns or spec.mask)
        head = first if asked or self._is_header(image) else None
        others = [column for column in range(max(map(len, grid))) if column != image]
        mask = self._mask_column(head, others)
        others = [column for column in others if column != mask]
        if spec.columns:
            tags = [self._named(name, "columns") for name in spec.columns]
            flags = are_meant_as_flags(grid[1:], first, tags, self.is_class or (lambda word: False))
        elif head is not None:
            tags, flags = self._under_header(head, others)
        elif others and all(all_flags(grid, [column]) for column in others):
            raise ManifestError(f"{self.path} has columns of 0 and 1 without a header; add a first row of class names.")
        else:
            tags, flags = others, False
        return _Columns(image=image, tags=tuple(tags), flags=flags, mask=mask, head=head)

    def _image_column(self) -> int:
        if self.spec.image is not None:
            return self._named(self.spec.image, "image")
        hits = _hits(self.grid[:_LOOKED_AT], self.is_image)
        return max(range(len(hits)), key=lambda column: (hits[column], self._is_head_of_images(column), -column))

    def _mask_column(self, head: Sequence[str] | None, others: Sequence[int]) -> int | None:
        if self.spec.mask is not None:
            return self._named(self.spec.mask, "mask")
        if head is None:
            return None
        return next((c for c in others if c < len(head) and _MASK_HEAD.fullmatch(_plain(head[c]))), None)

    def _named(self, name: str, key: str) -> int:
        head = self.grid[0]
        if name not in head:
            raise ManifestError(f"{self.path} has no column {name!r}{closest(name, head)}; correct `tags.{key}`.")
        return list(head).index(name)

    def _under_header(self, head: Sequence[str], others: Sequence[int]) -> tuple[list[int], bool]:
        """The columns of tags, and whether they are columns of 0 and 1.

        Where the classes are known, a column of some 0 and 1 that is headed by none of them is a remark and left out.
        """
        body = self.grid[1:]
        others = [column for column in others if column < len(head) and head[column]]
        classes = [column for column in others if self.is_class is not None and self.is_class(head[column])]
        named = [column for column in others if _TAG_HEAD.fullmatch(_plain(head[column]))]
        if named and not classes:
            return named, False
        divide = _divisions([head[column] for column in others])
        flags = [column for column in others if all_flags(body, [column]) and head[column] not in divide]
        if flags and self.is_class is None:
            flags += [column for column in others if some_flags(body, column) and head[column] not in divide]
        if flags or classes:
            return sorted({*flags, *classes}), True
        if len(others) <= 1:
            return others, False
        path, example = self.path, head[others[0]]
        raise ManifestError(
            f"{path} has the columns {', '.join(head)}; say which hold tags: `tags: {{from: csv, file: {path.name}, "
            f"columns: [{example}]}}` in the manifest, or --columns {example} with `manifest init`."
        )

    def _is_header(self, image: int) -> bool:
        """Whether the first row is one. image: the column of images."""
        grid, first = self.grid, self.grid[0]
        if len(first) > image and (first[image].lower().endswith(IMAGE_SUFFIXES) or self.is_image(first[image])):
            return False
        if self._stands_apart(image):
            return True
        others = [cell for column, cell in enumerate(first) if column != image]
        known = any(_TAG_HEAD.fullmatch(_plain(cell)) or _MASK_HEAD.fullmatch(_plain(cell)) for cell in others)
        flags = any(all_flags(grid[1:], [c]) and not all_flags(grid[:1], [c]) for c in range(len(first)) if c != image)
        return flags or known or (self._is_head_of_images(image) and (len(first) > 1 or len(grid) > 1))

    def _stands_apart(self, image: int) -> bool:
        """Whether the first row alone names no image, and none of its words comes again: headings in any language.

        Of three columns and more, where it is asked which of them hold tags: a row of an image that is gone is not
        lost.
        """
        first, rows = self.grid[0], self.grid[1:_LOOKED_AT]
        below = {cell for row in rows for cell in row}
        named = [len(row) > image and self.is_image(row[image]) for row in (first, *rows)]
        return (
            len(first) > 2
            and len(rows) > 1
            and all(first[1:])
            and not named[0]
            and all(named[1:])
            and not below & set(first)
        )

    def _is_head_of_images(self, column: int) -> bool:
        first = self.grid[0]
        return len(first) > column and bool(_IMAGE_HEAD.fullmatch(_plain(first[column])))


def _divisions(heads: Sequence[str]) -> set[str]:
    """Those of these headings that say how images are divided."""
    found = {head for head in heads if _DIVISION_HEAD.fullmatch(_plain(head))}
    return found | {head for head in heads if found and _plain(head) in _TRAIN_HEADS}


def _require_flags(path: Path, body: Sequence[Sequence[str]], columns: _Columns) -> None:
    head = columns.head or ()
    for number, row in enumerate(body, start=2):
        if len(row) != len(head):
            raise ManifestError(
                f"{path}, row {number} has {len(row)} cells, the header {len(head)}; with one column per class every "
                "row needs all of them (or write two columns: the id, and its tags with `;` between)."
            )
        strange = next((column for column in columns.tags if row[column] not in YES | NO), None)
        if strange is not None:
            raise ManifestError(
                f"{path}, row {number} has the flag {row[strange]!r} under {head[strange]!r}; write 1 or 0 there, or "
                "name the columns of classes without it, `tags: {columns: [...]}`, or write two columns: the id, and "
                "its tags with `;` between."
            )


# -- cells --------------------------------------------------------------------------------------------------


def _row(cells: Sequence[str], columns: _Columns, spec: TagsSpec, is_class: Callable[[str], bool] | None) -> Row:
    mask = cells[columns.mask] if columns.mask is not None and columns.mask < len(cells) else ""
    if columns.flags and columns.head is not None:
        tags = [columns.head[column] for column in columns.tags if cells[column] in YES]
    else:
        words = [cells[column] for column in columns.tags if column < len(cells)]
        tags = [name for word in words for name in names_in(word, spec.between, is_class)]
    return Row(cells[columns.image], tuple(dict.fromkeys(tags)), mask)


def names_in(cell: str, between: str | None, is_class: Callable[[str], bool] | None = None) -> list[str]:
    """The class names in a cell: one, or several with `;`, `|` or commas (or `between`) between them, or a list."""
    if is_class is not None and is_class(cell):
        return [cell]
    if len(cell) > 1 and _BRACKETS.get(cell[0]) == cell[-1]:
        return [name for part in cell[1:-1].split(",") if (name := _bare(_bare(part).strip("'\"")))]
    parts = re.split(r"[;|,]", cell) if between is None else cell.split(between)
    return [name for part in parts if (name := _bare(part))]


def _bare(cell: str) -> str:
    """Without blanks around it, nor the marks of no width that are copied along from web pages and documents."""
    return cell.strip(_BLANKS)


def _form(columns: _Columns, rows: Sequence[Row]) -> str:
    if columns.flags:
        return f"a column of 0 and 1 for each of {len(columns.tags)} classes"
    if len(columns.tags) > 1:
        return f"tags in {len(columns.tags)} columns"
    return "a row for every tag" if _is_long(columns, rows) else "a row for every image"


def _is_long(columns: _Columns, rows: Sequence[Row]) -> bool:
    is_one_tag = not columns.flags and len(columns.tags) <= 1 and all(len(row.tags) <= 1 for row in rows)
    return is_one_tag and len({row.image for row in rows}) < len(rows)


def _heading(head: Sequence[str], column: int) -> str:
    return head[column] if column < len(head) else str(column + 1)


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())
