"""Regions by the queries that a network has learnt: EoMT, of DINOv2 or DINOv3.

T. Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025. A query's mask is a region where the
network is sure enough that it is anything at all, whatever its class.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.errors import WeightsError
from wilss.models.proposers.mask_pile import MaskPile
from wilss.models.proposers.opening import OpenedNetwork
from wilss.models.proposers.points import masks_at

_MASKS_AT_ONCE = 16


class QueryRegions:
    """Regions by learnt queries. least: how sure the network must be that a query's mask is of anything."""

    def __init__(self, opened: OpenedNetwork, least: float) -> None:
        self.opened, self.least = opened, least
        _require_no_chance(opened)

    def regions(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Pictures uint8 [3, h, w], encoded together, as regions int32 [h, w], -1 where there is none."""
        with self.opened.asking():
            answer = self.opened.network(self._inputs(pictures).to(self.opened.device))
            sure = 1 - answer.class_queries_logits.float().softmax(dim=-1)[..., -1]
            return [
                self._one(answer.masks_queries_logits[row][sure[row] >= self.least].float(), *picture.shape[-2:])
                for row, picture in enumerate(pictures)
            ]

    def _inputs(self, pictures: Sequence[Tensor]) -> Tensor:
        """A picture is never cut into windows: the longer side fills the input, the rest is padded."""
        side = self.opened.side
        whole = {"size": {"shortest_edge": side, "longest_edge": side}, "do_pad": True, "do_split_image": False}
        return self.opened.inputs(pictures, **whole)

    def _one(self, logits: Tensor, height: int, width: int) -> Tensor:
        """logits: [N, h, w] of the padded input."""
        pile, side = MaskPile(height, width), self.opened.side
        rows, columns = filled(height, width, side)
        for some in torch.split(logits, _MASKS_AT_ONCE):
            for masks in masks_at(to_pixels(some, side, side)[:, :rows, :columns], height, width):
                pile.add(masks)
        return pile.regions()


def filled(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of a square input that a picture of this size fills; the rest is padding."""
    from transformers.image_transforms import get_size_with_aspect_ratio

    rows, columns = get_size_with_aspect_ratio((height, width), side, side)
    return rows, columns


def _require_no_chance(opened: OpenedNetwork) -> None:
    """WeightsError for a network whose queries see what chance says, as in the middle of its training."""
    shares = torch.as_tensor(opened.network.attn_mask_probs)
    if bool(((shares > 0) & (shares < 1)).any()):
        raise WeightsError(
            f"{opened.folder.path}: its training was stopped while its masked attention was being taken away "
            f"(attn_mask_probs {[round(share, 3) for share in shares.tolist()]}), so that it would draw its masks by "
            "chance; take the weights of the end of the training."
        )
