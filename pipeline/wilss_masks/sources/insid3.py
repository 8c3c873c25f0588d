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

from wilss.data.images import to_pixels
from wilss.data.manifest import EncoderSpec, Manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND
from wilss.disk import Location
from wilss.errors import ManifestError
from wilss.models.networks.embedding_spec import FROZEN_SIZE, EmbeddingSpec
from wilss.params import LongerSide, Params, Rule, ShareBelowOne, ShorterSide

from .base import ImageTask
from .presets import params_of
from .prototypes import PatchEncoder, by_image
from .shots import ShotsSource, content_of, shots_of

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.store import ImageContent


@dataclass(frozen=True, kw_only=True)
class Insid3Params(Params):
    """Parameters of INSID3; the published values, where there are any.

    shots: supports of each class, drawn by name; 0 for all there are. supports: a YAML file or a folder with
        supports.yaml, in the place of the manifest's.
    encoder: whose frozen features are taken, the manifest's `vit` or the image tower of its `clip`, if that is a
        transformer [D]. features: what a patch is known by, its token after the last block or its keys there (`tokens`,
        `keys`). vit_size: shorter side of the input in pixels, 0 for the image's own. longest: as for FMWISS.
    debias: the basis of positions has this share of the features' directions; 0 leaves them in. 500 of 1,024 in the
        public code.
    groups: whose tokens are clustered: those of the `same` encoder, or of the manifest's `vit` at that size [D].
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

    @property
    def opens(self) -> tuple[str, ...]:
        """Which of the manifest's encoders look at images."""
        return tuple(dict.fromkeys((self.encoder, self.encoder if self.groups == "same" else self.groups)))

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
        defaults = Insid3Params(tags=manifest.supervision(step) != "shots")
        params = params_of(defaults, manifest, cls.name, values, where=where)
        spec = EmbeddingSpec(features=params.features, size=params.vit_size, longest=params.longest)
        encoder = manifest.encoders.clip if params.encoder == "clip" else manifest.encoders.vit
        return cls(
            params=params,
            encoder=PatchEncoder(vit=encoder, spec=spec),
            grouping=_grouping(manifest, params),
            **shots_of(manifest, step, params, seed),
        )

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """Those that are asked."""
        more = () if self.grouping is None else (("vit", self.grouping.vit),)
        return ((self.params.encoder, self.encoder.vit), *more)

    def identity(self) -> Mapping[str, Any]:
        """Parameters, the network's digest and that of what the supports say; not where they lie."""
        models: dict[str, Any] = {self.params.encoder: self.encoder.identity()["vit"]}
        if self.grouping is not None:
            models["vit"] = self.grouping.identity()["vit"]
        return self.identity_of(models, beside=("supports",))

    def with_features_from(self, paths: Sequence[Location]) -> "Insid3Source":
        """The same with stores in the place of images, for both networks."""
        grouping = None if self.grouping is None else self.grouping.with_features_from(paths)
        return dataclasses.replace(self, encoder=self.encoder.with_features_from(paths), grouping=grouping)

    def prepare(self, device: str) -> "Insid3Source":
        """Take the supports' patches; a source that is prepared already is returned as it is."""
        if self.supports is None:
            return self
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
            features = embedding.features(self.encoder.load(shots[0].record.path)[None].to(device))[0]
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

        torch.set_num_threads(threads)
        return Insid3Proposer(self.prepare(device), device)


def _grouping(manifest: Manifest, params: Insid3Params) -> PatchEncoder | None:
    """The encoder of the clusters' tokens, where it is another one."""
    if params.groups == "same":
        return None
    spec = EmbeddingSpec(features="tokens", size=params.vit_size, longest=params.longest)
    return PatchEncoder(vit=manifest.encoders.vit, spec=spec)


class Insid3Proposer:
    """`Insid3Source` with its encoder loaded on one device."""

    def __init__(self, source: Insid3Source, device: str) -> None:
        import torch

        self.source, self.device = source, device
        self.embedding = source.encoder.open(device)
        self.grouping = None if source.grouping is None else source.grouping.open(device)
        self.kept = source.encoder.patches(device)
        self.kept_groups = None if source.grouping is None else source.grouping.patches(device)
        self.basis, self.prototypes = (torch.from_numpy(one).to(device) for one in (source.basis, source.prototypes))
        self.shown = [
            (torch.from_numpy(one.features).to(device), torch.from_numpy(one.labels).to(device), one.classes)
            for one in source.shown
        ]

    def load(self, task: ImageTask) -> "tuple[Tensor, Tensor | None]":
        """The image as the encoders' inputs, uint8 [3, H, W] each, or kept features; None for one that is not asked."""
        path, more = task.record.path, self.source.grouping
        kept, groups = (None if one is None else one.read(task) for one in (self.kept, self.kept_groups))
        if groups is None and more is not None:
            groups = more.load(path)
        return self.source.encoder.load(path) if kept is None else kept, groups

    def propose(
        self, tasks: Sequence[ImageTask], loaded: "Sequence[tuple[Tensor, Tensor | None]]"
    ) -> "list[ImageContent]":
        """One forward pass for the batch, then each image by itself."""
        import torch

        from .features.patches import embedded

        with torch.inference_mode():
            features = embedded(self.embedding, [one for one, _ in loaded])
            plain = [self._plain(one, more) for one, (_, more) in zip(features, loaded, strict=True)]
            return [self._one(task, features[row], plain[row]) for row, task in enumerate(tasks)]

    def _plain(self, features: "Tensor", image: "Tensor | None") -> "Tensor":
        """What is clustered, at unit length, [D', L]: the encoder's features or another's, on the grid of the first."""
        import torch

        from wilss.equations.kernels import unit

        from .features.patches import embedded

        if self.grouping is not None and image is not None:
            others = embedded(self.grouping, [image])[0][None]
            features = torch.nn.functional.interpolate(others, features.shape[-2:], mode="bilinear")[0]
        return unit(features.flatten(1), dim=0)

    def _one(self, task: ImageTask, features: "Tensor", plain: "Tensor") -> "ImageContent":
        """features: [D, h, w]; plain: [D', L]. Patches are labelled, and labels upsampled, as in the paper."""
        import torch

        from wilss.equations import fmwiss, insid3
        from wilss.equations.kernels import first_greatest

        grid = features.shape[-2:]
        scores = self.scores(features, plain, task.categories)
        labels = insid3.patch_labels(scores, self.source.params.least)
        each = torch.nn.functional.one_hot(labels, 1 + len(scores)).T.reshape(-1, *grid).to(scores.dtype)
        written = first_greatest(to_pixels(each, task.height, task.width))
        masks = written == torch.arange(1, 1 + len(scores), device=written.device)[:, None, None]
        soft = scores.clamp(0, 1).reshape(-1, *grid)
        confidence = fmwiss.confidence(to_pixels(soft, task.height, task.width), masks)
        self.source.put_own(task, masks, confidence)
        return content_of(task.categories, masks, confidence, soft.half())

    def scores(self, features: "Tensor", plain: "Tensor", categories: Sequence[int]) -> "Tensor":
        """How much every patch's cluster belongs to each of these categories, [T, L].

        features: [D, h, w]; plain: [D', L], what is clustered.
        """
        import torch

        from wilss.equations import insid3

        params = self.source.params
        clean = insid3.debiased(features, self.basis).flatten(1)
        found = [insid3.nearest(clean, patches) for patches, _, _ in self.shown]
        cosines = torch.stack([one for one, _ in found])
        seen = torch.stack([labels[at] for (_, labels, _), (_, at) in zip(self.shown, found, strict=True)])
        numbers = insid3.clusters(plain, params.tau).to(plain.device)
        won = insid3.winners(cosines, seen) if params.rivals else None
        maps = []
        for position in categories:
            alike = self.prototypes[position] @ clean
            own = [row for row, (_, _, classes) in enumerate(self.shown) if position in classes]
            backward = seen[own] if won is None else won[None]
            candidates = insid3.candidates(insid3.similar(alike), backward == 1 + position)
            if params.is_there:
                found_in = insid3.cluster_scores(alike, candidates, plain, numbers)
            else:
                found_in = insid3.cluster_shares(alike, candidates, numbers)
            maps.append(found_in[numbers])
        return torch.stack(maps)
