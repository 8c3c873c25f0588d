"""Labels of queries against the slow twin, and the figures of a whole evaluation."""

import json
from typing import Any

import numpy as np
import pytest

from tests.references import panet as slow
from tests.wilss_train.data.episodes.pictures import Pictures, episodes, frozen
from wilss.errors import ImageError, ParameterError
from wilss_train.data.episodes.draw import Episode, draw_episode
from wilss_train.data.episodes.features import EmbeddedBank, FeatureBank, Support, Void, support_map
from wilss_train.results.episodes.evaluate import EpisodeParams, Segmenting, evaluate_episodes
from wilss_train.results.episodes.metrics import EpisodeCounts

NAMES = {1: "cat", 2: "dog", 3: "horse"}


VOIDS: dict[str, Void] = {"wilss": "unknown", "panet": "background"}


def segmenting(params: EpisodeParams, pictures: Pictures | None = None) -> Segmenting:
    pictures = pictures or Pictures()
    bank = EmbeddedBank(FeatureBank(frozen(), pictures, mib=10), frozen(), mib=10)
    return Segmenting(bank, pictures.index, params)


def by_hand(episode: Episode, params: EpisodeParams) -> tuple[np.ndarray, np.ndarray]:
    """Scores at pixels, -inf where a prototype has no pixel, and labels."""
    pictures = Pictures()
    bank = EmbeddedBank(FeatureBank(frozen(), pictures, mib=10), frozen(), mib=10)
    features, maps, ways = [], [], []
    for place, (way, shots) in enumerate(zip(episode.ways, episode.supports, strict=True), start=1):
        for image in shots:
            others = tuple(one for one in episode.ways if one != way)
            features.append(bank.features(image).double().numpy())
            support, void = Support(image, way, params.support, others), VOIDS[params.metric]
            maps.append(support_map(pictures.label(image), support, params.seed, void=void))
            ways.append(place)
    vectors = slow.prototypes(features, maps, ways, len(episode.ways))
    query = bank.features(episode.query).double().numpy()
    found = slow.upsampled(slow.scores(query, vectors, params.alpha), *pictures.label(episode.query).shape)
    found[[place for place, vector in enumerate(vectors) if not vector.any()]] = -np.inf
    return found, np.array([0, *episode.ways])[slow.label_map(found)]


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("ways", "shots", "support", "metric"),
    [(1, 1, "mask", "wilss"), (1, 3, "scribble", "panet"), (2, 2, "mask", "panet"), (2, 2, "box", "wilss"),
     (3, 1, "scribble", "wilss")],
)  # fmt: skip
def test_queries_are_labelled_as_the_slow_twin_does(ways: int, shots: int, support: Any, metric: Any) -> None:
    params = EpisodeParams(ways=ways, shots=shots, support=support, metric=metric, seed=3)
    fast = segmenting(params)
    for episode in episodes(Pictures().index, ways=ways, shots=shots, count=3, seed=3):
        found, (scores, expected) = fast.labels(episode), by_hand(episode, params)
        highest, next_one = np.sort(scores, axis=0)[::-1][:2]
        sure = ~(highest - next_one < 1e-4)
        assert sure.mean() > 0.95
        assert np.array_equal(found[sure], expected[sure])
        assert np.array_equal(fast.truth(episode), Pictures().label(episode.query))


def test_figures_are_those_of_the_labels() -> None:
    params, pictures = EpisodeParams(episodes=6, runs=2, ways=2, shots=2), Pictures()
    found = evaluate_episodes(frozen(), pictures, NAMES, params)  # type: ignore[arg-type]
    again = segmenting(params)
    for run, counts in enumerate(found.counts):
        expected = EpisodeCounts()
        for episode in episodes(pictures.index, ways=2, shots=2, count=6, seed=0, run=run):
            expected.add(again.truth(episode), again.labels(episode), episode.ways)
        assert counts.iou() == expected.iou()
        assert found.mean_ious[run] == expected.mean_iou()
        assert found.binary_ious[run] == expected.binary_iou()
    assert max(pictures.asked.values()) == 1, "an image was read twice"
    said = json.loads(json.dumps(found.as_json()))
    assert said["mean_iou"]["mean"] == pytest.approx(np.mean(found.mean_ious))
    assert said["mean_iou"]["spread"] == pytest.approx(np.std(found.mean_ious, ddof=1))
    assert list(said["iou"]) == ["cat", "dog", "horse"]


def test_the_papers_metric_has_the_spread_of_its_runs() -> None:
    params, pictures = EpisodeParams(episodes=4, runs=3, metric="panet"), Pictures()
    found = evaluate_episodes(frozen(), pictures, NAMES, params)  # type: ignore[arg-type]
    said = found.as_json()
    assert said["mean_iou"]["spread"] == pytest.approx(np.std(found.mean_ious, ddof=0))
    assert said["binary_iou"]["spread"] == pytest.approx(np.std(found.binary_ious, ddof=0))


def test_a_bank_of_another_evaluation_changes_nothing() -> None:
    params, pictures = EpisodeParams(episodes=5, runs=1), Pictures()
    bank = FeatureBank(frozen(), pictures, mib=10)
    told: list[tuple[int, int]] = []
    given: Any = pictures
    first = evaluate_episodes(frozen(), given, NAMES, params, bank=bank, progress=lambda *at: told.append(at))
    second = evaluate_episodes(frozen(), given, NAMES, params, bank=bank, mib=0)
    assert first.mean_ious == second.mean_ious
    assert max(pictures.asked.values()) == 1
    assert told == [(number, 5) for number in range(1, 6)]


def test_too_many_shots_are_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"(cat|dog|horse) is in \d images, and 9 shots and a query need 10"):
        evaluate_episodes(frozen(), Pictures(), NAMES, EpisodeParams(shots=9))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"runs": 0}, {"shots": 0}, {"support": "point"}, {"alpha": 0.0}, {"metric": "mean"}]
)
def test_wrong_parameters_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(values))):
        EpisodeParams(**values)


def test_an_image_that_cannot_be_read_costs_its_episodes_alone() -> None:
    params, torn = EpisodeParams(episodes=12, runs=2, shots=2), sorted(Pictures().index[1])[0]
    pictures = Pictures(broken=frozenset({torn}))
    found = evaluate_episodes(frozen(), pictures, NAMES, params)  # type: ignore[arg-type]
    assert dict(found.failed) == {torn: f"{torn} is damaged."}
    again = segmenting(params)
    for run, counts in enumerate(found.counts):
        expected = EpisodeCounts()
        for number in range(12):
            episode = first_without(torn, run, number)
            expected.add(again.truth(episode), again.labels(episode), episode.ways)
        assert counts.iou() == expected.iou()


def test_where_hardly_anything_can_be_read_that_is_said() -> None:
    pictures = Pictures(broken=frozenset(f"im{i}" for i in range(11)))
    with pytest.raises(ImageError, match=r"images cannot be read, so there is nothing to judge: im\d+ is damaged"):
        evaluate_episodes(frozen(), pictures, NAMES, EpisodeParams(episodes=3, runs=1))  # type: ignore[arg-type]


def first_without(image: str, run: int, number: int) -> Episode:
    """The episode of this run and number, or the first one drawn in its place that does without an image."""
    for attempt in range(50):
        names = ("episode", run, number, *((attempt,) if attempt else ()))
        episode = draw_episode(Pictures().index, ways=1, shots=2, seed=0, names=names)
        if image not in episode.image_ids:
            return episode
    raise AssertionError
