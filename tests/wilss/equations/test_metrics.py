"""The confusion matrix against a loop over pixels, and its figures by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wilss.equations.metrics import Scores, confusion

CLASS_IDS = (16, 17, 3)
IDS = st.sampled_from([0, 3, 16, 17, 20, 255])


def channel(identity: int) -> int:
    return 1 + CLASS_IDS.index(identity) if identity in CLASS_IDS else 0


@settings(max_examples=60, deadline=None)
@given(pixels=st.lists(st.tuples(IDS, IDS), min_size=1, max_size=40))
def test_confusion_is_a_loop_over_pixels(pixels: list[tuple[int, int]]) -> None:
    slow = np.zeros((4, 4), int)
    for true, predicted in pixels:
        if true != 255:
            slow[channel(true), channel(predicted)] += 1
    truth, predicted_map = np.array(pixels, np.uint8).T[:, None]
    np.testing.assert_array_equal(confusion(truth, predicted_map, CLASS_IDS), slow)


def test_figures_of_a_confusion_matrix_by_hand() -> None:
    scores = Scores(names=("background", "a", "b"), matrix=np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    np.testing.assert_allclose(scores.iou, [6 / 9, 3 / 6, np.nan])
    np.testing.assert_allclose(scores.precision, [6 / 7, 3 / 5, np.nan])
    np.testing.assert_allclose(scores.recall, [6 / 8, 3 / 4, np.nan])
    assert scores.mean_iou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert scores.mean_iou_classes == pytest.approx(3 / 6)
    empty = Scores(names=("background", "a"), matrix=np.zeros((2, 2), np.int64))
    assert math.isnan(empty.mean_iou)


def test_images_that_lack_a_class_do_not_raise_its_score() -> None:
    """Ten images, two half of a cat that is never found; then found, and seen in the other eight, everywhere.

    By means over images, or with a full score for a class that is not there, either reads far better than it is.
    """
    truth = np.zeros((10, 10, 10), np.uint8)
    truth[:2, :5] = 1
    everywhere = truth.copy()
    everywhere[2:] = 1
    for predicted, iou in ((np.zeros_like(truth), (0.9, 0.0)), (everywhere, (100 / 900, 100 / 900))):
        by_image = sum(confusion(one, other, (1, 2)) for one, other in zip(truth, predicted, strict=True))
        np.testing.assert_array_equal(by_image, confusion(truth, predicted, (1, 2)))
        scores = Scores(names=("background", "cat", "dog"), matrix=np.asarray(by_image))
        np.testing.assert_allclose(scores.iou, [*iou, np.nan])
        assert scores.mean_iou == pytest.approx(np.mean(iou))
