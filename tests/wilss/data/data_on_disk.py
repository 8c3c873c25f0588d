"""Small data sets on disk, in the layouts that wilss reads."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("background", "cat", "dog", "horse")
SIZE = (12, 16)  # height, width


def image(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def label(path: Path, values: Iterable[int], size: tuple[int, int] = SIZE) -> Path:
    """A label map with a column of each of `values`, and background elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    for column, value in enumerate(values):
        pixels[:, column] = value
    Image.fromarray(pixels).save(path)
    return path


def text(path: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode(encoding))
    return path


def voc(
    root: Path,
    images: Mapping[str, Sequence[int]],
    *,
    split: str = "train",
    classes: Sequence[str] = CLASSES,
    labels: str | None = "SegmentationClass",
    main: str | None = None,
) -> Path:
    """A folder like VOC 2012 whose `images` hold these class ids. main: the split of ImageSets/Main."""
    for number, (name, ids) in enumerate(images.items()):
        image(root / f"JPEGImages/{name}.jpg", seed=number)
        if labels:
            label(root / f"{labels}/{name}.png", ids)
    text(root / f"ImageSets/Segmentation/{split}.txt", *images)
    for identity, name in enumerate(classes):
        if identity:
            rows = [f"{key} {1 if identity in ids else -1:2d}" for key, ids in images.items()]
            text(root / f"ImageSets/Main/{name}_{main or split}.txt", *rows)
    return root


def manifest(folder: Path, **changes: Any) -> Path:
    """A manifest for `folder`/data with the classes above: cat and dog with masks, then horse with tags."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "name": "pets",
        "path": "./data",
        "names": list(CLASSES),
        "splits": {"train": "train"},
        "steps": [{"classes": [1, 2]}, {"classes": [3]}],
        **changes,
    }
    path = folder / "data_manifest.yaml"
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return path


def coco(root: Path, split: str, images: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> Path:
    """COCO instances: annotations by file name; `names` are the categories, with ids 10, 20, 30, ..."""
    content: dict[str, Any] = {
        "categories": [{"id": 10 * (i + 1), "name": name} for i, name in enumerate(names)],
        "images": [],
        "annotations": [],
    }
    for number, (file, annotations) in enumerate(images.items(), start=100):
        image(root / split / file, seed=number)
        content["images"].append({"id": number, "file_name": file, "height": SIZE[0], "width": SIZE[1]})
        for annotation in annotations:
            identity = len(content["annotations"]) + 1
            content["annotations"].append({"id": identity, "image_id": number, "iscrowd": 0, **annotation})
    path = root / f"annotations/instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def box(left: int, top: int, width: int, height: int, category: int, **more: Any) -> dict[str, Any]:
    """A rectangular annotation."""
    right, bottom = left + width, top + height
    polygon = [left, top, right, top, right, bottom, left, bottom]
    return {"category_id": category, "area": width * height, "segmentation": [polygon], **more}
