"""PseudoSeg's second opinion: class activation maps that learned attention spreads over the image (SGC).

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021, Secs. 3.2 and 3.3. With
global average pooling and a linear head Grad-CAM is the plain CAM of the head's rows, so that is what is taken.

Shapes: `B` batch, `C` channels, background first; `h w` the grid of the last stage, `D` its width, `D'` that of the
stage before; `d` width of queries and keys.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.equations.kernels import score_map
from wilss.equations.pseudoseg import calibrated_fusion, max_normalised, self_attention_cam, sharpen, with_background
from wilss.models.networks.segmenter import Segmenter
from wilss.params import Params, PositiveFloat, Share
from wilss.randomness import seed_for

#: The batch norm after W_c: torch's, or the public code's, which has no factor, eps 1e-3 and decay 0.999.
MappingNorm = Literal["torch", "published"]


class Said(NamedTuple):
    """tags: logits [B, C - 1] of the image classifier, background left out. scores: m^ [B, C, h, w], logits."""

    tags: Tensor
    scores: Tensor


class Labeller(nn.Module):
    """Image classifier, queries, keys and the last 1 x 1 mapping W_c, on two stages of a segmenter's backbone.

    Neither the features of the hypercolumn nor the activation maps carry a gradient: queries, keys and W_c learn
    from what they say alone, and the backbone from the classifier's tags [C].
    """

    def __init__(
        self, previous_dim: int, feature_dim: int, num_channels: int, width: int = 128, norm: MappingNorm = "torch"
    ) -> None:
        super().__init__()
        self.norm = norm
        self.classes = nn.Linear(feature_dim, num_channels - 1)
        self.queries = nn.Conv2d(previous_dim + feature_dim, width, 1, bias=False)
        self.keys = nn.Conv2d(previous_dim + feature_dim, width, 1, bias=False)
        self.mapping = nn.Sequential(nn.Conv2d(num_channels, num_channels, 1, bias=False), _norm_of(num_channels, norm))

    def forward(
        self, previous: Tensor, last: Tensor, *, present: Tensor | float = 0.5, inside: Tensor | None = None
    ) -> Said:
        """What the activation maps of the classes in `present` say once attention has spread them.

        previous: [B, D', h', w'], brought to the last stage's grid. last: [B, D, h, w]. present: bool [B, C - 1], or
        how probable the classifier must find a class [C]. inside: bool [B, h, w], cells that are no padding: only these
        are pooled [D] and attended to [C].
        """
        tags = self.classes(_pooled(last, inside))
        with torch.no_grad():
            held = present if isinstance(present, Tensor) else tags.sigmoid() >= present
            shown = last if inside is None else last * inside[:, None]
            cam = self.activation(shown) * held[:, :, None, None]
            column = hypercolumn(previous, last)
        valid = None if inside is None else inside.flatten(1)
        spread = self_attention_cam(_rows(self.queries(column)), _rows(self.keys(column)), cam, valid)
        return Said(tags=tags, scores=self.mapping(with_background(spread)))

    def activation(self, last: Tensor) -> Tensor:
        """CAM of every class, [B, D, h, w] to [B, C - 1, h, w] in [0, 1], the greatest value of each map 1."""
        return max_normalised(score_map(last, self.classes.weight.to(last.dtype)))

    @classmethod
    def like(cls, segmenter: Segmenter, *, width: int = 128, norm: MappingNorm = "torch", seed: int) -> "Labeller":
        """One for a segmenter's backbone and channels, with random weights that depend on `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(seed, "labeller"))
            return cls(segmenter.previous_dim, segmenter.feature_dim, segmenter.spec.num_channels, width, norm)


def _norm_of(channels: int, norm: MappingNorm) -> nn.BatchNorm2d:
    """Torch's momentum is the share of the new, TensorFlow's decay that of the old."""
    if norm == "torch":
        return nn.BatchNorm2d(channels)
    if norm != "published":
        raise ValueError(f"there is no batch norm {norm!r} after the attention maps; use torch or published.")
    made = nn.BatchNorm2d(channels, eps=1e-3, momentum=1 - 0.999)
    made.weight.requires_grad_(False)  # at 1; kept, so that the names of weights are the same
    return made


@dataclass(frozen=True, kw_only=True)
class SoftLabelParams(Params):
    """How soft labels are made.

    kind: `fused` of decoder and attention maps, or one of them alone. share: g, of the decoder. temperature: T of the
    sharpening. norm: over an `image`, so that a label depends on no batch mate [D], or over the `batch` [C].
    present: classes that the classifier finds less probable in an image have no attention map there [C].
    """

    kind: Literal["fused", "decoder", "sgc"] = "fused"
    share: Share = 0.5
    temperature: PositiveFloat = 0.5
    norm: Literal["image", "batch"] = "image"
    present: Share = 0.5


@torch.no_grad()
def soft_labels(
    segmenter: Segmenter,
    labeller: Labeller | None,
    images: Tensor,
    params: SoftLabelParams,
    inside: Tensor | None = None,
) -> Tensor:
    """The soft label of every cell: probabilities float32 [B, C, h, w] (PseudoSeg Sec. 3.3).

    images: float [B, 3, H, W], normalised. labeller: may be None where the decoder alone is asked. inside: bool
    [B, H', W'], which parts of the images are no padding; brought to the grid here. Both networks are used in the
    mode that they are in.
    """
    previous, last = segmenter.stages(images)
    inside = None if inside is None else on_grid(inside, last)
    scores = (
        None
        if params.kind == "decoder" or labeller is None
        else labeller(previous, last, present=params.present, inside=inside).scores.float()
    )
    if scores is not None and params.kind == "sgc":
        return sharpen(scores.softmax(dim=1), params.temperature)
    decoded = segmenter.logits(last).float()
    if scores is None:
        return sharpen(decoded.softmax(dim=1), params.temperature)
    return calibrated_fusion(decoded, scores, g=params.share, T=params.temperature, norm=params.norm, valid=inside)


def hypercolumn(previous: Tensor, last: Tensor) -> Tensor:
    """Both stages on the grid of the last one, [B, D' + D, h, w]."""
    size = last.shape[-2:]
    if previous.shape[-2:] != size:
        previous = F.interpolate(previous, size=size, mode="bilinear", align_corners=False)
    return torch.cat([previous, last], dim=1)


def on_grid(inside: Tensor, last: Tensor) -> Tensor:
    """Where an image is, bool [B, H, W], on the grid of features [B, D, h, w], by the nearest pixel."""
    return F.interpolate(inside[:, None].float(), size=last.shape[-2:], mode="nearest-exact")[:, 0] > 0


def _pooled(last: Tensor, inside: Tensor | None) -> Tensor:
    """Global average pooling of [B, D, h, w] over the cells inside, all if None; [B, D], 0 where there is none.

    A classifier that pools padding as well learns of smaller means than a whole image has [D].
    """
    if inside is None:
        return last.mean(dim=(-2, -1))
    total: Tensor = (last * inside[:, None]).sum(dim=(-2, -1))
    return total / inside.sum(dim=(-2, -1)).clamp_min(1)[:, None]


def _rows(maps: Tensor) -> Tensor:
    """[B, d, h, w] as a row for every cell, [B, h w, d]."""
    return maps.flatten(2).transpose(1, 2)
