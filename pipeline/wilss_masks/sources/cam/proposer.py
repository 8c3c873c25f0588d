"""A classifier at work: from images to maps, from maps to masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from wilss.data.images import normalise, patch_grid_size, read_image, resize_uint8, to_pixels
from wilss.equations import cam
from wilss.store import ImageContent, Status

from ...stages.chain import stage_picture
from ...stages.regions import batch_regions, open_region_network, stage_regions
from ..base import ImageTask
from ..fusion import as_content
from .masks import refine_cam
from .params import CamParams
from .patches import patch_odds, spread_score

if TYPE_CHECKING:
    from .source import CamSource


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """An image as the networks and stages take it, uint8 [3, H, W] each; None: not asked for.

    first: at scale 1; scaled: at every scale. vit: as the ViT takes it. picture, regions: for the stages.
    """

    first: Tensor
    scaled: Sequence[Tensor]
    vit: Tensor | None
    picture: Tensor | None
    regions: Tensor | None


class Seen(NamedTuple):
    """What the networks say of an image.

    score: activation maps float16 [T, h, w] in [0, 1]. logits: of its patches [T + 1, h, w], the background first.
    compared: the feature maps [D, h, w] that say which patches belong together.
    """

    score: Tensor
    logits: Tensor
    compared: list[Tensor]


def attention_of(seen: Seen, params: CamParams) -> Tensor:
    """What masks are cut from, float16 [T, h, w] in [0, 1]: spread activation maps, or odds of what was learnt."""
    if not params.patches:
        return spread_score(seen.score.float(), seen.compared, params).half()
    return patch_odds(seen.logits, seen.compared, params).half()


class CamProposer:
    """`CamSource` with its networks loaded on one device."""

    def __init__(self, source: "CamSource", device: str) -> None:
        from wilss.models.encoders.vit.encoder import open_vit

        self.source, self.params, self.device = source, source.params, device
        self.classifier = source.read_classifier().to(device).eval()
        self.mean, self.std, _ = source.backbone.statistics
        self.vit = open_vit(source.vit, device, precision=None) if source.encoders else None
        self._regions = open_region_network(source.params, device)

    def load(self, task: ImageTask) -> Loaded:
        """The image at all sizes that are wanted; decoded once."""
        image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
        first, *scaled = self.source.input_sizes(task.height, task.width)
        picture = stage_picture(image, self.params)
        return Loaded(
            first=resize_uint8(image, first),
            scaled=[resize_uint8(image, size) for size in scaled],
            vit=None if self.vit is None else resize_uint8(image, self._vit_size(task)),
            picture=picture,
            regions=stage_regions(task.record, task.height, task.width, picture, self.params),
        )

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Loaded]) -> list[ImageContent]:
        """Each image by itself: a forward pass of the classifier is of an image and its mirror image."""
        regions = batch_regions(self._regions, [one.picture for one in loaded], [one.regions for one in loaded])
        loaded = [replace(one, regions=known) for one, known in zip(loaded, regions, strict=True)]
        with torch.inference_mode():
            return [self._one(task, images) for task, images in zip(tasks, loaded, strict=True)]

    def _vit_size(self, task: ImageTask) -> tuple[int, int]:
        assert self.vit is not None
        params = self.params
        return patch_grid_size(
            task.height, task.width, shorter=params.size, longest=params.longest, patch=self.vit.patch
        )

    def _one(self, task: ImageTask, images: Loaded) -> ImageContent:
        if problem := self._untaught(task):
            return ImageContent(status=Status.FAILED, error=problem)
        seen = self.look(images, list(task.categories))
        maps = seen.score, attention_of(seen, self.params)
        return as_content(
            refine_cam(*maps, task.height, task.width, self.params, images.picture, regions=images.regions),
            task.categories,
            score=maps[0],
            attention=maps[1],
            seeds=torch.zeros(len(task.categories), 0, 2, dtype=torch.int16),
            fallback=[False] * len(task.categories),
        )

    def _untaught(self, task: ImageTask) -> str:
        names = [self.source.classes[position] for position in task.categories]
        unknown = [name for name in names if name in self.source.untaught]
        if not unknown:
            return ""
        return (
            f"{task.record.path} is tagged {unknown[0]}, which no training image of the step shows, so that the "
            "classifier has not learnt it; tag training images with it, or take the tag off this one."
        )

    def look(self, images: Loaded, categories: list[int]) -> Seen:
        """The forward passes of an image, at every scale and mirrored."""
        stride = self.source.backbone.stride
        grid = images.first.shape[-2] // stride, images.first.shape[-1] // stride
        score = torch.zeros(len(categories), *grid, device=self.device)
        logits = torch.zeros(len(categories) + 1, *grid, device=self.device)
        stages: tuple[Tensor, ...] = ()
        for image in images.scaled:
            found = self._stages(image)
            score += self._mean(cam.activation_maps(found[1], self.classifier.rows.weight[categories]), grid)
            logits += self._mean(self._patch_logits(found, categories), grid) / len(images.scaled)
            if image.shape == images.first.shape:
                stages = found
        return Seen(cam.over_maximum(score).half(), logits, self._compared(images, stages))

    def _mean(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        """The mean of an image's maps and its mirror image's, on the grid. maps: [2, T, h, w]. Returns [T, *grid]."""
        return to_pixels((maps[0] + maps[1].flip(-1)) / 2, *grid)

    def _patch_logits(self, stages: tuple[Tensor, Tensor], categories: list[int]) -> Tensor:
        """What patches look like, [2, T + 1, h, w], the background first; stages: of an image and its mirror image."""
        grid = stages[1].shape[-2], stages[1].shape[-1]
        features = torch.stack([cam.stacked_features([one[i] for one in stages], grid) for i in range(2)])
        logits: Tensor = self.classifier.patches(features)[..., [0, *(1 + place for place in categories)]]
        return logits.transpose(1, 2).reshape(2, -1, *grid)

    def _compared(self, images: Loaded, stages: tuple[Tensor, ...]) -> list[Tensor]:
        """What patches are compared by, each [D, h, w]. stages: the classifier's, where 1 was one of the scales."""
        if self.vit is not None and images.vit is not None:
            return [self.vit.features(images.vit[None].to(self.device), "keys")[0]]
        if self.params.affinity_from == "none":
            return []
        return [stage[0] for stage in stages or self._stages(images.first)]

    def _stages(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The last two feature maps of an image and its mirror image."""
        both = torch.stack([image, image.flip(-1)]).to(self.device)
        return self.classifier.stages(normalise(both, self.mean, self.std))
