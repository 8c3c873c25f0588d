"""Features out of stores, image by image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

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
    """What is kept of one image, None for an encoder that nobody asked for.

    clip: float32 [h w, K]; vit: float32 [P + h' w', K']; store: whose they are.
    """

    clip: "Tensor | None"
    vit: "Tensor | None"
    grids: Grids
    store: "FeatureStore"

    def similarity(self) -> "Tensor":
        """Cosines [1, M, h, w] of the patches with all prompts."""
        assert self.clip is not None
        assert self.grids.score is not None
        assert self.store.text is not None
        return projected_scores(self.clip, self.store.text).reshape(1, -1, *self.grids.score)

    def dense(self) -> "Tensor":
        """CLIP's features [1, D, h, w], as they are restored."""
        assert self.clip is not None
        assert self.grids.score is not None
        return restored(self.clip, self.store.bases["clip"]).T.reshape(1, -1, *self.grids.score)

    def blocks(self, count: int, parts: "Sequence[Part]") -> "Blocks":
        """The ViT's `count` last blocks, as a batch of one, with these parts beside queries and keys."""
        assert self.vit is not None
        assert self.grids.attention is not None
        rows = restored(self.vit, self.store.bases["vit"])
        return blocks_of(rows, self.store.form, self.grids.attention, count, parts)

    def patches(self, kind: Literal["tokens", "keys"]) -> "Tensor":
        """What the patches are known by, float32 [D, h, w]: tokens behind the last block, or its keys."""
        (block,) = self.blocks(1, ("tokens",) if kind == "tokens" else ())
        tokens = block.patch_tokens()
        if tokens is not None:
            return tokens[0]
        keys = block.keys.transpose(1, 2).flatten(2)[0, block.prefix :]
        return keys.T.reshape(-1, *block.grid)


class FeatureStore:
    """One store, opened for reading its features; safe to use from several threads.

    text: prompts float32 [M, D] that the features of patches are multiplied with; None where none are.
    """

    def __init__(self, kept: KeptIn, device: torch.device | str, text: "Tensor | None" = None) -> None:
        self._store = MaskStore.open(kept.path)
        if self._store.digest != kept.digest:
            raise StoreError(f"{kept.path} has changed since the run began; run the same command again.")
        self._device = device
        self.bases: dict[str, Basis] = bases_of(self._store, device)
        self.layouts: dict[str, FeatureLayout] = {one.name: one for one in self._store.layout.features}
        self.text = None if text is None else ProjectedVectors.of(text, self.bases["clip"])
        self.form = BlockForm.from_notes(self.layouts["vit"].notes, self.layouts["vit"].prefix)

    @property
    def logit_scale(self) -> float:
        """The learned factor of CLIP's cosines."""
        return float(self.layouts["clip"].notes["logit_scale"])

    def read(self, task: ImageTask, grids: Grids) -> Kept | None:
        """None where there are none of this very image. grids: None for an encoder that is not asked for."""
        row = self._store.find(task.record.image_id)
        if row is None or not self._is_of(task, row):
            return None
        clip, vit = grids.score, grids.attention
        return Kept(
            clip=None if clip is None else self._rows("clip", row, math.prod(clip)),
            vit=None if vit is None else self._rows("vit", row, self.form.prefix + math.prod(vit)),
            grids=grids,
            store=self,
        )

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

    def __init__(self, stores: Sequence[KeptIn], device: torch.device | str, text: "Tensor | None" = None) -> None:
        self._stores = [FeatureStore(one, device, text) for one in stores]

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
