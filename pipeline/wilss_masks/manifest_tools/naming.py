"""Which value of the label files has which name: by what lies beside them, held against what they hold."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from wilss.data.images import LabelPixels, read_label_pixels
from wilss.data.layouts.colours import Rgb, find_labelmap, read_labelmap, voc_colour
from wilss.data.layouts.files import read_lines
from wilss.data.taxonomy import BACKGROUND, VOC, VOID, may_be_class, meaning_of, same_class
from wilss.errors import ImageError, ManifestError

from .label_files import binary_doubt, palette_doubts

_LOOKED_AT = 300
_MOST_COLOURS = 64
_NAME_FILES = ("class_names.txt", "classes.txt", "labels.txt")
#: What VOC paints its value 255 with; CVAT writes a row for it into labelmap.txt only where it is a label.
_VOC_VOID = voc_colour(VOID)
_NUMBERED = re.compile(r"(\d{1,3})(\s*[\s:,;=]\s*)(\S.*)")


@dataclass(frozen=True, kw_only=True)
class ValueNames:
    """Names of classes, and what the values of label files are where they are not the ids.

    class_names: by id, background first. values, void, colors: as the manifest has them. doubts: a sentence for each
    thing that could not be known.
    """

    class_names: tuple[str, ...]
    values: Mapping[int, str] = field(default_factory=dict)
    void: tuple[int, ...] = ()
    colors: Mapping[str, Rgb] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Label files that were looked at: their pixels' values by image id, and their colours where they are RGB."""

    paths: Sequence[Path]
    values: Mapping[str, set[int]]
    colours: Mapping[str, set[Rgb]]

    @property
    def used(self) -> set[int]:
        """All values but void."""
        return set[int]().union(*self.values.values()) - {VOID}


def name_values(
    root: Path,
    names: Sequence[str],
    held: Mapping[str, set[str]],
    labels: Sequence[Path],
    *,
    images: Mapping[Path, str] = MappingProxyType({}),
    is_voc: bool = False,
) -> ValueNames:
    """What the label files of `root` mean.

    names: the classes that tags name; held: the names by image id. images: the image id of a label file, where it is
    not called after it, "" for none. is_voc: whether the user has said that these are VOC's classes. Raises
    ManifestError where there is neither a name nor a label.
    """
    sample = _sample(labels, images)
    folders = {path.parent.relative_to(root).as_posix() for path in labels}
    labelmap = find_labelmap(root, sorted(folders))
    file = next((root / name for name in _NAME_FILES if (root / name).is_file()), None)
    if labelmap is not None:
        return _by_labelmap(labelmap, sample)
    if file is not None:
        return _by_file(file, held, sample)
    if sample.colours:
        return _by_colours(names, held, sample)
    if names:
        return _by_tags(names, held, sample)
    return _by_labels(root, sample, is_voc)


def _by_labelmap(path: Path, sample: _Sample) -> ValueNames:
    """The loader itself reads labelmap.txt, so that the manifest needs no values."""
    rows = read_labelmap(path)
    classes = [row.name for row in rows if meaning_of(row.name) is None]
    doubts = []
    if meaning_of(rows[0].name) is None and sample.values:
        doubts = [
            f"{path} has no row for background, so what value 0 of the label files is cannot be known; add "
            "`background:0,0,0::` as its first row."
        ]
    strange = sorted(set[Rgb]().union(*sample.colours.values()) - {row.rgb for row in rows})
    colors = {"void": _VOC_VOID} if _VOC_VOID in strange else {}
    if colors:
        doubts.append(
            f"label files hold the colour {list(_VOC_VOID)}, VOC's for void, which {path} does not have; it is taken "
            "for void."
        )
    doubts += [
        f"label files hold the colour {list(colour)}, which {path} does not have; add it there, or to `colors`."
        for colour in strange[:3]
        if colour != _VOC_VOID
    ]
    doubts += _no_classes({value: row.name for value, row in enumerate(rows)}, path)
    return ValueNames(
        class_names=("background", *classes), colors=colors, doubts=(*doubts, *_beyond(path, sample, len(rows)))
    )


def _by_file(path: Path, held: Mapping[str, set[str]], sample: _Sample) -> ValueNames:
    """A file with a name in each line: of values from 0, of values from 1, or as labelme has it from -1."""
    words, doubts = _words(read_lines(path), path, held, sample)
    classes = [word for _, word in sorted(words.items()) if meaning_of(word) is None]
    ids = {word: identity for identity, word in enumerate(classes, start=1)}
    values = {v: word for v, word in words.items() if word in ids and ids[word] != v}
    values |= {v: "background" for v, word in words.items() if meaning_of(word) == BACKGROUND and v != 0}
    void = tuple(v for v, word in sorted(words.items()) if meaning_of(word) == VOID and v != VOID)
    unnamed = sorted(sample.used - {BACKGROUND} - set(words))
    if unnamed:
        taken = "; it is taken as void" if len(unnamed) == 1 else ""
        doubts.append(f"label files hold the value {unnamed[0]}, for which {path} has no name{taken}.")
        void += tuple(unnamed) if taken else ()
    by_value = {v: word for v, word in words.items() if word in ids}
    doubts += _no_classes(words, path)
    return ValueNames(
        class_names=("background", *classes),
        values=values,
        void=void,
        doubts=(*doubts, *_held_against(by_value, sample)),
    )


def _no_classes(words: Mapping[int, str], path: Path) -> list[str]:
    """A sentence for every value whose word is taken for background or void, but may be a class: `other`."""
    return [
        f"value {value} of the label files, {word!r} in {path}, is taken for "
        f"{'void' if meaning_of(word) == VOID else 'background'}; if it is a class, call it otherwise there, such as "
        f"{f'{word} class'!r}, and run init again."
        for value, word in sorted(words.items())
        if value not in (BACKGROUND, VOID) and may_be_class(word)
    ]


def _words(
    lines: Sequence[str], path: Path, held: Mapping[str, set[str]], sample: _Sample
) -> tuple[dict[int, str], list[str]]:
    """The word of each value, and what is doubtful in that."""
    if not lines:
        raise ManifestError(f"{path} is empty; write a class name in each line, or remove it.")
    numbered = _numbered(lines, path)
    if numbered is not None:
        return numbered, []
    doubts = _numbers_in_names(lines, path)
    first, second = (meaning_of(line) for line in (*lines[:2], "")[:2])
    if first == VOID and second == BACKGROUND and len(lines) - 1 not in sample.used:
        sure = "ignore" in lines[0].casefold()  # labelme: __ignore__ is -1, which its PNGs hold as 255
        return dict(enumerate(lines[1:])), doubts if sure else [*doubts, _shifted(lines, path)]
    if first is not None:
        return dict(enumerate(lines)), doubts
    last = max(sample.used, default=0)
    if sample.values and last != len(lines):
        doubts += [f"{path} names no background, so its first name is taken to be that of value 1, not of value 0."]
    elif sample.values and _matched(lines, held, _without_background(sample)) != list(lines):
        doubts += [
            f"{path} names no background, so value 0 of the label files is taken to be it; if 0 is {lines[0]!r} and "
            f"{last} is void, as CamVid has it, write `void: [{last}]` and every value under `values`."
        ]
    return dict(enumerate(lines, start=1)), doubts


def _numbered(lines: Sequence[str], path: Path) -> dict[int, str] | None:
    """The names by their numbers, where each line has one before its name; None for names that begin with numbers.

    With a blank alone between, as in `2 wheeler`, the numbers run from 0 or 1, or one is that of background or void.
    """
    rows = [row for line in lines if (row := _NUMBERED.fullmatch(line)) is not None]
    numbers = [int(row[1]) for row in rows]
    if len(rows) < len(lines) or not (_are_values(numbers, rows) or all(row[2].strip() for row in rows)):
        return None
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise ManifestError(f"{path} names the value {twice} twice; write one line for each value.")
    return {number: row[3].strip() for number, row in zip(numbers, rows, strict=True)}


def _are_values(numbers: Sequence[int], rows: Sequence[re.Match[str]]) -> bool:
    runs = sorted(set(numbers)) in (list(range(first, len(set(numbers)) + first)) for first in (0, 1))
    return runs or any(meaning_of(row[3]) is not None for row in rows)


def _numbers_in_names(lines: Sequence[str], path: Path) -> list[str]:
    if not all(map(_NUMBERED.fullmatch, lines)):
        return []
    return [
        f"the numbers in {path} do not run from 0 or 1, and are taken for parts of the names, as in {lines[0]!r}; if "
        "they are values of the label files, write `:` behind each and run init again."
    ]


def _shifted(lines: Sequence[str], path: Path) -> str:
    return (
        f"{lines[0]!r} in {path} is taken to be value 255 and {lines[1]!r} value 0, as labelme has them; if "
        f"{lines[0]!r} is 0, write `0: {lines[0]}`, `1: {lines[1]}` and so on there and run init again."
    )


def _without_background(sample: _Sample) -> dict[str, set[int]]:
    return {name: values - {BACKGROUND, VOID} for name, values in sample.values.items()}


def _by_colours(names: Sequence[str], held: Mapping[str, set[str]], sample: _Sample) -> ValueNames:
    """RGB masks without a map: the colours that come and go with the tags, else a class for each colour."""
    count = Counter(colour for colours in sample.colours.values() for colour in colours if colour != (0, 0, 0))
    colours = sorted(count)
    if len(colours) > _MOST_COLOURS or not colours:
        many = f"hold {len(colours)} colours beside black, which are no classes"
        return ValueNames(class_names=("background", *(names or ["class 1"])), doubts=(f"the label files {many}.",))
    numbers = {name: {colours.index(c) + 1 for c in held_ if c != (0, 0, 0)} for name, held_ in sample.colours.items()}
    order = _matched(names, held, numbers) if names else None
    classes = order if order is not None else list(names) or [f"class {i}" for i in range(1, len(colours) + 1)]
    told = {"background": (0, 0, 0), **dict(zip(classes, colours, strict=False))}
    doubt = "the label files are RGB, and which colour is which class is a guess: correct `colors`."
    return ValueNames(class_names=("background", *classes), colors=told, doubts=() if order is not None else (doubt,))


def _by_tags(names: Sequence[str], held: Mapping[str, set[str]], sample: _Sample) -> ValueNames:
    order = _matched(names, held, _without_background(sample))
    ordered = tuple(order if order is not None else names)
    doubts: tuple[str, ...] = ()
    if order is None and sample.values:
        doubts = (
            "which value of the label files has which name is a guess: compare the columns of `wilss-masks manifest "
            "check`, and number the names again.",
        )
    return ValueNames(
        class_names=("background", *ordered), doubts=doubts + _held_against(dict(enumerate(ordered, 1)), sample)
    )


def _by_labels(root: Path, sample: _Sample, is_voc: bool) -> ValueNames:
    last = max(sample.used, default=0)
    if not last and not sample.values:
        raise ManifestError(f"{root} has neither tags nor labels; add ImageSets/Main, Annotations or labels.")
    if is_voc and last < len(VOC.class_names):
        names = VOC.class_names
        return ValueNames(class_names=names, doubts=_held_against(dict(enumerate(names[1:], 1)), sample))
    known = {value: f"class {value}" for value in range(1, max(last, 1) + 1)}
    doubt = "nothing here says what the values of the label files are called; write the names below"
    voc = ", or `names: voc` for VOC's" if last < len(VOC.class_names) else ""
    void = (
        f"; if the last one is void, as CamVid's 11 is, write `void: [{last}]` and leave its name out" if last else ""
    )
    doubts = (f"{doubt}{voc}{void}.", *_held_against(known, sample))
    return ValueNames(class_names=("background", *known.values()), doubts=doubts)


def _held_against(names: Mapping[int, str], sample: _Sample) -> tuple[str, ...]:
    """What the values and palettes of the label files say against these names."""
    binary = binary_doubt(sample.values.values(), tuple(names.values()))
    return (*((binary,) if binary else ()), *palette_doubts(sample.paths, names))


def _beyond(path: Path, sample: _Sample, count: int) -> tuple[str, ...]:
    beyond = sorted(value for value in sample.used if value >= count)
    return (f"label files hold the value {beyond[0]}, but {path} has {count} rows.",) if beyond else ()


def _sample(labels: Sequence[Path], images: Mapping[Path, str]) -> _Sample:
    """An evenly spread sample of label files."""
    values, colours, paths = {}, {}, labels[:: max(1, len(labels) // _LOOKED_AT)]
    for path in paths:
        try:
            pixels: LabelPixels = read_label_pixels(path)
        except ImageError:
            continue
        image = images.get(path, path.stem) or str(path)
        if pixels.values is not None:
            counts = np.bincount(pixels.values.ravel(), minlength=256)
            values[image] = set(np.flatnonzero(counts).tolist())
        elif pixels.colours is not None:
            found = np.unique(pixels.colours.reshape(-1, 3), axis=0)[: _MOST_COLOURS + 2].tolist()
            colours[image] = {(red, green, blue) for red, green, blue in found}
    return _Sample(paths=paths, values=values, colours=colours)


def _matched(names: Sequence[str], held: Mapping[str, set[str]], values: Mapping[str, set[int]]) -> list[str] | None:
    """The names in the order of the values that come and go with them, if that is one to one without a gap."""
    both, tagged, valued = Counter[tuple[str, int]](), Counter[str](), Counter[int]()
    for image_id in values.keys() & held.keys():
        tags = set(map(same_class, held[image_id]))
        tagged.update(tags)
        valued.update(values[image_id])
        both.update((tag, value) for tag in tags for value in values[image_id])
    chosen = {}
    for name in names:
        tag = same_class(name)
        scores = {v: both[tag, v] / (tagged[tag] + valued[v] - both[tag, v]) for v in valued if both[tag, v]}
        if not scores:
            return None
        chosen[max(scores, key=lambda value: scores[value])] = name
    return [chosen[v] for v in sorted(chosen)] if set(chosen) == set(range(1, len(names) + 1)) else None
