"""Frozen features of images, computed once per run and kept; and the annotations that episodes give them.

An image goes through the frozen network alone, so that its features depend on no batch mates, on no order, and not on
what happened to be kept.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.supports.maps import SupportMap
from wilss.data.supports.simulate import Kind, map_for
from wilss.data.taxonomy import VOID
from wilss.equations.kernels import unit
from wilss.models.networks.embedding import Embedding
from wilss.randomness import numpy_generator_for

from ..image_pool import BoundedCache
from .images import LabelledImages


class FeatureBank:
    """What the trained part of an embedding is given, and labels, by image; made once while there is room for them.

    mib: how much may be kept. Several threads may ask at once.
    """

    def __init__(self, embedding: Embedding, images: LabelledImages, *, mib: float) -> None:
        self.embedding, self.images = embedding, images
        self._inputs = BoundedCache[tuple[str, bool], Tensor](0.8 * mib, _bytes_of)
        self._labels = BoundedCache[str, NDArray[np.uint8]](0.2 * mib, lambda label: label.nbytes)

    def input_of(self, image_id: str, *, mirrored: bool = False) -> Tensor:
        """Of the image or its mirror image: frozen features, float16 [D, h, w], or for `vgg16` uint8 [3, H, W].

        Raises ImageError where the image cannot be read.
        """
        return self._inputs.get((image_id, mirrored), lambda: self._input(image_id, mirrored=mirrored))

    def label(self, image_id: str, *, mirrored: bool = False) -> NDArray[np.uint8]:
        """Taxonomy ids uint8 [H, W] of the image or its mirror image. Raises OneImageError."""
        label = self._labels.get(image_id, lambda: self.images.label(image_id))
        return np.ascontiguousarray(label[:, ::-1]) if mirrored else label

    def _input(self, image_id: str, *, mirrored: bool) -> Tensor:
        image = torch.from_numpy(self.images.image(image_id)).permute(2, 0, 1)
        image = self.embedding.resized(image.flip(-1) if mirrored else image).contiguous()
        if self.embedding.vit is None:
            return image
        return self.embedding.given(image[None].to(self.embedding.device))[0].half().cpu()


class EmbeddedBank:
    """Images as a trained embedding sees them, over a bank of what it is given. net: on the bank's features."""

    def __init__(self, bank: FeatureBank, embedding: Embedding, *, mib: float) -> None:
        self._bank, self._embedding = bank, embedding
        self._units = BoundedCache[str, Tensor](mib, _bytes_of)

    def label(self, image_id: str) -> NDArray[np.uint8]:
        """Taxonomy ids uint8 [H, W]."""
        return self._bank.label(image_id)

    @torch.no_grad()
    def features(self, image_id: str) -> Tensor:
        """float32 [D, h, w]; computed again at every call."""
        inputs = self._bank.input_of(image_id)[None].to(self._embedding.device)
        return self._embedding.embedded(inputs)[0]

    def units(self, image_id: str) -> Tensor:
        """The same at length 1, float32 [D, h, w]; kept."""
        return self._units.get(image_id, lambda: unit(self.features(image_id), dim=0))


def _bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@dataclass(frozen=True)
class Support:
    """How a support is annotated: the class, what is drawn of it, and the other classes of the episode."""

    image_id: str
    way: int
    kind: Kind
    others: tuple[int, ...] = ()


#: What a pixel of no label is in a support's mask: nobody knows, or background, as in PANet's public code.
Void = Literal["unknown", "background"]


def support_map(label: NDArray[np.uint8], support: Support, seed: int, *, void: Void = "unknown") -> SupportMap:
    """The annotation as a map, uint8 [H, W]: 1 the class, 0 not, VOID unknown. label: taxonomy ids [H, W].

    It is drawn as if nobody knew of the other classes, but for their pixels, which are never background: PANet's
    background is what belongs to no class of the episode. A scribble is the same whenever the image comes up, but for a
    mirror image. void: see `Void`; boxes and scribbles say nothing of it.
    """
    rng = numpy_generator_for(seed, "support", support.kind, support.image_id, support.way)
    annotation = map_for(support.kind, label == support.way, label == VOID, rng)
    if void == "background" and support.kind == "mask":
        annotation = np.where(label == VOID, np.uint8(0), annotation)
    if support.others:
        annotation = np.where((annotation == 0) & np.isin(label, support.others), np.uint8(VOID), annotation)
    return annotation


def labels_for(label: NDArray[np.uint8], ways: tuple[int, ...]) -> NDArray[np.uint8]:
    """A query's truth: the place of its way from 1, 0 for anything else, VOID where it is. uint8 [H, W]."""
    table = np.zeros(256, np.uint8)
    table[list(ways)] = np.arange(1, len(ways) + 1)
    table[VOID] = VOID
    return table[label]
