"""A control: class activation maps (Zhou et al. 2016) of a small CNN trained on the same tags. Never shipped."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipe.data import as_batch, jittered, tagged, views
from recipe.training import Facts, Run
from wilss.data.shapes import CLASS_NAMES, Drawing

SIDE = 96


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Classifier(nn.Module):
    """Seven convolutions, a global average, a linear layer; stride 8."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(3, 32, 2), (32, 48, 1), (48, 64, 2), (64, 96, 1), (96, 128, 2), (128, 160, 1), (160, 192, 1)]
        self.features = nn.Sequential(*(_stage(*width) for width in widths))
        self.classes = nn.Conv2d(192, len(CLASS_NAMES) - 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] to class activation maps [B, C, H / 8, W / 8]; their mean is the logit."""
        maps: Tensor = self.classes(self.features(images - 0.5))
        return maps


def train(
    drawings: Sequence[Drawing], path: Path, *, steps: int, batch: int, lr: float, seed: int, facts: Facts
) -> Classifier:
    """Binary cross entropy of the averaged maps against the tags of random views."""
    torch.manual_seed(seed)
    network = Classifier()
    run = Run(
        path, {"cam": network}, [torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.02)], steps, lr, facts
    )
    run.resume()
    rng = np.random.default_rng([seed, run.step])
    generator = torch.Generator().manual_seed(seed + run.step)
    stream = views(drawings, rng, SIDE, (0.4, 1.0))

    def loss_of(step: int) -> Tensor:
        images, wanted = tagged(stream, batch)
        images = jittered(images, generator, 0.2)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.train()(images).float().mean(dim=(2, 3))
        return F.binary_cross_entropy_with_logits(logits, wanted)

    run.train(loss_of)
    return network


@torch.no_grad()
def top1(network: Classifier, drawings: Sequence[Drawing]) -> float:
    """The share of single-object drawings, at their own size, whose class has the largest logit."""
    network.eval()
    single = [d for d in drawings if len(d.tags) == 1]
    right = [int(network(as_batch([d.image])).mean(dim=(2, 3)).argmax()) + 1 == d.tags[0] for d in single]
    return float(np.mean(right))
