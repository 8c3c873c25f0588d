"""PANet Sec. 3: a prototype of each class from a few supports, and the nearest prototype for every pixel.

K. Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment", ICCV 2019.

The features are those of a frozen vision transformer or backbone, which needs no training, or of an embedding trained
by `wilss-train --method panet`. A support's image is encoded once, in the coordinator; workers get the prototypes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from wilss.data.images import to_pixels
from wilss.data.manifest import EncoderSpec, Manifest, require_manifest
from wilss.errors import ParameterError
from wilss.models.networks.checkpoint import read_info, spec_of
from wilss.models.networks.embedding_spec import FROZEN_SIZE, EmbeddingSpec
from wilss.models.networks.named_backbone import OF_BACKBONE, FrozenParams
from wilss.params import FiniteFloat, LongerSide, Rule, ShareBelowOne, ShorterSide, require
from wilss.store import ImageContent

from .base import ImageTask
from .presets import params_of
from .prototypes import PatchEncoder, prototypes_of
from .shots import ShotsSource, content_of, shots_of

if TYPE_CHECKING:
    from torch import Tensor


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
        heeded = not self.backbone or self.features == "tokens"
        require(heeded, "features", self.features, "left out beside a backbone, whose maps have no keys")

    @property
    def opens(self) -> tuple[str, ...]:
        """Which of the manifest's encoders looks at images; an embedding may be on its features, too."""
        return () if self.backbone else ("vit",)


@dataclass(frozen=True, kw_only=True)
class PanetSource(ShotsSource):
    """Masks from a few supports of each class. prototypes: [1 + C, D], the background's first."""

    name: ClassVar[str] = "panet"

    params: PanetParams

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
        require_manifest(manifest)
        defaults = PanetParams(tags=manifest.supervision(step) != "shots")
        params = params_of(defaults, manifest, cls.name, values, where=where)
        shots = shots_of(manifest, step, params, seed)
        return cls(params=params, encoder=_encoder_of(manifest, params), **shots)

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """The frozen ViT, or none where an embedding has a network of its own or a backbone is named."""
        on_vit = self.encoder.spec.is_on_frozen_features and self.encoder.backbone is None
        return (("vit", self.encoder.vit),) if on_vit else ()

    def identity(self) -> Mapping[str, Any]:
        """Parameters, digests of the network and of what the supports say; not where either of them lies."""
        beside = ("supports", "embedding", *OF_BACKBONE, *(("features",) if self.encoder.backbone else ()))
        return self.identity_of(self.encoder.identity(), beside=beside)

    def prepare(self, device: str) -> "PanetSource":
        """Make the prototypes; a source that is prepared already is returned as it is."""
        if self.prototypes is not None:
            return self
        self.encoder.warn()
        assert self.supports is not None
        found = prototypes_of(self.supports.supports, self.category_ids, self.encoder, device)
        return dataclasses.replace(self, prototypes=found, supports=None, own=self.kept())

    def open(self, device: str, threads: int) -> "PanetProposer":
        """Load the encoder on `device`."""
        import torch

        torch.set_num_threads(threads)
        return PanetProposer(self.prepare(device), device)


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
        self.embedding, self.kept = source.encoder.open(device), source.encoder.patches(device)
        self.prototypes = torch.from_numpy(source.prototypes).to(device)

    def load(self, task: ImageTask) -> "Tensor":
        """The image as the encoder's input, uint8 [3, H, W]; or its kept features, float32 [D, h, w]."""
        kept = None if self.kept is None else self.kept.read(task)
        return self.source.encoder.load(task.record) if kept is None else kept

    def propose(self, tasks: Sequence[ImageTask], loaded: "Sequence[Tensor]") -> list[ImageContent]:
        """One forward pass for the batch, then each image by itself."""
        import torch

        from wilss.equations import panet

        from .features.patches import embedded

        with torch.inference_mode():
            features = torch.stack(embedded(self.embedding, loaded))
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
        self.source.put_own(task, masks, confidence)
        return content_of(task.categories, masks, confidence, panet.probabilities(scores)[1:].half())
