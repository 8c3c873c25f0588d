"""Embeddings of images, a vector per patch, for prototypes (Wang et al., "PANet", ICCV 2019, arXiv:1908.06391).

Three kinds: frozen features of a self-supervised vision transformer or of a backbone, a trained projection of the
former, and the paper's VGG-16. `Embedding` is what everybody uses; `EmbeddingNet` is the part of it that is trained.

Shapes: `B` batch, `H W` pixels, `h w` patch grid, `D` feature width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise, resize_uint8
from wilss.errors import CheckpointError
from wilss.models.encoders.identity import digests_of_encoder, norm_of, way_to_former
from wilss.models.networks.checkpoint import CheckpointInfo, read_weights, require_fit, spec_of
from wilss.models.networks.embedding_spec import VGG_STRIDE, EmbeddingSpec
from wilss.models.shapes_only import undrawn
from wilss.randomness import seed_for

if TYPE_CHECKING:
    from wilss.data.manifest import EncoderSpec
    from wilss.models.encoders.vit.encoder import SeedViT
    from wilss.models.networks.frozen_backbone import FrozenBackbone
    from wilss.models.networks.named_backbone import NamedBackbone

#: VGG-16 by blocks of 3x3 convolutions (Simonyan and Zisserman 2015, configuration D).
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_STRIDES = (2, 2, 2, 1)  # of the pools between them; PANet's fourth keeps the size, and so conv5 is dilated


class Vgg16(nn.Module):
    """VGG-16 up to conv5_3 without its ReLU, as PANet has it: images [B, 3, H, W] to [B, 512, h, w].

    Pools are 3x3 with padding 1, the fourth has stride 1, conv5 dilation 2: h = ceil(H / 8). The layers' places are
    torchvision's, so that its weights fit by name.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for number, block in enumerate(_BLOCKS):
            dilation = 2 if number == len(_BLOCKS) - 1 else 1
            for width in block:
                convolution = nn.Conv2d(before, width, 3, padding=dilation, dilation=dilation)
                layers += [convolution, nn.ReLU(inplace=True)]
                before = width
            if number < len(_STRIDES):
                layers.append(nn.MaxPool2d(3, stride=_STRIDES[number], padding=1))
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """images: float [B, 3, H, W], normalised. Returns [B, 512, ceil(H / 8), ceil(W / 8)]."""
        found: Tensor = self.features(images)
        return found


class EmbeddingNet(nn.Module):
    """What is trained of an embedding: a backbone on images, a head on features; either may do nothing.

    Its input is a normalised image for `vgg16`, and the frozen features for the other kinds.
    """

    def __init__(self, spec: EmbeddingSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone: nn.Module = Vgg16() if spec.kind == "vgg16" else nn.Identity()
        self.head: nn.Module = _projection(spec) if spec.kind == "projection" else nn.Identity()

    def forward(self, given: Tensor) -> Tensor:
        """given: [B, 3, H, W] or [B, D', h, w]. Returns [B, D, h, w]."""
        features: Tensor = self.head(self.backbone(given))
        return features


def _projection(spec: EmbeddingSpec) -> nn.Sequential:
    """1x1 convolutions with ReLU between them; the last has none, as PANet's last layer."""
    layers: list[nn.Module] = []
    before = spec.in_width
    for _ in range(spec.depth):
        layers += [nn.Conv2d(before, spec.width, 1), nn.ReLU(inplace=True)]
        before = spec.width
    return nn.Sequential(*layers[:-1])


def build_embedding(spec: EmbeddingSpec, *, seed: int) -> EmbeddingNet:
    """The network of `spec` with random weights that depend on `spec` and `seed` alone.

    The random state of the caller stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "embedding"))
        return EmbeddingNet(spec)


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """An opened embedding, usable like a `SeedViT`: `features` of images that have the size which `input_size` says.

    patch: pixels per feature. identity: all that decides what it computes, as JSON values. vit: the frozen network
    below it, a vision transformer or a backbone; None for `vgg16`. mean, std: of the VGG-16's input.
    """

    spec: EmbeddingSpec
    net: EmbeddingNet = field(repr=False)
    vit: "SeedViT | FrozenBackbone | None" = field(repr=False, default=None)
    device: torch.device
    patch: int
    identity: Mapping[str, Any]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (H, W) at which an image of `height` x `width` is to be given."""
        return self.spec.input_size(height, width, self.patch)

    def resized(self, image: Tensor) -> Tensor:
        """An image uint8 [3, H, W] at that size."""
        return resize_uint8(image, self.input_size(*image.shape[-2:]))

    @torch.no_grad()
    def given(self, images: Tensor) -> Tensor:
        """What the trained part is given: frozen features, or the image itself. images: uint8 [B, 3, H, W]."""
        if self.vit is None:
            return images
        return self.vit.features(images, self.spec.features).clone()  # out of inference mode

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """A vector per patch. images: uint8 [B, 3, H, W] on `device`. Returns float32 [B, D, h, w]."""
        return self.embedded(self.given(images))

    def embedded(self, given: Tensor) -> Tensor:
        """What the trained part makes of what it is given. Returns float32 [B, D, h, w]."""
        vectors: Tensor = self.net(given.float() if self.vit is not None else normalise(given, self.mean, self.std))
        return vectors.float()


def frozen_embedding(vit: "EncoderSpec", device: str = "cpu", *, spec: EmbeddingSpec | None = None) -> Embedding:
    """The features of the vision transformer as they are. spec: of the kind `frozen`.

    Raises what `wilss.models.encoders.vit.encoder.open_vit` raises.
    """
    spec = EmbeddingSpec() if spec is None else replace(spec, kind="frozen")
    return embedding_of(EmbeddingNet(spec), vit, device)


def backbone_embedding(
    named: "NamedBackbone", device: str = "cpu", *, maps: int = 1, spec: EmbeddingSpec | None = None
) -> Embedding:
    """The features of a backbone as they are. spec: of the kind `frozen`. maps: see `FrozenBackbone`.

    Raises ParameterError for one that cannot be built, WeightsError for weights that are not there or do not fit.
    """
    spec = EmbeddingSpec() if spec is None else replace(spec, kind="frozen")
    opened = named.open(device, maps)
    said = {name: value for name, value in spec.as_json().items() if name != "features"}
    return Embedding(
        spec=spec,
        net=EmbeddingNet(spec).eval(),
        vit=opened,
        device=torch.device(device),
        patch=opened.patch,
        identity={**said, "network": dict(opened.identity)},
    )


def embedding_of(net: EmbeddingNet, vit: "EncoderSpec | None", device: str = "cpu", **identity: Any) -> Embedding:
    """`net` with the frozen network that it stands on, in evaluation mode; identity: what tells its weights.

    Raises CheckpointError where the vision transformer is missing or is not the one that `net` was trained on.
    """
    spec = net.spec
    opened = _opened(spec, vit, device) if spec.is_on_frozen_features else None
    norm = norm_of(tokens=spec.uses_tokens)
    return Embedding(
        spec=spec,
        net=net.to(device).eval(),
        vit=opened,
        device=torch.device(device),
        patch=VGG_STRIDE if opened is None else opened.patch,
        identity={**spec.as_json(), "vit": opened and {**opened.identity, **norm}, **identity},
    )


def _opened(spec: EmbeddingSpec, vit: "EncoderSpec | None", device: str) -> "SeedViT":
    from wilss.models.encoders.vit.encoder import open_vit

    if vit is None:
        raise CheckpointError(f"an embedding of the kind {spec.kind} needs a vision transformer; name `encoders.vit`.")
    if spec.encoder and spec.encoder not in (known := digests_of_encoder(vit, tokens=spec.uses_tokens)):
        way = way_to_former(vit, spec.encoder, tokens=spec.uses_tokens)
        raise CheckpointError(
            f"the embedding was trained on the features of another network (digest {spec.encoder[:12]}, the "
            f"manifest's vit has {known[0][:12]}); "
            + (f"{way}; or train it again." if way else "name the same weights in `encoders.vit`, or train it again.")
        )
    return open_vit(vit, device)


def load_embedding(info: CheckpointInfo, vit: "EncoderSpec | None" = None, device: str = "cpu") -> Embedding:
    """The embedding of a checkpoint, in evaluation mode. vit: the manifest's frozen network, `encoders.vit`.

    Raises CheckpointError for a segmenter's checkpoint, weights that do not fit, or another frozen network than the
    one that it was trained on.
    """
    spec, weights = spec_of(info, EmbeddingSpec), read_weights(info)
    require_fit(info, weights, lambda: EmbeddingNet(spec))
    with undrawn():
        net = EmbeddingNet(spec)
    net.load_state_dict(weights)
    try:
        opened = embedding_of(net, vit, device, checkpoint=info.digest)
    except CheckpointError as error:
        raise CheckpointError(f"{info.path}: {error}") from None
    return replace(opened, mean=info.mean, std=info.std)
