"""What a person would look at first: why a tagged class has no pixel in labels, why images come out dark or pale."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from wilss.data.images import FEWEST_BITS, alpha_of, greatest_of_16_bits, read_label_pixels
from wilss.data.layouts.coco_json import CocoLabel
from wilss.data.layouts.records import ImageRecord, PngLabel
from wilss.data.taxonomy import BACKGROUND, VOID, Taxonomy
from wilss.errors import ImageError

_LOOKED_AT = 20
#: Of the values that there may be; where images use less of them they come out dark.
_DARK = 0.25
#: Of an image's pixels; more of them are neither opaque nor clear where the fourth channel is no transparency.
_HALF_CLEAR = 0.5
#: Pixels with alpha after which no more images are decoded: that is 20 images of common size, or one of a camera's.
_ENOUGH_PIXELS = 4_000_000


def why_no_pixel(records: Iterable[ImageRecord], identity: int, taxonomy: Taxonomy) -> str:
    """The likely cause, as a clause that says what to do. records: of a split; the labels of a few are read."""
    tagged = (record for record in records if identity in record.tags and record.problem is None)
    looked_at = list(itertools.islice(tagged, _LOOKED_AT))
    labels = [record.label for record in looked_at if record.label is not None]
    name = taxonomy.name_of(identity)
    if not labels:
        return "none of these images has pixel labels; add label files, or write `supervision: tags` for the step"
    shapes = [s for label in labels if isinstance(label, CocoLabel) for s in label.shapes if s.identity == identity]
    if shapes:
        return _why_of_shapes(name, all(s.crowd for s in shapes), all(s.box is not None for s in shapes))
    values = set[int]().union(*(values_in(label.path) for label in labels if isinstance(label, PngLabel)))
    if VOID in values and values <= {BACKGROUND, VOID}:
        return (
            f"their label files hold 0 and {VOID} alone, and {VOID} is void; if it is the class, write `values: "
            f"{{{VOID}: {name}}}` beside `layout`"
        )
    held = Counter(other for record in looked_at for other in _classes(record) if other not in record.tags)
    if held:
        other, count = held.most_common(1)[0]
        return (
            f"{count} of {len(looked_at)} of their label files hold {taxonomy.name_of(other)!r} without a tag of it; "
            "if it is the same class, write which value is which beside `layout`: "
            f"`values: {{{_value(other, labels)}: {name}}}`"
        )
    return "compare their tags with their label files"


def _why_of_shapes(name: str, crowds: bool, boxes: bool) -> str:
    if crowds:
        return (
            "all of its annotations have iscrowd 1 and are void; write `crowd: mask` beside `layout` if they are masks"
        )
    if boxes:
        return (
            "its annotations are boxes without outlines; add segmentations, or write `supervision: tags` for the step"
        )
    return f"other annotations hide what is drawn of {name!r}; compare them"


def odd_looks(records: Sequence[ImageRecord]) -> Iterator[str]:
    """A sentence for what changes the look of images against what is in their files. records: of a split."""
    return (sentence for told in (dark_images, veiled_images) if (sentence := told(records)) is not None)


def _some_of(records: Sequence[ImageRecord]) -> Iterator[ImageRecord]:
    return (records[place] for place in range(0, len(records), max(1, -(-len(records) // _LOOKED_AT))))


def veiled_images(records: Sequence[ImageRecord]) -> str | None:
    """A sentence where most pixels of an image are half transparent, as where its fourth channel is infrared.

    records: of a split; a few of them, evenly spread, are looked at, fewer where they are large.
    """
    decoded = 0
    for path in (record.path for record in _some_of(records)):
        alpha = None
        with contextlib.suppress(ImageError):
            alpha = alpha_of(path)
        if alpha is None:
            continue
        if ((alpha > 0) & (alpha < 255)).mean() > _HALF_CLEAR:
            return (
                f"images such as {path} are half transparent nearly everywhere and come out pale, since what is "
                "transparent is shown on white; if their fourth channel is none of transparency, as infrared, save "
                "them again with three."
            )
        if (decoded := decoded + alpha.size) >= _ENOUGH_PIXELS:
            break
    return None


def dark_images(records: Sequence[ImageRecord]) -> str | None:
    """A sentence where 16-bit images use a quarter of their range at most, as those do that hold 10, 12 or 14 bits.

    Their range is that of their `bits`; a sentence as well where they hold values above it and are refused.
    records: of a split; a few of them, evenly spread, are looked at.
    """
    by_bits: dict[int, dict[Path, int]] = {}
    for record in _some_of(records):
        with contextlib.suppress(ImageError):
            if (value := greatest_of_16_bits(record.path)) is not None:
                by_bits.setdefault(record.bits, {})[record.path] = value
    told = (_odd_range(greatest, bits) for bits, greatest in by_bits.items())
    return next((sentence for sentence in told if sentence is not None), None)


def _odd_range(greatest: Mapping[Path, int], bits: int) -> str | None:
    """greatest: the greatest value of images of which `bits` bits are read."""
    lightest = max(greatest, key=lambda path: greatest[path])
    most, count = greatest[lightest], 1 << bits
    fits = max(FEWEST_BITS, most.bit_length())
    if most >= count:
        return (
            f"16-bit images such as {lightest} hold values up to {most}, and those above {count - 1} are refused, as "
            f"the manifest says `bits: {bits}`; if they are of {fits} bits, write `bits: {fits}` there."
        )
    if not 0 < most < _DARK * count:
        return None
    return (
        f"16-bit images such as {next(iter(greatest))} hold no value above {most} and come out dark, since 0 to "
        f"{count - 1} becomes 0 to 255; if they are of {fits} bits, write `bits: {fits}` beside `layout` in the "
        "manifest, which a trained model remembers, or save them again with their values multiplied by "
        f"{count >> fits}."
    )


def values_in(path: Path) -> set[int]:
    """The values that a label file holds as they stand there; none of one in colours, or that cannot be read."""
    try:
        values = read_label_pixels(path).values
    except ImageError:
        return set()
    return set() if values is None else set(np.unique(values).tolist())


def _classes(record: ImageRecord) -> list[int]:
    try:
        ids = [] if record.label is None else np.unique(record.label.read()).tolist()
    except ImageError:
        return []
    return [identity for identity in ids if identity not in (BACKGROUND, VOID)]


def _value(identity: int, labels: Iterable[object]) -> int:
    """The value that stands for a class in label files."""
    values = (label.table.value_of(identity) for label in labels if isinstance(label, PngLabel))
    return next((value for value in values if value is not None), identity)
