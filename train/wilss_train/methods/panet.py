"""`panet`: an embedding learns from episodes to tell a class by a few annotated images of it.

K. Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype Alignment", ICCV 2019, Sec. 3.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from wilss.data.images import normalise, to_pixels
from wilss.data.manifest import EncoderSpec, Manifest
from wilss.data.supports.simulate import Kind
from wilss.data.taxonomy import VOID
from wilss.equations.panet import prototypes, scores, with_absent
from wilss.errors import CheckpointError, StoreError, counted
from wilss.models.encoders.identity import digest_of_encoder, digests_of_encoder, way_to_former
from wilss.models.encoders.weights import sha256_of
from wilss.models.networks.embedding import Embedding, EmbeddingNet, build_embedding, embedding_of
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss.models.networks.weights import load_backbone
from wilss.params import NonNegativeFloat, Params, PositiveFloat, PositiveInt, require
from wilss.store import shows_none

from ..context import EpochState, Experiment, RunContext
from ..data.episodes.batches import EpisodeBatch, EpisodeBatchSource, EpisodeSample, Shape
from ..data.episodes.features import FeatureBank, Void
from ..data.episodes.images import index_of_store
from ..data.masked_images import MaskedImages
from ..inputs import RunInputs, weights_path
from ..params import TrainParams
from ..results.episodes.evaluate import EpisodeParams
from ..results.episodes.judge import judge_run
from ..results.judge import Judged, RunResults, untold
from .losses.panet import alignment_loss, label_shares, query_ce
from .segmenter import write_network

log = logging.getLogger(__name__)

_VGG = "vgg16"


@dataclass(frozen=True, kw_only=True)
class Panet(Params):
    """Parameters of PANet; `epochs`, `batch_size` and the rates are the run's, counted in episodes.

    embedding: `projection` of the manifest's frozen vision transformer, or the paper's `vgg16`.
    width, depth: of the projection [D]. features, size, longest: see `EmbeddingSpec`; the paper's VGG-16 has size 417.
    weights: ImageNet weights for the VGG-16, a file or another word of `backbone_weights`; "" for none.
    ways, shots, support: of the training episodes; supports are drawn from the store's masks. void: what it is in a
        support's mask, `unknown`, or `background` as in the public code.
    alpha: what the cosine is multiplied with (Eq. 3). par: weight of the alignment loss (Eq. 7), 0 leaves it out.
    par_mask: by which mask of the query supports are to be segmented, the one that is `predicted`, as published, or
        `labelled` [D].
    episodes: of an epoch [D].
    judged: episodes of the one run after training that its report tells of; `wilss-eval` makes the whole protocol.
    """

    name: ClassVar[str] = "panet"

    embedding: Literal["projection", "vgg16"] = "projection"
    width: PositiveInt = 128
    depth: PositiveInt = 2
    features: Literal["tokens", "keys"] = "tokens"
    size: int = 224
    longest: PositiveInt = 1024
    weights: str = ""
    ways: PositiveInt = 1
    shots: PositiveInt = 1
    support: Kind = "mask"
    void: Void = "unknown"
    alpha: PositiveFloat = 20.0
    par: NonNegativeFloat = 1.0
    par_mask: Literal["predicted", "labelled"] = "predicted"
    episodes: PositiveInt = 400
    judged: PositiveInt = 200

    def __post_init__(self) -> None:
        """Validate every value."""
        super().__post_init__()
        require(not (self.on_vit and self.weights), "weights", self.weights, "left out for a projection")
        EmbeddingSpec(kind="vgg16" if self.embedding == "vgg16" else "frozen", size=self.size)

    @property
    def on_vit(self) -> bool:
        """Whether a frozen vision transformer comes first."""
        return self.embedding != "vgg16"

    def deciding(self, step: int) -> dict[str, Any]:
        """All parameters."""
        return self.as_json()

    def input_digests(self, manifest: Manifest) -> Mapping[str, str]:
        """Digests of the frozen network, or of the file that the VGG-16 starts from."""
        if self.on_vit:
            return {"vit": digest_of_encoder(manifest.encoders.vit, tokens=self._uses_tokens)}
        return {"weights": sha256_of(weights_path(self.weights, _VGG, manifest))} if self.weights else {}

    def inputs_as_noted_now(self, noted: Mapping[str, Any], manifest: Manifest) -> Mapping[str, Any]:
        """The frozen network by its digest of today."""
        vit, digest = manifest.encoders.vit, noted.get("vit")
        if not self.on_vit or digest is None:
            return noted
        known = digests_of_encoder(vit, tokens=self._uses_tokens)
        if digest in known:
            return {**noted, "vit": known[0]}
        if why := way_to_former(vit, digest, tokens=self._uses_tokens):
            raise CheckpointError(why)
        return noted

    @property
    def _uses_tokens(self) -> bool:
        return self.on_vit and self.features == "tokens"

    def origin(self, run: TrainParams) -> tuple[str, str]:
        """VGG-16 and its weights, or the frozen network's features, which are what is trained on."""
        return ("", "") if self.on_vit else (_VGG, self.weights)

    def experiment(self, context: RunContext) -> Experiment:
        """Embedding, episodes and results of one run, on the store's classes."""
        inputs = context.inputs
        if inputs.step:
            raise StoreError(
                f"{inputs.store.path} holds step {inputs.step}, and panet learns to compare from the classes of "
                "step 0; give it the store of step 0, and make later masks with `wilss-masks generate --source panet`."
            )
        if (negatives := int(shows_none(inputs.store).sum())) and not context.rank:
            log.warning(
                f"{inputs.store.path} holds {counted(negatives, 'picture')} without the step's classes, which panet "
                "does not learn from: an episode is of pictures that show its class."
            )
        net = self.network(context.inputs.manifest, seed=context.seed)
        vit = inputs.manifest.encoders.vit
        frozen = embedding_of(EmbeddingNet(_below(net.spec)) if self.on_vit else net, vit, str(context.device))

        def write(out: Path, steps: int, facts: Mapping[str, Any]) -> None:
            write_network(context, out, net, facts)

        return Experiment(
            objective=PanetObjective(self, net, context.params), batches=self._batches(context, frozen), write=write
        )

    def network(self, manifest: Manifest, *, seed: int) -> EmbeddingNet:
        """The embedding as it is before training. Raises WeightsError for weights that do not fit."""
        if not self.on_vit:
            net = build_embedding(EmbeddingSpec(kind="vgg16", size=self.size), seed=seed)
            if self.weights:
                load_backbone(net, weights_path(self.weights, _VGG, manifest))
            return net
        vit = manifest.encoders.vit
        digest = digest_of_encoder(vit, tokens=self._uses_tokens)
        spec = EmbeddingSpec(
            kind="projection", features=self.features, size=self.size, longest=self.longest,
            width=self.width, depth=self.depth, in_width=_width_of(vit), encoder=digest,
        )  # fmt: skip
        return build_embedding(spec, seed=seed)

    def judge(
        self, inputs: RunInputs, out: Path, *, split: str | None, device: str, progress: Judged = untold
    ) -> RunResults:
        """Judge the embedding on a run of episodes with classes that it was not trained on."""
        params = EpisodeParams(
            episodes=self.judged, runs=1, ways=self.ways, shots=self.shots, alpha=self.alpha, support=self.support
        )
        return judge_run(params, inputs, out, split=split, device=device, progress=progress)

    def _batches(self, context: RunContext, frozen: Embedding) -> EpisodeBatchSource:
        inputs, params = context.inputs, context.params
        images = MaskedImages(inputs.store, inputs.records)
        return EpisodeBatchSource(
            FeatureBank(frozen, images, mib=params.cache_mib),
            index_of_store(inputs.store, inputs.protocol, inputs.step, limit=params.limit, seed=context.seed),
            Shape(ways=self.ways, shots=self.shots, support=self.support, void=self.void, flip=params.flip),
            count=self.episodes,
            batch_size=params.batch_size,
            accumulate=params.accumulate,
            seed=context.seed,
            rank=context.rank,
            world=context.world,
            on_broken=context.on_broken,
        )


def _below(spec: EmbeddingSpec) -> EmbeddingSpec:
    """What is below a projection: the frozen features."""
    return EmbeddingSpec(features=spec.features, size=spec.size, longest=spec.longest, encoder=spec.encoder)


def _width_of(vit: EncoderSpec) -> int:
    """Values per patch of the frozen features."""
    from wilss.models.encoders.vit.encoder import open_vit

    return open_vit(vit, "cpu").width


class PanetObjective(nn.Module):
    """The embedding on a batch of episodes: L = L_seg + L_PAR (Eq. 7)."""

    def __init__(self, params: Panet, net: EmbeddingNet, run: TrainParams) -> None:
        super().__init__()
        self.student = net
        self._params, self._run = params, run

    def forward(self, batch: EpisodeBatch, state: EpochState) -> dict[str, Tensor]:
        """The terms `seg` and, unless `par` is 0, `par`: means over the episodes."""
        embedded = self._embedded([image for sample in batch.samples for image in (*sample.supports, sample.query)])
        terms: dict[str, list[Tensor]] = {"seg": [], "par": []} if self._params.par else {"seg": []}
        with torch.autocast(embedded[0].device.type, enabled=False):
            for sample in batch.samples:
                mine, embedded = embedded[: len(sample.ways) + 1], embedded[len(sample.ways) + 1 :]
                for name, value in self._terms(sample, mine[:-1], mine[-1]).items():
                    terms[name].append(value)
        return {name: torch.stack(values).mean() for name, values in terms.items()}

    def _terms(self, sample: EpisodeSample, supports: list[Tensor], query: Tensor) -> dict[str, Tensor]:
        vectors, present = prototypes(supports, sample.maps, sample.ways, max(sample.ways))
        on_grid = scores(query, vectors, self._params.alpha)
        at_pixels = with_absent(to_pixels(on_grid, *sample.labels.shape), present)
        terms = {"seg": query_ce(at_pixels, _without(sample.labels, present))}
        if self._params.par:
            known = self._known(sample, with_absent(on_grid, present))
            aligned = alignment_loss(query, known, supports, sample.maps, sample.ways, self._params.alpha)
            terms["par"] = self._params.par * aligned
        return terms

    def _known(self, sample: EpisodeSample, predicted: Tensor) -> Tensor:
        """Whose maximum is the query's mask for the alignment loss, [P, h, w]. predicted: the scores on the grid."""
        if self._params.par_mask == "predicted":
            return predicted
        return label_shares(sample.labels, len(predicted), (predicted.shape[-2], predicted.shape[-1]))

    def _embedded(self, images: list[Tensor]) -> list[Tensor]:
        """A map [D, h, w] for each, float32; images of one size go through the network together."""
        groups: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(images):
            groups.setdefault(image.shape, []).append(place)
        embedded: dict[int, Tensor] = {}
        for places in groups.values():
            maps = self.student(torch.cat([_as_input(images[place][None], self._run) for place in places])).float()
            embedded.update(zip(places, maps, strict=True))
        return [embedded[place] for place in range(len(images))]


def _as_input(image: Tensor, run: TrainParams) -> Tensor:
    """Frozen features as float32, images normalised."""
    return normalise(image, run.mean, run.std) if image.dtype == torch.uint8 else image.float()


def _without(labels: Tensor, present: Tensor) -> Tensor:
    """Labels whose prototype has no pixel in any support cannot be asked for: they become VOID. [H, W]."""
    channels = torch.arange(len(present), device=labels.device)
    others = torch.arange(len(present), 256, device=labels.device)
    return torch.cat([torch.where(present, channels, VOID), others])[labels.long()]
