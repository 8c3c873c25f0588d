"""Features out of stores, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from wilss.data.contents import UNKNOWN, content_of
from wilss.equations.features import Basis, ProjectedVectors, dequantised, projected_scores, restored
from wilss.errors import StoreError
from wilss.store import FeatureLayout, MaskStore, Status

from ..base import Grids, ImageTask
from .keeper import bases_of
from .kept_in import KeptIn
from .rows import BlockForm, blocks_of

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.vit.attention import Part

    from ..placing import Blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """What is kept of one image. clip: float32 [h w, K]; vit: float32 [P + h' w', K']; store: they are of."""

    clip: "Tensor"
    vit: "Tensor"
    grids: Grids
    store: "FeatureStore"

    def similarity(self) -> "Tensor":
        """Cosines [1, M, h, w] of the patches with all prompts."""
        assert self.grids.score is not None
        return projected_scores(self.clip, self.store.text).reshape(1, -1, *self.grids.score)

    def dense(self) -> "Tensor":
        """CLIP's features [1, D, h, w], as they are restored."""
        assert self.grids.score is not None
        return restored(self.clip, self.store.bases["clip"]).T.reshape(1, -1, *self.grids.score)

    def blocks(self, count: int, parts: "Sequence[Part]") -> "Blocks":
        """The ViT's `count` last blocks, as a batch of one, with these parts beside queries and keys."""
        assert self.grids.attention is not None
        rows = restored(self.vit, self.store.bases["vit"])
        return blocks_of(rows, self.store.form, self.grids.attention, count, parts)


class FeatureStore:
    """One store, opened for reading its features; safe to use from several threads.

    text: prompts float32 [M, D] that the features of patches are multiplied with.
    """

    def __init__(self, kept: KeptIn, text: "Tensor") -> None:
        self._store = MaskStore.open(kept.path)
        if self._store.digest != kept.digest:
            raise StoreError(f"{kept.path} has changed since the run began; run the same command again.")
        self._device = text.device
        self.bases: dict[str, Basis] = bases_of(self._store, text.device)
        self.layouts: dict[str, FeatureLayout] = {one.name: one for one in self._store.layout.features}
        self.text = ProjectedVectors.of(text, self.bases["clip"])
        self.form = BlockForm.from_notes(self.layouts["vit"].notes, self.layouts["vit"].prefix)

    @property
    def logit_scale(self) -> float:
        """The learned factor of CLIP's cosines."""
        return float(self.layouts["clip"].notes["logit_scale"])

    def read(self, task: ImageTask, grids: Grids) -> Kept | None:
        """None where there are none of this very image."""
        row = self._store.find(task.record.image_id)
        if row is None or not self._is_of(task, row):
            return None
        assert grids.score is not None
        assert grids.attention is not None
        (h, w), (ha, wa) = grids.score, grids.attention
        clip, vit = self._rows("clip", row, h * w), self._rows("vit", row, self.form.prefix + ha * wa)
        return Kept(clip=clip, vit=vit, grids=grids, store=self)

    def _is_of(self, task: ImageTask, row: int) -> bool:
        status, heights, widths, contents = self._vectors
        if status[row] != Status.DONE or (heights[row], widths[row]) != (task.height, task.width):
            return False
        return contents is None or int(contents[row]) in (UNKNOWN, content_of(task.record, "images"))

    @cached_property
    def _vectors(self) -> "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]":
        read, has_content = self._store.vector, self._store.layout.has_content
        return read("status"), read("height"), read("width"), read("content") if has_content else None

    def _rows(self, name: str, row: int, tokens: int) -> "Tensor":
        whole = self._store.plane(f"{name}_features", row)[:tokens]
        scale = self._store.plane(f"{name}_scale", row)
        rows = dequantised(torch.from_numpy(np.array(whole)), torch.from_numpy(np.array(scale)))
        return rows.to(self._device)


class FeatureReader:
    """Several stores; the first that has features of an image gives them."""

    def __init__(self, stores: Sequence[KeptIn], text: "Tensor") -> None:
        self._stores = [FeatureStore(one, text) for one in stores]

    @property
    def logit_scale(self) -> float:
        """The learned factor of CLIP's cosines, which is that of all stores."""
        return self._stores[0].logit_scale

    def read(self, task: ImageTask, grids: Grids) -> Kept | None:
        """None where no store has features of this very image."""
        for store in self._stores:
            if (kept := store.read(task, grids)) is not None:
                return kept
        return None
