"""Second passes, few shots and parts over data in a bucket: the bytes and figures of the same data on disk."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.drills import forms
from tests.faults.cli import content, generate, wilss_masks
from tests.faults.train_cli import data_set, make_masks
from tests.wilss_masks.first_pass import world
from tests.wilss_train.data.episodes.pictures import VIT
from tests.wilss_train.logs import untimed_lines
from tests.wilss_train.methods.test_panet import METHOD, PARAMS, QUIET
from wilss.disk import ObjectUrl, data_path
from wilss.errors import StoreError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.store import MaskStore
from wilss_masks.make import parts
from wilss_train import train
from wilss_train.cli import evaluate
from wilss_train.results.report.log import LOG_FILE

from .test_commands import said
from .test_data import manifest_of, uploaded
from .test_stores import beside, contents


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))


def moved(root: Path, bucket: ObjectUrl, out: Path) -> Path:
    """The manifest of `root` for its data in the bucket, and what lies beside it."""
    manifest_of(root, out, uploaded(root / "data", bucket))
    for file in root.glob("*.json"):
        shutil.copy(file, out)
    return out


def test_a_second_pass(bucket: ObjectUrl, tmp_path: Path) -> None:
    world(tmp_path / "near")
    far = moved(tmp_path / "near", bucket, tmp_path / "far")
    first = uploaded(tmp_path / "near/first.zarr", bucket.parent / "first.zarr").url
    sizes = ("--device", "cpu", "--batch-size", 2, "--shard-size", 3, "--keep", "scores")
    near = tmp_path / "near"
    for root, store, out in ((near, near / "first.zarr", tmp_path / "s.zarr"), (far, first, bucket / "s.zarr")):
        made = wilss_masks("bank", store, "--out", out, "--manifest", root / "data_manifest.yaml", *sizes)
        assert made.code == 0, made.said
    assert contents(bucket / "s.zarr") == content(tmp_path / "s.zarr")
    assert MaskStore.open(bucket / "s.zarr").digest == MaskStore.open(tmp_path / "s.zarr").digest


def test_parts_and_seal(bucket: ObjectUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world(tmp_path / "near")
    far = moved(tmp_path / "near", bucket, tmp_path / "far")
    assert generate(tmp_path / "near").code == 0
    there = bucket / "masks/parts.zarr"
    words = ("--step", 1, "--source", "standin", "--manifest", far / "data_manifest.yaml", "--out", there)
    sizes = ("--device", "cpu", "--batch-size", 2, "--shard-size", 3)
    with monkeypatch.context() as patch:
        patch.setattr(parts, "seal_parts", _stopped)
        for part in ("2/3", "1/3"):
            stopped = wilss_masks("generate", *words, *sizes, "--part", part)
            assert (stopped.code, "stopped here" in stopped.err) == (1, True), stopped.said
    assert MaskStore.open(there, allow_partial=True).layout.num_shards == 3
    assert "is complete: 3 shards" in wilss_masks("seal", there).out
    assert contents(there) == content(tmp_path / "near/out/s.zarr")
    assert "was complete already" in wilss_masks("generate", *words, *sizes, "--part", "3/3").out
    assert beside(there) == {"parts.zarr"}


def _stopped(path: Path) -> None:
    raise StoreError("stopped here; go on.")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, two of which a step knows, and their masks; the encoder of shots is a small one."""
    vit = VIT.model_dump(include={"library", "model", "pretrained", "args"})
    root = data_set(tmp_path_factory.mktemp("pets"), encoders={"vit": vit}, masks={"panet": {"vit_size": 32}})
    make_masks(root, 0)
    return root


def test_episodes_and_what_is_learnt_from_them(
    pets: Path, bucket: ObjectUrl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far, figures = moved(pets, bucket, tmp_path / "far"), []
    for root, out in ((pets, tmp_path / "near-run"), (far, tmp_path / "far-run")):
        how: dict[str, Any] = {"method": replace(METHOD, episodes=2), "params": replace(PARAMS, epochs=2)}
        train(pets / "masks/step-0.zarr", manifest=root / "data_manifest.yaml", out=out, options=QUIET, **how)
        words = ("--manifest", root / "data_manifest.yaml", "--episodes", 4, "--runs", 1, "--metric", "panet")
        run = out if root == pets else uploaded(out, bucket.parent / "run")
        for checkpoint in (run, "--frozen"):
            code, text = said(capsys, checkpoint, *words, "--json", "-", "--device", "cpu", main=evaluate)
            assert code == 0, text
            figures.append(json.loads(text[: text.rindex("}") + 1]))
    assert [figures_of.pop("seconds") > 0 for figures_of in figures] == [True] * 4
    assert [figures_of.pop("checkpoint")["path"] for figures_of in figures[::2]] == [
        f"{place}/{MODEL_FILE}" for place in (tmp_path / "near-run", data_path(f"{bucket.parent}/run"))
    ]
    assert (tmp_path / "near-run" / MODEL_FILE).read_bytes() == (tmp_path / "far-run" / MODEL_FILE).read_bytes()
    assert untimed_lines(tmp_path / "near-run" / LOG_FILE) == untimed_lines(tmp_path / "far-run" / LOG_FILE)
    assert figures[:2] == figures[2:]


@pytest.mark.parametrize("source", forms(["insid3"], short=["panet"]))
def test_masks_from_shots(pets: Path, bucket: ObjectUrl, tmp_path: Path, source: str) -> None:
    far = moved(pets, bucket, tmp_path / "far")
    drawn = ("--step", 1, "--shots", 2, "--kind", "box")
    made = wilss_masks(
        "supports", "draw", "--manifest", far / "data_manifest.yaml", *drawn, "--out", tmp_path / "shots"
    )
    assert made.code == 0, made.said
    there = uploaded(tmp_path / "shots", bucket.parent / "shots")
    for root, shots, out in ((pets, tmp_path / "shots", "near"), (far, there, "far")):
        words = ("--set", f"supports={shots}", "--set", "vit_size=32", "--out", tmp_path / f"{out}.zarr")
        made = wilss_masks(
            *("generate", "--step", 1, "--source", source, "--manifest", root / "data_manifest.yaml"),
            *("--device", "cpu", "--batch-size", 2, "--shard-size", 3, *words),
        )
        assert made.code == 0, made.said
    assert content(tmp_path / "near.zarr") == content(tmp_path / "far.zarr")
