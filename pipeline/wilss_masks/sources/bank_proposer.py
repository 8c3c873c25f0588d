"""What a second pass makes of an image: the vote of the bank beside its first masks, spread, and the shared stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image, to_pixels
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.errors import ImageError
from wilss.store import ImageContent, LabelMaps, Status

from ..stages.chain import run_stages, stage_picture, stage_size
from ..stages.regions import batch_regions, open_region_network, stage_regions
from .bank_features import Inputs
from .bank_file import Bank
from .bank_params import BankParams
from .base import ImageTask

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.equations.affinity import Kind
    from wilss.models.encoders.vit.encoder import LastBlock

    from .bank import BankSource


class Loaded(NamedTuple):
    """An image as the networks and the stages see it, and its first masks as labels uint8 [H, W] of taxonomy ids."""

    inputs: Inputs
    picture: "Tensor | None"
    regions: "Tensor | None"
    labels: NDArray[np.uint8]


class BankProposer:
    """`BankSource` with its networks and its bank loaded on one device."""

    def __init__(self, source: "BankSource", bank: Bank, device: str) -> None:
        self.source, self.params, self.bank, self.device = source, source.params, bank, device
        self.networks = source.networks.open(device)
        self._regions = open_region_network(source.params, device, source.params.forward_precision)
        self.store = source.first.open()
        self.maps, self.status = LabelMaps(self.store), self.store.current_status()

    def load(self, task: ImageTask) -> Loaded:
        """The image in all sizes that are wanted, and its first masks. Raises ImageError where there are none."""
        import torch

        row, store = self.store.position(task.record.image_id), self.store
        if self.status[row] != Status.DONE:
            why = store.vector("error")[row] or f"its status is {Status(int(self.status[row])).name.lower()}"
            raise ImageError(f"{store.path} has no masks of {task.record.path}: {why}")
        kept, image, picture = self.networks.kept(task), None, None
        if kept is None or self.params.needs_picture:
            image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
            picture = stage_picture(image, self.params)
        regions = stage_regions(task.record, task.height, task.width, picture, self.params)
        inputs = Inputs(kept=kept) if kept is not None or image is None else self.source.networks.inputs(image)
        return Loaded(inputs, picture, regions, self.maps(row))

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Loaded]) -> list[ImageContent]:
        """A forward pass for the batch, then each image by itself."""
        import torch

        regions = batch_regions(self._regions, [one.picture for one in loaded], [one.regions for one in loaded])
        loaded = [one._replace(regions=known) for one, known in zip(loaded, regions, strict=True)]
        with torch.inference_mode():
            told = self.networks.features_and_blocks([one.inputs for one in loaded])
            return [self._one(task, *told[i], loaded[i]) for i, task in enumerate(tasks)]

    def _one(
        self, task: ImageTask, features: "Tensor", block: "LastBlock | None", place: int, loaded: Loaded
    ) -> ImageContent:
        import torch

        first = self._first(task, loaded.labels)
        voted = self._voted(task, features)
        if voted is None:
            return self._as_before(task, loaded.labels, first)
        score = self._mixed(first, voted, block, place)[1:].half()
        strength = to_pixels(strength_of(score), *stage_size(task.height, task.width, self.params))
        picture = None if loaded.picture is None else loaded.picture.to(self.device)
        staged = run_stages(strength, picture, task.height, task.width, self.params, regions=loaded.regions)
        nowhere = torch.zeros(task.height, task.width, dtype=torch.bool) if self.source.has_void else None
        return _content(task, staged.masks, score, nowhere if staged.void is None else staged.void)

    def _ids(self, task: ImageTask) -> list[int]:
        """The taxonomy ids of the K labels of an image."""
        return [BACKGROUND, *(self.source.category_ids[position] for position in task.categories)]

    def _first(self, task: ImageTask, labels: NDArray[np.uint8]) -> "Tensor":
        """How much of every patch the first masks say to be each label, float32 [K, h, w]; what is void is in none."""
        import torch

        from wilss.equations.bank import shares

        known, grid = torch.from_numpy(labels).to(self.device), self.source.networks.grid(task.height, task.width)
        return torch.stack([shares(known == identity, grid) for identity in self._ids(task)])

    def _voted(self, task: ImageTask, features: "Tensor") -> "Tensor | None":
        """What the bank says of every patch, float32 [K, h, w]; None where a label has no features of other images.

        Tags are the prior: classes that the image is not tagged with have no vote.
        """
        from wilss.equations import bank as equations

        labels = [0, *(1 + position for position in task.categories)]
        others = self.bank.without(self.store.position(task.record.image_id), labels)
        if not all(map(len, others)):
            return None
        patches = equations.directions(features.flatten(1).T, self.bank.mean)
        vote = equations.vote_of_each if self.params.vote == "each" else equations.vote_of_nearest
        voted = vote(patches, others, self.params.neighbours, self.params.temperature)
        return voted.reshape(-1, *features.shape[-2:])

    def _mixed(self, first: "Tensor", voted: "Tensor", block: "LastBlock | None", place: int) -> "Tensor":
        """Vote and first masks together, float32 [K, h, w], spread over the patches that belong together."""
        from wilss.equations.bank import smoothed

        there = first * self.params.first
        mixed = (1 - there.sum(dim=0)) * to_pixels(voted, *first.shape[-2:]) + there
        if block is None:
            return mixed
        return smoothed(mixed.flatten(1), _spread(block, place, self.params)).reshape(mixed.shape)

    def _as_before(self, task: ImageTask, labels: NDArray[np.uint8], first: "Tensor") -> ImageContent:
        """The first masks as they are, on an image with a tag on which no other image can vote."""
        import torch

        known = torch.from_numpy(labels)
        masks = torch.stack([known == identity for identity in self._ids(task)[1:]])
        return _content(task, masks, first[1:].half().cpu(), known == VOID if self.source.has_void else None)


def strength_of(score: "Tensor") -> "Tensor":
    """The evidence float32 [T, h, w] of probabilities [T, h, w], of which the background has the rest: 1 is the cut."""
    import torch

    from wilss.equations.competition import against_background

    background = (1 - score.float().sum(dim=0, keepdim=True)).clamp_min(0)
    return 2 * against_background(torch.cat([background, score.float()]))


def _spread(block: "LastBlock", place: int, params: BankParams) -> Any:
    """What smooths: products with the affinity of one image's patches."""
    from wilss.equations.affinity import Patches, affinity_of

    patches = Patches(queries=block.queries[place], keys=block.keys[place], prefix=block.prefix)
    kind: Kind = "kk" if params.spread == "kk" else "qk"
    return affinity_of([patches], kind, negatives="cut", sharpness=params.sharpness).spread


def _content(task: ImageTask, masks: "Tensor", score: "Tensor", void: "Tensor | None") -> ImageContent:
    """What the store takes.

    masks: bool [T, H, W]; score: float16 [T, h, w], how probable each tag is; void: bool [H, W].
    """
    from wilss.equations import fmwiss

    confidence = fmwiss.confidence(to_pixels(score.float(), task.height, task.width), masks).tolist()
    area = masks.sum(dim=(-2, -1)).tolist()
    planes = {"mask": masks.cpu().numpy(), "score": score.cpu().numpy()}
    return ImageContent(
        status=Status.DONE,
        planes={
            **{name: dict(zip(task.categories, stack, strict=True)) for name, stack in planes.items()},
            **({} if void is None else {"void": {0: void.cpu().numpy()}}),
        },
        confidence=dict(zip(task.categories, confidence, strict=True)),
        area=dict(zip(task.categories, area, strict=True)),
    )
