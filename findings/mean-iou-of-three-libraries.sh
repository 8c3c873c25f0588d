#!/usr/bin/env bash
# A network that never finds the one class there is has a mean IoU of 0.45, 0.63, 0.75, 0.85 or 0.90, by library.
#
# torchmetrics 1.9.0, segmentation-models-pytorch 0.6.0, monai 1.6.1, torch 2.14.1. Published tables add up the pixels of
# all images for each class, and take the mean of the classes that occur. Seen, ten pictures of background, two of which
# are half cats, and a class that none shows; background alone is predicted: IoU 0.9 of background, 0 of cats, 0.45 in
# the mean, as torchmetrics' MulticlassJaccardIndex says. Its MeanIoU says 0.75: it averages over all pairs of an image
# and a class in it, so that a class weighs as much as it has images, and is not the mean over classes of what it gives
# with per_class=True, 0.9 and 0. smp's iou_score gives a class that no image shows IoU 1 (zero_division): 0.63 by the
# reduction "macro", and 0.90 by "macro-imagewise", where that holds for each image. MONAI's MeanIoU, 0.85, leaves out
# the classes that the truth of an image lacks; so, where cats are found, and seen all over the other eight pictures as
# well, it gives cats IoU 1.0, though eight of nine pixels that are called cat are none.
# Why it matters: each of these goes by which classes an image lacks, and most images lack most classes. Here all say
# more than what is published as mean IoU, and none is comparable to it. Sum a confusion matrix over all images.
# Known in part: Lightning-AI/torchmetrics issue 2558.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        torchmetrics==1.9.0 segmentation-models-pytorch==0.6.0 monai==1.6.1 torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys
from importlib.metadata import version
found = [version(name) for name in ("torchmetrics", "segmentation-models-pytorch", "monai", "torch")]
sys.exit(0 if found[:3] == ["1.9.0", "0.6.0", "1.6.1"] and found[3].split("+")[0] == "2.14.1" else 1)' || exit 2

"$python" - <<'PY'
import sys

import segmentation_models_pytorch as smp
import torch
from monai.metrics import MeanIoU as MonaisMeanIoU
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

BACKGROUND, CAT, CLASSES = 0, 1, 3
truth = torch.zeros(10, 10, 10, dtype=torch.long)
truth[:2, :5] = CAT


def rounded(values: torch.Tensor):
    return [round(float(value), 2) for value in values.flatten()]


def figures(predicted: torch.Tensor) -> dict[str, list[float]]:
    metrics = {
        "torchmetrics' MulticlassJaccardIndex": MulticlassJaccardIndex(CLASSES),
        "torchmetrics' MeanIoU": MeanIoU(CLASSES, input_format="index"),
        "torchmetrics' MeanIoU, per_class": MeanIoU(CLASSES, input_format="index", per_class=True),
    }
    for metric in metrics.values():
        for image, labels in zip(predicted, truth):
            metric.update(image[None], labels[None])
    seen = {name: rounded(metric.compute()) for name, metric in metrics.items()}
    counts = smp.metrics.get_stats(predicted, truth, mode="multiclass", num_classes=CLASSES)
    for reduction in ("macro", "macro-imagewise"):
        seen[f"smp's iou_score, {reduction}"] = rounded(smp.metrics.iou_score(*counts, reduction=reduction))
    for reduction in ("mean", "mean_batch"):  # the second of each class
        metric = MonaisMeanIoU(reduction=reduction)
        metric(*(torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1) for labels in (predicted, truth)))
        seen[f"MONAI's MeanIoU, {reduction}"] = rounded(metric.aggregate())
    return seen


missed = figures(torch.full_like(truth, BACKGROUND))
everywhere = truth.clone()
everywhere[2:] = CAT
overdone = figures(everywhere)
for what, seen in (("no cat is found", missed), ("cats are found, and seen everywhere else", overdone)):
    for name, values in seen.items():
        print(f"{what}: {name}: {values}")
right = list(missed.values()) == [[0.45], [0.75], [0.9, 0.0, -1.0], [0.63], [0.9], [0.85], [0.9, 0.0, 0.0]]
right = right and overdone["torchmetrics' MulticlassJaccardIndex"] == [0.11]
right = right and overdone["MONAI's MeanIoU, mean_batch"] == [0.2, 1.0, 0.0]
sys.exit(0 if right else "changed: expected 0.45, 0.75, 0.63, 0.9 and 0.85, and 1.0 of cats that are seen everywhere")
PY
