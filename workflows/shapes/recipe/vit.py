"""The built-in vision transformer, trained without a label or a tag.

Two losses over two random views of a picture:

- DINO (Caron et al. 2021): the class token of a view says what the teacher, a moving average, says of the other.
- Co-occurrence (after Isola et al. 2015, "Learning visual groups from co-occurrences in space and time"): the last
  block's attention, from the patches of one view to those of the other, should fall where the picture is near. What
  lies together mostly belongs together, so attention learns to stay on one thing. The views are cropped and mirrored
  independently, so that positions alone cannot tell what is near.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from recipe.data import Crop, as_batch, jittered, random_crop
from recipe.training import Facts, Run, optimisers
from wilss.data.shapes import Drawing

ARCHITECTURE = "vit_tiny_patch16_224"
ARGS: dict[str, Any] = {
    "img_size": 96,
    "patch_size": 8,
    "embed_dim": 192,
    "depth": 3,
    "num_heads": 3,
    "num_classes": 0,
    "dynamic_img_size": True,
}
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
HEAD_WIDTH = ARGS["embed_dim"] // ARGS["num_heads"]
#: How far apart, in pixels of the picture, patches still count as near.
NEAR = 14.0


class Head(nn.Module):
    """DINO's projection head: an MLP to a unit vector, then its cosine with K prototypes."""

    def __init__(self, width: int, prototypes: int = 1024, hidden: int = 384, bottleneck: int = 96) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, bottleneck), dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """[..., D] to logits [..., K]."""
        return F.normalize(self.mlp(features), dim=-1) @ F.normalize(self.prototypes, dim=1).T


class Seen(NamedTuple):
    """logits: [B, K] of the class token; queries, keys: [B, n, h w, d] of the last block's patches."""

    logits: Tensor
    queries: Tensor
    keys: Tensor


class Network(nn.Module):
    """A timm ViT with the head that only training needs."""

    def __init__(self) -> None:
        super().__init__()
        self.vit: Any = timm.create_model(ARCHITECTURE, **ARGS)
        self.head = Head(ARGS["embed_dim"])

    def forward(self, images: Tensor) -> Seen:
        """images: [B, 3, H, W]."""
        *blocks, last = self.vit.blocks
        x = self.vit._pos_embed(self.vit.patch_embed(images))
        for block in blocks:
            x = block(x)
        qkv = last.attn.qkv(last.norm1(x))[:, 1:].unflatten(-1, (3, last.attn.num_heads, -1))
        queries, keys, _ = qkv.permute(2, 0, 3, 1, 4)
        return Seen(self.head(self.vit.norm(last(x))[:, 0]), queries, keys)


class Centre:
    """The running mean of the teacher's logits; taking it away keeps all images from falling on one prototype."""

    def __init__(self, prototypes: int) -> None:
        self.value = torch.zeros(prototypes)

    def targets(self, logits: Tensor) -> Tensor:
        """Sharpened, centred probabilities of the teacher's logits [B, K]; the centre follows them."""
        probabilities = F.softmax((logits - self.value) / TEACHER_TEMPERATURE, dim=-1)
        self.value.lerp_(logits.mean(dim=0), 0.1)
        return probabilities


def dino_loss(targets: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch of -p log q; targets and logits: [B, K], the student's at its own temperature."""
    return -(targets * F.log_softmax(logits / STUDENT_TEMPERATURE, dim=-1)).sum(dim=-1).mean()


def nearness(here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Where attention from one view should fall in the other. here, there: [B, h w, 2] pixels of the picture.

    Returns targets [B, h w, h w] that sum to 1 over the last axis, and bool [B, h w]: patches whose surroundings
    the other view shows at all; the others are left out of the loss.
    """
    weight = torch.exp(-torch.cdist(here, there).square() / (2 * NEAR**2))
    return weight / weight.sum(dim=-1, keepdim=True).clamp_min(1e-9), weight.amax(dim=-1) > 0.6


def co_occurrence_loss(queries: Tensor, keys: Tensor, targets: Tensor, shared: Tensor, scale: float) -> Tensor:
    """Cross entropy of head-averaged attention against `targets`, mean over the `shared` patches.

    queries, keys: [B, n, h w, d] of one view and of the other; scale: factor of their products.
    """
    attention = torch.softmax(queries @ keys.transpose(-1, -2) * scale, dim=-1).mean(dim=1)
    return -(targets * attention.clamp_min(1e-9).log()).sum(dim=-1)[shared].mean()


def normalised(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] with ImageNet's mean and spread, as DINO takes them."""
    mean = torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1)
    return (images - mean) / torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1)


def centres(crops: Sequence[Crop]) -> Tensor:
    """[B, h w, 2]: where in the picture the patches of each crop lie."""
    return torch.from_numpy(np.stack([crop.patch_centres(ARGS["img_size"] // ARGS["patch_size"]) for crop in crops]))


def train(
    drawings: Sequence[Drawing], path: Path, *, steps: int, batch: int, lr: float, seed: int, facts: Facts
) -> Network:
    """The teacher, trained from scratch or from the checkpoint at `path`."""
    torch.manual_seed(seed)
    student = Network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    networks: dict[str, nn.Module] = {"student": student, "teacher": teacher}
    run = Run(path, networks, optimisers([student], student.vit.blocks, lr), steps, lr, facts)
    run.resume()
    rng = np.random.default_rng([seed, run.step])
    generator = torch.Generator().manual_seed(seed + run.step)
    centre = Centre(student.head.prototypes.shape[0])

    def loss_of(step: int) -> Tensor:
        _follow(teacher, student, 1 - 0.01 * (math.cos(math.pi * step / steps) + 1) / 2)
        chosen = rng.integers(len(drawings), size=batch)
        first, second = ([random_crop(drawings[i], rng, ARGS["img_size"], (0.5, 1.0)) for i in chosen] for _ in "ab")
        images = normalised(jittered(as_batch([crop.image for crop in [*first, *second]]), generator, 0.3))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                taught = centre.targets(teacher(images).logits.float())
            seen = student(images)
        dino = dino_loss(taught.roll(batch, dims=0), seen.logits.float())
        here = centres([*first, *second])
        targets, shared = nearness(here, here.roll(batch, dims=0))
        queries, keys = seen.queries.float(), seen.keys.float().roll(batch, dims=0)
        return dino + co_occurrence_loss(queries, keys, targets, shared, HEAD_WIDTH**-0.5)

    run.train(loss_of)
    return teacher


@torch.no_grad()
def localisation(network: Network, drawings: Sequence[Drawing], seeds: int = 9) -> float:
    """Mean area under the ROC curve of seed attention against the object that the seeds lie on.

    Query-key attention of `seeds` random patches of each object, averaged over seeds and heads, at the drawing's
    own size; patches are the object's if it covers four fifths of them, and others' if it covers a twentieth.
    """
    network.eval()
    generator = torch.Generator().manual_seed(0)
    found: list[float] = []
    for drawing in drawings:
        rows, columns = (n // ARGS["patch_size"] * ARGS["patch_size"] for n in drawing.label.shape)
        seen = network(normalised(as_batch([drawing.image[:rows, :columns]])))
        attention = torch.softmax(seen.queries @ seen.keys.transpose(-1, -2) * HEAD_WIDTH**-0.5, dim=-1)[0].mean(dim=0)
        for tag in drawing.tags:
            covered = torch.from_numpy(drawing.label[:rows, :columns] == tag).float()[None, None]
            share = F.avg_pool2d(covered, ARGS["patch_size"]).flatten()
            inside, outside = (share >= 0.8).nonzero()[:, 0], (share <= 0.05).nonzero()[:, 0]
            if len(inside) < 2:
                continue
            row = attention[inside[torch.randint(len(inside), (seeds,), generator=generator)]].mean(dim=0)
            found.append(float((row[inside, None] > row[outside]).float().mean()))
    return float(np.mean(found))


@torch.no_grad()
def _follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
