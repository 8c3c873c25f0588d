"""What lies in a folder of data: classes, splits, tags and labels, as far as can be told by looking."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wilss.data.images import read_palette_label
from wilss.data.layouts.files import read_lines
from wilss.data.layouts.xml import read_annotations
from wilss.data.taxonomy import BACKGROUND, COCO, VOC, VOID
from wilss.errors import ImageError, ManifestError

_LOOKED_AT = 300
_TRAIN_LISTS = ("train_aug", "trainaug", "train", "trainval")
_NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt")
_GUESSED = "THE NAMES' ORDER IS A GUESS: compare the columns of `wilss-masks manifest check`, and renumber."


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a manifest says of data. sure: whether the names certainly belong to the values in the label files.

    doubt: what to say if not. tag_keys: more keys of `tags`. images, labels: folders that have other names than usual.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, str | Mapping[str, str]]
    tags: str
    tag_file: str | None = None
    tag_keys: Mapping[str, str] = field(default_factory=dict)
    images: str | None = None
    labels: str | None = None
    has_labels: bool = True
    sure: bool = True
    doubt: str = _GUESSED


def survey(layout: str, root: Path) -> Survey:
    """Look through `root`. Raises ManifestError if it does not hold data of this layout."""
    return {"voc": _voc, "coco": _coco}[layout](root)


# -- VOC ----------------------------------------------------------------------------------------------------


def _voc(root: Path) -> Survey:
    if not (root / "JPEGImages").is_dir():
        raise ManifestError(f"{root} has no folder JPEGImages; name VOC's folder itself (VOC2012), or another layout.")
    folders = ("SegmentationClassAug", "SegmentationClass")
    labels = [path for folder in folders for path in sorted((root / folder).glob("*.png"))]
    tags, names, held = _voc_tags(root)
    if set(VOC.class_names[1:]) <= set(names):
        return Survey(class_names=VOC.class_names, splits=_splits(root), tags=tags, has_labels=bool(labels))
    ordered, sure = ordered_names(root, names, held, labels)
    return Survey(
        class_names=("background", *ordered), splits=_splits(root), tags=tags, has_labels=bool(labels), sure=sure
    )


def _splits(root: Path) -> dict[str, str]:
    lists = {path.stem for path in (root / "ImageSets/Segmentation").glob("*.txt")}
    lists |= {path.stem for path in (root / "splits").glob("*.txt")}
    train = next((name for name in _TRAIN_LISTS if name in lists), None) or next(iter(sorted(lists)), None)
    if train is None:
        raise ManifestError(f"{root} has no list in ImageSets/Segmentation; write train.txt there, an id per line.")
    return {"train": train, **({"val": "val"} if "val" in lists else {})}


def _voc_tags(root: Path) -> tuple[str, list[str], dict[str, set[str]]]:
    """Which kind of tags there is, the class names in it, and the names by image id."""
    held: dict[str, set[str]] = {}
    files = [path for path in sorted((root / "ImageSets/Main").glob("*_*.txt"))]
    for path in files:
        name = path.stem.rpartition("_")[0]
        for line in read_lines(path):
            image_id, _, flag = line.rpartition(" ")
            if flag in ("0", "1"):
                held.setdefault(image_id.rstrip(), set()).add(name)
    if files:
        return "voc-main", sorted({path.stem.rpartition("_")[0] for path in files}), held
    ids = [path.stem for path in sorted((root / "Annotations").glob("*.xml"))]
    if ids:
        names_by_image, _ = read_annotations(root / "Annotations", ids, difficult=True)
        held = {image_id: set(names) for image_id, names in names_by_image.items()}
        return "voc-xml", sorted(set().union(*held.values())), held
    return "masks", [], {}


def ordered_names(
    root: Path, names: Sequence[str], held: Mapping[str, set[str]], labels: Sequence[Path]
) -> tuple[list[str], bool]:
    """Class names in the order of the label values, and whether that order is certain."""
    written = next((root / name for name in _NAME_FILES if (root / name).is_file()), None)
    if written is not None:
        lines = [line for line in read_lines(written) if line.casefold() not in ("background", "void", "ignore")]
        return lines, True
    values = _values(labels)
    if not names:
        last = max((value for sample in values.values() for value in sample), default=0)
        if not last:
            raise ManifestError(f"{root} has neither tags nor labels; add ImageSets/Main, Annotations or labels.")
        return [f"class {value}" for value in range(1, last + 1)], True
    order = _matched(names, held, values)
    return (order, True) if order is not None else (list(names), not labels)


def _values(labels: Sequence[Path]) -> dict[str, set[int]]:
    """Values by image id in an evenly spread sample of label files."""
    values_by_image = {}
    for path in labels[:: max(1, len(labels) // _LOOKED_AT)]:
        try:
            counts = np.bincount(read_palette_label(path).ravel(), minlength=256)
        except ImageError:
            continue
        values_by_image[path.stem] = set(np.flatnonzero(counts).tolist()) - {BACKGROUND, VOID}
    return values_by_image


def _matched(names: Sequence[str], held: Mapping[str, set[str]], values: Mapping[str, set[int]]) -> list[str] | None:
    """The names in the order of the values that come and go with them, if that is one to one without a gap."""
    both, tagged, valued = Counter[tuple[str, int]](), Counter[str](), Counter[int]()
    for image_id in values.keys() & held.keys():
        tagged.update(held[image_id])
        valued.update(values[image_id])
        both.update((name, value) for name in held[image_id] for value in values[image_id])
    chosen = {}
    for name in names:
        scores = {v: both[name, v] / (tagged[name] + valued[v] - both[name, v]) for v in valued if both[name, v]}
        if not scores:
            return None
        chosen[max(scores, key=lambda value: scores[value])] = name
    return [chosen[v] for v in sorted(chosen)] if set(chosen) == set(range(1, len(names) + 1)) else None


# -- COCO ---------------------------------------------------------------------------------------------------


def _coco(root: Path) -> Survey:
    files = sorted((root / "annotations").glob("instances_*.json"))
    if not files:
        raise ManifestError(f"{root} has no annotations/instances_*.json; name the folder above `annotations`.")
    splits: dict[str, str] = {}
    for path in files:
        name = path.stem.removeprefix("instances_")
        splits.setdefault(next((word for word in ("train", "val") if name.startswith(word)), name), name)
    if "train" not in splits:
        splits = {"train": next(iter(splits.values())), **splits}
    names = _category_names(root / f"annotations/instances_{splits['train']}.json")
    known = set(names) == set(COCO.class_names[1:])
    return Survey(class_names=COCO.class_names if known else ("background", *names), splits=splits, tags="coco")


def _category_names(path: Path) -> list[str]:
    try:
        categories = json.loads(path.read_bytes())["categories"]
        return [str(category["name"]) for category in sorted(categories, key=lambda category: int(category["id"]))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path} is no COCO instances json ({error}); copy it again.") from None
