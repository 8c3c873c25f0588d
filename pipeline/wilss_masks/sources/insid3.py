"""INSID3: what a few supports show is looked for among clusters of an image's frozen features; nothing is trained.

C. Cuttano et al., "INSID3: Training-Free In-Context Segmentation with DINOv3", CVPR 2026 (arXiv:2603.28480).

Supports are encoded once, in the coordinator; workers get their patches. The paper has one class and masks; several
classes may not overlap, and boxes and scribbles leave pixels of which nothing is said [D].
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.manifest import EncoderSpec, Manifest, require_manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND
from wilss.disk import Location
from wilss.errors import ManifestError
from wilss.models.networks.embedding_spec import FROZEN_SIZE, EmbeddingSpec
from wilss.models.networks.named_backbone import OF_BACKBONE, FrozenParams
from wilss.params import LongerSide, Rule, ShareBelowOne, ShorterSide, require

from .presets import params_of
from .prototypes import PatchEncoder, by_image
from .shots import ShotsSource, shots_of

if TYPE_CHECKING:
    from torch import Tensor

    from .insid3_proposer import Insid3Proposer


@dataclass(frozen=True, kw_only=True)
class Insid3Params(FrozenParams):
    """Parameters of INSID3; the published values, where there are any.

    shots: supports of each class, drawn by name; 0 for all there are. supports: a YAML file or a folder with
        supports.yaml, in the place of the manifest's.
    encoder: whose frozen features are taken, the manifest's `vit` or the image tower of its `clip`, if that is a
        transformer [D]. features: what a patch is known by, its token after the last block or its keys there (`tokens`,
        `keys`). backbone and what goes with it: see `FrozenParams`; its features in the place of an encoder's [D].
    vit_size: shorter side of the input in pixels, 0 for the image's own. longest: as for FMWISS.
    debias: the basis of positions has this share of the features' directions; 0 leaves them in. 500 of 1,024 in the
        public code.
    groups: what is clustered: the `same` features, or tokens of the manifest's `vit` at that size [D].
    tau: patches of a cluster are alike by this cosine on average. least: what a cluster's score must exceed.
    surest: the paper knows that the object is in the image, so that one cluster counts in full, and others by their
        likeness to it (`yes`); where it may not be there every cluster stands for itself (`no`). `auto` is yes where
        tags say what is there [D].
    rivals: a patch is a candidate of the class whose object its nearest patch in all supports is [D]; else of every
        class for half of whose shots it is, as in the paper.
    tags: an image's tags say which classes are looked for; without them all classes of the step are.
    keep_masks: an image that is a support by its whole mask keeps that mask [D].
    """

    shots: Annotated[int, Rule("0 (all there are) or more", lambda value: 0 <= value <= 100_000)] = 0
    supports: str = ""
    encoder: Literal["vit", "clip"] = "vit"
    features: Literal["tokens", "keys"] = "tokens"
    vit_size: ShorterSide = FROZEN_SIZE
    longest: LongerSide = 1024
    debias: ShareBelowOne = 0.49
    groups: Literal["same", "vit"] = "same"
    tau: Annotated[float, Rule("above -1 and below 1", lambda value: -1 < value < 1)] = 0.6
    least: ShareBelowOne = 0.2
    surest: Literal["auto", "yes", "no"] = "auto"
    rivals: bool = True
    tags: bool = True
    keep_masks: bool = True

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        for name, plain in (("encoder", "vit"), ("features", "tokens")):
            value = getattr(self, name)
            require(not self.backbone or value == plain, name, value, f"{plain!r}, its default, beside a backbone")

    @property
    def opens(self) -> tuple[str, ...]:
        """Which of the manifest's encoders look at images."""
        matched = () if self.backbone else (self.encoder,)
        return tuple(dict.fromkeys((*matched, *(() if self.groups == "same" else (self.groups,)))))

    @property
    def is_there(self) -> bool:
        """Whether what is looked for is taken to be in the image."""
        return self.tags if self.surest == "auto" else self.surest == "yes"


@dataclass(frozen=True, kw_only=True)
class SupportPatches:
    """The debiased patches of a support image of which something is known.

    features: float32 [D, M]. labels: int64 [M], 1 + the position of the class that a patch shows, 0 for the background.
    classes: positions of the classes whose supports lie in this image.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Insid3Source(ShotsSource):
    """Masks from a few supports of each class and clusters of patches.

    grouping: whose patches are clustered, None for those of `encoder`. prototypes: [C, D].
    basis: float32 [D, r], of positions; shown: patches by support image; None and () until `prepare` has made them.
    """

    name: ClassVar[str] = "insid3"

    params: Insid3Params
    grouping: PatchEncoder | None
    basis: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    shown: tuple[SupportPatches, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> "Insid3Source":
        """The source for one step: the paper's defaults, then the manifest's `masks.insid3`, then `values`.

        Where the manifest says that a step comes with shots, its images have no tags to go by. `seed` names the draw
        of the shots. Raises ManifestError or ImageError for supports that are missing or of no use.
        """
        require_manifest(manifest)
        defaults = Insid3Params(tags=manifest.supervision(step) != "shots")
        params = params_of(defaults, manifest, cls.name, values, where=where)
        spec = EmbeddingSpec(features=params.features, size=params.vit_size, longest=params.longest)
        encoder = manifest.encoders.clip if params.encoder == "clip" else manifest.encoders.vit
        backbone = params.named(manifest.path.parent)
        return cls(
            params=params,
            encoder=PatchEncoder(vit=encoder, spec=spec, backbone=backbone, maps=params.maps),
            grouping=_grouping(manifest, params),
            **shots_of(manifest, step, params, seed),
        )

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """Those that are asked."""
        more = () if self.grouping is None else (("vit", self.grouping.vit),)
        return (*(() if self.encoder.backbone else ((self.params.encoder, self.encoder.vit),)), *more)

    def identity(self) -> Mapping[str, Any]:
        """Parameters, the network's digest and that of what the supports say; not where they lie."""
        own = self.encoder.identity()
        models: dict[str, Any] = dict(own) if self.encoder.backbone else {self.params.encoder: own["vit"]}
        if self.grouping is not None:
            models["vit"] = self.grouping.identity()["vit"]
        beside = ("supports", *OF_BACKBONE, *(("encoder", "features") if self.encoder.backbone else ()))
        return self.identity_of(models, beside=beside)

    def with_features_from(self, paths: Sequence[Location]) -> "Insid3Source":
        """The same with stores in the place of images, for both networks."""
        grouping = None if self.grouping is None else self.grouping.with_features_from(paths)
        return dataclasses.replace(self, encoder=self.encoder.with_features_from(paths), grouping=grouping)

    def prepare(self, device: str) -> "Insid3Source":
        """Take the supports' patches; a source that is prepared already is returned as it is."""
        if self.supports is None:
            return self
        self.encoder.warn()
        import torch

        from wilss.models.networks.debiasing import positional_basis_of

        embedding = self.encoder.open(device)
        with torch.inference_mode():
            basis = positional_basis_of(embedding, self.params.debias)
            shown = tuple(self._shown(embedding, basis, device))
        prototypes = self._prototypes(shown)
        return dataclasses.replace(
            self, basis=basis.cpu().numpy(), prototypes=prototypes, shown=shown, supports=None, own=self.kept()
        )

    def _shown(self, embedding: Any, basis: "Tensor", device: str) -> "list[SupportPatches]":
        """Of every support image. One at a time, since the shape of a batch shows in the last bits of its features."""
        import torch

        from wilss.equations import insid3

        assert self.supports is not None
        found = []
        for shots in by_image(self.supports.supports):
            features = embedding.features(self.encoder.load(shots[0].record)[None].to(device))[0]
            grid = (features.shape[1], features.shape[2])
            labels = torch.full(grid, -1)
            maps = [torch.from_numpy(shot.map) for shot in shots]
            objects = torch.stack([one == FOREGROUND for one in maps]).any(dim=0)
            outside = torch.stack([one == BACKGROUND for one in maps]).any(dim=0) & ~objects
            labels[insid3.foreground_patches(outside, outside | objects, grid)] = 0
            positions = [self.category_ids.index(shot.spec.class_id) for shot in shots]
            for position, one in zip(positions, maps, strict=True):
                inside = one == FOREGROUND
                labels[insid3.foreground_patches(inside, inside | outside | objects, grid)] = 1 + position
            known = (labels >= 0).flatten()
            patches = insid3.debiased(features, basis).flatten(1).cpu()[:, known]
            found.append(
                SupportPatches(
                    features=patches.numpy(), labels=labels.flatten()[known].numpy(), classes=tuple(positions)
                )
            )
        return found

    def _prototypes(self, shown: Sequence[SupportPatches]) -> NDArray[np.float32]:
        """[C, D]. Raises ManifestError for a class whose supports have no patch."""
        import torch

        from wilss.equations import insid3

        rows = []
        for position, identity in enumerate(self.category_ids):
            own = [one for one in shown if position in one.classes]
            inside = [torch.from_numpy(one.labels == 1 + position) for one in own]
            if not any(bool(one.any()) for one in inside):
                name = self.supports.classes[identity] if self.supports else str(identity)
                raise ManifestError(
                    f"no support of the class {name!r} covers a patch of its image; annotate a larger object."
                )
            rows.append(insid3.prototype_of([torch.from_numpy(one.features) for one in own], inside))
        return np.asarray(torch.stack(rows).numpy())

    def open(self, device: str, threads: int) -> "Insid3Proposer":
        """Load the encoder on `device`."""
        import torch

        from .insid3_proposer import Insid3Proposer

        torch.set_num_threads(threads)
        return Insid3Proposer(self.prepare(device), device)


def _grouping(manifest: Manifest, params: Insid3Params) -> PatchEncoder | None:
    """The encoder of the clusters' tokens, where it is another one."""
    if params.groups == "same":
        return None
    spec = EmbeddingSpec(features="tokens", size=params.vit_size, longest=params.longest)
    return PatchEncoder(vit=manifest.encoders.vit, spec=spec)
