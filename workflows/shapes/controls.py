"""What the built-in result is compared with: sources of masks that no user wants, written as a user would write one.

Each is handed to `wilss_masks.generate` like the package's own; the masks are evaluated by the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from wilss.data.images import read_image, to_pixels
from wilss.data.manifest import EncoderSpec
from wilss.equations import fmwiss
from wilss.models.encoders.weights import sha256_of
from wilss.randomness import generator_for
from wilss.store import ImageContent, Status
from wilss_masks import FmwissSource
from wilss_masks.sources import Grids
from wilss_masks.sources.base import ImageTask
from wilss_masks.sources.fmwiss_proposer import FmwissProposer


@dataclass(frozen=True, kw_only=True)
class WholeImage:
    """Every tag's mask is the whole image."""

    name: ClassVar[str] = "whole-image"
    has_void: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True
    seeds_kept: ClassVar[int] = 0
    encoders: ClassVar[tuple[()]] = ()

    def identity(self) -> Mapping[str, Any]:
        return {"parameters": {}, "models": {}}

    def grids(self, height: int, width: int) -> Grids:
        return Grids()

    def prepare(self, device: str) -> Self:
        return self

    def open(self, device: str, threads: int) -> Self:
        return self

    def load(self, task: ImageTask) -> None:
        return None

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[None]) -> list[ImageContent]:
        return [_content({c: np.ones((t.height, t.width), bool) for c in t.categories}) for t in tasks]


@dataclass(frozen=True, kw_only=True)
class TrueSeeds:
    """The method with its seeds drawn from the true masks: what perfect seeds would give."""

    name: ClassVar[str] = "true-seeds"
    has_void: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True

    method: FmwissSource
    category_ids: tuple[int, ...]

    @property
    def seeds_kept(self) -> int:
        return self.method.seeds_kept

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        return self.method.encoders

    def identity(self) -> Mapping[str, Any]:
        return self.method.identity()

    def grids(self, height: int, width: int) -> Grids:
        return self.method.grids(height, width)

    def prepare(self, device: str) -> Self:
        return replace(self, method=self.method.prepare(device))

    def open(self, device: str, threads: int) -> "TrueSeedsProposer":
        opened = self.method.open(device, threads)
        return TrueSeedsProposer(opened.source, opened.clip, opened.vit, self.category_ids)


class TrueSeedsProposer(FmwissProposer):
    """Draws each seed from the patches that lie mostly inside the true mask."""

    def __init__(self, source: FmwissSource, clip: Any, vit: Any, category_ids: tuple[int, ...]) -> None:
        super().__init__(source, clip, vit)
        self.category_ids = category_ids

    def _seeds(self, task: ImageTask, position: int, score: Tensor) -> fmwiss.Seeds:
        assert task.record.label is not None
        true = torch.from_numpy(task.record.label.read() == self.category_ids[position]).float()
        inside = torch.nn.functional.adaptive_avg_pool2d(true[None], (score.shape[-2], score.shape[-1]))[0]
        name = self.source.classes[position][0]
        generator = generator_for(self.source.seed, task.record.image_id, name, 0)
        return fmwiss.seed_points(inside >= 0.5, inside, self.params.seeds, generator)


@dataclass(frozen=True, kw_only=True)
class ClassActivation:
    """Activation maps of a small CNN trained on the same tags, cut at a share of their maximum.

    Not `--source cam`: that learns a step's tags from the step's own pictures, on a backbone. This network has learnt
    all tags of the drawings that the encoders have learnt from (`recipe/cam.py`), so that what differs from FMWISS' row
    is the method and not the data.
    """

    name: ClassVar[str] = "cam"
    has_void: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True
    seeds_kept: ClassVar[int] = 0
    encoders: ClassVar[tuple[()]] = ()

    weights: Path
    threshold: float
    category_ids: tuple[int, ...]
    _stride: int = field(default=8, repr=False)

    def identity(self) -> Mapping[str, Any]:
        return {"parameters": {"threshold": self.threshold}, "models": {"cam": sha256_of(self.weights)}}

    def grids(self, height: int, width: int) -> Grids:
        return Grids(score=(-(-height // self._stride), -(-width // self._stride)))

    def prepare(self, device: str) -> Self:
        return self

    def open(self, device: str, threads: int) -> "ClassActivationProposer":
        torch.set_num_threads(threads)
        return ClassActivationProposer(self)


class ClassActivationProposer:
    """`ClassActivation` with its network loaded."""

    def __init__(self, source: ClassActivation) -> None:
        from recipe.cam import Classifier
        from safetensors.torch import load_file

        self.source, self.network = source, Classifier().eval()
        self.network.load_state_dict(load_file(source.weights))

    def load(self, task: ImageTask) -> Tensor:
        return torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1).float() / 255

    @torch.inference_mode()
    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Tensor]) -> list[ImageContent]:
        return [self._one(task, self.network(image[None])[0]) for task, image in zip(tasks, loaded, strict=True)]

    def _one(self, task: ImageTask, maps: Tensor) -> ImageContent:
        channels = [self.source.category_ids[position] - 1 for position in task.categories]
        positive = maps[channels].float().clamp_min(0)
        positive = positive / positive.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
        scores = to_pixels(positive, task.height, task.width)
        masks = scores >= self.source.threshold
        confidence = fmwiss.confidence(scores, masks).tolist()
        return replace(
            _content(dict(zip(task.categories, masks.numpy(), strict=True))),
            confidence=dict(zip(task.categories, confidence, strict=True)),
        )


def _content(masks: dict[int, Any]) -> ImageContent:
    return ImageContent(
        status=Status.DONE,
        planes={"mask": masks},
        confidence=dict.fromkeys(masks, 1.0),
        area={position: int(mask.sum()) for position, mask in masks.items()},
    )
