"""FMWISS Sec. 3.2: CLIP says what, a self-supervised ViT says where, their union is the mask."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import patch_grid_size
from wilss.data.manifest import EncoderSpec, Manifest
from wilss.digests import digest_of_json
from wilss.disk import Location
from wilss.errors import ParameterError

from ..stages.params import noted
from ..stages.regions import regions_identity
from .base import Grids
from .features.identity import identity_of_features, require_keepable
from .features.kept_in import KeptIn, kept_in
from .fmwiss_params import ALWAYS_NOTED, FmwissParams, confidence_noted
from .presets import params_of
from .prompts import background_words, prompt_names, templates

if TYPE_CHECKING:
    from wilss.models.encoders.clip.configs import DenseForm
    from wilss.models.encoders.clip.encoder import DenseClip
    from wilss.models.encoders.vit.attention import Part

    from .fmwiss_proposer import FmwissProposer


@dataclass(frozen=True, kw_only=True)
class FmwissSource:
    """Masks from image tags by frozen foundation models.

    classes: (name, prompt names) of the step's classes, in the order of the category axis.
    text: unit text features float32 [M, D] of the classes, as many each as `name_counts` says, and the background
        words; None until `prepare` has made them.
    keeps_in: the store that features are kept in, beside the masks, with the bases in it. keeps_parts: of the ViT's
        last block, for others. features_from: stores whose features stand for the images that they are of.
    """

    name: ClassVar[str] = "fmwiss"
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True

    params: FmwissParams
    clip: EncoderSpec
    vit: EncoderSpec
    classes: tuple[tuple[str, tuple[str, ...]], ...]
    background_words: tuple[str, ...]
    seed: int
    text: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    keeps_in: Location | None = None
    keeps_parts: "tuple[Part, ...]" = ()
    features_from: tuple[KeptIn, ...] = ()

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> "FmwissSource":
        """The source for one step: the paper's defaults, then the manifest's `masks.fmwiss`, then `values`."""
        params = params_of(FmwissParams(), manifest, cls.name, values, where=where)
        protocol = manifest.protocol
        classes = tuple((manifest.taxonomy.name_of(i), _prompts(manifest, i)) for i in protocol.new(step))
        words = background_words([names for _, names in classes], manifest.background_prompts, params.words)
        if params.score == "gradcam" and not words:
            raise ParameterError(
                f"{where}: score: gradcam needs background words, against which a tag is likely; write some as "
                "`background_prompts`, or words: package."
            )
        if params.clip_attention and manifest.encoders.is_one:
            raise ParameterError(
                f"{where}: clip_attention: clip and vit are one network here, which says where already; leave it out, "
                "or name another `encoders.vit`."
            )
        return cls(
            params=params,
            clip=manifest.encoders.clip,
            vit=manifest.encoders.vit,
            classes=classes,
            background_words=words,
            seed=seed,
        )

    @property
    def has_void(self) -> bool:
        """Where pixels may be too unsure for a label."""
        return self.params.has_void

    @property
    def seeds_kept(self) -> int:
        """The seeds of all draws; none where all patches are seeds."""
        return self.params.seeds * self.params.draws if self.params.placing == "drawn" else 0

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """Both."""
        return ("clip", self.clip), ("vit", self.vit)

    def identity(self) -> Mapping[str, Any]:
        """Parameters, seed, digests of both models and of the prompts."""
        from wilss.models.encoders.clip.tokenizers import text_identity
        from wilss.models.encoders.identity import identity_of

        prompts = [self.classes, self.background_words, self.params.templates]
        parameters = noted(self.params, ALWAYS_NOTED) | {"form": self.form}
        return {
            "parameters": parameters,
            "seed": self.seed,
            "models": {
                "clip": identity_of(self.clip) | text_identity(self.clip),
                "vit": identity_of(self.vit, tokens="tokens" in self.parts),
            },
            "prompts_sha256": digest_of_json(prompts),
            **regions_identity(self.params, has_patches=True),
            **confidence_noted(self.params),
            **({"features_from": [one.digest for one in self.features_from]} if self.features_from else {}),
        }

    def with_features_from(self, paths: "Sequence[Location]") -> "FmwissSource":
        """The source, with the features of these stores for their images. Raises what `kept_in` raises."""
        found = kept_in(paths, self.features_identity(), self.identity()["models"])
        return dataclasses.replace(self, features_from=found)

    def features_identity(self) -> Mapping[str, Any]:
        """By encoder all that decides its features. Raises ParameterError where none could give these masks."""
        require_keepable(self)
        return identity_of_features(self)

    @cached_property
    def form(self) -> "DenseForm":
        """CLIP's dense path. Raises EncoderError for one that its image tower does not have."""
        from wilss.models.encoders.clip.configs import form_of

        return form_of(self.clip, self.params.form)

    @property
    def name_counts(self) -> tuple[int, ...]:
        """How many text features each class and each background word has."""
        greatest = self.params.synonyms == "greatest"
        classes = (len(names) if greatest else 1 for _, names in self.classes)
        return *classes, *(1 for _ in self.background_words)

    @property
    def parts(self) -> "tuple[Part, ...]":
        """What is asked of the ViT's blocks beside queries and keys."""
        by_affinity: dict[str, tuple[Part, ...]] = {"vv": ("values",), "outputs": ("outputs",)}
        needed = by_affinity.get(self.params.affinity, ()) + (("tokens",) if self.form == "proxy" else ())
        return *needed, *(part for part in self.keeps_parts if part not in needed)

    def grids(self, height: int, width: int) -> Grids:
        """Patch grids of CLIP's and the ViT's inputs for an image of this size."""
        score, attention = (
            (rows // patch, columns // patch)
            for (rows, columns), patch in (
                (self.clip_input(height, width), self._patches[0]),
                (self.vit_input(height, width), self._patches[1]),
            )
        )
        return Grids(score=score, attention=attention)

    def clip_input(self, height: int, width: int) -> tuple[int, int]:
        """Input size (H, W) of CLIP for an image of this size, a multiple of its patch."""
        return self._input(height, width, self.params.clip_size, self._patches[0])

    def vit_input(self, height: int, width: int) -> tuple[int, int]:
        """Input size (H, W) of the ViT for an image of this size, a multiple of its patch."""
        return self._input(height, width, self.params.vit_size, self._patches[1])

    def prepare(self, device: str) -> "FmwissSource":
        """Encode the prompts, or find them in the cache; a source that is prepared already is returned as it is."""
        if self.text is not None:
            return self
        from wilss.models.encoders.clip.text import cached_text_features

        names = [prompts for _, prompts in self.classes]
        if self.params.synonyms == "greatest":
            names = [(name,) for prompts in names for name in prompts]
        groups = [*names, *((word,) for word in self.background_words)]
        text = cached_text_features(self.open_clip(device), groups, templates(self.params.templates))
        return dataclasses.replace(self, text=text.numpy())

    def open_clip(self, device: str) -> "DenseClip":
        """CLIP alone, loaded on `device`."""
        from wilss.models.encoders.clip.opening import open_what

        return open_what(self.clip, device, form=self.form, precision=self.params.forward_precision)

    def open(self, device: str, threads: int) -> "FmwissProposer":
        """Load both encoders on `device`, or the one that is both; with kept features, only for images without any."""
        if self.features_from:
            from .features.proposer import KeptProposer

            # It proposes as one does; what else is asked of networks, it loads them for.
            return cast("FmwissProposer", KeptProposer(self, device, threads))
        return self.open_networks(device, threads)

    def open_networks(self, device: str, threads: int) -> "FmwissProposer":
        """The same for images without kept features."""
        import torch

        from wilss.models.encoders.both import open_both
        from wilss.models.encoders.vit.encoder import open_vit

        from .fmwiss_proposer import FmwissProposer

        torch.set_num_threads(threads)
        source, precision = self if self.text is not None else self.prepare(device), self.params.forward_precision
        if self.is_one:
            both = open_both(self.clip, device, form=self.form, precision=precision)
            return FmwissProposer(source, both.clip, both.vit, both)
        vit = open_vit(self.vit, device, precision=precision)
        if self.params.clip_attention:
            both = open_both(self.clip, device, form=self.form, precision=precision)
            return FmwissProposer(source, both.clip, vit, both)
        return FmwissProposer(source, self.open_clip(device), vit)

    @property
    def is_one(self) -> bool:
        """Whether one network is both encoders."""
        return self.vit.is_the_network_of(self.clip)

    @property
    def encoding(self) -> str:
        """Which networks encode an image, and how often, in words."""
        if not self.is_one:
            return f"clip {self.clip.title}, vit {self.vit.title}"
        sizes = self.params.clip_size, self.params.vit_size
        often = "once" if sizes[0] == sizes[1] else f"twice, since clip_size is {sizes[0]} and vit_size {sizes[1]}"
        return f"{self.clip.title} for both jobs; it encodes each image {often}"

    def _input(self, height: int, width: int, shorter: int, patch: int) -> tuple[int, int]:
        return patch_grid_size(height, width, shorter=shorter or None, longest=self.params.longest, patch=patch)

    @cached_property
    def _patches(self) -> tuple[int, int]:
        from wilss.models.encoders.clip.configs import form_of, require_last_block
        from wilss.models.encoders.multiples import input_multiple

        form_of(self.clip, self.params.form)  # refused with the plan
        if self.params.score == "gradcam":
            require_last_block(self.clip)
        if self.params.attention_blocks > 1:
            from wilss.models.encoders.vit.encoder import require_blocks

            for spec in (self.vit, self.clip) if self.params.clip_attention else (self.vit,):
                require_blocks(spec, self.params.attention_blocks)
        return input_multiple(self.clip), input_multiple(self.vit)


def _prompts(manifest: Manifest, identity: int) -> tuple[str, ...]:
    """The prompt names of a class: the manifest's own, else what the package knows of its name."""
    if identity in manifest.written_prompts:
        return manifest.prompts[identity]
    return prompt_names(manifest.taxonomy.name_of(identity))
