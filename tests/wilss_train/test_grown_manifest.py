"""New classes later: a manifest that came to a class and a step goes on from the run that it was trained with."""

from pathlib import Path

import pytest

from tests.faults import train_cli
from tests.wilss.data import data_on_disk as disk
from wilss_train import load_model
from wilss_train.cli import evaluate
from wilss_train.memory import MemoryBank
from wilss_train.run_folder import MEMORY


def test_a_class_and_a_step_are_added_to_a_manifest_that_was_trained_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = disk.CLASSES[:3]
    disk.voc(tmp_path / "data", {name: [1 + i % 2] for i, name in enumerate(train_cli.IMAGES)}, classes=classes)
    splits = {"train": "train"}
    disk.manifest(tmp_path, names=list(classes), steps=[{"classes": [1, 2]}], splits=splits, train=train_cli.TRAIN)
    train_cli.make_masks(tmp_path, 0)
    assert train_cli.wilss_train(*train_cli.words(tmp_path, "base", step=0)).code == 0
    train_cli.data_set(tmp_path)  # which knows of horses, and has a second step for them
    train_cli.make_masks(tmp_path, 1)
    made = train_cli.wilss_train(*train_cli.words(tmp_path, "next", "--epochs", 3))
    assert made.code == 0, made.said
    assert load_model(tmp_path / "next").classes == dict(enumerate(disk.CLASSES))
    assert {info.category_id for info in MemoryBank.open(tmp_path / "next" / MEMORY).infos} == {1, 2, 3}
    words = [str(tmp_path / "base"), "--manifest", str(tmp_path / "data_manifest.yaml"), "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        evaluate(words)
    assert not end.value.code, capsys.readouterr().err
