"""The segmenter's backbone: a small ResNet that learns the tags of drawn pictures, as ResNet-101 learns ImageNet's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from recipe.data import as_batch, jittered, tagged, views
from recipe.training import Facts, Run
from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.data.shapes import CLASS_NAMES, Drawing

ARCHITECTURE = "resnet18"
ARGS: dict[str, Any] = {"channels": [32, 64, 128, 192]}
SIDE = 96


def network() -> nn.Module:
    """The classifier; its layers before the average are the backbone."""
    made: nn.Module = timm.create_model(ARCHITECTURE, num_classes=len(CLASS_NAMES) - 1, **ARGS)
    return made


def train(
    drawings: Sequence[Drawing], path: Path, *, steps: int, batch: int, lr: float, seed: int, facts: Facts
) -> nn.Module:
    """Binary cross entropy of the logits against the tags of random views."""
    torch.manual_seed(seed)
    classifier = network().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=0.02)
    run = Run(path, {"backbone": classifier}, [optimiser], steps, lr, facts)
    run.resume()
    rng = np.random.default_rng([seed, run.step])
    generator = torch.Generator().manual_seed(seed + run.step)
    stream = views(drawings, rng, SIDE, (0.4, 1.0))

    def loss_of(step: int) -> Tensor:
        images, wanted = tagged(stream, batch)
        images = jittered(images, generator, 0.3)
        return F.binary_cross_entropy_with_logits(_logits(classifier.train(), images), wanted)

    run.train(loss_of)
    return classifier


def export(classifier: nn.Module, path: Path) -> None:
    """Write the backbone alone, without the classifier's last layer, in half precision."""
    kept = {name: value for name, value in classifier.state_dict().items() if not name.startswith("fc.")}
    halves = {name: value.half().contiguous() for name, value in kept.items() if value.is_floating_point()}
    save_file(halves, path)
    path.chmod(0o644)


def _logits(classifier: nn.Module, images: Tensor) -> Tensor:
    """images: [B, 3, H, W] in [0, 1]."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.autocast("cpu", torch.bfloat16):
        logits: Tensor = classifier(((images - mean) / std).contiguous(memory_format=torch.channels_last))
    return logits.float()


@torch.no_grad()
def top1(classifier: nn.Module, drawings: Sequence[Drawing]) -> float:
    """The share of single-object drawings, at their own size, whose class has the largest logit."""
    classifier.eval()
    single = [d for d in drawings if len(d.tags) == 1]
    right = [int(_logits(classifier, as_batch([d.image])).argmax()) + 1 == d.tags[0] for d in single]
    return float(np.mean(right))
