#!/usr/bin/env bash
# Predicted masks of Mask2Former, MaskFormer and DETR are squeezed and moved when images of several sizes share a batch.
#
# transformers 5.24.0, torch 2.14.1. The processors pad images of a batch, at right and bottom, to the largest height and
# width, and networks predict masks of the padded input. post_process_semantic_segmentation, and those for instances and
# panoptic, resize all of it, padding too, to target_sizes. Seen, a network that predicts every pixel rightly, a disc in
# pictures of 640 x 480 and 480 x 640: IoU with the disc 0.99 for each picture alone, 0.45 (DETR 0.47) for both together,
# of all three kinds of post-processing. EoMT's for instances and panoptic cut the padding off (0.99), its semantic one
# does not, even of one picture (0.47, where do_pad is set). Nothing is raised.
# Why it matters: photographs upright and lying are what data sets hold, and the label maps of a batch of both have the
# right sizes and classes, but parts of them lie up to a quarter of the picture away. What a network scores depends on
# its batches. Predict one image at a time, or those of one shape together, or cut the masks to the picture before.
# Known in part: huggingface/transformers issue 39382 (scores).
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 || exit 2
fi
"$python" -c 'import sys, transformers, torch
found = transformers.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("5.24.0", "2.14.1") else 1)' || exit 2

HF_HUB_OFFLINE=1 "$python" - <<'PY'
import sys
from types import SimpleNamespace

import numpy as np
import torch
import transformers
from transformers.utils import logging

logging.set_verbosity_error()
SIZES = (480, 640), (640, 480)


def disc(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - 0.6 * height) ** 2 + (columns - 0.6 * width) ** 2 < (0.3 * min(height, width)) ** 2


def right_answer(pixels: torch.Tensor) -> SimpleNamespace:
    """What a network that makes no mistake predicts of the padded pixels, at a quarter of their size: what is white."""
    white = torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), 4) > 0.5
    masks = torch.where(torch.cat([~white, white], 1), 10.0, -10.0)
    classes = torch.tensor([[10.0, -10, -10], [-10, 10, -10]]).repeat(len(pixels), 1, 1)  # query 0: dark, 1: white
    return SimpleNamespace(
        masks_queries_logits=masks, class_queries_logits=classes, pred_masks=masks, logits=classes, patch_offsets=None
    )


def found(processor, outputs, kind: str, sizes: list) -> list[np.ndarray]:
    """The pixels of class 1 of each picture, as a kind of post-processing has them."""
    results = getattr(processor, f"post_process_{kind}_segmentation")(outputs, target_sizes=sizes)
    if kind == "semantic":
        return [labels.numpy() == 1 for labels in results]
    ones = [[part["id"] for part in result["segments_info"] if part["label_id"] == 1] for result in results]
    return [np.isin(result["segmentation"].numpy(), ids) for result, ids in zip(results, ones)]


def least_iou(name: str, kind: str, together: bool, **options) -> float:
    """With the disc, of the picture that fares worse."""
    processor, ious = getattr(transformers, name)(do_normalize=False, **options), []
    for sizes in [list(SIZES)] if together else [[size] for size in SIZES]:
        pictures = [np.repeat((disc(*size) * 255).astype(np.uint8)[..., None], 3, 2) for size in sizes]
        outputs = right_answer(processor(pictures, return_tensors="pt")["pixel_values"])
        for mask, size in zip(found(processor, outputs, kind, sizes), sizes):
            ious.append((mask & disc(*size)).sum() / (mask | disc(*size)).sum())
    return round(float(min(ious)), 2)


seen = {}
for name, options in (("Mask2Former", {}), ("MaskFormer", {}), ("Detr", {}), ("Eomt", {"do_pad": True})):
    for kind in ("semantic", "instance", "panoptic"):
        seen[name, kind] = tuple(least_iou(f"{name}ImageProcessor", kind, both, **options) for both in (False, True))
        print(f"{name}, {kind}: IoU {seen[name, kind][0]} one by one, {seen[name, kind][1]} in one batch")
KINDS = ("semantic", "instance", "panoptic")
expected = {(name, kind): (0.99, 0.45) for name in ("Mask2Former", "MaskFormer") for kind in KINDS}
expected |= {("Detr", kind): (0.99, 0.47) for kind in KINDS}
expected |= {("Eomt", "semantic"): (0.47, 0.47), ("Eomt", "instance"): (0.99, 0.99), ("Eomt", "panoptic"): (0.99, 0.99)}
sys.exit(0 if seen == expected else f"changed: expected {expected}")
PY
