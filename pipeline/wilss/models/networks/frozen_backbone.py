"""Frozen features of any timm backbone, convolutional ones too: what it makes of an image, a vector per place.

Shapes: `B` batch, `D` feature width, `H W` pixels, `h w` feature grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.data.images import normalise
from wilss.equations.kernels import unit
from wilss.models.networks.backbones import build_backbone
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.networks.weights import load_backbone
from wilss.randomness import seed_for

if TYPE_CHECKING:
    from wilss.models.networks.named_backbone import NamedBackbone


class BackboneOnly(nn.Module):
    """A backbone without a head, with random weights that depend on `spec` alone until a file fills them."""

    def __init__(self, spec: SegmenterSpec) -> None:
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(0, "backbone"))
            self.backbone = build_backbone(spec)


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenBackbone:
    """An opened backbone. patch: pixels per feature. maps: of how many of its last stages the features are.

    width: D. mean, std: of its input. identity: all that decides its features, as JSON values.
    """

    patch: int
    maps: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    identity: Mapping[str, Any]
    network: BackboneOnly = field(repr=False)

    @torch.inference_mode()
    def features(self, images: Tensor, kind: str = "tokens") -> Tensor:
        """A vector per place. images: uint8 [B, 3, H, W], sides multiples of `patch`. Returns float32 [B, D, h, w].

        With two maps they stand one after the other, each at unit length so that none outweighs the other [D]; a finer
        one is averaged to the grid of the last. kind: of a vision transformer's tokens; there are none here.
        """
        previous, last = self.network.backbone.stages(normalise(images, self.mean, self.std))
        if self.maps == 1:
            return last.float()
        height, width = last.shape[-2:]
        previous = F.adaptive_avg_pool2d(previous.float(), (height, width))
        return torch.cat([unit(previous, dim=1), unit(last.float(), dim=1)], dim=1)


def open_frozen(named: "NamedBackbone", device: str, maps: int) -> FrozenBackbone:
    """Open a backbone for its features. maps: 1 or 2.

    Raises ParameterError for one that cannot be built, WeightsError for weights that are not there or do not fit.
    """
    network = BackboneOnly(named.spec(1))
    if named.file is not None:
        load_backbone(network, named.file)
    backbone = network.backbone
    mean, std, _ = named.statistics
    return FrozenBackbone(
        patch=named.stride,
        maps=maps,
        width=backbone.feature_dim + (backbone.previous_dim if maps == 2 else 0),
        mean=mean,
        std=std,
        identity={**named.identity(), "maps": maps},
        network=network.eval().requires_grad_(requires_grad=False).to(device),
    )
