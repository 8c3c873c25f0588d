"""The features of a batch as a store keeps them: projected, and in whole numbers."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wilss.disk import Location
from wilss.store import ImageContent, MaskStore

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from wilss.equations.features import Basis
    from wilss.models.encoders.vit.trunks import State

    from ..placing import Blocks

#: Planes of one image by array, as `ImageContent` takes them.
Planes = dict[str, dict[int, NDArray[Any]]]


def bases_of(store: MaskStore, device: "torch.device | str" = "cpu") -> "dict[str, Basis]":
    """The bases of a store's features by encoder."""
    import torch

    from wilss.equations.features import Basis

    found = {}
    for layout in store.layout.features:
        mean, rows = (torch.from_numpy(np.array(store.vector(name))).to(device) for name in layout.vectors)
        found[layout.name] = Basis(mean=mean, rows=rows)
    return found


class FeatureKeeper:
    """Writes features by the bases of the store at `path`, which is begun before its first shard is made."""

    def __init__(self, path: Location, device: "torch.device") -> None:
        self._bases = bases_of(MaskStore.open(path, allow_partial=True), device)

    def beside(self, made: Sequence[ImageContent], dense: "Tensor | State", blocks: "Blocks") -> list[ImageContent]:
        """The masks of a batch with its features. dense: CLIP's [B, D, h, w]; blocks: the ViT's."""
        from torch import Tensor

        if not isinstance(dense, Tensor):
            raise TypeError("what CLIP's last block is given is no feature; `require_keepable` refuses it.")
        planes = self._planes(dense, blocks)
        return [dataclasses.replace(one, planes={**one.planes, **own}) for one, own in zip(made, planes, strict=True)]

    def _planes(self, dense: "Tensor", blocks: "Blocks") -> list[Planes]:
        from wilss.equations.features import projected, quantised

        from .rows import block_rows, patch_rows

        found: list[Planes] = [{} for _ in range(len(dense))]
        for name, rows in (("clip", patch_rows(dense)), ("vit", block_rows(blocks))):
            whole, scale = (part.cpu().numpy() for part in quantised(projected(rows, self._bases[name])))
            for planes, values, scales in zip(found, whole, scale, strict=True):
                planes |= {f"{name}_features": {0: values}, f"{name}_scale": {0: scales}}
        return found
