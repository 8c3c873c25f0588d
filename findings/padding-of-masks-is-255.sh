#!/usr/bin/env bash
# In a batch of several sizes Mask2Former learns from masks that are 255 in the padding; its loss falls far below zero.
#
# transformers 5.24.0, torch 2.14.1. Images of a batch are padded to one size. Void pixels of a label map are left out by
# ignore_index=255, and the processors of Mask2Former and MaskFormer fill the padding of their masks with that number,
# too, though the masks are 0 and 1 by then. The losses take masks as they are, cross-entropy against a target of 255.
# Seen, two pictures of 4:3 and 3:4, 20 steps of a small network: without ignore_index the loss falls from 18 to 10,
# with it from 25 to -1339, without a warning, and the masks that come out cover all of the padding. Images of
# one size, or one at a time, show nothing of it. EoMT's processor pads the label map itself, with 0: a picture that is
# not square gets a mask of class 0 that is its padding, whether it shows that class or not.
# Why it matters: 255 for void is what VOC, Cityscapes and ADE20K have. Bring images and label maps to one size first,
# or set mask_labels to 0 where pixel_mask is 0.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 scipy==1.17.1 || exit 2
fi
"$python" -c 'import sys, transformers, torch
found = transformers.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("5.24.0", "2.14.1") else 1)' || exit 2

HF_HUB_OFFLINE=1 "$python" - <<'PY'
import sys

import numpy as np
import torch
import transformers
from transformers.utils import logging

logging.set_verbosity_error()
VOID = 255


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc on a dark ground, and its label map: 1 and 2."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (0.3 * min(height, width)) ** 2
    return np.repeat((disc * 255).astype(np.uint8)[..., None], 3, 2), disc.astype(np.uint8) + 1


PICTURES = picture(96, 128), picture(128, 96)


def batch(name: str, count: int, ignore_index: int | None):
    size = {"shortest_edge": 96, "longest_edge": 128}
    processor = getattr(transformers, name)(size=size, ignore_index=ignore_index)
    images, maps = zip(*PICTURES[:count])
    return processor(list(images), segmentation_maps=list(maps), return_tensors="pt")


def network() -> torch.nn.Module:
    """A small Mask2Former of random weights."""
    swin = transformers.SwinConfig(
        image_size=64, embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=5, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


def trained(ignore_index: int | None) -> tuple[float, float, float]:
    """The loss at the first and at the last of 20 steps, and which share of the padding the predicted masks cover."""
    model, given = network(), batch("Mask2FormerImageProcessor", 2, ignore_index)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    torch.manual_seed(0)  # of the points at which masks are compared
    losses = []
    for _ in range(20):
        loss = model(**given).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        logits = model(pixel_values=given["pixel_values"], pixel_mask=given["pixel_mask"]).masks_queries_logits
    masks = torch.nn.functional.interpolate(logits, size=(128, 128)) > 0
    covered = masks.float().mean(1)[given["pixel_mask"] == 0]
    return losses[0], losses[-1], float(covered.mean())


values = {}
for name in ("Mask2FormerImageProcessor", "MaskFormerImageProcessor"):
    for count, ignore_index in ((1, VOID), (2, None), (2, VOID)):
        masks = batch(name, count, ignore_index)["mask_labels"]
        values[name, count, ignore_index] = sorted(set(torch.cat([mask.flatten() for mask in masks]).tolist()))
        print(f"{name}, {count} of 2 pictures, ignore_index {ignore_index}: "
              f"the masks have the values {values[name, count, ignore_index]}")
without, with_void = trained(None), trained(VOID)
for ignore_index, (first, last, covered) in ((None, without), (VOID, with_void)):
    print(f"trained with ignore_index {ignore_index}: the loss falls from {first:.1f} to {last:.1f}, "
          f"predicted masks cover {covered:.0%} of the padding")
eomt = transformers.EomtImageProcessor(size={"shortest_edge": 128, "longest_edge": 128}, do_pad=True)
given = eomt(PICTURES[0][0], segmentation_maps=[PICTURES[0][1]], return_tensors="pt")
padding = given["class_labels"][0].tolist(), round(float(given["mask_labels"][0][0].mean()), 2)
print(f"EoMT, a picture of classes 1 and 2: masks of {padding[0]}, the first on {padding[1]:.0%} of the input")

right = all(seen == [0, 1] + [255] * (case[1:] == (2, VOID)) for case, seen in values.items())
right = right and without[1] > 5 and without[2] < 0.2 and with_void[1] < -500 and with_void[2] > 0.9
sys.exit(0 if right and padding == ([0, 1, 2], 0.25) else "changed: expected 255 in the padding, a loss below -500")
PY
