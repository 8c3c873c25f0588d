"""What label files say against the names that they are read by: their palettes, and values of 0 and 1 alone."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from wilss.data.images import read_label_pixels
from wilss.data.layouts import ImageRecord, PngLabel
from wilss.data.layouts.causes import values_in
from wilss.data.layouts.colours import LABELMAP, ColourTable, Rgb, code_of, voc_colour
from wilss.data.taxonomy import BACKGROUND, VOC, VOID, Taxonomy, same_class
from wilss.errors import ImageError

_LOOKED_AT = 20
_VOC_CLASSES = {voc_colour(identity): VOC.name_of(identity) for identity in VOC.class_ids}


def palette_doubts(paths: Sequence[Path], names: Mapping[int, str]) -> tuple[str, ...]:
    """A sentence for every value that is painted in VOC's colour of another class that is named as well.

    names: by the value in label files. A palette in VOC's order says nothing: many programs paint any classes so.
    """
    named = {same_class(name) for name in names.values()}
    told: dict[int, str] = {}
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)]:
        for value, colour in _painted(path):
            other = _VOC_CLASSES.get(colour)
            if value not in names or other is None or colour == voc_colour(value):
                continue
            if same_class(other) != same_class(names[value]) and same_class(other) in named:
                told.setdefault(
                    value,
                    f"value {value} is named {names[value]!r}, but {path} paints it in VOC's colour of {other!r}; if "
                    f"it is that, write `values: {{{value}: {other}}}` beside `layout`.",
                )
    return tuple(told[value] for value in sorted(told))


def binary_doubt(values: Iterable[Collection[int]], names: Sequence[str], written: Collection[int] = ()) -> str | None:
    """A sentence where several classes are named and the label files hold a single value beside 0.

    values: those of each label file. written: values of which the manifest says what they are. Such
    files are most often masks of one class, or of one class in each folder.
    """
    used = set[int]().union(*values) - {BACKGROUND}
    if used not in ({1}, {VOID}) or used <= set(written) or (used == {1} and len(names) < 2):
        return None
    (value,) = used
    now, name = ("void" if value == VOID else repr(names[0])), ("NAME" if len(names) > 1 else names[0])
    several = "; if each folder holds another class, describe each under `data` with its own `labels` and `values`"
    return (
        f"the label files hold 0 and {value} alone, and {value} is read as {now}. If they are masks of one class, "
        f"write `values: {{{value}: {name}}}` beside `layout`{several if len(names) > 1 else ''}."
    )


def label_doubts(
    records: Sequence[ImageRecord], taxonomy: Taxonomy, *, tags_are_labels: bool, written: Collection[int] = ()
) -> tuple[str, ...]:
    """What some of the label files of a split say against the manifest.

    tags_are_labels: whether the tags come from the label files themselves, so that they cannot speak against these.
    written: the values of label files that `values` of the manifest names, which are as somebody wants them.
    """
    chosen = [record for record in records if isinstance(record.label, PngLabel) and record.problem is None]
    chosen = chosen[:: max(1, len(chosen) // _LOOKED_AT)]
    labels = [record.label for record in chosen if isinstance(record.label, PngLabel)]
    if not labels:
        return ()
    values = {identity: labels[0].table.value_of(identity) for identity in taxonomy.class_ids}
    names = {value: taxonomy.name_of(identity) for identity, value in values.items() if value is not None}
    doubts: list[str | None] = []
    if VOID not in names and (tags_are_labels or any(set(r.tags) - {taxonomy.find(names.get(1, ""))} for r in chosen)):
        ordered = [names[value] for value in sorted(names)]
        doubts = [binary_doubt([values_in(label.path) for label in labels], ordered, written)]
    if any(isinstance(label.table, ColourTable) for label in labels):
        doubts += _two_meanings(labels, taxonomy)
    else:
        doubts += palette_doubts([label.path for label in labels], names)
    return tuple(dict.fromkeys(doubt for doubt in doubts if doubt is not None))


def _two_meanings(labels: Iterable[PngLabel], taxonomy: Taxonomy) -> list[str]:
    """A sentence for every value that is another class by its colour in a palette file than by its row."""
    told: dict[int, str] = {}
    for label in labels:
        for value, by_colour, by_row in _by_colour_and_row(label):
            name = taxonomy.name_of(by_row)
            told.setdefault(
                value,
                f"value {value} is read as {taxonomy.name_of(by_colour)!r} by its colour, as in {label.path}, though "
                f"row {value} of {LABELMAP} is {name!r}; if rows count, write `values: {{{value}: {name}}}` beside "
                "`layout`.",
            )
    return [told[value] for value in sorted(told)]


def _by_colour_and_row(label: PngLabel) -> Iterator[tuple[int, int, int]]:
    """Values of a file and the two classes, by colour and by row, where these differ and `values` says neither."""
    if isinstance(label.table, ColourTable):
        colours, written = dict(label.table.colours), {value for value, _ in label.table.written}
        for value, colour in _painted(label.path):
            told, row = colours.get(code_of(colour), -1), label.table.by_value.values[value]
            if value not in written and told != row and BACKGROUND < told < VOID and BACKGROUND < row < VOID:
                yield value, told, row


def _painted(path: Path) -> list[tuple[int, Rgb]]:
    """The values of a palette file and their colours; none of another file, or one that cannot be read."""
    try:
        pixels = read_label_pixels(path)
    except ImageError:
        return []
    if pixels.palette is None or pixels.values is None:
        return []
    used = [value for value in np.unique(pixels.values).tolist() if value < len(pixels.palette)]
    return [(value, (red, green, blue)) for value in used for red, green, blue in [pixels.palette[value].tolist()]]
