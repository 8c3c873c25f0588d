"""The student's features of a batch; those of a frozen backbone are computed once for views that come again."""

import torch
from torch import Tensor

from wilss.models.networks.segmenter import Segmenter

from ..data.batches import SegBatch
from ..params import TrainParams
from .base import as_input, is_frozen


class FeatureSource:
    """What the student's backbone makes of a batch.

    Where it is frozen and views come again, each is looked at by itself, so that what is kept of it depends on no other
    image of the batch, and a resumed run, which begins with nothing, finds the same. At most `cache_mib` are kept.
    """

    def __init__(self, student: Segmenter, params: TrainParams) -> None:
        self._student, self._params = student, params
        self._kept: dict[int, Tensor] = {}
        self._left = params.cache_mib * 2**20

    def of(self, batch: SegBatch) -> Tensor:
        """Features [B, D, h, w] of the batch's images; with a gradient where the backbone learns."""
        if not batch.views or not is_frozen(self._student.backbone):
            return self._student.features(as_input(batch.images, self._params))
        pairs = zip(batch.views, batch.images[:, None], strict=True)
        return torch.cat([self._one(*pair) for pair in pairs]).contiguous(memory_format=torch.channels_last)

    def of_old(self, old: Segmenter, batch: SegBatch, features: Tensor) -> Tensor:
        """What the old model's backbone makes of a batch, without gradient, [B, D, h, w].

        features: the student's of the same. Where the backbone stays both have one, and so it looks once.
        """
        if is_frozen(self._student.backbone):
            return features
        with torch.no_grad():
            return old.features(as_input(batch.images, self._params))

    def _one(self, view: int, image: Tensor) -> Tensor:
        """Of one image uint8 [1, 3, H, W], which `view` names: [1, D, h, w]."""
        if (known := self._kept.get(view)) is not None:
            return known
        with torch.no_grad():
            found = self._student.features(as_input(image, self._params))
        if (size := found.numel() * found.element_size()) <= self._left:
            self._kept[view], self._left = found, self._left - size
        return found
