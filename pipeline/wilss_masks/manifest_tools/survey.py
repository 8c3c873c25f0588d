"""What lies in a folder of data: classes, splits, tags and labels, as far as can be told by looking."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wilss.data.layouts.colours import find_labelmap
from wilss.data.layouts.files import LABEL_SUFFIXES, read_lines
from wilss.data.layouts.xml import read_annotations
from wilss.data.taxonomy import COCO, VOC, may_be_class, meaning_of
from wilss.errors import ManifestError

from .coco_files import coco_files, described
from .label_files import palette_doubts
from .naming import ValueNames, name_values
from .tag_names import one_spelling, spelling_doubts

_TRAIN_LISTS = ("train_aug", "trainaug", "train", "trainval")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a manifest says of data. named: what the values of the label files are called, and what is doubtful in that.

    tag_keys: more keys of `tags`. images, labels: folders that have other names than usual.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, str | Mapping[str, str]]
    tags: str
    tag_file: str | None = None
    tag_keys: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    images: str | None = None
    labels: str | None = None
    has_labels: bool = True
    named: ValueNames | None = None


def survey(layout: str, root: Path, *, is_voc: bool = False) -> Survey:
    """Look through `root`. is_voc: whether the classes are known to be VOC's, where nothing there names them.

    Raises ManifestError if it does not hold data of this layout.
    """
    return _voc(root, is_voc) if layout == "voc" else _coco(root)


# -- VOC ----------------------------------------------------------------------------------------------------


def _voc(root: Path, is_voc: bool) -> Survey:
    if not (root / "JPEGImages").is_dir():
        raise ManifestError(f"{root} has no folder JPEGImages; name VOC's folder itself (VOC2012), or another layout.")
    folders = ("SegmentationClassAug", "SegmentationClass")
    labels = [path for folder in folders for path in sorted((root / folder).glob("*.*"))]
    labels = [path for path in labels if path.suffix.lower() in LABEL_SUFFIXES]
    tags, names, held = _voc_tags(root)
    if set(VOC.class_names[1:]) == set(names) and find_labelmap(root, folders) is None:
        doubts = palette_doubts(labels, dict(enumerate(VOC.class_names)))
        named = ValueNames(class_names=VOC.class_names, doubts=doubts)
        return Survey(
            class_names=VOC.class_names, splits=_splits(root), tags=tags, has_labels=bool(labels), named=named
        )
    chosen = one_spelling(names, held) if tags == "voc-xml" else {}  # ImageSets/Main has a file for each
    held = {image_id: {chosen.get(tag, tag) for tag in several} for image_id, several in held.items()}
    names = list(dict.fromkeys(chosen.get(name, name) for name in names))
    named = name_values(root, names, held, labels, is_voc=is_voc)
    named = replace(named, doubts=(*named.doubts, *spelling_doubts(chosen)))
    return Survey(class_names=named.class_names, splits=_splits(root), tags=tags, has_labels=bool(labels), named=named)


def _splits(root: Path) -> dict[str, str]:
    lists = {path.stem for path in (root / "ImageSets/Segmentation").glob("*.txt")}
    lists |= {path.stem for path in (root / "splits").glob("*.txt")}
    train = next((name for name in _TRAIN_LISTS if name in lists), None) or next(iter(sorted(lists)), None)
    if train is None:
        raise ManifestError(
            f"{root} has no list in ImageSets/Segmentation; write train.txt there, an id per line, or read the folder "
            "without lists by --layout folder."
        )
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


# -- COCO ---------------------------------------------------------------------------------------------------


def _coco(root: Path) -> Survey:
    files = sorted((root / "annotations").glob("instances_*.json"))
    if files:
        splits: dict[str, str | Mapping[str, str]] = {}
        for path in files:
            name = path.stem.removeprefix("instances_")
            splits.setdefault(next((word for word in ("train", "val") if name.startswith(word)), name), name)
        chosen = {split: root / f"annotations/instances_{name}.json" for split, name in splits.items()}
    else:
        chosen = coco_files(root)
        splits = {split: described(root, path) for split, path in chosen.items()}
    if "train" not in splits:
        first = next(iter(splits))
        splits, chosen = {"train": splits[first], **splits}, {"train": chosen[first], **chosen}
    names = _category_names(chosen["train"])
    if set(names) == set(COCO.class_names[1:]):
        return Survey(class_names=COCO.class_names, splits=splits, tags="coco")
    named = _coco_classes(names, chosen["train"])
    return Survey(class_names=named.class_names, splits=splits, tags="coco", named=named)


def _coco_classes(names: Sequence[str], path: Path) -> ValueNames:
    """The categories without those that stand for void or background, which the layout reads as such by their names.

    Raises ManifestError where none is left.
    """
    classes = [name for name in names if meaning_of(name) is None or may_be_class(name)]
    if not classes:
        raise ManifestError(f"{path} has no category but for void and background; add the classes to its categories.")
    doubts = [
        f"the category {name!r} of {path} is taken for a class; if it means that nobody knows, or that nothing is "
        "there, leave it out of `names` and `steps`, and its annotations are read so."
        for name in classes
        if may_be_class(name)
    ]
    return ValueNames(class_names=("background", *classes), doubts=tuple(doubts))


def _category_names(path: Path) -> list[str]:
    try:
        categories = json.loads(path.read_bytes())["categories"]
        return [str(category["name"]) for category in sorted(categories, key=lambda category: int(category["id"]))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path} is no COCO instances json ({error}); copy it again.") from None
