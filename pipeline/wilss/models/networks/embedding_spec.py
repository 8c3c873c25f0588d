"""What an embedding network is, as plain data: all that a checkpoint needs to build it again. torch is not imported."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from wilss.data.images import patch_grid_size
from wilss.errors import ParameterError
from wilss.params import Params, PositiveInt, require

EmbeddingKind = Literal["frozen", "projection", "vgg16"]
#: Image pixels per feature of PANet's VGG-16: three of its five pools halve the map.
VGG_STRIDE = 8

#: Shorter side of the input, in pixels, where frozen features label or judge images and nobody says otherwise.
FROZEN_SIZE = 448


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec(Params):
    """A network that gives every patch of an image a vector.

    kind: `frozen`, the features of a self-supervised vision transformer as they are; `projection`, 1x1 convolutions
        on them; `vgg16`, the encoder of PANet (Wang et al., ICCV 2019, Sec. 3.2).
    features: of the vision transformer, see `SeedViT.features`.
    size: what the shorter side of an image becomes for the vision transformer, 0 for its own size; both sides of what
        the VGG-16 sees. longest: the longer side is at most this many pixels.
    width, depth: of the projection: values per patch, and convolutions one after the other.
    in_width: values per patch of the frozen features. encoder: the digest of the network that they come from.
    """

    kind: EmbeddingKind = "frozen"
    features: Literal["tokens", "keys"] = "tokens"
    size: int = 224
    longest: PositiveInt = 1024
    width: PositiveInt = 128
    depth: PositiveInt = 1
    in_width: int = 0
    encoder: str = ""

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        least = VGG_STRIDE if self.kind == "vgg16" else 0
        require(self.size >= least, "size", self.size, f"{least} or more")
        projects = self.kind == "projection"
        require(not projects or self.in_width >= 1, "in_width", self.in_width, "at least 1 for a projection")

    @property
    def is_on_frozen_features(self) -> bool:
        """Whether a frozen vision transformer comes first."""
        return self.kind != "vgg16"

    @property
    def uses_tokens(self) -> bool:
        """Whether the vision transformer's last block is used to its end."""
        return self.is_on_frozen_features and self.features == "tokens"

    def input_size(self, height: int, width: int, patch: int) -> tuple[int, int]:
        """Size (H, W) at which an image of `height` x `width` enters the network.

        patch: of the vision transformer. PANet squeezes every image into a square.
        """
        if self.kind == "vgg16":
            return self.size, self.size
        return patch_grid_size(height, width, shorter=self.size or None, longest=self.longest, patch=patch)

    def grid(self, height: int, width: int, patch: int) -> tuple[int, int]:
        """The patch grid (h, w) of an image of `height` x `width`."""
        step = patch if self.is_on_frozen_features else VGG_STRIDE
        rows, columns = self.input_size(height, width, patch)
        return -(-rows // step), -(-columns // step)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "EmbeddingSpec":
        """The spec that `as_json` wrote. Raises ParameterError for a field that no spec has, or a wrong value."""
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(said) - known):
            raise ParameterError(f"an embedding has no {', '.join(unknown)}; upgrade wilss, or leave that out.")
        return cls(**said)
