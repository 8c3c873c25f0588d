#!/usr/bin/env bash
# The panoptic quality of a prediction that labels one object of ten, and leaves nine open, is 1.00 for 0.59.
#
# torchmetrics 1.9.0, torch 2.14.1. The paper on panoptic quality and its public judge, panopticapi, which torchmetrics
# says it follows, count an object of the truth without a match as missed; only what is void in the truth is left out.
# PanopticQuality, which takes void in predictions with allow_unknown_preds_category=True, leaves that out as well: an
# object that is mostly void in the prediction is not missed, and one that is found in part is compared with the part.
# Seen, ten squares before a background: with nine of them void, or 60 % of each, PQ is 1.00, where it is 0.59 and 0.50
# by the definition; ModifiedPanopticQuality says 1.00, too. All void is NaN, and 0 by the modified form. The same pixels
# called background are judged as the definition has it.
# Why it matters: panoptic networks leave pixels void where they are not sure, by a threshold: the higher it is, the
# better this PQ, and the best threshold or checkpoint by it is one that says little. The documentation has "ignored in
# the metric computation" for it. Before comparing, give such pixels a class that is judged.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        torchmetrics==1.9.0 torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys
from importlib.metadata import version
found = [version(name) for name in ("torchmetrics", "torch")]
sys.exit(0 if found[0] == "1.9.0" and found[1].split("+")[0] == "2.14.1" else 1)' || exit 2

"$python" - <<'PY'
import sys

import torch
from torchmetrics.detection import ModifiedPanopticQuality, PanopticQuality

BACKGROUND, SQUARE, VOID = 0, 1, 99
METRICS = (PanopticQuality, ModifiedPanopticQuality)
Segment = tuple[int, int]  # class, number of the object


def segments(labels: torch.Tensor) -> dict[Segment, torch.Tensor]:
    found = {tuple(pair) for pair in labels.reshape(-1, 2).tolist() if pair[0] != VOID}
    return {pair: (labels == torch.tensor(pair)).all(-1) for pair in found}


def by_definition(given: torch.Tensor, truth: torch.Tensor) -> float:
    """PQ where the truth has no void: IoUs above a half, summed, by half the segments of both sides together."""
    qualities = []
    for category in (BACKGROUND, SQUARE):
        ours, theirs = (
            [mask for (of, _), mask in segments(labels).items() if of == category] for labels in (given, truth)
        )
        ious = [float((a & b).sum() / (a | b).sum()) for a in ours for b in theirs]
        matched = [iou for iou in ious if iou > 0.5]
        qualities.append(sum(matched) / ((len(ours) + len(theirs)) / 2))
    return round(sum(qualities) / 2, 2)


def by_torchmetrics(given: torch.Tensor, truth: torch.Tensor) -> list[float]:
    judges = [of({SQUARE}, {BACKGROUND}, allow_unknown_preds_category=True) for of in METRICS]
    return [round(float(judge(given[None], truth[None])), 2) for judge in judges]


truth = torch.zeros(20, 160, 2, dtype=torch.long)
for number in range(10):
    truth[5:15, 16 * number + 3 : 16 * number + 13] = torch.tensor([SQUARE, number + 1])
nine, most = (truth[..., 1] > 1), (truth[..., 1] > 0) & (torch.arange(20) < 11)[:, None]
seen = {}
for what, where in (("nothing", torch.zeros_like(nine)), ("nine squares", nine), ("60 % of each", most)):
    for name, instead in (("void", VOID), ("background", BACKGROUND)):
        given = torch.where(where[..., None], torch.tensor([instead, 0]), truth)
        seen[what, name] = (by_definition(given, truth), *by_torchmetrics(given, truth))
        print(f"{what} as {name}: PQ by definition, and by PanopticQuality and its modified form {seen[what, name]}")
all_void = by_torchmetrics(torch.full_like(truth, VOID), truth)
print(f"all void: {all_void} by torchmetrics")

expected = {"nothing": 1.0, "nine squares": 0.59, "60 % of each": 0.5}
right = all(seen[what, "void"] == (pq, 1.0, 1.0) for what, pq in expected.items())
right = right and all_void[0] != all_void[0] and all_void[1] == 0
right = right and all(seen[what, "background"][0] == seen[what, "background"][1] for what in expected)
sys.exit(0 if right else f"changed: expected 1.00 wherever objects are void, for {expected}")
PY
