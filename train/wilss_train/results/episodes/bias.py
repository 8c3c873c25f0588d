"""A bias of the background for a number of shots, fitted on episodes of the classes that an embedding has learnt.

PANet takes the nearest prototype. With one shot that comparison is off by about as much on any class, so that trained
classes tell what to add to the background's score on others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wilss.data.manifest import Manifest
from wilss.equations.panet import best_bias, biases, counts_by_bias, mean_iou_by_bias
from wilss.errors import ImageError, ManifestError
from wilss.models.networks.embedding import Embedding

from ...data.episodes.draw import Episode, require_enough, sorted_index
from ...data.episodes.features import FeatureBank, labels_for
from ...data.episodes.images import LabelledSplit, labelled_split
from ...data.image_pool import BrokenImages
from .evaluate import EpisodeParams, Segmenting, attempts_at


@dataclass(frozen=True, kw_only=True)
class FittedBias:
    """A bias, and the foreground mIoU on the episodes that it was fitted on: without a bias and with this one.

    at_end: whether it is the least or the greatest that was tried. classes: names of those in the episodes. failed:
    image -> why it was left out.
    """

    bias: float
    before: float
    after: float
    at_end: bool
    episodes: int
    classes: tuple[str, ...]
    failed: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Everything but the images, as JSON values; ratios in [0, 1]."""
        return {
            "bias": self.bias,
            "mean_iou": {"without": self.before, "with": self.after},
            "episodes": self.episodes,
            "classes": list(self.classes),
        }


def fit_bias(
    embedding: Embedding,
    images: LabelledSplit,
    names: Mapping[int, str],
    params: EpisodeParams,
    *,
    bank: FeatureBank | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FittedBias:
    """The bias that is best on one run of `params.episodes` episodes of `names`, all else being as in `params`.

    images: of classes that the embedding was trained on. bank: frozen features of these images. Raises as
    `evaluate_episodes` does.
    """
    index = sorted_index(images.index)
    require_enough(index, ways=params.ways, shots=params.shots, names=names)
    segmenting = Segmenting.over(embedding, images, index, params, bank)
    tried, broken, counts = biases(params.alpha), BrokenImages(), dict[int, Tensor]()

    def count(segmenting: Segmenting, episode: Episode) -> dict[int, Tensor]:
        labels = torch.from_numpy(labels_for(segmenting.truth(episode), episode.ways))
        return dict(zip(episode.ways, counts_by_bias(segmenting.scores(episode).cpu(), labels, tried), strict=True))

    for number in range(params.episodes):
        attempts = attempts_at(count, segmenting, index, params, (0, number), broken)
        for way, pixels in broken.first(attempts, "fit a bias on", ImageError).items():
            counts[way] = counts.get(way, 0) + pixels
        if progress is not None:
            progress(number + 1, params.episodes)
    return _fitted(torch.stack([counts[way] for way in sorted(counts)]), tried, params, names, images, broken)


def _fitted(
    counts: Tensor,
    tried: Tensor,
    params: EpisodeParams,
    names: Mapping[int, str],
    images: LabelledSplit,
    broken: BrokenImages,
) -> FittedBias:
    """counts: [C, B, 3]; tried: [B], 0 in the middle."""
    bias, values = best_bias(counts, tried), mean_iou_by_bias(counts)
    return FittedBias(
        bias=round(bias, 6),
        before=float(values[len(tried) // 2]),
        after=float(values.max()),
        at_end=bias in (float(tried[0]), float(tried[-1])),
        episodes=params.episodes,
        classes=tuple(names.values()),
        failed={**images.failed, **broken.errors},
    )


def trained_images(manifest: Manifest, step: int) -> tuple[LabelledSplit, dict[int, str]]:
    """Training images with pixel labels of the classes up to `step`, and these classes' names by id.

    Pixels of later classes are background there, whatever the labels say. Raises ManifestError where none has labels.
    """
    names = {identity: manifest.taxonomy.name_of(identity) for identity in manifest.protocol.seen(step)[1:]}
    records = manifest.images(step).records
    if not any(record.label is not None for record in records):
        raise ManifestError(
            f"{manifest.path}: no training image has pixel labels, on which a bias is fitted; give a number instead, "
            "as in --bias 1.5, or --bias none."
        )
    return labelled_split(records, names, "train"), names


def with_fitted_bias(
    embedding: Embedding,
    step: int,
    manifest: Manifest,
    params: EpisodeParams,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[EpisodeParams, FittedBias]:
    """`params` with the bias that is best on the classes up to `step`."""
    images, names = trained_images(manifest, step)
    fitted = fit_bias(embedding, images, names, params, progress=progress)
    return replace(params, bias=fitted.bias), fitted
