"""What SAM 3 makes of an image: a score of each tag at every place, and the masks that follow from them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wilss.data.images import read_image, to_pixels
from wilss.errors import WeightsError
from wilss.store import ImageContent, Status

from ..stages.chain import Staged, run_stages, stage_picture, stage_size
from ..stages.regions import batch_regions, open_region_network, stage_regions
from .base import ImageTask

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.proposers.words import WordNetwork

    from .sam3 import Sam3Params, Sam3Source

#: Pixels of an image whose evidence is worked out together.
_PIXELS_AT_ONCE = 2**20


class Loaded(NamedTuple):
    """An image as the network's input, float32 [3, S, S], and as the stages see it, where they do."""

    values: "Tensor"
    picture: "Tensor | None"
    regions: "Tensor | None"


class Sam3Proposer:
    """`Sam3Source` with its network loaded on one device."""

    def __init__(self, source: "Sam3Source", network: "WordNetwork") -> None:
        self.source, self.params, self.network = source, source.params, network
        self.words = source.features or network.words(source.words)
        self._regions = open_region_network(source.params, str(network.device), source.params.forward_precision)

    def load(self, task: ImageTask) -> Loaded:
        """The image in all sizes that are wanted; decoded once."""
        import torch

        image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
        picture = stage_picture(image, self.params)
        regions = stage_regions(task.record, task.height, task.width, picture, self.params)
        return Loaded(self.network.inputs([image])[0], picture, regions)

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Loaded]) -> list[ImageContent]:
        """One pass of the image tower for the batch, one of the decoder for each pair of image and word."""
        import torch

        with self.network.asking():
            encoded = self.network.encoded(torch.stack([one.values for one in loaded]))
            scores = self._scores(tasks, encoded)
        regions = batch_regions(self._regions, [one.picture for one in loaded], [one.regions for one in loaded])
        with torch.inference_mode():
            return [
                self._one(task, score, one.picture, known)
                for task, score, one, known in zip(tasks, scores, loaded, regions, strict=True)
            ]

    def _scores(self, tasks: Sequence[ImageTask], encoded: Any) -> "list[Tensor]":
        """For each image the scores float16 [T, h, w] of its tags, each the greatest of its words."""
        import torch

        from wilss.equations.sam3 import tag_score

        asked = [
            (row, place, word)
            for row, task in enumerate(tasks)
            for place, category in enumerate(task.categories)
            for word in self.source.places(category)
        ]
        grid, device = self.source.grid, self.network.device
        found = [torch.zeros(len(task.categories), *grid, device=device) for task in tasks]
        answers = self.network.answers(encoded, self.words, [(row, word) for row, _, word in asked])
        for (row, place, _), answer in zip(asked, answers, strict=True):
            score = tag_score(answer.masks, answer.scores, answer.semantic, self.params.least)
            self._require_grid(score)
            found[row][place] = torch.maximum(found[row][place], score)
        return [scores.half() for scores in found]

    def _require_grid(self, score: "Tensor") -> None:
        if tuple(score.shape) != self.source.grid:
            raise WeightsError(
                f"{self.source.folder.path}: its network makes masks of {score.shape[1]} x {score.shape[0]}, which its "
                "config.json does not say; copy the whole folder again."
            )

    def _one(
        self, task: ImageTask, score: "Tensor", picture: "Tensor | None", regions: "Tensor | None"
    ) -> ImageContent:
        """score: float16 [T, h, w], as it is kept."""
        from wilss.equations import fmwiss

        staged = staged_of(score, task.height, task.width, self.params, picture, regions)
        masks = staged.masks
        size = task.height, task.width
        confidence = [
            float(fmwiss.confidence(to_pixels(one.float(), *size), mask))
            for one, mask in zip(score, masks, strict=True)
        ]
        planes = {"mask": masks.cpu().numpy(), "score": score.cpu().numpy()}
        void = {} if staged.void is None else {"void": {0: staged.void.cpu().numpy()}}
        return ImageContent(
            status=Status.DONE,
            planes={**{name: dict(zip(task.categories, stack, strict=True)) for name, stack in planes.items()}, **void},
            confidence=dict(zip(task.categories, confidence, strict=True)),
            area=dict(zip(task.categories, masks.sum(dim=(-2, -1)).tolist(), strict=True)),
        )


def staged_of(
    score: "Tensor",
    height: int,
    width: int,
    params: "Sam3Params",
    picture: "Tensor | None" = None,
    regions: "Tensor | None" = None,
) -> Staged:
    """The masks of an image's tags. score: float16 [T, h, w] in [0, 1]; the others: see `run_stages`."""
    evidence = evidence_of(score, stage_size(height, width, params), params)
    if not params.needs_picture and not params.has_void:  # the same, without as many maps of the image's own size
        return Staged(masks=evidence >= 1)
    picture = None if picture is None else picture.to(score.device)
    return run_stages(evidence, picture, height, width, params, regions=regions)


def evidence_of(score: "Tensor", size: tuple[int, int], params: "Sam3Params") -> "Tensor":
    """How strongly pixels belong to each tag, float32 [T, *size], 1 where a mask is cut; see `staged_of`."""
    from wilss.equations.sam3 import lead

    pixels = to_pixels(score.float(), *size)
    groups = [pixels] if params.classes == "compete" else list(pixels[:, None])
    for group in groups:
        for rows in _bands(size):
            group[:, rows] = lead(group[:, rows], params.threshold)
    return pixels


def _bands(size: tuple[int, int]) -> list[slice]:
    """Bands of rows that cover an image of this size."""
    step = max(_PIXELS_AT_ONCE // size[1], 1)
    return [slice(start, start + step) for start in range(0, size[0], step)]
