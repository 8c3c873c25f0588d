#!/usr/bin/env bash
# With a box beside each mask, COCOeval sorts wrong masks into small, medium and large by the area of the box.
#
# pycocotools 2.0.11, numpy 2.4.6. COCO.loadRes computes the area of each result: of its mask if the first result has no
# "bbox", and width times height of the box if it has one, also where there is a "segmentation" and an own "area". By that
# area COCOeval("segm") says at which size a mask that matches nothing counts as wrong. Seen, two objects of 20 x 20 and
# 120 x 120 that are found exactly, and a better scored wrong mask, a line of 2 pixels from corner to corner of 100 x 100:
# AP of small objects 0.50 and of large ones 1.00 by masks alone; 1.00 and 0.50 with the boxes of these masks beside
# them. AP of all is 0.67 either way. Nothing is raised.
# Why it matters: networks and tools that give masks give boxes too, thin and slanted objects have boxes many times their
# area, and AP by size is then neither that of published tables nor the same for two writers of one prediction. Leave out
# "bbox" of results that are judged by masks, as detectron2's evaluator does. Known in part: cocodataset/cocoapi issue 36.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import contextlib
import io
import sys

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 300


def encoded(rows: slice, columns: slice) -> dict:
    drawn = np.zeros((SIDE, SIDE), np.uint8, order="F")
    drawn[rows, columns] = 1
    return mask.encode(drawn)


def slanted() -> dict:
    drawn = np.zeros((SIDE, SIDE), np.uint8, order="F")
    steps = np.arange(99)
    drawn[180 + steps, 180 + steps] = drawn[180 + steps, 181 + steps] = 1
    return mask.encode(drawn)


OBJECTS = {1: encoded(slice(10, 30), slice(10, 30)), 2: encoded(slice(10, 130), slice(100, 220))}
LINE = slanted()


def by_size(boxes: bool, areas: bool = False) -> dict[str, float]:
    truth = [
        {"id": n, "image_id": n, "category_id": 1, "segmentation": rle, "area": int(mask.area(rle)),
         "bbox": mask.toBbox(rle).tolist(), "iscrowd": 0}
        for n, rle in OBJECTS.items()
    ]  # fmt: skip
    found = [{"image_id": n, "segmentation": rle, "score": 0.5} for n, rle in OBJECTS.items()]
    found += [{"image_id": 1, "segmentation": LINE, "score": 0.9}]
    for result in found:
        result["category_id"] = 1
        if boxes:
            result["bbox"] = mask.toBbox(result["segmentation"]).tolist()
        if areas:
            result["area"] = int(mask.area(result["segmentation"]))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": n, "height": SIDE, "width": SIDE} for n in OBJECTS]
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "thing"}]}
        coco.createIndex()
        judged = COCOeval(coco, coco.loadRes(found), "segm")
        judged.evaluate(), judged.accumulate(), judged.summarize()
    return {name: round(float(judged.stats[at]), 2) for name, at in (("all", 0), ("small", 3), ("large", 5))}


seen = {"masks alone": by_size(False), "with boxes": by_size(True), "with boxes and areas": by_size(True, areas=True)}
print(f"the wrong mask: {int(mask.area(LINE))} pixels in a box of {mask.toBbox(LINE)[2:].astype(int).tolist()}")
for case, values in seen.items():
    print(f"{case}: AP {values}")
by_box = {"all": 0.67, "small": 1.0, "large": 0.5}
expected = {
    "masks alone": {"all": 0.67, "small": 0.5, "large": 1.0}, "with boxes": by_box, "with boxes and areas": by_box
}  # fmt: skip
sys.exit(0 if seen == expected else "changed: expected " + str(expected))
PY
