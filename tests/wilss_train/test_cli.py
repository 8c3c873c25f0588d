"""The command lines on a real checkpoint of an untrained network: words, exit codes and files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss.models.networks.checkpoint import write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss_train import cli

SPEC = SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, num_channels=4)
FACTS = {
    "method": "finetune", "step": 1, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "params": {}, "seed": 0,
    "iterations": 0, "parent_digest": None, "store_digest": None, "manifest_name": "pets", "manifest_digest": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three images with labels, and a run whose network knows background, cat, dog and horse."""
    root = tmp_path_factory.mktemp("pets")
    disk.voc(root / "data", {"a": [1], "b": [2, 3], "c": [3]}, split="val")
    disk.text(root / "data/ImageSets/Segmentation/train.txt", "a")
    manifest = disk.manifest(root, splits={"train": "train", "val": "val"})
    protocol = load_manifest(manifest).protocol
    weights = build(SPEC, seed=0).state_dict()
    write_model(root / f"run/{MODEL_FILE}", weights, spec=SPEC, protocol=protocol, facts=FACTS)
    return root


def ended(command: Callable[[list[str]], None], *words: object) -> int:
    with pytest.raises(SystemExit) as end:
        command([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.mark.parametrize(("command", "name"), [(cli.evaluate, "wilss-eval"), (cli.predict, "wilss-predict")])
def test_help_has_examples_and_a_version(
    command: Callable[[list[str]], None], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(command, "--help") == 0
    assert re.search(rf"Examples:\n +{name} ", capsys.readouterr().out)
    assert ended(command, "--version") == 0
    assert re.fullmatch(rf"{name} \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_eval(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_MANIFEST", str(root / "data_manifest.yaml"))
    monkeypatch.setenv("WILSS_EVAL_DEVICE", "cpu")
    assert ended(cli.evaluate, root / "run", "--json", "-") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["confusion"]["classes"] == ["background", "cat", "dog", "horse"]
    assert np.sum(told["confusion"]["pixels"]) == 3 * 12 * 16
    assert ended(cli.evaluate, root / "run" / MODEL_FILE, "-q") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"Warning: \S+: 1 image \(a\) of the split 'val' stands in the list of .* as well, so .*\n", err
    )


def test_predict(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (root / "run", root / "data/JPEGImages", "--out", tmp_path / "out", "--device", "cpu")
    assert ended(cli.predict, *words) == 0
    assert "label maps and overlays of 3 images, 0 failed" in capsys.readouterr().out
    for name in "abc":
        with Image.open(tmp_path / f"out/{name}.png") as labels:
            assert (labels.mode, labels.size) == ("P", (16, 12))
            assert int(np.array(labels).max()) <= 3
    before = (tmp_path / "out/a.png").read_bytes()
    assert ended(cli.predict, *words) == 1
    assert "exists; leave out what is made already with --resume, give" in capsys.readouterr().err
    assert ended(cli.predict, *words, "--overwrite", "--batch-size", 1, "-q") == 0
    assert (tmp_path / "out/a.png").read_bytes() == before


def test_wrong_words(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = ("--manifest", root / "data_manifest.yaml")
    disk.manifest(tmp_path, path=str(root / "data"), splits={"train": "train", "val": "val"},
                  steps=[{"classes": [1]}, {"classes": [2, 3]}])  # fmt: skip
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 and so on")
    cases: list[tuple[Callable[[list[str]], None], tuple[object, ...], int, str]] = [
        (cli.evaluate, ("nowhere", *manifest), 1, r"nowhere is not there"),
        (cli.evaluate, (tmp_path / "weights.pth", *manifest), 1, r"weights\.pth is a pickle"),
        (cli.evaluate, (root / "run", "--manifest", "nix.yaml"), 2, r"nix\.yaml is not there; pass --manifest"),
        (cli.evaluate, (root / "run", "--manifest", tmp_path), 1, r"step 0 brings cat, dog to the checkpoint and cat"),
        (cli.evaluate, (root / "run", *manifest, "--split", "vall"), 2, r"no split 'vall'; did you mean 'val'"),
        (cli.evaluate, (root / "run", *manifest, "--device", "gpu"), 2, r"--device gpu is no device"),
        (cli.evaluate, (root / "run", *manifest, "--protocol", "half"), 2, r"'half' is not one of 'full', 'wilson'"),
        (cli.predict, (root / "run", "--out", tmp_path / "out"), 2, r"name images or folders"),
        (cli.predict, (root / "run", tmp_path, "--out", tmp_path / "out"), 2, r"holds no images"),
        (cli.predict, ("nowhere", "nope", "--out", tmp_path / "out"), 2, r"nope is not there; give the path"),
        (cli.predict, (root / "run", root / "data/JPEGImages"), 2, r"Missing option '--out'"),
    ]
    for command, words, code, sentence in cases:
        assert ended(command, *words) == code, sentence
        said = capsys.readouterr().err
        assert re.search(sentence, said), said
        assert len(re.findall("^Error: ", said, re.MULTILINE)) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"kind": "segmenter", "method": "fmwiss", "step": 0}, "generate --step 1"),
        ({"kind": "segmenter", "method": "fmwiss", "step": 1}, None),
        ({"kind": "embedding", "method": "panet", "step": 0}, "generate --step 1 --source panet --set embedding=run"),
        ({"kind": "segmenter", "method": "pseudoseg", "step": 0, "target": "fused"},
         "generate --step 0 --source pseudoseg --keep scores --checkpoint run --out run-soft.zarr"),
        ({"kind": "segmenter", "method": "pseudoseg", "step": 1, "target": "none"},
         "generate --step 1 --source pseudoseg --set kind=decoder --keep scores --checkpoint run --out run-soft.zarr"),
    ],
)  # fmt: skip
def test_a_run_says_what_comes_next(facts: dict[str, Any], said: str | None) -> None:
    from wilss_train.commands.train import _next_command

    params = {"target": facts.pop("target", ""), "targets": ""}
    info = SimpleNamespace(**facts, params=params, protocol=SimpleNamespace(num_steps=2))
    found = _next_command(Path("run"), info, Path("data_manifest.yaml"))
    assert found == (None if said is None else f"wilss-masks {said}")
