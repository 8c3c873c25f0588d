#!/usr/bin/env bash
# An object exported to COCO as a mask is a crowd for the exporter, and then no object at all for COCOeval.
#
# datumaro 1.13.12, supervision 0.31.2, pycocotools 2.0.11. Both libraries write RLE with iscrowd 1: datumaro for every
# mask, supervision for masks with a hole or in several parts. COCOeval ignores crowds, and trainers leave them out
# (open-mmlab/mmdetection issue 8751). Seen: of a square, a ring and two squares, datumaro makes 3 crowds, supervision 2
# (the square goes out as a polygon); predicting all three exactly gives AP -1 (no object there) and, with supervision,
# judges 1 of 3.
# Why it matters: occluded objects (in parts) and rings vanish from training and from the score. Read iscrowd 1 as a
# crowd only where crowds were annotated.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
    datumaro==1.13.12 supervision==0.31.2 pycocotools==2.0.11 || exit 2

venv/bin/python - <<'PY'
import contextlib
import io
import sys
import warnings

import cv2
import datumaro as dm
import numpy as np
import supervision as sv
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

warnings.simplefilter("ignore")
photo, masks = np.zeros((40, 40, 3), np.uint8), np.zeros((3, 40, 40), bool)
masks[:2, 4:16, 4:16], masks[1, 8:12, 8:12] = True, False  # a square, a ring
masks[2, 22:30, 4:12] = masks[2, 22:30, 20:28] = True  # two squares, one object
cv2.imwrite("a.png", photo)

shapes = [dm.Mask(mask, label=0) for mask in masks]
item = dm.DatasetItem("a", subset="val", media=dm.Image.from_numpy(photo), annotations=shapes)
dm.Dataset.from_iterable([item], categories=["thing"]).export("datumaro", "coco_instances")
found = sv.Detections(xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=np.zeros(3, int))
sv.DetectionDataset(["thing"], ["a.png"], {"a.png": found}).as_coco(annotations_path="supervision.json")


def judged(file: str) -> tuple[int, int, float]:
    """Annotations, crowds among them, and the AP of predicting all masks exactly."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(file)
        image, category = next(iter(truth.imgs)), next(iter(truth.cats))
        encoded = [rle.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
        exact = [{"image_id": image, "category_id": category, "segmentation": e, "score": 0.9} for e in encoded]
        judge = COCOeval(truth, truth.loadRes(exact), "segm")
        judge.evaluate(), judge.accumulate(), judge.summarize()
    crowds = sum(annotation["iscrowd"] for annotation in truth.anns.values())
    return len(truth.anns), crowds, round(float(judge.stats[1]), 2)


files = {"datumaro": "datumaro/annotations/instances_val.json", "supervision": "supervision.json"}
seen = {name: judged(file) for name, file in files.items()}
for name, (annotations, crowds, precision) in seen.items():
    print(f"{name}: {annotations} masks, {crowds} crowds, AP50 of the exact masks {precision}")
expected = {"datumaro": (3, 3, -1.0), "supervision": (3, 2, 1.0)}
sys.exit(0 if seen == expected else f"changed: expected {expected}")
PY
