"""report.json and report.html: the figures are the evaluation's, nothing loads from anywhere, text is text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.wilss_train.results.report.reports import (
    NASTY,
    evaluation_of,
    nasty_taxonomy,
    pictures_of,
    protocol_of,
    write_log,
)
from wilss.errors import CheckpointError
from wilss_train.results.judge import RunResults
from wilss_train.results.report.figures import class_figures, headlines, most_confused, shared_means
from wilss_train.results.report.page import (
    PAGE_FILE,
    REPORT_FILE,
    _change,
    _direction,
    _duration,
    _percent,
    write_report,
)

VOID_TAGS = {"meta", "img", "br", "link", "input", "hr", "col"}


class Page(HTMLParser):
    """Reads a page, and notes whether its tags are balanced, what it shows and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.shown.append(data.strip())


def written(folder: Path, protocol: Any, step: int = 1, **more: Any) -> tuple[dict[str, Any], str]:
    old = evaluation_of(protocol, step - 1, seed=1) if step else None
    paths = write_report(folder, evaluation=evaluation_of(protocol, step), old_evaluation=old, **more)
    assert paths == (folder / REPORT_FILE, folder / PAGE_FILE)
    return json.loads(paths[0].read_text()), paths[1].read_text()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder, protocol = tmp_path_factory.mktemp("run"), protocol_of()
    return written(folder, protocol, pictures=pictures_of(protocol, 1), log=write_log(folder / "log.jsonl"))


def test_the_document_holds_the_evaluations_and_what_they_rest_on(report: tuple[dict[str, Any], str]) -> None:
    document, evaluation = report[0], evaluation_of(protocol_of(), 1)
    assert (document["format"], document["format_version"]) == ("wilss-report", 1)
    assert (document["method"], document["protocol"], document["step"]) == ("fmwiss", "15-5", 1)
    assert document["scores"] == json.loads(json.dumps(evaluation.as_json()))
    assert document["old_model"]["step"] == 0
    assert document["classes"]["new"] == ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]
    assert document["digests"] == {"model": "11" * 32, "parent": "ab" * 32, "store": "cd" * 32, "manifest": "ef" * 32}
    assert document["params"]["method"] == {"alpha": 0.5, "beta": 0.9}
    training = document["training"]
    assert (training["steps"], training["epochs"], training["images"], training["finished"]) == (4000, 40, 2145, True)
    assert list(training["failed_images"]) == ["2008_000021"]


def test_the_change_is_that_of_the_same_classes(report: tuple[dict[str, Any], str]) -> None:
    """The old model's mean over its classes is its new IoU at step 0."""
    new, old = evaluation_of(protocol_of(), 1), evaluation_of(protocol_of(), 0, seed=1)
    assert new.old_iou is not None
    assert old.new_iou is not None
    change = report[0]["change"]
    assert change["mean_iou_old"] == pytest.approx(new.old_iou - old.new_iou)
    assert change["old_classes"] == pytest.approx({"classes": 15, "now": new.old_iou, "before": old.new_iou})
    assert set(change["iou"]) == set(old.scores.names)
    assert change["iou"]["cow"] == pytest.approx(float(new.scores.iou[10] - old.scores.iou[10]))


def test_the_page_is_whole_and_says_the_headline_numbers(report: tuple[dict[str, Any], str]) -> None:
    page, evaluation = Page(report[1]), evaluation_of(protocol_of(), 1)
    for value in (evaluation.all_iou, evaluation.old_iou, evaluation.new_iou, evaluation.harmonic):
        assert f"{100 * (value or 0):.1f}" in page.shown
    assert page.tags["svg"] == 21 + 1 + 5 + 2 + 1  # bars, matrix, losses, learning rates, speed
    assert len(report[1]) < 1_500_000


def test_the_charts_of_the_page_are_xml(report: tuple[dict[str, Any], str]) -> None:
    for svg in re.findall(r"<svg.*?</svg>", report[1], flags=re.DOTALL):
        ElementTree.fromstring(svg)


def test_a_start_from_nothing_is_said_on_the_page(report: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    sentence = "The backbone started from random weights"
    assert sentence not in report[1]
    assert sentence in written(tmp_path, protocol_of(), 0, run={"weights": "random"})[1]


def test_nothing_loads_from_anywhere(report: tuple[dict[str, Any], str]) -> None:
    page = Page(report[1])
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    loaded = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "xlink:href", "data")]
    assert loaded
    assert all(value.startswith("data:image/") for value in loaded)
    assert {url[:11] for url in re.findall(r"url\(([^)]*)\)", report[1])} == {"data:image/"}
    assert "@import" not in report[1]
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\")]*", "", report[1]))
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_twelve_pictures_with_truth_old_model_and_prediction(report: tuple[dict[str, Any], str]) -> None:
    assert Page(report[1]).tags["img"] == 12 * 3
    assert report[1].count("--photo:url(data:image/jpeg;base64,") == 12


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    protocol = protocol_of()
    assert written(tmp_path / "a", protocol, pictures=pictures_of(protocol, 1, 2)) == written(
        tmp_path / "b", protocol, pictures=pictures_of(protocol, 1, 2)
    )


def test_names_that_are_markup_stay_text(tmp_path: Path) -> None:
    protocol = protocol_of("15-5", nasty_taxonomy())
    error = {f"<script>{NASTY}": "<img src=x onerror=alert(1)> is broken."}
    paths = write_report(
        tmp_path,
        evaluation=evaluation_of(protocol, 1, failed=error),
        old_evaluation=evaluation_of(protocol, 0),
        pictures=pictures_of(protocol, 1),
        log=write_log(tmp_path / "log.jsonl", lines=3),
        run={"title": f"</title>{NASTY}\udcfc", "<u>host</u>": NASTY},
    )
    text = paths[1].read_text()
    page = Page(text)
    assert not {"script", "u"} & set(page.tags)
    assert page.tags["img"] == 12 * 3
    assert text.index("</title>") < text.index("<style>")
    assert any(NASTY in shown for shown in page.shown)
    assert [label for _, name, label in page.attributes if name == "aria-label" and label.startswith(NASTY)]


def test_many_classes_make_a_readable_page(tmp_path: Path) -> None:
    protocol = protocol_of("coco-voc")
    _, text = written(tmp_path, protocol, pictures=pictures_of(protocol, 1))
    page = Page(text)
    assert page.tags["svg"] == 81 + 1
    assert "Old classes, continued" in page.shown
    assert len(text) < 1_500_000


def test_the_base_step_compares_with_nothing(tmp_path: Path) -> None:
    document, text = written(tmp_path, protocol_of(), 0)
    assert document["old_model"] is document["change"] is document["training"] is None
    shown = Page(text).shown
    assert "Change" not in shown
    assert "Old classes" not in shown
    assert not {"Training", "Examples"} & set(shown)


def test_a_class_that_never_came_has_no_iou_and_is_last(tmp_path: Path) -> None:
    protocol = protocol_of()
    evaluation = evaluation_of(protocol, 1)
    evaluation.scores.matrix[18] = evaluation.scores.matrix[:, 18] = 0
    write_report(tmp_path, evaluation=evaluation)
    figures = class_figures(evaluation, None)[18]
    assert figures.iou is figures.recall is figures.change is None
    text = (tmp_path / PAGE_FILE).read_text()
    assert text.index(">tvmonitor</th>") < text.index(">sofa</th>")
    assert [label for _, _, label in Page(text).attributes if label == "sofa: IoU \N{EN DASH}"]


def test_a_single_new_class_is_one(tmp_path: Path) -> None:
    _, text = written(tmp_path, protocol_of("19-1"))
    assert "1 new class beside 19 old" in " ".join(" ".join(Page(text).shown).split())


def test_evaluations_of_other_images_are_refused(tmp_path: Path) -> None:
    protocol = protocol_of()
    with pytest.raises(CheckpointError, match="judge both on the same split"):
        write_report(
            tmp_path, evaluation=evaluation_of(protocol, 1), old_evaluation=evaluation_of(protocol, 0, split="test")
        )
    assert not list(tmp_path.iterdir())


def test_headlines_of_a_later_step_compare_all_old_classes() -> None:
    """At step 2 of 15-1 the old model has sixteen classes, one of them new to it."""
    protocol = protocol_of("15-1")
    new, old = evaluation_of(protocol, 2, seed=3), evaluation_of(protocol, 1, seed=4)
    line = next(one for one in headlines(new, old) if one.label == "Old classes")
    before = float(old.scores.iou[1:].mean())
    assert line.note == f"16 classes, {100 * before:.1f} % before"
    assert new.old_iou is not None
    assert line.change == pytest.approx(new.old_iou - before)
    steps = [one.step for one in class_figures(new, old)]
    assert steps == [None, *[0] * 15, 1, 2]


def test_before_is_compared_on_the_same_classes() -> None:
    """A class that one of the models has no IoU of is in neither mean, and nor are new classes or background."""
    now = {"background": 0.9, "cat": 0.5, "dog": 0.25, "cow": None, "sofa": 0.1}
    before = {"background": 0.8, "cat": 0.75, "dog": 0.5, "cow": 0.0}
    assert shared_means(now, before, ("cat", "dog", "cow")) == (2, 0.375, 0.625)
    assert shared_means(now, before, ("cow",)) == (0, None, None)


def test_the_table_of_a_run_has_before_beside_the_same_classes() -> None:
    protocol = protocol_of()
    now, before = (
        evaluation_of(protocol, 1, [0.9] * 6 + [0.5] * 15),
        evaluation_of(protocol, 0, [0.9] * 6 + [0.75] * 10),
    )
    results = RunResults(info=now.info, scores=now.as_json(), old_scores=before.as_json(), page=None)
    cells = [line.split("  ") for line in results.table()]
    rows = {row[0]: [cell.strip() for cell in row[1:] if cell] for row in cells}
    old = [float(each.scores.iou[1:16].mean()) for each in (now, before)]
    assert rows["old classes"] == ["15", *(f"{100 * value:.1f}" for value in old)]
    assert rows["new classes"] == ["5", f"{100 * (now.new_iou or 0):.1f}", "-"]
    assert rows["background"] == ["1", *(f"{100 * float(each.scores.iou[0]):.1f}" for each in (now, before))]
    assert rows["all"] == ["21", f"{100 * (now.all_iou or 0):.1f}", "-"]
    first = RunResults(info=before.info, scores=before.as_json(), old_scores=None, page=None).table()
    assert [line.split("  ")[0] for line in first if line[0] != "-"] == ["mIoU %", "classes", "background", "all"]


def test_classes_of_the_step_that_no_pixel_is_called_are_named_below_the_table() -> None:
    evaluation = evaluation_of(protocol_of(), 1)
    matrix = evaluation.scores.matrix
    assert not any(line.startswith("No pixel") for line in _table_of(evaluation))
    matrix[:, 3] = matrix[:, 16] = 0  # bird is an old class
    matrix[:, 20] = matrix[20] = 0  # not labelled either
    assert _table_of(evaluation)[-1] == (
        "No pixel of val is called pottedplant; if 0 optimiser steps were too few for that, raise --epochs, or show "
        "few images more often by a greater --set epoch_steps=N."
    )


def _table_of(evaluation: Any) -> list[str]:
    return RunResults(info=evaluation.info, scores=evaluation.as_json(), old_scores=None, page=None).table()


def test_the_largest_confusions_are_between_classes() -> None:
    evaluation = evaluation_of(protocol_of(), 0)
    matrix = evaluation.scores.matrix
    matrix[:] = 0
    matrix[5, [0, 5, 7]], matrix[7, [7, 5]] = (50, 20, 30), (99, 1)
    found = most_confused(evaluation.scores.names, matrix, 10, least=0.02)
    assert [(one.true, one.predicted, one.share) for one in found] == [("bottle", "car", 0.3)]


def test_numbers_are_said_as_people_say_them() -> None:
    assert [_percent(value) for value in (0.6254, 1.0, 0.0, None)] == ["62.5", "100.0", "0.0", "\N{EN DASH}"]
    assert [_change(value) for value in (0.012, -0.034, -0.0001, None)] == ["+1.2", "\N{MINUS SIGN}3.4", "0.0", ""]
    assert [_direction(value) for value in (0.012, -0.034, 0.0001)] == ["up", "down", "level"]
    assert [_duration(s) for s in (8.42, 192, 7500)] == ["8.4 s", "3 min 12 s", "2 h 05 min"]
