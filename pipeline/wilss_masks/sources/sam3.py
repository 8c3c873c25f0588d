"""Masks by SAM 3, which is asked for each of an image's tags in words; nothing has to be trained or thresholded.

N. Carion et al., "SAM 3: Segment Anything with Concepts", 2025. An image is encoded once, a class's name once for all
images; what the network says of both is a score at every place, and the tags compete for it (`wilss.equations.sam3`).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from wilss.data.manifest import Manifest
from wilss.digests import digest_of_json, version_of
from wilss.models.proposers.folders import NetworkFolder, grid_of_masks, read_folder
from wilss.params import Rule, Share

from ..stages.params import StageParams, noted
from ..stages.regions import regions_identity
from .base import Grids
from .presets import params_of
from .prompts import prompt_names
from .sam3_proposer import Sam3Proposer

if TYPE_CHECKING:
    from wilss.models.proposers.words import WordFeatures, WordNetwork

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

    def open(self, device: str, threads: int) -> Sam3Proposer:
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
