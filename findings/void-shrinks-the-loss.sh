#!/usr/bin/env bash
# Two losses of segmentation_models_pytorch are the smaller the more of a label map is void: with scribbles, a hundredth.
#
# segmentation-models-pytorch 0.6.0, torch 2.14.1. SoftCrossEntropyLoss is documented as a drop-in replacement for torch's
# CrossEntropyLoss with label_smoothing, SoftBCEWithLogitsLoss for BCEWithLogitsLoss. Given ignore_index both set the loss
# of void pixels to 0 and then take the mean over all pixels, where torch's takes it over those that are not void. Seen,
# the same labelled row of pixels alone and in a picture that is void but for it, 1 % of it: cross-entropy by torch 1.31
# and 1.31, by SoftCrossEntropyLoss 1.31 and 0.013, and SoftBCEWithLogitsLoss falls by the same hundredth. smp's Dice,
# Focal, Tversky and Lovasz losses with ignore_index do not change.
# Why it matters: points, scribbles and confident pseudo-labels leave most pixels void, and padding does. Beside a Dice
# loss, a weight decay or a loss on unlabelled pictures such a loss counts for next to nothing, and pictures weigh by how
# much of them is labelled. Sum with reduction="sum" and divide by the count of labelled pixels.
# Known: qubvel-org/segmentation_models.pytorch issue 852.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        segmentation-models-pytorch==0.6.0 torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys
from importlib.metadata import version
found = [version(name) for name in ("segmentation-models-pytorch", "torch")]
sys.exit(0 if found[0] == "0.6.0" and found[1].split("+")[0] == "2.14.1" else 1)' || exit 2

"$python" - <<'PY'
import sys

import torch
from segmentation_models_pytorch import losses

VOID, SIDE, CLASSES = 255, 100, 3
torch.manual_seed(0)
scores = torch.randn(1, CLASSES, SIDE, SIDE)
labels = torch.full((1, SIDE, SIDE), VOID)
labels[:, 0] = torch.randint(0, CLASSES, (1, SIDE))  # one row is labelled
mask = torch.where(labels == VOID, VOID, (labels == 1).long()).float()[:, None]


def both(loss: torch.nn.Module, given: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """The loss of the labelled row alone, and of the picture that is void but for it."""
    return [round(float(loss(given[:, :, :rows], truth[..., :rows, :])), 4) for rows in (1, SIDE)]


smooth = {"ignore_index": VOID, "smooth_factor": 0.1}
multiclass = {
    "torch's CrossEntropyLoss": torch.nn.CrossEntropyLoss(ignore_index=VOID, label_smoothing=0.1),
    "smp's SoftCrossEntropyLoss": losses.SoftCrossEntropyLoss(**smooth),
    **{
        f"smp's {name}": getattr(losses, name)("multiclass", ignore_index=VOID)
        for name in ("DiceLoss", "FocalLoss", "TverskyLoss", "LovaszLoss")
    },
}
seen = {name: both(loss, scores, labels) for name, loss in multiclass.items()}
seen["smp's SoftBCEWithLogitsLoss"] = both(losses.SoftBCEWithLogitsLoss(**smooth), scores[:, 1:2], mask)
for name, (alone, in_void) in seen.items():
    print(f"{name}: {alone} alone, {in_void} in void")
shrunk = {name for name, (alone, in_void) in seen.items() if abs(in_void - alone / 100) < 1e-3}
kept = {name for name, (alone, in_void) in seen.items() if abs(in_void - alone) < 1e-3}
right = shrunk == {"smp's SoftCrossEntropyLoss", "smp's SoftBCEWithLogitsLoss"} and shrunk | kept == set(seen)
right = right and seen["smp's SoftCrossEntropyLoss"][0] == seen["torch's CrossEntropyLoss"][0]
sys.exit(0 if right else "changed: expected two losses at a hundredth and five as they are")
PY
