"""PANet Sec. 3: a prototype of each class from a few supports, and the nearest prototype for every pixel.

K. Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment", ICCV 2019.

The features are those of a frozen vision transformer or backbone, which needs no training, or of an embedding trained
by `wilss-train --method panet`. A support's image is encoded once, in the coordinator; workers get the prototypes.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import to_pixels
from wilss.data.manifest import EncoderSpec, Manifest
from wilss.data.supports.maps import FOREGROUND, UNKNOWN, SupportMap
from wilss.data.supports.reading import SupportSet, read_supports
from wilss.errors import ParameterError
from wilss.models.networks.checkpoint import read_info, spec_of
from wilss.models.networks.embedding_spec import FROZEN_SIZE, EmbeddingSpec
from wilss.models.networks.named_backbone import OF_BACKBONE, FrozenParams, NamedBackbone
from wilss.params import FiniteFloat, LongerSide, Rule, ShareBelowOne, ShorterSide, require
from wilss.store import ImageContent, Status

from .base import Grids, ImageTask
from .presets import params_of
from .prototypes import PatchEncoder, prototypes_of

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PanetParams(FrozenParams):
    """Parameters of PANet's masks from a few supports (Sec. 3).

    shots: supports of each class, drawn by name; 0 for all there are. alpha: what multiplies the cosines before the
        softmax, 20 in the paper. bias: what is added to the background's score, 0 in the paper; few shots want another
        one, which `wilss-eval --bias fit` finds [D].
    debias: frozen features lose this share of their directions, those in which a blank picture's patches differ
        (INSID3); 0 in the paper. An embedding's checkpoint takes none [D].
    supports: a YAML file or a folder with supports.yaml, in the place of the manifest's. embedding: a checkpoint of a
        trained embedding, in the place of the frozen ViT.
    backbone and what goes with it: see `FrozenParams`; its features in the place of the frozen ViT.
    features: what a patch of the frozen ViT is known by, its token after the last block (`tokens`) or its keys there.
    vit_size: shorter side of either network's input in pixels, 0 for the image's own size. longest: as for FMWISS.
    tags: an image's tags say which classes may win on it; without them all classes of the step compete.
    keep_masks: an image that is a support by its whole mask keeps that mask, instead of being guessed at [D].

    An embedding's checkpoint says itself on which features and at which size it is to be used.
    """

    shots: Annotated[int, Rule("0 (all there are) or more", lambda value: 0 <= value <= 100_000)] = 0
    alpha: Annotated[float, Rule("above 0", lambda value: 0 < value <= 10_000)] = 20.0
    bias: FiniteFloat = 0.0
    debias: ShareBelowOne = 0.0
    supports: str = ""
    embedding: str = ""
    features: Literal["tokens", "keys"] = "tokens"
    vit_size: ShorterSide = FROZEN_SIZE
    longest: LongerSide = 1024
    tags: bool = True
    keep_masks: bool = True

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        require(not (self.backbone and self.embedding), "backbone", self.backbone, "left out beside an embedding")

    @property
    def opens(self) -> tuple[str, ...]:
        """Which of the manifest's encoders looks at images; an embedding may be on its features, too."""
        return () if self.backbone else ("vit",)


@dataclass(frozen=True, kw_only=True)
class PanetSource:
    """Masks from a few supports of each class.

    encoder: whose patch features are compared. category_ids: taxonomy ids, in the order of the category axis.
    supports: those of the chosen shots; None once `prepare` has made their prototypes. supports_sha256: of all that
        they say.
    prototypes: float32 [1 + C, D], the background's first; None until `prepare` has made them.
    own: support maps [H, W] of whole masks that images keep, by image and taxonomy id; made with the prototypes.
    own_masks: the ids of these images.
    """

    name: ClassVar[str] = "panet"
    has_void: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    seeds_kept: ClassVar[int] = 0

    params: PanetParams
    encoder: PatchEncoder
    category_ids: tuple[int, ...]
    supports_sha256: str
    own_masks: tuple[str, ...] = ()
    supports: SupportSet | None = field(default=None, repr=False, compare=False)
    prototypes: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    own: Mapping[str, Mapping[int, SupportMap]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> "PanetSource":
        """The source for one step: the paper's defaults, then the manifest's `masks.panet`, then `values`.

        Where the manifest says that a step comes with shots, its images have no tags to go by. `seed` names the draw
        of the shots. Raises ManifestError or ImageError for supports that are missing or of no use.
        """
        defaults = PanetParams(tags=manifest.supervision(step) != "shots")
        params = params_of(defaults, manifest, cls.name, values, where=where)
        supports = read_supports(manifest, step, params.supports or None).shots(params.shots, seed)
        return cls(
            params=params,
            encoder=_encoder_of(manifest, params),
            category_ids=tuple(manifest.protocol.new(step)),
            supports_sha256=supports.digest,
            own_masks=tuple(sorted(whole_masks(supports))) if params.keep_masks else (),
            supports=supports,
        )

    @property
    def uses_tags(self) -> bool:
        """As the parameter says."""
        return self.params.tags

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """The frozen ViT, or none where an embedding has a network of its own or a backbone is named."""
        on_vit = self.encoder.spec.is_on_frozen_features and self.encoder.backbone is None
        return (("vit", self.encoder.vit),) if on_vit else ()

    def to_fetch(self) -> tuple[str, ...]:
        """What of the backbone will be fetched. Raises WeightsError where it is not there."""
        return () if self.encoder.backbone is None else self.encoder.backbone.to_fetch()

    def identity(self) -> Mapping[str, Any]:
        """Parameters, digests of the network and of what the supports say; not where either of them lies."""
        beside = ("supports", "embedding", *OF_BACKBONE, *(("features",) if self.encoder.backbone else ()))
        parameters = {name: value for name, value in dataclasses.asdict(self.params).items() if name not in beside}
        return {
            "parameters": parameters,
            "models": self.encoder.identity(),
            "supports_sha256": self.supports_sha256,
            "own_masks": list(self.own_masks),
        }

    def grids(self, height: int, width: int) -> Grids:
        """The grid of the encoder's features for an image of this size."""
        return Grids(score=self.encoder.grid(height, width))

    def prepare(self, device: str) -> "PanetSource":
        """Make the prototypes; a source that is prepared already is returned as it is."""
        if self.prototypes is not None:
            return self
        if self.encoder.backbone is not None:
            _warn_of(self.encoder.backbone)
        assert self.supports is not None
        found = prototypes_of(self.supports.supports, self.category_ids, self.encoder, device)
        own = whole_masks(self.supports) if self.params.keep_masks else {}
        return dataclasses.replace(self, prototypes=found, supports=None, own=own)

    def open(self, device: str, threads: int) -> "PanetProposer":
        """Load the encoder on `device`."""
        import torch

        torch.set_num_threads(threads)
        return PanetProposer(self.prepare(device), device)


def _warn_of(backbone: NamedBackbone) -> None:
    """Say what speaks against a backbone's features."""
    if not backbone.weights:
        log.warning(
            "Warning: the backbone %s has random weights, whose features tell classes apart hardly at all; name some "
            "with --set weights=timm, or a file.",
            backbone.name,
        )
    if doubt := backbone.statistics[2]:
        log.warning("Warning: %s", doubt)


def _encoder_of(manifest: Manifest, params: PanetParams) -> PatchEncoder:
    """The encoder that the parameters ask for; a checkpoint says itself which features and sizes it was trained on.

    Raises CheckpointError for a checkpoint that is missing, damaged, of a segmenter, or trained on other features.
    """
    vit, backbone = manifest.encoders.vit, params.named(manifest.path.parent)
    if not params.embedding:
        spec = EmbeddingSpec(features=params.features, size=params.vit_size, longest=params.longest)
        return PatchEncoder(vit=vit, spec=spec, debias=params.debias, backbone=backbone, maps=params.maps)
    if params.debias:
        raise ParameterError(
            f"debias is {params.debias:g}, and {params.embedding} was trained on features as they are; leave one of "
            "the two out."
        )
    info = read_info(params.embedding)
    spec = spec_of(info, EmbeddingSpec)
    return PatchEncoder(vit=vit, spec=spec, checkpoint=info.path.absolute(), digest=info.digest)


class PanetProposer:
    """`PanetSource` with its encoder loaded on one device."""

    def __init__(self, source: PanetSource, device: str) -> None:
        import torch

        self.source, self.device = source, device
        self.embedding = source.encoder.open(device)
        self.prototypes = torch.from_numpy(source.prototypes).to(device)

    def load(self, task: ImageTask) -> "Tensor":
        """The image as the encoder's input, uint8 [3, H, W]."""
        return self.source.encoder.load(task.record.path)

    def propose(self, tasks: Sequence[ImageTask], loaded: "Sequence[Tensor]") -> list[ImageContent]:
        """One forward pass for the batch, then each image by itself."""
        import torch

        from wilss.equations import panet

        with torch.inference_mode():
            features = self.embedding.features(torch.stack(list(loaded)).to(self.device, non_blocking=True))
            params = self.source.params
            scores = panet.with_bias(panet.scores(features, self.prototypes, params.alpha), params.bias)
            return [self._one(task, scores[i]) for i, task in enumerate(tasks)]

    def _one(self, task: ImageTask, scores: "Tensor") -> ImageContent:
        """scores: [1 + C, h, w], of which the background and the image's own categories take part.

        The mask is the argmax at the image's own size, since that is where a mask is wanted (Eq. 4); the soft layer is
        the softmax on the patch grid (Eq. 3).
        """
        import torch

        from wilss.equations import fmwiss, panet

        scores = scores[[0, *(1 + position for position in task.categories)]]
        pixels = to_pixels(scores, task.height, task.width)
        masks = panet.label_map(pixels) == torch.arange(1, len(scores), device=scores.device)[:, None, None]
        confidence = fmwiss.confidence(panet.probabilities(pixels)[1:], masks)
        put_own(self.source.own, self.source.category_ids, task, masks, confidence)
        return own_content(task.categories, masks, confidence, panet.probabilities(scores)[1:].half())


def put_own(
    own: Mapping[str, Mapping[int, SupportMap]],
    category_ids: Sequence[int],
    task: ImageTask,
    masks: "Tensor",
    confidence: "Tensor",
) -> None:
    """In the place of a guess the mask that a person drew, where its pixels are known; in place.

    own: the whole masks that images keep, by image and taxonomy id. masks: bool [T, H, W]; confidence: [T].
    """
    import torch

    ids = [category_ids[position] for position in task.categories]
    for identity, drawn in own.get(task.record.image_id, {}).items():
        if identity in ids:
            drawn_map = torch.from_numpy(drawn).to(masks.device)
            masks &= drawn_map != FOREGROUND
            masks[ids.index(identity)] &= drawn_map == UNKNOWN
            masks[ids.index(identity)] |= drawn_map == FOREGROUND
            confidence[ids.index(identity)] = 1.0


def whole_masks(supports: SupportSet) -> dict[str, dict[int, SupportMap]]:
    """The maps of supports that say all of their image, by image and class."""
    found: dict[str, dict[int, SupportMap]] = {}
    for support in supports.supports:
        if support.spec.kind == "mask":
            found.setdefault(support.spec.image_id, {})[support.spec.class_id] = support.map
    return found


def own_content(categories: tuple[int, ...], masks: "Tensor", confidence: "Tensor", score: "Tensor") -> ImageContent:
    """What the store takes. masks: bool [T, H, W]; confidence: [T]; score: float16 [T, h, w]."""
    planes = {"mask": masks.cpu().numpy(), "score": score.cpu().numpy()}
    return ImageContent(
        status=Status.DONE,
        planes={name: dict(zip(categories, stack, strict=True)) for name, stack in planes.items()},
        confidence=dict(zip(categories, confidence.tolist(), strict=True)),
        area=dict(zip(categories, masks.sum(dim=(-2, -1)).tolist(), strict=True)),
    )
