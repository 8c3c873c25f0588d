#!/usr/bin/env bash
# COCOeval counts the object whose annotation has id 0 as missed, however well it is found.
#
# pycocotools 2.0.11, numpy 2.4.6. COCOeval notes for each detection the id of the object it was matched to, and reads 0
# as "none". Ids that start at 0 are valid (unique integers) and what enumerate() gives. Seen: four objects, predicted
# exactly: AP 1.00 with ids 1 to 4, AP 0.56 with ids 0 to 3; a single object: AP 0.
# Why it matters: an own exporter that numbers from 0 gives small validation sets and few-shot episodes too low an AP,
# and a set of one object per class an AP of 0, with correct masks. Known: cocodataset/cocoapi issue 507 (open).
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


def average_precision(first_id: int, objects: int) -> float:
    square = np.zeros((64, 64), np.uint8, order="F")
    square[10:40, 10:40] = 1
    numbers = range(objects)
    truth = [
        {"id": first_id + n, "image_id": n + 1, "category_id": 1, "segmentation": mask.encode(square), "area": 900,
         "bbox": [10, 10, 30, 30], "iscrowd": 0}
        for n in numbers
    ]  # fmt: skip
    found = [
        {"image_id": n + 1, "category_id": 1, "segmentation": mask.encode(square), "score": 0.9} for n in numbers
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": n + 1, "height": 64, "width": 64} for n in numbers]
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "square"}]}
        coco.createIndex()
        judged = COCOeval(coco, coco.loadRes(found), "segm")
        judged.evaluate(), judged.accumulate(), judged.summarize()
    return round(float(judged.stats[0]), 2)


EXPECTED = {(1, 4): 1.0, (0, 4): 0.56, (1, 1): 1.0, (0, 1): 0.0}
seen = {case: average_precision(*case) for case in EXPECTED}
for (first_id, objects), value in seen.items():
    print(f"{objects} objects, ids from {first_id}, all predicted exactly: AP {value:.2f}")
sys.exit(0 if seen == EXPECTED else "changed: expected " + str(EXPECTED))
PY
