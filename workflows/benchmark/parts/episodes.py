"""Episodes per second beside a bare loop over features in memory, and the steps of training on episodes."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import wilss
from wilss.equations.panet import masked_average
from wilss.models.networks.embedding import Embedding, frozen_embedding
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss_train.context import EpochState
from wilss_train.data.episodes.batches import EpisodeBatchSource, Shape
from wilss_train.data.episodes.draw import Episode, draw_episode, sorted_index
from wilss_train.data.episodes.features import FeatureBank
from wilss_train.data.episodes.images import LabelledSplit, labelled_split
from wilss_train.methods.panet import Panet, PanetObjective
from wilss_train.params import TrainParams
from wilss_train.results.episodes.evaluate import EpisodeParams, evaluate_episodes
from wilss_train.results.report.log import Progress
from wilss_train.run.fit import Loop, fit
from wilss_train.run.optimiser import make_optimiser, poly, set_learning_rates
from wilss_train.run.processes import accelerator_for

from .common import row

MANIFEST = Path("data_manifest.yaml")
_METHOD = Panet(size=0, episodes=160)
_PARAMS = TrainParams(epochs=2, batch_size=8, optimiser="adamw", lr=3e-3, head_lr=1.0, precision="fp32")


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Judging and training, each beside the least that it can cost; medians of rounds, interleaved."""
    rounds, count = (1, 100) if quick else (5, 1000)
    manifest = wilss.load_manifest(MANIFEST)
    frozen = frozen_embedding(manifest.encoders.vit, spec=EmbeddingSpec(size=_METHOD.size))
    names = {one: manifest.taxonomy.name_of(one) for one in manifest.protocol.later(0)}
    images = labelled_split(manifest.evaluation("val").records, names, "val")
    judged = _Judged(frozen, images, names, count)
    learning = _Learning(manifest, frozen, images, 1 if quick else 2)
    rows = []
    for what, run in (("judging 1-shot episodes", judged), ("training on 1-shot episodes", learning)):
        run.ours()  # features are computed
        pairs = [(run.ours(), run.bare()) for _ in range(rounds)]
        shares = sorted(ours / bare for ours, bare in pairs)
        rates = sorted(ours for ours, _ in pairs)
        figure = f"{rates[len(rates) // 2]:.0f} episodes/s, {shares[len(shares) // 2]:.2f} of a bare loop's"
        rows.append(row(what, figure, "0.95", shares=shares, episodes_per_second=rates))
    return rows


class _Judged:
    """The evaluation with its bank warm, and the same arithmetic without bank, counts by class, void or ways."""

    def __init__(self, frozen: Embedding, images: LabelledSplit, names: dict[int, str], count: int) -> None:
        self._frozen, self._images, self._names, self._count = frozen, images, names, count
        self._bank = FeatureBank(frozen, images, mib=4096)
        index = sorted_index(images.index)
        drawn = [draw_episode(index, ways=1, shots=1, seed=0, names=("episode", 0, n)) for n in range(count)]
        used = {image for episode in drawn for image in episode.image_ids}
        self._drawn = drawn
        self._features = {image: self._bank.input_of(image).float() for image in used}
        self._units = {image: F.normalize(features, dim=0) for image, features in self._features.items()}
        self._labels = {image: torch.from_numpy(images.label(image)) for image in used}

    def ours(self) -> float:
        """Episodes per second of `evaluate_episodes`."""
        params = EpisodeParams(episodes=self._count, runs=1)
        seconds = _seconds(
            lambda: evaluate_episodes(self._frozen, self._images, self._names, params, bank=self._bank, mib=4096)
        )
        return self._count / seconds

    @torch.no_grad()
    def bare(self) -> float:
        """Episodes per second of a loop as one writes it first, with every feature in memory."""
        return self._count / _seconds(lambda: [self._one(episode) for episode in self._drawn])

    def _one(self, episode: Episode) -> tuple[int, int]:
        ((support,),), way, query = episode.supports, episode.ways[0], episode.query
        features, label, truth = self._features[support], self._labels[support], self._labels[query]
        inside, _ = masked_average(features, label == way)
        outside, _ = masked_average(features, (label != way) & (label != 255))
        prototypes = F.normalize(torch.stack([outside, inside]))
        scores = 20 * torch.einsum("dhw,pd->phw", self._units[query], prototypes)
        grown = F.interpolate(scores[None], size=truth.shape, mode="bilinear", align_corners=False)[0]
        found, known, wanted = grown.argmax(0) == 1, truth != 255, truth == way
        return int((found & wanted).sum()), int(((found & known) | wanted).sum())


class _Learning:
    """`fit` on episodes of a split's images, and the objective on the same batches in memory."""

    def __init__(self, manifest: Any, frozen: Embedding, images: LabelledSplit, epochs: int) -> None:
        self._manifest, self._epochs = manifest, epochs
        self._bank = FeatureBank(frozen, images, mib=4096)
        self._index = images.index
        self._batches = [part for parts in self._maker().stream(0, self._steps) for part in parts]

    @property
    def _steps(self) -> int:
        return self._epochs * self._maker().order.steps_per_epoch

    def _maker(self) -> EpisodeBatchSource:
        return EpisodeBatchSource(self._bank, self._index, Shape(), count=_METHOD.episodes, batch_size=8, seed=0)

    def _objective(self) -> PanetObjective:
        return PanetObjective(_METHOD, _METHOD.network(self._manifest, seed=0), TrainParams())

    def ours(self) -> float:
        """Episodes per second of the loop with its loader, behind the features of every image; states left out."""
        told: list[float] = []

        def note(progress: Progress) -> None:
            told.append(progress.seconds)

        params, objective = replace(_PARAMS, epochs=self._epochs), self._objective()
        with tempfile.TemporaryDirectory() as states:
            loop = Loop(params=params, states=Path(states), on_progress=note)
            fit(objective, self._maker(), accelerator_for(params, "cpu"), loop)
        return 8 * self._steps / told[-1]

    def bare(self) -> float:
        """Episodes per second of forward, backward and step on the same batches."""
        objective = self._objective()
        optimiser = make_optimiser(objective, _PARAMS)
        objective.train()

        def steps() -> None:
            for step, batch in enumerate(self._batches):
                set_learning_rates(optimiser, poly(step, self._steps))
                terms = objective(batch, EpochState(0, 1))
                torch.stack(list(terms.values())).sum().backward()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)

        return 8 * self._steps / _seconds(steps)


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
