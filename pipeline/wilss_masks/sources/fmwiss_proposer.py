"""FMWISS with its networks: what they say of a batch of images, and the masks that come of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from wilss.data.images import read_image, resize_uint8
from wilss.models.devices import Fetched
from wilss.store import ImageContent

from ..stages.chain import stage_picture
from ..stages.regions import batch_regions, open_region_network, stage_regions
from .base import ImageTask
from .features.keeper import FeatureKeeper
from .placing import MapMaker, similarity_of

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.both import Both
    from wilss.models.encoders.clip.encoder import DenseClip
    from wilss.models.encoders.vit.encoder import SeedViT
    from wilss.models.encoders.vit.trunks import State

    from .fmwiss import FmwissSource
    from .placing import Blocks


class Loaded(NamedTuple):
    """An image as the two encoders' inputs, uint8 [3, H, W] each, and as the stages see it, where they do."""

    clip: "Tensor"
    vit: "Tensor"
    picture: "Tensor | None"
    regions: "Tensor | None"


class FmwissProposer(MapMaker):
    """`FmwissSource` with its networks loaded on one device.

    text: unit features [M, D] of all prompts: of the source's classes in their order, then of its background words; as
    many a class as `source.name_counts` says.
    """

    def __init__(self, source: "FmwissSource", clip: "DenseClip", vit: "SeedViT", both: "Both | None" = None) -> None:
        """both: where one network is clip and vit, or CLIP says where as well."""
        import torch

        super().__init__(source, clip.logit_scale)
        self.clip, self.vit, self.both = clip, vit, both
        self.text = torch.from_numpy(source.text).to(clip.device)
        self._regions = open_region_network(source.params, str(clip.device), source.params.forward_precision)
        self._keeper = None if source.keeps_in is None else FeatureKeeper(source.keeps_in, clip.device)

    def load(self, task: ImageTask) -> Loaded:
        """The image in all sizes that are wanted; decoded once."""
        import torch

        image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
        clip = resize_uint8(image, self.source.clip_input(task.height, task.width))
        size = self.source.vit_input(task.height, task.width)
        vit = clip if size == tuple(clip.shape[-2:]) else resize_uint8(image, size)
        picture = stage_picture(image, self.params)
        regions = stage_regions(task.record, task.height, task.width, picture, self.params)
        return Loaded(clip, vit, picture, regions)

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Loaded]) -> list[ImageContent]:
        """A forward pass of each network for the batch, then each image by itself.

        The host waits for the scores, where seeds are drawn from them, and for the masks of all images at the end.
        """
        import torch

        regions = batch_regions(self._regions, [one.picture for one in loaded], [one.regions for one in loaded])
        loaded = [one._replace(regions=known) for one, known in zip(loaded, regions, strict=True)]
        with torch.inference_mode():
            told, blocks = self.forward(loaded)
            scores = self._scores(tasks, told)
            drawn_from = [Fetched(score) if self.params.placing == "drawn" else None for score in scores]
            on_their_way = [
                self.content_on_its_way(task, scores[i], blocks, i, loaded[i].picture, loaded[i].regions, drawn_from[i])
                for i, task in enumerate(tasks)
            ]
            made = [arrived() for arrived in on_their_way]
            return made if self._keeper is None else self._keeper.beside(made, told, blocks[0])

    def forward(self, loaded: Sequence[Loaded]) -> "tuple[Tensor | State, tuple[Blocks, ...]]":
        """What the networks say of a batch: CLIP, see `_told`, and who says where, the ViT first."""
        images = self._stack([one.clip for one in loaded])
        at_two_sizes = any(one.clip.shape != one.vit.shape for one in loaded)
        if self.both is None or (self.source.is_one and at_two_sizes):
            blocks = self._where(loaded)
            return self._told(images, blocks[-1].patch_tokens()), (blocks,)
        states, parts = self.both.before(images, self.params.attention_blocks), self.source.parts
        own = self.both.blocks(states, parts)
        where = (own,) if self.source.is_one else (self._where(loaded), own)
        proxy = where[0][-1].patch_tokens()
        return self._told_of(self.both, states[-1], images, proxy), where

    def _told(self, images: "Tensor", proxy: "Tensor | None") -> "Tensor | State":
        """Dense features [B, D, h, w], or for Grad-CAM what CLIP's last block is given.

        images: uint8 [B, 3, H, W]; proxy: for that form of the features, see `DenseClip.features`.
        """
        params = self.params
        if params.score == "gradcam":
            return self.clip.before_last(images)
        if not params.window:
            return self.clip.features(images, proxy)
        from wilss.models.encoders.clip.windows import Windows, features_by_windows

        windows = Windows(size=params.window, stride=params.window_stride or params.window // 2)
        return features_by_windows(self.clip, images, windows, proxy)

    def _told_of(self, both: "Both", state: "State", images: "Tensor", proxy: "Tensor | None") -> "Tensor | State":
        """The same, where what the last block is given is known, so that an image is encoded once but for windows."""
        params = self.params
        if params.window:
            return self._told(images, proxy)
        return state if params.score == "gradcam" else both.features(state, proxy)

    def _scores(self, tasks: Sequence[ImageTask], told: "Tensor | State") -> "list[Tensor]":
        """The scores float32 [T, h, w] of each image's tags. told: of these images."""
        import torch

        if not isinstance(told, torch.Tensor):
            return [self._by_gradient(told, i, task.categories) for i, task in enumerate(tasks)]
        tags, words = similarity_of(told, self.text, self.source)
        own = (torch.stack([tags[i, category] for category in task.categories]) for i, task in enumerate(tasks))
        return [self.score(one, words[i]) for i, one in enumerate(own)]

    def _by_gradient(self, state: "State", image: int, categories: tuple[int, ...]) -> "Tensor":
        import torch

        from wilss.models.encoders.clip.gradcam import gradcam

        classes, counts = len(self.source.classes), self.source.name_counts
        wanted = [*categories, *range(classes, len(counts))]
        by_word = torch.split(self.text, list(counts))
        text = torch.cat([by_word[word] for word in wanted])
        return gradcam(self.clip, state, image, text, [counts[word] for word in wanted], len(categories))

    def _where(self, loaded: Sequence[Loaded]) -> "Blocks":
        """The ViT's last blocks."""
        images = self._stack([one.vit for one in loaded])
        return self.vit.last_blocks(images, self.params.attention_blocks, self.source.parts)

    def _stack(self, images: "list[Tensor]") -> "Tensor":
        import torch

        return torch.stack(images).to(self.clip.device, non_blocking=True)
