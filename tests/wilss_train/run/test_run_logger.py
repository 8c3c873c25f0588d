"""Curves for TensorBoard, with and without the package."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from wilss.errors import ParameterError
from wilss_train.results.report.log import Progress
from wilss_train.run.run_logger import CurveWriter


def progress(step: int) -> Progress:
    return Progress(
        step=step, steps=20, epoch=0, losses={"seg": 0.5}, lr={"head": 0.1}, images_per_second=9.0, seconds=1.0
    )


def test_every_curve_gets_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            points.append((folder, purge_step))

        def add_scalar(self, *point: Any) -> None:
            points.append(point)

        def flush(self) -> None:
            points.append(("flushed",))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    CurveWriter(tmp_path, first=10)(progress(20))
    assert points == [
        (tmp_path, 10), ("loss/seg", 0.5, 20), ("lr/head", 0.1, 20), ("images_per_second", 9.0, 20), ("flushed",),
    ]  # fmt: skip


def test_without_the_package_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ParameterError, match=r"pip install wilss\[tensorboard\]"):
        CurveWriter(tmp_path, first=0)
