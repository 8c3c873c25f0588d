"""Whose features a patch is known by: a frozen vision transformer's, or a trained embedding's."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.data.manifest import EncoderSpec
from wilss.models.networks.embedding_spec import EmbeddingSpec

from .params import PanetParams

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.networks.embedding import Embedding

__all__ = ["PatchEncoder", "encoder_of"]


@dataclass(frozen=True, kw_only=True)
class PatchEncoder:
    """What is known of an embedding before it is opened.

    vit: the frozen network below it. spec: what is made of its features. checkpoint: a trained embedding's file, and
    digest what it must have; None and "" for the frozen features as they are.
    """

    vit: EncoderSpec
    spec: EmbeddingSpec
    checkpoint: Path | None = None
    digest: str = ""

    def identity(self) -> Mapping[str, Any]:
        """The networks by name, with their digests."""
        from wilss.models.encoders.weights import identity_of

        vit = {"vit": identity_of(self.vit)} if self.spec.is_on_frozen_features else {}
        return {**vit, **({"embedding": {**self.spec.as_json(), "sha256": self.digest}} if self.checkpoint else {})}

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of the features of an image of this size."""
        return self.spec.grid(height, width, self._patch)

    def load(self, path: Path) -> "Tensor":
        """An image as the network's input, uint8 [3, H, W]. Raises ImageError."""
        import torch

        from wilss.data.images import read_image, resize_uint8

        image = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        return resize_uint8(image, self.spec.input_size(image.shape[1], image.shape[2], self._patch))

    def open(self, device: str) -> "Embedding":
        """The network, loaded on `device`. Raises CheckpointError where it is not what it was before."""
        from wilss.errors import CheckpointError
        from wilss.models.networks.checkpoint import read_info
        from wilss.models.networks.embedding import frozen_embedding, load_embedding

        if self.checkpoint is None:
            return frozen_embedding(self.vit, device, spec=self.spec)
        info = read_info(self.checkpoint)
        if info.digest != self.digest:
            raise CheckpointError(f"{self.checkpoint} has changed since this run began; run the same command again.")
        return load_embedding(info, self.vit, device)

    @cached_property
    def _patch(self) -> int:
        """The patch of the ViT, without opening it."""
        from wilss.models.encoders.multiples import input_multiple

        return input_multiple(self.vit) if self.spec.is_on_frozen_features else 1


def encoder_of(vit: EncoderSpec, params: PanetParams) -> PatchEncoder:
    """The encoder that the parameters ask for; a checkpoint says itself which features and sizes it was trained on.

    Raises CheckpointError for a checkpoint that is missing, damaged, of a segmenter, or trained on other features.
    """
    if not params.embedding:
        spec = EmbeddingSpec(features=params.features, size=params.vit_size, longest=params.longest)
        return PatchEncoder(vit=vit, spec=spec)
    from wilss.models.networks.checkpoint import read_info, spec_of

    info = read_info(params.embedding)
    spec = spec_of(info, EmbeddingSpec)
    return PatchEncoder(vit=vit, spec=spec, checkpoint=info.path.absolute(), digest=info.digest)
