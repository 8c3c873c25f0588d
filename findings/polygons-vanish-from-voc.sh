#!/usr/bin/env bash
# An image whose objects are polygons has no label map in datumaro's VOC export, and a list called train_aug none at all.
#
# datumaro 1.13.12. `export(..., "voc_segmentation")` writes masks alone: polygons, which most people draw, are left out
# without a warning, and the image is not in the list either. A list with an underscore in its name, as VOC's own
# train_aug and trainval_aug are called in the field, is written, and not found when the folder is read again. Seen: of
# a square drawn as a polygon and the same as a mask, one label map of two; the folder with train_aug.txt is "not found",
# with train.txt it is read.
# Why it matters: objects are missing from a training set that looks whole. Turn polygons into masks first
# (`dataset.transform("polygons_to_masks")`), and name lists without underscores.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check datumaro==1.13.12 || exit 2

venv/bin/python - <<'PY'
import sys
import warnings
from pathlib import Path

import datumaro as dm
import numpy as np
from datumaro.components.errors import DatasetNotFoundError

warnings.simplefilter("ignore")
photo, mask = np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), bool)
mask[1:4, 2:6] = True
shapes = {"drawn": dm.Polygon([2, 1, 6, 1, 6, 4, 2, 4], label=0), "painted": dm.Mask(mask, label=0)}


def exported(name: str) -> tuple[list[str], list[str], int | str]:
    """Label maps and listed images of a split of this name, and how many images are read again."""
    items = [
        dm.DatasetItem(image, subset=name, media=dm.Image.from_numpy(photo), annotations=[shape])
        for image, shape in shapes.items()
    ]
    dm.Dataset.from_iterable(items, categories=["thing"]).export(name, "voc_segmentation", save_media=True)
    maps = sorted(path.stem for path in Path(name, "SegmentationClass").iterdir())
    listed = Path(name, f"ImageSets/Segmentation/{name}.txt").read_text().split()
    try:
        return maps, listed, len(dm.Dataset.import_from(name, "voc_segmentation"))
    except DatasetNotFoundError:
        return maps, listed, "not found"


seen = {name: exported(name) for name in ("train", "train_aug")}
for name, (maps, listed, read) in seen.items():
    print(f"{name}: label maps {maps}, listed {listed}, images read again: {read}")
expected = {
    "train": (["painted"], ["painted"], 1),
    "train_aug": (["painted"], ["painted"], "not found"),
}
sys.exit(0 if seen == expected else f"changed: expected {expected}")
PY
