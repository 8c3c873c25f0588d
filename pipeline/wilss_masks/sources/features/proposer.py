"""Masks of kept features: no network looks at an image of which there are some."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from wilss.data.images import read_image
from wilss.store import ImageContent

from ...stages.chain import stage_picture
from ...stages.regions import batch_regions, open_region_network, stage_regions
from ..base import ImageTask
from ..placing import MapMaker, of_tags_and_words
from .reader import FeatureReader, Kept

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.vit.trunks import State

    from ..fmwiss import FmwissSource
    from ..fmwiss_proposer import FmwissProposer
    from ..placing import Blocks


class _Loaded(NamedTuple):
    """An image by its features, and as the stages see it, where they do."""

    kept: Kept
    picture: "Tensor | None"
    regions: "Tensor | None"


class KeptProposer(MapMaker):
    """A source whose images have kept features, but for some, for which networks are loaded once one comes."""

    def __init__(self, source: "FmwissSource", device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        if source.text is None:
            source = source.prepare(device)
        text = torch.from_numpy(source.text).to(device)
        self._reader = FeatureReader(source.features_from, text.device, text)
        super().__init__(source, self._reader.logit_scale)
        self._device, self._threads, self._opening = device, threads, threading.Lock()
        self._opened: FmwissProposer | None = None
        self._regions = open_region_network(source.params, device, source.params.forward_precision)

    def load(self, task: ImageTask) -> Any:
        """Its features; decoded where a stage looks at it, and for networks where there are none."""
        kept = self._reader.read(task, self.source.grids(task.height, task.width))
        if kept is None:
            return self._networks().load(task)
        picture = None
        if self.params.needs_picture:
            image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
            picture = stage_picture(image, self.params)
        return _Loaded(kept, picture, stage_regions(task.record, task.height, task.width, picture, self.params))

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        """Masks of each image; networks see those without features together."""
        known = [i for i, one in enumerate(loaded) if isinstance(one, _Loaded)]
        others = [i for i in range(len(loaded)) if i not in known]
        made = dict(zip(known, self._of_features([tasks[i] for i in known], [loaded[i] for i in known]), strict=True))
        if others:
            found = self._networks().propose([tasks[i] for i in others], [loaded[i] for i in others])
            made.update(zip(others, found, strict=True))
        return [made[i] for i in range(len(loaded))]

    def _of_features(self, tasks: Sequence[ImageTask], loaded: Sequence[_Loaded]) -> list[ImageContent]:
        if not loaded:
            return []
        regions = batch_regions(self._regions, [one.picture for one in loaded], [one.regions for one in loaded])
        with torch.inference_mode():
            return [
                self._one(task, one._replace(regions=within))
                for task, one, within in zip(tasks, loaded, regions, strict=True)
            ]

    def forward(self, loaded: Sequence[Any]) -> "tuple[Tensor | State, tuple[Blocks, ...]]":
        """What `FmwissProposer.forward` says, of one image: CLIP's features as they are restored, and the blocks."""
        (one,) = loaded
        if not isinstance(one, _Loaded):
            return self._networks().forward([one])
        return one.kept.dense(), (one.kept.blocks(self.params.attention_blocks, self.source.parts),)

    def _one(self, task: ImageTask, loaded: _Loaded) -> ImageContent:
        tags, words = of_tags_and_words(loaded.kept.similarity(), self.source)
        score = self.score(tags[0][list(task.categories)], words[0])
        blocks = loaded.kept.blocks(self.params.attention_blocks, self.source.parts)
        return self.content(task, score, [blocks], 0, loaded.picture, loaded.regions)

    def _networks(self) -> "FmwissProposer":
        with self._opening:
            if self._opened is None:
                self._opened = self.source.open_networks(self._device, self._threads)
            return self._opened
