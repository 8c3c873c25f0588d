#!/usr/bin/env bash
# By three losses a picture without the object may be called all object at no cost: loss 0, gradient 0.
#
# segmentation-models-pytorch 0.6.0, torch 2.14.1. DiceLoss, JaccardLoss and TverskyLoss set the loss of each class that
# has no pixel in the batch to 0, and then take the mean over all classes. Seen, binary, no object in the truth: predicted
# nowhere or everywhere the three say 0 and give no gradient, where LovaszLoss, FocalLoss and SoftBCEWithLogitsLoss say 5
# to 6. Multiclass, two of 21 classes in a picture, all of it predicted as a third: 2/21, which is the most that any
# prediction can cost; with classes=[the two that occur] 1.00.
# Why it matters: with one class, pictures without it teach nothing, and a network that sees it everywhere is not put
# right by them. With many, the loss is divided by classes that are not there: beside a cross-entropy it weighs the less
# the more classes a data set has, and goes by how many a batch happens to hold. A comment in the code says so, the
# documentation does not.
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

CLASSES, SIDE = 21, 64
OVERLAPS, OTHERS = ("DiceLoss", "JaccardLoss", "TverskyLoss"), ("LovaszLoss", "FocalLoss", "SoftBCEWithLogitsLoss")


def binary(name: str, score: float) -> tuple[float, float]:
    """The loss, and the sum of its gradient, where every pixel has this score and none is object."""
    loss = getattr(losses, name)(*(["binary"] if name != "SoftBCEWithLogitsLoss" else []))
    scores = torch.full((1, 1, SIDE, SIDE), score, requires_grad=True)
    value = loss(scores, torch.zeros(1, 1, SIDE, SIDE))
    (gradient,) = torch.autograd.grad(value, scores)
    return round(value.item(), 2), round(gradient.abs().sum().item(), 2)


everywhere = {name: binary(name, 5.0) for name in OVERLAPS + OTHERS}
nowhere = {name: binary(name, -5.0) for name in OVERLAPS}
print(f"no object: loss and gradient when it is predicted everywhere {everywhere}, nowhere {nowhere}")

truth = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
truth[:, :32] = 3
third = torch.zeros(1, CLASSES, SIDE, SIDE)
third[:, 7] = 20.0
worst, of_two = (
    {name: round(float(getattr(losses, name)("multiclass", classes=classes)(third, truth)), 3) for name in OVERLAPS}
    for classes in (None, [0, 3])
)
print(f"wrong at every pixel, 2 of {CLASSES} classes there: {worst}; with classes=[0, 3] {of_two}")

right = all(everywhere[name] == nowhere[name] == (0.0, 0.0) for name in OVERLAPS)
right = right and all(everywhere[name][0] > 4.9 and everywhere[name][1] > 0.9 for name in OTHERS)
right = right and set(worst.values()) == {0.095} and set(of_two.values()) == {1.0}
sys.exit(0 if right else "changed: expected 0 and no gradient by three losses, and 0.095 for 1.00")
PY
