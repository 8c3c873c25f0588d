"""Which images to correct next: the least sure of every class in turn, the same every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.cli import wilss_masks
from tests.references import doubt as reference
from tests.wilss_masks.review.said import FIRST, said
from tests.wilss_masks.stores import IMAGES, make_store
from wilss.errors import ParameterError, StoreError
from wilss.store import MaskStore
from wilss_masks import Journal, revise
from wilss_masks.review.doubt import choose, doubts
from wilss_masks.review.suggest import judged_in, suggest


def case(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    signals = [np.round(rng.random((images, classes)), 1) for _ in range(int(rng.integers(1, 3)))]
    for signal in signals:
        signal[rng.random(signal.shape) < 0.2] = np.nan
    return {
        "signals": signals,
        "asked": rng.random((images, classes)) < 0.7,
        "empty": rng.random((images, classes)) < 0.2,
        "features": rng.normal(size=(images, 3)),
        "budget": int(rng.integers(1, 7)),
    }


@given(st.integers(0, 10_000))
def test_both_are_their_twins(seed: int) -> None:
    given_ = case(seed)
    signals, asked, empty = (given_[name] for name in ("signals", "asked", "empty"))
    doubt = doubts(signals, asked, empty)
    np.testing.assert_allclose(doubt, reference.doubts(signals, asked, empty), rtol=1e-12)
    assert choose(doubt, given_["budget"]) == reference.choose(doubt, given_["budget"])
    for features in (given_["features"], np.eye(len(doubt))):
        mine = choose(doubt, given_["budget"], features=features)
        assert mine == reference.choose(doubt, given_["budget"], features)


def test_limits() -> None:
    one = np.array([[0.5]])
    assert doubts([one], np.array([[True]]), np.array([[False]])).tolist() == [[1.0]]
    assert doubts([one * np.nan], np.array([[True]]), np.array([[False]])).tolist() == [[0.5]]
    assert choose(np.full((3, 2), np.nan), 5) == []
    assert choose(np.zeros((3, 1)), 2, names=["b", "c", "a"]) == [(2, 0), (0, 0)]
    twins = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert choose(np.array([[0.9], [0.8], [0.1]]), 2, features=twins) == [(0, 0), (2, 0)]


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    return make_store(tmp_path / "step-1.zarr")


def test_every_class_has_its_turn_and_nothing_comes_twice(store: MaskStore) -> None:
    found = suggest(store, 10)
    assert sorted(one.image_id for one in found) == sorted(IMAGES[row].image_id for row in (0, 1, 2, 5))
    assert len({one.name for one in found[:3]}) == 3
    assert [one.masks for one in found if one.image_id == IMAGES[2].image_id] == [2]
    assert suggest(store, 2) == found[:2]


def test_what_was_judged_needs_no_look(store: MaskStore, tmp_path: Path) -> None:
    assert judged_in(store, None) == set()
    Journal.open(store.path).append(said())
    assert FIRST not in {one.image_id for one in suggest(store, 10, judged=judged_in(store, None))}
    told = [said(), said("rejected", IMAGES[1].image_id, 17), said("accepted", IMAGES[2].image_id, 16)]
    revised = revise(store, tmp_path / "r.zarr", corrections={"a list": told}).store
    assert {one.image_id for one in suggest(revised, 10)} == {IMAGES[2].image_id, IMAGES[5].image_id}
    left = [said("accepted", IMAGES[2].image_id, 20), said("accepted", IMAGES[5].image_id, 20)]
    done = revise(revised, tmp_path / "s.zarr", corrections={"a list": left}).store
    with pytest.raises(StoreError, match="no mask that nobody judged"):
        suggest(done, 1)


def test_features_are_those_of_the_stores_images(store: MaskStore) -> None:
    for features in (np.ones((3, 2)), np.ones(6), np.full((6, 2), np.nan)):
        with pytest.raises(ParameterError, match=r"give finite numbers \[6, D\]"):
            suggest(store, 1, features=features)
    assert len(suggest(store, 3, features=np.random.default_rng(0).normal(size=(6, 4)))) == 3


def test_the_command_writes_a_list_and_figures(store: MaskStore, tmp_path: Path) -> None:
    listed, figures, features = tmp_path / "next.txt", tmp_path / "next.json", tmp_path / "f.npy"
    np.save(features, np.eye(6))
    done = wilss_masks("suggest", store.path, "--budget", 3, "--out", listed, "--json", figures, "--features", features)
    assert done.code == 0
    ids = listed.read_text(encoding="utf-8").splitlines()
    document = json.loads(figures.read_text(encoding="utf-8"))
    assert (document["digest"], [one["image_id"] for one in document["images"]]) == (store.digest, ids)
    assert all(name in done.out for name in ids)
    np.save(features, np.array([{}], object), allow_pickle=True)
    refused = wilss_masks("suggest", store.path, "--features", features)
    assert (refused.code, "is no array of numbers" in refused.err) == (2, True)
