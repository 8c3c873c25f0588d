"""Regions by a grid of points: what SAM 2, or the tracker of SAM 3, cuts out around each of them.

N. Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024; masks stay as in the automatic mask generator of
A. Kirillov et al., "Segment Anything", ICCV 2023: by the quality that the network predicts, by how little they change
with their cut, and of those with nearly the same box the best one.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.models.proposers.mask_pile import MaskPile
from wilss.models.proposers.opening import OpenedNetwork

#: Points that are decoded together: at 1024 x 1024 pixels each takes some 40 MB.
_POINTS_AT_ONCE = {"cuda": 64}
_POINTS_ON_A_CPU = 16
#: Masks that are brought to the picture's size together, in pixels of all.
_PIXELS_AT_ONCE = 2**24
_OFFSET, _STABLE, _SAME_BOX = 1.0, 0.95, 0.7


class PointRegions:
    """Regions by a grid of `side` x `side` points. least: the predicted IoU that a mask must have."""

    def __init__(self, opened: OpenedNetwork, side: int, least: float) -> None:
        self.opened, self.least = opened, least
        self.points = point_grid(side, opened.side).to(opened.device)

    def regions(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Pictures uint8 [3, h, w], encoded together, as regions int32 [h, w], -1 where there is none."""
        with self.opened.asking():
            inputs = self.opened.inputs(pictures).to(self.opened.device)
            levels = self.opened.network.get_image_embeddings(inputs)
            return [
                self._one([level[row : row + 1] for level in levels], *picture.shape[-2:])
                for row, picture in enumerate(pictures)
            ]

    def _one(self, levels: list[Tensor], height: int, width: int) -> Tensor:
        pile, boxes, scores = MaskPile(height, width), [], []
        for logits, quality in self._asked(levels):
            taken = (quality >= self.least) & (stability(logits) >= _STABLE)
            for masks in masks_at(logits[taken], height, width):
                pile.add(masks)
            boxes.append(boxes_of(logits[taken] > 0).cpu())
            scores.append(quality[taken].cpu())
        return pile.regions(distinct(torch.cat(boxes), torch.cat(scores)))

    def _asked(self, levels: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits [N, h, w] and predicted IoU [N], three masks a point, of some points at a time."""
        for points in torch.split(self.points, _POINTS_AT_ONCE.get(self.points.device.type, _POINTS_ON_A_CPU)):
            answer = self.opened.network(
                image_embeddings=levels,
                input_points=points[None, :, None],
                input_labels=torch.ones(1, len(points), 1, dtype=torch.int32, device=points.device),
                multimask_output=True,
            )
            yield answer.pred_masks[0].flatten(0, 1).float(), answer.iou_scores[0].flatten().float()


def point_grid(count: int, side: int) -> Tensor:
    """The middles of count x count equal parts of a square: float32 [count^2, 2], x before y, row by row."""
    middles = (torch.arange(count) + 0.5) * (side / count)
    rows, columns = torch.meshgrid(middles, middles, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)


def stability(logits: Tensor) -> Tensor:
    """IoU of the mask that is cut at 1 with that which is cut at -1: [N, h, w] to float32 [N]; 0 for an empty one."""
    inner, outer = ((logits > cut).sum(dim=(-2, -1)) for cut in (_OFFSET, -_OFFSET))
    return inner / outer.clamp_min(1)


def boxes_of(masks: Tensor) -> Tensor:
    """float32 [N, 4], left, top, right, bottom of masks bool [N, h, w]; zeros for an empty one."""
    ends = []
    for line in (masks.any(dim=-2), masks.any(dim=-1)):
        numbers = torch.arange(line.shape[-1], device=line.device)
        ends.append(torch.where(line, numbers, line.shape[-1]).amin(dim=-1))
        ends.append(torch.where(line, numbers + 1, 0).amax(dim=-1))
    left, right, top, bottom = ends
    return torch.stack([left, top, right, bottom], dim=-1).float() * masks.any(dim=-1).any(dim=-1)[:, None]


def distinct(boxes: Tensor, scores: Tensor) -> list[int]:
    """The places of masks whose boxes overlap no better one's by more than an IoU of 0.7."""
    from torchvision.ops import nms

    places: list[int] = nms(boxes, scores, _SAME_BOX).tolist()
    return places


def masks_at(logits: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """Logits [N, h, w], bilinear at the picture's size and cut at 0, some at a time: bool [n, height, width]."""
    for some in torch.split(logits, max(_PIXELS_AT_ONCE // (height * width), 1)):
        yield to_pixels(some, height, width) > 0
