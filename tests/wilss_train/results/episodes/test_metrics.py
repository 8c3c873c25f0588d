"""Figures of episodes against loops over pixels."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.references import panet as reference
from wilss.data.taxonomy import VOID
from wilss_train.results.episodes.metrics import EpisodeCounts, Metric

QUERIES: list[tuple[tuple[int, ...], list[int], list[int]]] = [
    ((3, 5), [0, 3, 3, VOID, 5, 9, 0], [3, 3, 5, 3, 5, 5, 0]),
    ((5, 4), [0, 0, 5, 5, VOID, VOID, 4], [4, 0, 5, 0, 4, 5, 4]),
    ((4, 3), [0, 0, 4, 4, 4, 3, 3], [3, 0, 0, 4, 4, 3, 0]),
    ((3, 4), [3, 3, 0, 0, 0, 0, 0], [4, 3, 4, 0, 0, 0, 0]),
]


def counted(metric: Metric) -> EpisodeCounts:
    counts = EpisodeCounts(metric)
    for ways, truth, predicted in QUERIES:
        counts.add(np.array([truth], np.uint8), np.array([predicted], np.uint8), ways)
    return counts


def by_loops() -> tuple[dict[int, float], float]:
    hits, union = {3: 0, 4: 0, 5: 0}, {3: 0, 4: 0, 5: 0}
    binary = np.zeros((2, 2))
    for ways, truth, predicted in QUERIES:
        pixels = [(t if t in ways else 0, p) for t, p in zip(truth, predicted, strict=True) if t != VOID]
        for way in ways:
            hits[way] += sum(t == p == way for t, p in pixels)
            union[way] += sum(way in (t, p) for t, p in pixels)
        for t, p in pixels:
            binary[int(t > 0), int(p > 0)] += 1
    each = [binary[i, i] / (binary[i].sum() + binary[:, i].sum() - binary[i, i]) for i in (0, 1)]
    return {way: hits[way] / union[way] for way in hits}, float(np.mean(each))


def by_sets() -> tuple[dict[int, float], float]:
    """As PANet's public code counts."""
    sums = reference.counted_by_sets(QUERIES)
    return {way: row[0] / sum(row) for way, row in sums.items() if way}, reference.binary_iou_by_sets(QUERIES)


@pytest.mark.parametrize(("metric", "count"), [("wilss", by_loops), ("panet", by_sets)])
def test_figures_are_the_formula(metric: Metric, count: Callable[[], tuple[dict[int, float], float]]) -> None:
    classes, binary = count()
    counts = counted(metric)
    assert counts.iou() == pytest.approx(classes)
    assert counts.mean_iou() == pytest.approx(np.mean(list(classes.values())))
    assert counts.binary_iou() == pytest.approx(binary)


def test_what_differs_is_a_class_that_the_query_lacks() -> None:
    """In the last query way 4 is predicted and not there: the paper's code does not count that."""
    assert counted("wilss").iou()[4] < counted("panet").iou()[4]
    assert counted("wilss").iou()[3] == counted("panet").iou()[3]


def test_one_way_taken_for_another_is_foreground_all_the_same_but_for_panet() -> None:
    found = []
    for metric in ("wilss", "panet"):
        counts = EpisodeCounts(metric)
        counts.add(np.array([[0, 3, 3, 4, 4]], np.uint8), np.array([[0, 4, 3, 4, 3]], np.uint8), (3, 4))
        found.append(counts.binary_iou())
    assert found == pytest.approx([1.0, (1 + 2 / 6) / 2])


def test_a_query_without_background_counts_none_for_panet() -> None:
    found = []
    for metric in ("wilss", "panet"):
        counts = EpisodeCounts(metric)
        counts.add(np.array([[3, 3, VOID]], np.uint8), np.array([[3, 0, 0]], np.uint8), (3,))
        found.append(counts.binary_iou())
    assert found == pytest.approx([0.25, 0.5])


def test_with_one_way_both_metrics_are_the_same() -> None:
    found = []
    for metric in ("wilss", "panet"):
        counts = EpisodeCounts(metric)
        counts.add(np.array([[0, 1, 1]], np.uint8), np.array([[1, 1, 0]], np.uint8), (1,))
        found.append((counts.iou(), counts.binary_iou()))
    assert found[0] == found[1]
    assert found[0][0] == {1: 1 / 3}
    assert found[0][1] == pytest.approx(1 / 6)


def test_nothing_counted_is_no_number() -> None:
    assert np.isnan(EpisodeCounts().mean_iou())
    assert np.isnan(EpisodeCounts().binary_iou())
    counts = EpisodeCounts()
    counts.add(np.full((1, 2), VOID, np.uint8), np.ones((1, 2), np.uint8), (1,))
    assert np.isnan(counts.mean_iou())
