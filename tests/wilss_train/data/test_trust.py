"""Which masks are learnt from, by what people said of them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.references import trust as reference
from tests.wilss_train.memory.drawn import PROTOCOL, make_store, random_masks, records_of, write_images
from wilss.errors import ParameterError, StoreError
from wilss.store import verdicts
from wilss_masks import Correction, revise
from wilss_train.data.batch_source import Visit
from wilss_train.data.batches import SegBatchSource
from wilss_train.data.masked_images import MaskedImages
from wilss_train.data.trust import Trust, found_without_tags, trusted
from wilss_train.memory import MemoryBank, fill
from wilss_train.methods import METHODS, segmenter
from wilss_train.params import VERDICTS, TrainParams, trust_weights
from wilss_train.run import plan
from wilss_train.run.settings import _require_trusted

COUNT = 8
#: As wide as the pictures, so that a view shows all of one.
PARAMS: dict[str, Any] = {"batch_size": 2, "crop": 16, "scale": (1.0, 1.0), "flip": 0.0, "cache_mib": 0}


@given(st.data(), st.integers(1, 3), st.booleans())
def test_trusted_is_its_twin(data: st.DataObject, count: int, has_void: bool) -> None:
    masks = data.draw(arrays(np.bool_, (count, 3, 4)))
    void = data.draw(arrays(np.bool_, (3, 4))) if has_void else None
    kept = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    standing, unknown = trusted(masks, void, kept)
    theirs = reference.trusted(masks, void, kept)
    assert np.array_equal(standing, theirs[0])
    assert np.array_equal(np.zeros((3, 4), bool) if unknown is None else unknown, theirs[1])
    assert unknown is not None or void is None


@pytest.mark.parametrize(
    ("word", "weights"),
    [
        ("all", (1, 1, 1, 1)),
        ("judged", (0, 1, 1, 1)),
        ("accepted", (0, 1, 0, 1)),
        ("unjudged:0.3", (0.3, 1, 1, 1)),
        ("unjudged: 0.25, rejected:0 ,corrected:1", (0.25, 1, 0, 1)),
    ],
)
def test_words_and_weights(word: str, weights: tuple[float, ...]) -> None:
    assert trust_weights(word) == weights
    assert VERDICTS == verdicts.VERDICTS


@pytest.mark.parametrize("word", ["", "some", "unjudged", "unjudged:2", "unjudged:-1", "unjudged:nan", "fine:0.5"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ParameterError, match=r"trust .*unjudged:0\.3,rejected:0"):
        TrainParams(trust=word)


@pytest.fixture
def images(tmp_path: Path) -> MaskedImages:
    """Eight images, of which the first three were judged: accepted, rejected, corrected."""
    drawn = random_masks(COUNT, PROTOCOL.new(1))
    store = make_store(tmp_path / "step-1.zarr", drawn, step=1)
    told = []
    for row, verdict in enumerate(("accepted", "rejected", "corrected")):
        for place in store.read(row).categories:
            mask = np.ones(store.read(row).masks.shape[1:], bool) if verdict == "corrected" else None
            told.append(
                Correction(
                    image_id=store.image_ids[row], category=store.category_ids[place], verdict=verdict,  # type: ignore[arg-type]
                    mask=mask, author="Ada", at=datetime(2026, 11, 29, tzinfo=UTC), origin="test",
                )
            )  # fmt: skip
    new = revise(store, tmp_path / "revised.zarr", corrections={"a list": told}).store
    return MaskedImages(new, records_of(write_images(tmp_path / "images", drawn)))


def source(images: MaskedImages, trust: str, least: float = 0.0, **more: Any) -> SegBatchSource:
    params = TrainParams(trust=trust, least_confidence=least, **PARAMS)
    return SegBatchSource(images, PROTOCOL, 1, params, seed=3, **more)


def test_images_are_chosen_by_verdict(images: MaskedImages) -> None:
    counts = {word: source(images, word).image_count for word in ("all", "judged", "accepted", "corrected:0")}
    whole = counts["all"]
    assert counts == {"all": whole, "judged": 3, "accepted": 2, "corrected:0": whole - 1}
    ids = {source(images, "accepted").sample(Visit(place, (0,))).image_ids[0] for place in range(2)}
    assert ids == {images.store.image_ids[0], images.store.image_ids[2]}


def test_a_weight_is_the_share_of_views_that_take_a_mask(images: MaskedImages) -> None:
    some, whole = source(images, "unjudged:0.3"), source(images, "all")
    taken, shown = 0, 0
    for epoch in range(60):
        for place in range(3, some.image_count):
            mine, theirs = (one.sample(Visit(place, (epoch,))) for one in (some, whole))
            assert not (mine.pseudo & ~theirs.pseudo).any()
            assert (mine.void | ~theirs.pseudo.any(dim=1) | mine.pseudo.any(dim=1)).all()
            taken, shown = taken + int(mine.pseudo.sum()), shown + int(theirs.pseudo.sum())
    assert 0.25 < taken / shown < 0.35
    again = source(images, "unjudged:0.3").sample(Visit(4, (1,)))
    assert bool((again.pseudo == some.sample(Visit(4, (1,))).pseudo).all())


def test_a_store_that_nobody_judged_is_told(images: MaskedImages, tmp_path: Path) -> None:
    drawn = random_masks(COUNT, PROTOCOL.new(1))
    plain = MaskedImages(make_store(tmp_path / "plain.zarr", drawn, step=1), records_of({}))
    with pytest.raises(StoreError, match="or that `trust` or `least_confidence` does not take"):
        source(plain, "judged")
    assert Trust.of(plain.store, "unjudged:0", 1).kept(0, [0, 1], "a", [1]) == [False, False]


def unsure(tmp_path: Path) -> MaskedImages:
    """Four images with a mask of each class, of four confidences, the last of which nobody said."""
    ids = PROTOCOL.new(1)
    drawn = {name: {identity: np.ones((16, 16), bool) for identity in ids} for name in "abcd"}
    drawn["b"][ids[0]] = np.zeros((16, 16), bool)
    sure = {"a": 0.2, "b": 0.6, "c": 0.9}
    return MaskedImages(
        make_store(tmp_path / "unsure.zarr", drawn, step=1, confidence=sure),
        records_of(write_images(tmp_path / "unsure", drawn)),
    )


def test_masks_of_little_confidence_are_void_and_images_that_show_no_other_are_left_out(tmp_path: Path) -> None:
    images = unsure(tmp_path)
    store, rows = images.store, np.arange(4)
    trusts = {least: Trust.of(store, "all", 0, least_confidence=least) for least in (0.0, 0.2, 0.5, 0.9, 1.0)}
    assert {least: trust.rows(rows, store.vector("tags")).tolist() for least, trust in trusts.items()} == {
        0.0: [0, 1, 2, 3], 0.2: [0, 1, 2], 0.5: [1, 2], 0.9: [2], 1.0: [],
    }  # fmt: skip
    assert trusts[0.5].kept(0, [0, 1], "a", [1]) == [False, False]
    assert trusts[0.5].kept(1, [0, 1], "b", [1]) == [True, True]
    drawn = random_masks(COUNT, PROTOCOL.new(1))
    by_name = {name: 0.9 if place % 2 else 0.1 for place, name in enumerate(drawn)}
    some = MaskedImages(
        make_store(tmp_path / "some.zarr", drawn, step=1, confidence=by_name),
        records_of(write_images(tmp_path / "some", drawn)),
    )
    assert source(some, "all", least=0.5).image_count < source(some, "all").image_count


def test_an_unsure_mask_is_void_in_a_batch_beside_a_sure_one(tmp_path: Path) -> None:
    ids = PROTOCOL.new(1)
    left = np.arange(16)[None] < 8
    drawn = {"a": {ids[0]: np.repeat(left, 16, axis=0), ids[1]: np.repeat(~left, 16, axis=0)}}
    images = MaskedImages(
        make_store(tmp_path / "one.zarr", drawn, step=1, confidence={"a": 0.9}),
        records_of(write_images(tmp_path / "one", drawn)),
    )
    confidence = np.where(np.arange(len(ids)) == 0, 0.9, 0.3)[None]
    known = images.store.vector
    images.store.vector = lambda name: confidence if name == "confidence" else known(name)  # type: ignore[method-assign]
    whole, sure = (source(images, "all", least=least).sample(Visit(0, (0,))) for least in (0.0, 0.5))
    assert torch.equal(whole.pseudo[:, 0], sure.pseudo[:, 0])
    assert whole.pseudo[:, 1].any()
    assert not sure.pseudo[:, 1].any()
    assert torch.equal(sure.void, whole.void | whole.pseudo[:, 1])


def test_memory_takes_instances_of_confident_masks_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = unsure(tmp_path)
    asked: dict[str, Any] = {
        "store": images.store,
        "records": images._records,
        "protocol": PROTOCOL,
        "step": 1,
        "parent": None,
    }
    fill(tmp_path / "memory.zarr", **asked, per_class=9, seed=0, weak=False, min_area=1, least_confidence=0.5)
    bank = MemoryBank.open(tmp_path / "memory.zarr")
    found = {info.image_id for identity in PROTOCOL.new(1) for info in bank.instances(identity)}
    assert found == {"b", "c"}
    told: dict[str, Any] = {}
    monkeypatch.setattr(segmenter, "fill", lambda path, **given: told.update(given))
    inputs = SimpleNamespace(
        store=images.store, records=images._records, protocol=PROTOCOL, step=1, memory=None, is_weak=False
    )
    run: Any = SimpleNamespace(inputs=inputs, params=TrainParams(trust="judged", least_confidence=0.5), seed=3)
    segmenter._write_memory(run, tmp_path)
    assert (told["trust"], told["least_confidence"]) == ("judged", 0.5)


def test_masks_of_which_none_is_confident_enough_are_refused_with_the_most_confident_one(tmp_path: Path) -> None:
    images = unsure(tmp_path)
    inputs: Any = SimpleNamespace(store=images.store, records=images._records, step=1)
    params = TrainParams(least_confidence=0.95)
    with pytest.raises(StoreError, match=r"that least_confidence=0\.95 takes: the most confident one has 0\.9000; ask"):
        _require_trusted(params, METHODS["finetune"](), inputs)
    with pytest.raises(StoreError, match=r"trust=unjudged:0\.5 and least_confidence=0\.95 takes: the most confident"):
        _require_trusted(replace(params, trust="unjudged:0.5"), METHODS["finetune"](), inputs)
    with pytest.raises(StoreError, match=r"no mask that trust=judged takes; judge some"):
        _require_trusted(replace(params, trust="judged"), METHODS["finetune"](), inputs)
    _require_trusted(TrainParams(least_confidence=0.9), METHODS["finetune"](), inputs)


def test_an_image_without_a_pixel_of_a_class_does_not_show_it_however_confident(tmp_path: Path) -> None:
    ids = PROTOCOL.new(1)
    drawn = {"a": {ids[0]: np.zeros((16, 16), bool)}, "b": {ids[0]: np.ones((16, 16), bool)}}
    store = make_store(tmp_path / "empty.zarr", drawn, step=1, confidence={"a": 0.9, "b": 0.9})
    trust = Trust.of(store, "all", 0, least_confidence=0.5)
    assert trust.rows(np.arange(2), store.vector("tags")).tolist() == [1]


def test_memory_takes_instances_of_trusted_masks_alone(images: MaskedImages, tmp_path: Path) -> None:
    store = images.store
    fill(
        tmp_path / "memory.zarr", store=store, records=images._records, protocol=PROTOCOL, step=1, parent=None,
        per_class=9, seed=0, weak=False, min_area=1, trust="corrected:1,accepted:0,unjudged:0,rejected:0",
    )  # fmt: skip
    bank = MemoryBank.open(tmp_path / "memory.zarr")
    found = [info for identity in PROTOCOL.new(1) for info in bank.instances(identity)]
    assert {info.image_id for info in found} == {store.image_ids[2]}


def test_masks_that_were_found_without_tags_are_told_with_what_each_confidence_leaves(tmp_path: Path) -> None:
    store = unsure(tmp_path).store
    assert found_without_tags(store) == ""
    attributes = {**store.attributes, "uses_tags": False, "supports_sha256": "0"}
    without: Any = SimpleNamespace(attributes=attributes, vector=store.vector)
    told = found_without_tags(without)
    assert "4 of 4 images have one" in told
    assert (
        "(images: 0.4 leaves 2, 0.5 leaves 2, 0.6 leaves 2, 0.7 leaves 1, 0.8 leaves 1, 0.9 leaves 1, 1 leaves 0; "
        in told
    )
    assert found_without_tags(SimpleNamespace(attributes={"uses_tags": False})) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "step", "values", "is_told"),
    [("fmwiss", 1, {}, True), ("finetune", 0, {}, True), ("wilson", 1, {}, False), ("panet", 0, {}, False),
     ("fmwiss", 1, {"least_confidence": 0.1}, False), ("fmwiss", 1, {"trust": "judged"}, False)],
)  # fmt: skip
def test_runs_that_learn_such_masks_say_so(
    monkeypatch: pytest.MonkeyPatch, method: str, step: int, values: dict[str, Any], is_told: bool
) -> None:
    monkeypatch.setattr(plan, "found_without_tags", lambda store: "told")
    context: Any = SimpleNamespace(inputs=SimpleNamespace(step=step, store=None), params=TrainParams(**values))
    assert plan._found_without_tags(context, METHODS[method]()) == (("told",) if is_told else ())
