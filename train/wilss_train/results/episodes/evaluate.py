"""How well an embedding does on episodes: foreground mIoU and binary IoU of several runs, with their spread.

The protocol of PASCAL-5i as PANet has it (Sec. 4.1): 1,000 episodes five times over, classes that were never trained
on. Images are judged at their own size; void is left out, but where a box is drawn over it.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.data.supports.simulate import Kind
from wilss.data.taxonomy import BACKGROUND
from wilss.equations.kernels import score_map, unit
from wilss.equations.metrics import or_none
from wilss.equations.panet import FOREGROUND, label_map, masked_average, mean_of_filled, with_absent, with_bias
from wilss.errors import ImageError
from wilss.models.networks.embedding import Embedding
from wilss.params import FiniteFloat, Params, PositiveFloat, PositiveInt

from ...data.episodes.draw import Episode, Index, draw_episode, require_enough, sorted_index
from ...data.episodes.features import EmbeddedBank, FeatureBank, Support, Void, support_map
from ...data.episodes.images import LabelledSplit
from ...data.image_pool import BoundedCache, BrokenImages
from .metrics import EpisodeCounts, Metric

Answer = TypeVar("Answer")

#: What may be kept of images, and of what supports give.
_IMAGES_MIB, _SUPPORTS_MIB = 2048, 256


@dataclass(frozen=True, kw_only=True)
class EpisodeParams(Params):
    """How an embedding is judged. Defaults are the published protocol's.

    episodes, runs: per run, and how many runs. ways, shots: of an episode. support: how supports are annotated.
    metric: see `Metric`; with `panet` void in a support's mask is background, too, and the spread is that of the runs
        themselves (ddof 0), not an estimate from them.
    alpha: what the cosine is multiplied with (Eq. 3). bias: what is added to the background's score, 0 as published;
        `.bias` finds others. seed: names the episodes and the scribbles.
    """

    episodes: PositiveInt = 1000
    runs: PositiveInt = 5
    ways: PositiveInt = 1
    shots: PositiveInt = 1
    support: Kind = "mask"
    metric: Metric = "wilss"
    alpha: PositiveFloat = 20.0
    bias: FiniteFloat = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EpisodeEvaluation:
    """The figures of all runs. counts: per run. names: class names by id. failed: image -> why it was left out."""

    params: EpisodeParams
    names: Mapping[int, str]
    counts: tuple[EpisodeCounts, ...]
    failed: Mapping[str, str]
    seconds: float

    @property
    def mean_ious(self) -> list[float]:
        """Foreground mIoU of every run."""
        return [run.mean_iou() for run in self.counts]

    @property
    def binary_ious(self) -> list[float]:
        """Binary IoU of every run."""
        return [run.binary_iou() for run in self.counts]

    def class_iou(self) -> dict[str, float]:
        """Mean over the runs of the IoU of every class, by its name; a class without one is left out."""
        values_of: dict[str, list[float]] = {}
        for run in self.counts:
            for identity, value in run.iou().items():
                if not np.isnan(value):
                    values_of.setdefault(self.names[identity], []).append(value)
        return {name: float(np.mean(values_of[name])) for name in self.names.values() if name in values_of}

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; ratios in [0, 1]."""
        return {
            "episodes": asdict(self.params),
            "classes": list(self.names.values()),
            "mean_iou": self._summary(self.mean_ious),
            "binary_iou": self._summary(self.binary_ious),
            "iou": self.class_iou(),
            "images": {"failed": dict(self.failed)},
            "seconds": round(self.seconds, 3),
        }

    def _summary(self, values: list[float]) -> dict[str, Any]:
        """Mean, spread (standard deviation over the runs) and all values."""
        ddof = 0 if self.params.metric == "panet" else 1
        spread = float(np.std(values, ddof=ddof)) if len(values) > 1 else None
        return {"mean": or_none(float(np.mean(values))), "spread": spread, "runs": [or_none(value) for value in values]}


class Segmenting:
    """Labels queries by prototypes of their supports; what an image gives is computed once, if it can be kept."""

    def __init__(self, bank: EmbeddedBank, index: Index, params: EpisodeParams) -> None:
        self._params, self._bank = params, bank
        self._holding = {identity: frozenset(images) for identity, images in index.items()}
        self._cache = BoundedCache[Support, _Pooled](_SUPPORTS_MIB, _Pooled.bytes_of)

    @classmethod
    def over(
        cls,
        embedding: Embedding,
        images: LabelledSplit,
        index: Index,
        params: EpisodeParams,
        bank: FeatureBank | None,
        mib: float = _IMAGES_MIB,
    ) -> "Segmenting":
        """Over these images. bank, mib: as for `evaluate_episodes`."""
        bank = FeatureBank(embedding, images, mib=mib / 2) if bank is None else bank
        return cls(EmbeddedBank(bank, embedding, mib=mib / 2), index, params)

    def truth(self, episode: Episode) -> NDArray[np.uint8]:
        """The query's label, taxonomy ids [H, W]."""
        return self._bank.label(episode.query)

    def read(self, image: str) -> Tensor:
        """What an image is judged by. Raises ImageError where it cannot be read."""
        self._bank.label(image)
        return self._bank.features(image)

    def labels(self, episode: Episode) -> NDArray[np.uint8]:
        """What the query's label is said to be: ids of the ways, 0 elsewhere. uint8 [H, W]."""
        biased = with_bias(self.scores(episode), self._params.bias)
        table = np.array([BACKGROUND, *episode.ways], np.uint8)
        return np.asarray(table[label_map(biased).cpu().numpy()])

    @torch.no_grad()
    def scores(self, episode: Episode) -> Tensor:
        """The query's scores at its pixels without a bias, [N + 1, H, W], -inf for what is absent (Eq. 3)."""
        vectors, present = self._prototypes(episode)
        height, width = self.truth(episode).shape
        on_grid = self._params.alpha * score_map(self._bank.units(episode.query), unit(vectors))
        return with_absent(to_pixels(on_grid, height, width), present)

    def _prototypes(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """[N + 1, D], background first, and which of them have a pixel (Eqs. 1 and 2)."""
        pooled = [
            [self._pooled(image, way, episode.ways) for image in shots]
            for way, shots in zip(episode.ways, episode.supports, strict=True)
        ]
        groups = [[(support.outside, support.outside_area) for shots in pooled for support in shots]]
        groups += [[(support.inside, support.inside_area) for support in shots] for shots in pooled]
        vectors, areas = zip(*(map(torch.stack, zip(*group, strict=True)) for group in groups), strict=True)
        means = [mean_of_filled(vector, area) for vector, area in zip(vectors, areas, strict=True)]
        return torch.stack(means), torch.stack([(area > 0).any() for area in areas])

    def _pooled(self, image: str, way: int, ways: tuple[int, ...]) -> "_Pooled":
        others = tuple(sorted(other for other in ways if other != way and image in self._holding[other]))
        support = Support(image, way, self._params.support, others)
        return self._cache.get(support, lambda: self._pool(support))

    def _pool(self, support: Support) -> "_Pooled":
        void: Void = "background" if self._params.metric == "panet" else "unknown"
        label = self._bank.label(support.image_id)
        known = torch.from_numpy(support_map(label, support, self._params.seed, void=void))
        features = self._bank.features(support.image_id)
        known = known.to(features.device)
        inside, inside_area = masked_average(features, known == FOREGROUND)
        outside, outside_area = masked_average(features, known == BACKGROUND)
        return _Pooled(inside, inside_area, outside, outside_area)


@dataclass(frozen=True)
class _Pooled:
    """What one support says of its class and of the background: vectors [D] and areas []."""

    inside: Tensor
    inside_area: Tensor
    outside: Tensor
    outside_area: Tensor

    def bytes_of(self) -> int:
        """Of both vectors."""
        return 2 * self.inside.numel() * self.inside.element_size()


def evaluate_episodes(
    embedding: Embedding,
    images: LabelledSplit,
    names: Mapping[int, str],
    params: EpisodeParams,
    *,
    bank: FeatureBank | None = None,
    mib: float = _IMAGES_MIB,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeEvaluation:
    """Judge an embedding on the episodes that `params.seed` names. names: the classes of the images' index by id.

    bank: frozen features of these images that another evaluation has made. mib: how much of images is kept.
    An image that cannot be read is left out and named; another episode takes the place of those that it is in.
    Raises ParameterError where the images do not suffice for such episodes, ImageError where hardly any can be read.
    """
    index = sorted_index(images.index)
    require_enough(index, ways=params.ways, shots=params.shots, names=names)
    started = time.perf_counter()
    segmenting = Segmenting.over(embedding, images, index, params, bank, mib)
    broken = BrokenImages()
    counts = []
    for run in range(params.runs):
        run_counts = EpisodeCounts(params.metric)
        for number in range(params.episodes):
            attempts = attempts_at(_answer, segmenting, index, params, (run, number), broken)
            run_counts.add(*broken.first(attempts, "judge", ImageError))
            if progress is not None:
                progress(run * params.episodes + number + 1, params.runs * params.episodes)
        counts.append(run_counts)
    return EpisodeEvaluation(
        params=params,
        names=names,
        counts=tuple(counts),
        failed={**images.failed, **broken.errors},
        seconds=time.perf_counter() - started,
    )


def _answer(segmenting: Segmenting, episode: Episode) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, ...]]:
    """Truth, labels and ways."""
    return segmenting.truth(episode), segmenting.labels(episode), episode.ways


def attempts_at(
    answer: Callable[[Segmenting, Episode], Answer],
    segmenting: Segmenting,
    index: Index,
    params: EpisodeParams,
    place: tuple[int, int],
    broken: BrokenImages,
) -> Iterator[Answer | None]:
    """What `answer` says of the episode of this run and number, then of those that may take its place.

    None for an episode with a broken image.
    """
    for attempt in itertools.count():
        names = ("episode", *place, *((attempt,) if attempt else ()))
        episode = draw_episode(index, ways=params.ways, shots=params.shots, seed=params.seed, names=names)
        if broken.any_of(episode.image_ids):
            yield None
            continue
        try:
            yield answer(segmenting, episode)
        except ImageError:
            for image in episode.image_ids:
                broken.read(image, partial(segmenting.read, image))
            yield None
