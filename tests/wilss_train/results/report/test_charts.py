"""The charts: well-formed, and drawn where the figures say."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wilss_train.results.report.reports import NASTY
from wilss_train.results.report.charts import class_bar, confusion_map, curve, nice_ticks


def points(svg: str, tag: str) -> np.ndarray:
    drawn = ElementTree.fromstring(svg).find(tag)
    assert drawn is not None
    return np.array([[float(x) for x in pair.split(",")] for pair in drawn.attrib["points"].split()])


def test_a_bar_is_as_long_as_its_value_and_marks_the_old_model() -> None:
    root = ElementTree.fromstring(class_bar(NASTY, 0.625, 0.7, is_new=False))
    assert root.find("rect").attrib["width"] == "62.5%"  # type: ignore[union-attr]
    assert [one.attrib["x1"] for one in root.findall("line") if one.attrib["class"] == "before"] == ["70%"]
    assert root.attrib["aria-label"] == NASTY


def test_a_class_without_iou_has_no_bar() -> None:
    root = ElementTree.fromstring(class_bar("x", None, None, is_new=True))
    assert root.find("rect") is None


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@example(5e-324, 0.0)
def test_ticks_are_few_round_and_span_the_values(least: float, span: float) -> None:
    ticks = nice_ticks(least, least + span)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * (abs(ticks[0]) + abs(ticks[-1]))
    assert ticks[0] <= least + slack
    assert ticks[-1] >= least + span - slack


def test_a_curve_goes_down_where_the_loss_does_and_starts_left() -> None:
    steps = list(range(10, 1010, 10))
    mean = points(curve("loss", steps, [1 / step for step in steps], last_step=1000), "polyline")
    assert len(mean) == 100
    assert (np.diff(mean[:, 0]) > 0).all()
    assert (np.diff(mean[:, 1]) >= 0).all()  # downwards on the page
    assert mean[-1, 0] == pytest.approx(320 - 8)


def test_a_short_run_is_points_with_lines() -> None:
    for count, points_drawn in ((1, 1), (3, 3), (24, 24), (25, 1)):
        svg = curve("loss", range(count), [1.0 / (1 + step) for step in range(count)], last_step=count)
        assert svg.count("<circle") == points_drawn
        assert svg.count("<polyline") == 1


def test_many_lines_become_stretches_and_gaps_are_left_out() -> None:
    values = np.sin(np.arange(5000.0)) + 2
    values[::7] = np.nan
    svg = curve("loss", range(5000), values.tolist(), last_step=5000)
    assert len(points(svg, "polyline")) == 120
    assert np.isfinite(points(svg, "polygon")).all()
    assert len(svg) < 8000


@pytest.mark.parametrize("values", [[], [float("nan")] * 3, [0.0, 0.0, 0.0], [1e-9], [-3.0, 5.0], [1e6, 1e6]])
@pytest.mark.parametrize("log_scale", [False, True])
def test_odd_curves_are_drawn_too(values: list[float], log_scale: bool) -> None:
    svg = curve("odd", range(len(values)), values, last_step=0, log_scale=log_scale)
    ElementTree.fromstring(svg)
    assert "nan" not in svg.replace('aria-label="odd"', "")


def cells(svg: str, kind: str) -> list[tuple[str, str]]:
    """(d, opacity) of the paths of a kind."""
    root = ElementTree.fromstring(svg)
    return [(p.attrib["d"], p.attrib["fill-opacity"]) for p in root.findall("path") if p.attrib["class"] == kind]


def test_the_matrix_has_its_cells_in_their_places() -> None:
    """Half of the second class is taken for the third; the first has no pixels at all."""
    matrix = np.array([[0, 0, 0], [0, 50, 50], [0, 0, 10]], np.int64)
    svg = confusion_map(["a", "b", "c"], matrix, first_new=2)
    assert cells(svg, "miss") == [("M64 32h32v32h-32z", "0.7")]  # sqrt(0.5) in twentieths
    assert cells(svg, "hit") == [("M32 32h32v32h-32z", "0.7"), ("M64 64h32v32h-32z", "1")]
    titles = [title.text for title in ElementTree.fromstring(svg).iter("title")]
    assert "50.0 % of b labelled c" in titles
    assert svg.count('class="part"') == 2


def test_a_matrix_of_many_classes_is_small_and_names_them_all() -> None:
    names = [f"class {i} {NASTY}" for i in range(81)]
    matrix = np.full((81, 81), 10, np.int64) + 100 * np.eye(81, dtype=np.int64)
    svg = confusion_map(names, matrix, first_new=61)
    texts = [text.text for text in ElementTree.fromstring(svg).iter("text")]
    assert [texts.count(name) for name in names] == [2] * 81
    assert len(svg) < 250_000


def test_characters_that_xml_has_not_do_no_harm() -> None:
    svg = confusion_map(["a\x00b", "c\udcfc"], np.eye(2, dtype=np.int64), first_new=0)
    ElementTree.fromstring(svg)
    assert "part" not in svg
