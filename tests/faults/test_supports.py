"""Shots on the command line: draw, check, generate, and what a user can get wrong; one sentence each, no traceback."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.drills import forms
from tests.faults.cli import IMAGES, Outcome, content, data_set, failures, full_after, generate, masks, wilss_masks
from tests.faults.train_cli import forkserver
from tests.wilss.data import data_on_disk as disk
from wilss.store import MaskStore, MaskStoreWriter

ROWS = [{"image": f"im{i}", "class": "horse", "box": [1, 1, 8, 8]} for i in range(3)]
SMALL = ("--set", "vit_size=32")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = data_set(tmp_path / "with spaces and ümläut")
    (found / "supports.yaml").write_text(yaml.safe_dump(ROWS))
    return found


def manifest_of(root: Path) -> tuple[str, Path]:
    return ("--manifest", root / "data_manifest.yaml")


def panet(root: Path, *words: object, out: str = "out/s.zarr", source: str = "panet") -> Outcome:
    return generate(root, "--supports", root / "supports.yaml", *SMALL, *words, source=source, out=out)


def refused(said: Outcome, code: int, words: str) -> None:
    assert said.code == code, said.said
    assert words in said.err, said.err
    assert "Traceback" not in said.said
    assert len([line for line in said.err.splitlines() if line.startswith("Error")]) <= 1


# -- the walk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", forms(["mask", "box"], short=["scribble"]))
def test_draw_check_generate_evaluate_and_look(root: Path, kind: str) -> None:
    sup = root / "drawn"
    words = ("--step", 1, "--kind", kind, "--shots", 2, "--smallest", 0.01)
    drawn = wilss_masks("supports", "draw", *words, *manifest_of(root), "--out", sup)
    assert drawn.code == 0, drawn.said
    assert f"2 supports, 2 of each of 1 classes, by {kind}" in drawn.out
    checked = wilss_masks("supports", "check", sup, "--step", 1, *manifest_of(root))
    assert checked.code == 0, checked.said
    assert "2 supports (horse 2)" in checked.out
    with Image.open(sup / "supports.png") as sheet:
        assert sheet.size > (300, 200)
    made = generate(root, "--supports", sup, "--shots", 2, *SMALL, "--keep", "scores", source="panet")
    assert made.code == 0, made.said
    for command in (("evaluate",), ("sheet", "--count", 2, "--out", root / "sheet.png")):
        told = wilss_masks(*command, root / "out/s.zarr", *manifest_of(root))
        assert told.code == 0, told.said
    assert wilss_masks("info", root / "out/s.zarr").code == 0
    assert wilss_masks("verify", root / "out/s.zarr").code == 0


def test_a_step_with_shots_needs_no_word_and_no_tags(tmp_path: Path) -> None:
    steps = [{"classes": [1, 2]}, {"classes": [3], "supervision": "shots"}]
    root = data_set(tmp_path, steps=steps, supports={1: ROWS}, masks={"panet": {"vit_size": 32}})
    for name in disk.CLASSES[1:]:
        (root / f"data/ImageSets/Main/{name}_train.txt").unlink()
    (root / "data_manifest.yaml").write_text((root / "data_manifest.yaml").read_text())
    fixed = ("--out", root / "s.zarr", "--device", "cpu", "--keep", "scores")
    made = wilss_masks("generate", "--step", 1, *manifest_of(root), *fixed)
    assert made.code == 0, made.said
    store = MaskStore.open(root / "s.zarr")
    assert store.image_ids == IMAGES
    assert store.attributes["source"] == "panet"
    assert store.attributes["uses_tags"] is False
    assert wilss_masks("evaluate", root / "s.zarr", *manifest_of(root)).code == 0
    told = wilss_masks("sheet", root / "s.zarr", *manifest_of(root), "--images", "im0")
    assert told.code == 0 if masks(root / "s.zarr")["im0"].any() else "choose others" in told.err


def test_check_of_a_manifest_knows_shots(tmp_path: Path) -> None:
    steps = [{"classes": [1, 2]}, {"classes": [3], "supervision": "shots"}]
    root = data_set(tmp_path, steps=steps)
    (root / "data/SegmentationClass/im0.png").unlink()
    told = wilss_masks("manifest", "check", *manifest_of(root))
    assert "step 1: 7 images, supervision: shots" in told.out
    assert told.code == 0
    of_shots = [line for line in told.out.splitlines() if "step 1" in line]
    assert of_shots
    assert not [line for line in of_shots if "im0" in line], "labels are asked of supports alone"


def test_the_store_says_what_its_masks_are_made_of(root: Path) -> None:
    assert panet(root).code == 0
    told = MaskStore.open(root / "out/s.zarr").attributes
    assert told["parameters"]["shots"] == 0
    assert len(told["supports_sha256"]) == 64
    assert "supports" not in told["parameters"], "where they lie is nobody's business"
    again = panet(root)
    assert "was complete already" in again.out
    (root / "supports.yaml").write_text(yaml.safe_dump([{**ROWS[0], "box": [0, 0, 3, 3]}, *ROWS[1:]]))
    refused(panet(root), 1, "supports_sha256")


def test_a_run_that_stopped_gives_the_same_bytes(root: Path) -> None:
    assert panet(root, "--keep", "scores", out="out/whole.zarr").code == 0
    with full_after(1):
        assert panet(root, "--keep", "scores").code == 1
    assert panet(root, "--keep", "scores").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/whole.zarr")


@pytest.mark.parametrize("source", forms(["insid3"], short=["panet"]))
def test_killed_between_two_shards_and_gone_on_with_gives_the_same_bytes(root: Path, source: str) -> None:
    assert panet(root, "--keep", "scores", source=source, out="out/whole.zarr").code == 0
    killed(root, source, shards=1)
    made = panet(root, "--keep", "scores", source=source)
    assert made.code == 0, made.said
    assert content(root / "out/s.zarr") == content(root / "out/whole.zarr")
    assert any(one.any() for one in masks(root / "out/s.zarr").values())


@pytest.mark.long
@pytest.mark.parametrize("source", ["panet", "insid3"])
def test_two_workers_give_the_same_bytes_and_go_on_after_a_kill(root: Path, source: str) -> None:
    assert panet(root, "--keep", "scores", source=source, out="out/whole.zarr").code == 0
    killed(root, source, shards=1)
    for out in ("out/s.zarr", "out/anew.zarr"):
        made = panet(root, "--keep", "scores", "--workers", 2, source=source, out=out)
        assert made.code == 0, made.said
        assert content(root / out) == content(root / "out/whole.zarr")


def killed(root: Path, source: str, *, shards: int) -> None:
    """A process that dies as it commits one more than so many of a store's three shards."""
    process = forkserver().Process(target=_dying, args=(root, source, shards))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert len(MaskStore.open(root / "out/s.zarr", allow_partial=True).pending_shards()) == 3 - shards


def _dying(root: Path, source: str, left: int) -> None:
    commit = MaskStoreWriter.commit

    def commit_some(writer: MaskStoreWriter, *receipts: Any) -> None:
        nonlocal left
        for receipt in receipts:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            commit(writer, receipt)

    MaskStoreWriter.commit = commit_some  # type: ignore[method-assign, assignment]
    panet(root, "--keep", "scores", source=source)


def test_a_broken_image_fails_alone(root: Path) -> None:
    (root / "data/JPEGImages/im5.jpg").write_bytes(b"")
    made = panet(root)
    assert made.code == 3, made.said
    assert list(failures(root / "out/s.zarr")) == ["im5"]
    assert len(masks(root / "out/s.zarr")) == 6


# -- what can be wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words", "told"),
    [
        ("fmwiss", ("--shots", 5), "--shots: there is no parameter 'shots'"),
        ("annotation", ("--supports", "x"), "--supports: the source 'annotation' has no parameter 'supports'"),
        ("fmwiss", ("--checkpoint", "x"), "--checkpoint: there is no parameter 'checkpoint'"),
        ("panet", ("--shots", 5, "--set", "alfa=3"), "--set / --shots: there is no parameter 'alfa'"),
        ("panet", ("--checkpoint", "x"), "there is no parameter 'checkpoint'"),
        ("panet", ("--supports", "none"), "none is not there; correct the path"),
        ("panet", (), "names no supports of step 1; add `supports: {1: FOLDER}`"),
        ("panet", ("--supports", "SUP", "--shots", 4), "has 3 support(s) of the class 'horse', fewer than the 4 shots"),
    ],
)
def test_wrong_words(root: Path, source: str, words: tuple[object, ...], told: str) -> None:
    given = [root / "supports.yaml" if word == "SUP" else word for word in words]
    refused(generate(root, *given, source=source, step=0 if source == "annotation" else 1), 2, told)
    assert not (root / "out").exists()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"image": "nobody", "class": "horse", "box": [0, 0, 3, 3]}, "'nobody' is no image of step 1's list"),
        ({"image": "im0", "class": "unicorn", "box": [0, 0, 3, 3]}, "'unicorn' is no class in `names`"),
        ({"image": "im0", "class": "horse", "box": [0, 0, 300, 3]}, "reaches the pixel (299, 2)"),
        ({"image": "im0", "class": "horse", "box": [3, 0, 3, 3]}, "holds no pixel"),
        ({"image": "im0", "class": "horse", "kind": "mask", "file": "."}, "is a folder, not an image"),
        ({"image": "im0", "class": "horse", "kind": "mask", "file": "no.png"}, "no.png is not there"),
    ],
)
def test_a_wrong_support(root: Path, row: dict[str, Any], told: str) -> None:
    (root / "supports.yaml").write_text(yaml.safe_dump([*ROWS[1:], row]))
    code = 1 if "file" in row else 2
    refused(panet(root), code, told)
    checked = wilss_masks("supports", "check", root / "supports.yaml", "--step", 1, *manifest_of(root))
    refused(checked, 3, told)
    assert "2 supports (horse 2)" in checked.out
    assert (root / "supports.png").exists()


def test_nothing_to_show(root: Path) -> None:
    (root / "supports.yaml").write_text(yaml.safe_dump([{**ROWS[0], "image": "nobody"}]))
    checked = wilss_masks("supports", "check", root / "supports.yaml", "--step", 1, *manifest_of(root))
    refused(checked, 3, "has no support of the class 'horse'")
    assert not (root / "supports.png").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("draw", "--step", 1, "--shots", 99, "--out", "OUT"), 2, "fewer than the 99 shots; use fewer shots"),
        (("draw", "--step", 7, "--out", "OUT"), 2, "step"),
        (("draw", "--step", 1, "--kind", "circle", "--out", "OUT"), 2, "'circle' is not one of"),
        (("draw", "--step", 1, "--shots", 1, "--out", "FILE"), 1, "cannot be written"),
        (("draw", "--step", 1, "--shots", 1, "--out", "HERE"), 1, "exists; give another path"),
        (("check", "--step", 1), 2, "names no supports of step 1"),
        (("check", "HERE", "--step", 1, "--out", "sheet.jpg"), 2, "does not end in .png"),
        (("check", "HERE", "--step", 1, "--out", "FILE/s.png"), 1, "cannot be written"),
    ],
)
def test_wrong_words_of_supports(root: Path, words: tuple[object, ...], code: int, told: str) -> None:
    (root / "file").write_text("")
    places = {"OUT": root / "new", "FILE": root / "file", "HERE": root, "FILE/s.png": root / "file/s.png"}
    given = [places.get(str(word), word) for word in words]
    refused(wilss_masks("supports", *given, *manifest_of(root)), code, told)
    assert not (root / "new").exists()


def test_fuse_refuses_in_a_sentence(root: Path) -> None:
    assert panet(root, "--keep", "scores").code == 0
    told = wilss_masks("fuse", root / "out/s.zarr", "--out", root / "fused.zarr", "--set", "fusion=union")
    refused(told, 1, "was made by panet, whose masks are not fused")
    told = wilss_masks("evaluate", root / "out/s.zarr", "--ablation", *manifest_of(root))
    refused(told, 1, "was made by panet, whose masks are not fused")


def test_masks_without_tags_may_be_empty_and_are_not_shown(root: Path) -> None:
    assert panet(root, "--set", "tags=false").code == 0
    store = MaskStore.open(root / "out/s.zarr")
    assert np.asarray(store.vector("tags")).all()
    assert store.image_ids == IMAGES
    assert wilss_masks("evaluate", root / "out/s.zarr", *manifest_of(root)).code == 0
