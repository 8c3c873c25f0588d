"""`wilss-masks bank`: a store like any other, from a store; and what it refuses."""

import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.faults.cli import Outcome, content, full_after, wilss_masks
from tests.wilss_masks.first_pass import BANK, Boxes, first_pass, world
from wilss.data.manifest import load_manifest
from wilss.store import MaskStore, Status
from wilss_masks.inspect.evaluate import _told_before, _unbiased
from wilss_masks.sources.annotation import AnnotationSource
from wilss_masks.sources.bank_file import BankMaker
from wilss_train import MaskDataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images, a first pass, and a second one over it."""
    root = tmp_path_factory.mktemp("two")
    world(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WILSS_CACHE", str(root / "cache"))
        assert bank(root).code == 0
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))


def bank(root: Path, *words: object, store: str = "first.zarr", out: Path | str = "second.zarr") -> Outcome:
    fixed = ("--manifest", root / "data_manifest.yaml", "--device", "cpu", "--batch-size", 2, "--shard-size", 3)
    return wilss_masks("bank", root / store, "--out", root / out, *fixed, *words)


def test_it_is_a_store_like_any_other(root: Path) -> None:
    store, first = MaskStore.open(root / "second.zarr"), MaskStore.open(root / "first.zarr")
    assert list(store.image_ids) == list(first.image_ids)
    assert (store.vector("status") == Status.DONE).all()
    attributes = store.attributes
    assert attributes["source"] == "bank"
    assert attributes["made_from"] == {"source": "boxes", "seal": first.attributes["seal"]}
    assert len(attributes["bank_sha256"]) == 64
    assert attributes["parameters"]["first"] == BANK["first"]
    assert not list(store.verify())


def test_the_other_commands_and_the_trainer_read_it(root: Path, tmp_path: Path) -> None:
    manifest = ("--manifest", root / "data_manifest.yaml")
    assert bank(root, "--keep", "scores", out=tmp_path / "kept.zarr").code == 0
    sheet = wilss_masks("sheet", tmp_path / "kept.zarr", *manifest, "--out", tmp_path / "sheet.png")
    assert sheet.code == 0, sheet.said
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 100
    for words in (("evaluate", root / "second.zarr", *manifest), ("verify", root / "second.zarr", *manifest)):
        done = wilss_masks(*words)
        assert done.code == 0, done.said
    assert "bank" in wilss_masks("info", root / "second.zarr").out
    refused = wilss_masks("fuse", tmp_path / "kept.zarr", "--out", tmp_path / "fused.zarr")
    assert refused.code == 1
    assert "made by bank" in refused.said
    dataset = MaskDataset(root / "second.zarr", root / "data_manifest.yaml")
    assert len(dataset) == 7
    masks = MaskStore.open(root / "second.zarr").read("im3").masks
    assert np.array_equal(dataset[3]["masks"].numpy(), masks)


@pytest.mark.parametrize(("first", "left_out"), [("fmwiss", 1), ("panet", 0)])
def test_images_that_the_first_pass_was_tuned_on_are_left_out(tmp_path: Path, first: str, left_out: int) -> None:
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("im0\nim1\n")
    store: Any = SimpleNamespace(attributes={"source": "bank", "made_from": {"source": first}}, path=tmp_path)
    manifest: Any = SimpleNamespace(chosen_on=chosen)
    assert len(list(_told_before(store, manifest, []))) == left_out


def test_images_that_settings_were_chosen_on_are_left_out_in_any_spelling(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.txt"
    chosen.write_text(unicodedata.normalize("NFD", "dög\nim1\n"), encoding="utf-8")
    store: Any = SimpleNamespace(attributes={"source": "fmwiss"}, path=tmp_path, image_ids=["dög", "im1", "im2"])
    manifest: Any = SimpleNamespace(chosen_on=chosen)
    rows, left_out, _ = _unbiased(store, manifest, np.arange(3))
    assert (rows.tolist(), list(left_out.values())) == ([2], [2])


def test_a_second_run_makes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BankMaker, "make", None)
    again = bank(root)
    assert again.code == 0, again.said
    assert "was complete already" in again.out


def test_killed_and_resumed_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    with full_after(1):
        assert bank(root, out=tmp_path / "again.zarr").code == 1
    assert MaskStore.open(tmp_path / "again.zarr", allow_partial=True).pending_shards() == (1, 2)
    (bank_file,) = (tmp_path / "cache/banks").iterdir()
    bank_file.unlink()
    assert bank(root, out=tmp_path / "again.zarr").code == 0
    assert content(tmp_path / "again.zarr") == content(root / "second.zarr")


def test_where_the_first_pass_was_made_again_so_is_the_second(tmp_path: Path) -> None:
    manifest, _ = world(tmp_path)
    done = bank(tmp_path)
    assert "first the bank, from a forward pass over 7 images" in done.err
    first_pass(manifest, tmp_path / "first.zarr", source=Boxes(empty=("im3",)), overwrite=True)
    refused = bank(tmp_path, "--update")
    assert refused.code == 1
    assert "made_from.seal" in refused.said
    assert "--overwrite" in refused.said
    assert bank(tmp_path, "--overwrite").code == 0


@pytest.mark.long
def test_workers_make_the_same_bytes(root: Path, tmp_path: Path) -> None:
    assert bank(root, "--workers", 2, out=tmp_path / "two.zarr").code == 0
    assert content(tmp_path / "two.zarr") == content(root / "second.zarr")


def test_generate_makes_it_too(root: Path, tmp_path: Path) -> None:
    words = ("--step", 1, "--manifest", root / "data_manifest.yaml", "--device", "cpu", "--batch-size", 2)
    more = ("--source", "bank", "--shard-size", 3, "--out", tmp_path / "by.zarr")
    done = wilss_masks("generate", *words, *more, "--set", f"store={root / 'first.zarr'}")
    assert done.code == 0, done.said
    assert content(tmp_path / "by.zarr") == content(root / "second.zarr")


def test_a_dry_run_says_what_would_be_done(root: Path, tmp_path: Path) -> None:
    said = bank(root, "--dry-run", out=tmp_path / "none.zarr")
    assert said.code == 0, said.said
    assert "step 1 of pets by bank: 7 images, 3 shards of 3" in said.out
    assert "would write" in said.out
    assert not (tmp_path / "none.zarr").exists()
    assert "nothing to do" in bank(root, "--dry-run").out


@pytest.mark.parametrize(
    ("words", "store", "out", "message"),
    [
        ((), "gone.zarr", "x.zarr", "gone.zarr"),
        ((), "first.zarr", "first.zarr", "is the store of the first pass, which is read; give another --out"),
        (("--overwrite",), "first.zarr", "first.zarr", "is the store of the first pass, which is read"),
        (("--dry-run", "--overwrite"), "first.zarr", "first.zarr", "is the store of the first pass, which is read"),
        (("--set", "erod=1"), "first.zarr", "x.zarr", "no parameter 'erod'; did you mean erode?"),
        (("--set", "erode=0.7"), "first.zarr", "x.zarr", "erode is 0.7; it must be at least 0 and at most 0.5"),
        (("--set", "features=pixels"), "first.zarr", "x.zarr", "choose one of tokens, keys, clip"),
        (("--set", "neighbours=2"), "first.zarr", "second.zarr", "parameters.neighbours: 2 asked for, 3 in the store"),
    ],
)
def test_what_it_refuses(root: Path, words: tuple[object, ...], store: str, out: str, message: str) -> None:
    before = content(root / "first.zarr")
    refused = bank(root, *words, store=store, out=out)
    assert refused.code in (1, 2)
    assert message in refused.said
    assert "Traceback" not in refused.said
    assert content(root / "first.zarr") == before


def refused_by_generate(root: Path, store: Path, *words: object, step: int = 1) -> str:
    fixed = ("--step", step, "--manifest", root / "data_manifest.yaml", "--source", "bank", "--out", root / "x.zarr")
    given = ("--set", f"store={store}") if store.name else ()
    outcome = wilss_masks("generate", *fixed, *given, *words)
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.said
    return outcome.said


def test_stores_that_no_second_pass_goes_over(root: Path, tmp_path: Path) -> None:
    manifest = load_manifest(root / "data_manifest.yaml")
    assert "has been given none; run `wilss-masks bank" in refused_by_generate(root, Path())
    assert "holds masks of step 1, not of step 0" in refused_by_generate(root, root / "first.zarr", step=0)
    labels = AnnotationSource.from_manifest(manifest, 1)
    first_pass(manifest, tmp_path / "labels.zarr", source=labels)
    assert "labels.zarr holds pixel labels" in bank(root, store=str(tmp_path / "labels.zarr"), out="x.zarr").said
    with full_after(1), pytest.raises(Exception, match="No space"):
        first_pass(manifest, tmp_path / "part.zarr")
    said = bank(root, store=str(tmp_path / "part.zarr"), out="x.zarr").said
    assert (
        "part.zarr is not complete: 2 of 3 shards are missing; run the same `wilss-masks generate` again, and then"
        in said
    )


def test_a_first_pass_of_other_data_or_changed_images_is_refused(tmp_path: Path) -> None:
    world(tmp_path)
    image = tmp_path / "data/JPEGImages/im0.jpg"
    before = image.read_bytes()
    Image.new("RGB", (16, 12)).save(image)
    assert "does not fit its images any more" in bank(tmp_path).said
    image.write_bytes(before)
    manifest = tmp_path / "data_manifest.yaml"
    as_it_was = manifest.read_text()
    manifest.write_text(as_it_was.replace("horse", "zebra"))
    assert "holds masks of horse, which are not the classes of step 1" in bank(tmp_path).said
    manifest.write_text(as_it_was)
    (tmp_path / "data/ImageSets/Segmentation/train.txt").write_text("im1\n")
    assert "was made from other data than" in bank(tmp_path).said


def test_an_image_that_failed_in_the_first_pass_fails_alone(tmp_path: Path) -> None:
    root = tmp_path
    world(root, source=Boxes(misfortune=""))
    broken = root / "data/JPEGImages/im2.jpg"
    good = broken.read_bytes()
    broken.write_bytes(b"\xff\xd8\xff")
    first_pass(load_manifest(root / "data_manifest.yaml"), root / "lame.zarr")
    broken.write_bytes(good)
    done = bank(root, store="lame.zarr")
    assert done.code == 3, done.said
    store = MaskStore.open(root / "second.zarr")
    row = store.position("im2")
    assert store.vector("status")[row] == Status.FAILED
    assert "lame.zarr has no masks of" in str(store.vector("error")[row])
    assert (np.delete(store.vector("status"), row) == Status.DONE).all()


def test_a_second_pass_of_a_second_pass_names_the_first_source(root: Path, tmp_path: Path) -> None:
    done: Any = bank(root, store="second.zarr", out=tmp_path / "third.zarr")
    assert done.code == 0, done.said
    made_from = MaskStore.open(tmp_path / "third.zarr").attributes["made_from"]
    assert made_from == {"source": "boxes", "seal": MaskStore.open(root / "second.zarr").attributes["seal"]}
