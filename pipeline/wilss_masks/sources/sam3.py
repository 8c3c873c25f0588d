"""Masks by SAM 3, which is asked for each of an image's tags in words; nothing has to be trained or thresholded.

N. Carion et al., "SAM 3: Segment Anything with Concepts", 2025. An image is encoded once, a class's name once for all
images; what the network says of both is a score at every place, and the tags compete for it (`wilss.equations.sam3`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from wilss.data.images import read_image, to_pixels
from wilss.data.manifest import Manifest
from wilss.digests import digest_of_json, version_of
from wilss.errors import WeightsError
from wilss.models.proposers.folders import NetworkFolder, grid_of_masks, read_folder
from wilss.params import Rule, Share
from wilss.store import ImageContent, Status

from ..stages.chain import Staged, run_stages, stage_picture, stage_size
from ..stages.params import StageParams, noted
from ..stages.region_networks import batch_regions, open_region_network
from ..stages.regions import regions_identity, stage_regions
from .base import Grids, ImageTask
from .presets import params_of
from .prompts import prompt_names

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.proposers.words import WordFeatures, WordNetwork

#: Pixels of an image whose evidence is worked out together.
_PIXELS_AT_ONCE = 2**20
#: Parameters that every store notes; of all others, see `noted`. The folder's digest stands for the folder.
_ALWAYS_NOTED = ("names", "least", "threshold", "precision")


@dataclass(frozen=True, kw_only=True)
class Sam3Params(StageParams):
    """How SAM 3 is asked, and where its answers are cut.

    model: the folder of a SAM 3 as transformers saves it (config.json, model.safetensors, processor, tokenizer).
    names: the `first` of a class's prompt names, or `all` of them, of which the greatest score counts.
    least: the score below which one of its masks does not count. threshold: of the background's rule, see
        `wilss.equations.sam3.lead`.
    classes: `compete`, as in that rule, or `overlap`: each tag as if it were alone.
    precision: of the forward passes; `auto` is bf16 on CUDA and fp32 elsewhere.
    """

    places: ClassVar[tuple[str, ...]] = (*StageParams.places, "model")

    model: str = ""
    names: Literal["first", "all"] = "first"
    least: Share = 0.3
    threshold: Annotated[float, Rule("above 0 and at most 1", lambda value: 0 < value <= 1)] = 0.4
    classes: Literal["overlap", "compete"] = "compete"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def forward_precision(self) -> Literal["fp32", "bf16"] | None:
        """What the networks take: None stands for `auto`."""
        return None if self.precision == "auto" else self.precision


@dataclass(frozen=True, kw_only=True)
class Sam3Source:
    """Masks from image tags by SAM 3, from a local folder.

    classes: (name, words to ask) of the step's classes, in the order of the category axis.
    features: of all words, in their order; None until `prepare` has made them.
    """

    name: ClassVar[str] = "sam3"
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True
    seeds_kept: ClassVar[int] = 0
    encoders: ClassVar[tuple[()]] = ()

    params: Sam3Params
    folder: NetworkFolder
    classes: tuple[tuple[str, tuple[str, ...]], ...]
    features: "WordFeatures | None" = field(default=None, repr=False, compare=False)

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> Self:
        """The source for one step: the defaults, then the manifest's `masks.sam3`, then `values`; no seed is used.

        Raises what `read_folder` raises.
        """
        params = params_of(Sam3Params(), manifest, cls.name, values, where=where)
        return cls(
            params=params,
            folder=sam3_folder(params),
            classes=tuple(
                (manifest.taxonomy.name_of(identity), _words(manifest, identity, params.names))
                for identity in manifest.protocol.new(step)
            ),
        )

    @property
    def has_void(self) -> bool:
        """Whether pixels may become void."""
        return self.params.has_void

    def identity(self) -> Mapping[str, Any]:
        """Parameters, digests of the network and of what it is asked, and what runs it; not where it lies."""
        return {
            "parameters": noted(self.params, _ALWAYS_NOTED),
            "models": {"sam3": {"sha256": self.folder.sha256, "model_type": self.folder.model_type}},
            "prompts_sha256": digest_of_json(self.classes),
            **regions_identity(self.params),
            "networks_library": f"transformers {version_of('transformers')}",
        }

    def grids(self, height: int, width: int) -> Grids:
        """The grid of the network's masks, the same for images of all sizes."""
        return Grids(score=self.grid)

    def prepare(self, device: str) -> Self:
        """Encode the classes' names; a source that is prepared already is returned as it is."""
        if self.features is not None:
            return self
        return dataclasses.replace(self, features=self._network(device).words(self.words))

    def open(self, device: str, threads: int) -> "Sam3Proposer":
        """Load the network on `device`."""
        import torch

        torch.set_num_threads(threads)
        return Sam3Proposer(self, self._network(device))

    @property
    def words(self) -> tuple[str, ...]:
        """All that the network is asked for, class by class."""
        return tuple(word for _, words in self.classes for word in words)

    def places(self, category: int) -> range:
        """Which of all words are those of a class. category: its position on the category axis."""
        first = sum(len(words) for _, words in self.classes[:category])
        return range(first, first + len(self.classes[category][1]))

    def _network(self, device: str) -> "WordNetwork":
        from wilss.models.proposers.words import WordNetwork

        return WordNetwork(self.folder, device, self.params.forward_precision)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the network's masks."""
        return grid_of_masks(self.folder)


def sam3_folder(params: Sam3Params) -> NetworkFolder:
    """The folder that `model` names, looked at. Raises what `read_folder` raises."""
    return read_folder(params.model, "words", "model")


def _words(manifest: Manifest, identity: int, names: str) -> tuple[str, ...]:
    """What SAM 3 is asked for a class: the manifest's own prompts, else what the package knows of its name."""
    known = (
        manifest.prompts[identity]
        if identity in manifest.written_prompts
        else prompt_names(manifest.taxonomy.name_of(identity))
    )
    return tuple(known) if names == "all" else tuple(known[:1])


class Loaded(NamedTuple):
    """An image as the network's input, float32 [3, S, S], and as the stages see it, where they do."""

    values: "Tensor"
    picture: "Tensor | None"
    regions: "Tensor | None"


class Sam3Proposer:
    """`Sam3Source` with its network loaded on one device."""

    def __init__(self, source: Sam3Source, network: "WordNetwork") -> None:
        self.source, self.params, self.network = source, source.params, network
        self.words = source.features or network.words(source.words)
        self._regions = open_region_network(source.params, str(network.device), source.params.forward_precision)

    def load(self, task: ImageTask) -> Loaded:
        """The image in all sizes that are wanted; decoded once."""
        import torch

        image = torch.from_numpy(read_image(task.record.path)).permute(2, 0, 1)
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
    params: Sam3Params,
    picture: "Tensor | None" = None,
    regions: "Tensor | None" = None,
) -> Staged:
    """The masks of an image's tags. score: float16 [T, h, w] in [0, 1]; the others: see `run_stages`."""
    evidence = evidence_of(score, stage_size(height, width, params), params)
    if not params.needs_picture and not params.has_void:  # the same, without as many maps of the image's own size
        return Staged(masks=evidence >= 1)
    picture = None if picture is None else picture.to(score.device)
    return run_stages(evidence, picture, height, width, params, regions=regions)


def evidence_of(score: "Tensor", size: tuple[int, int], params: Sam3Params) -> "Tensor":
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
