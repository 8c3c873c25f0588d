"""What the page lists, and how masks travel: values, then limits."""

import base64
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.wilss_masks.review.sessions import POT, SCREEN, SHEEP
from tests.wilss_masks.stores import FAILED, IMAGES, UNTAGGED, make_annotation_store, make_store
from wilss.errors import ImageError, StoreError
from wilss.store import MaskStore
from wilss_masks.commands.revise import command as revise
from wilss_masks.review import Correction, Journal
from wilss_masks.review.index import NO_CLASS, area_deviation, build_index, packed, read_ids
from wilss_masks.review.runs import mask_of, runs_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("s") / "step-1.zarr")


@pytest.mark.parametrize(
    ("mask", "runs"),
    [([[0, 1, 1], [1, 0, 0]], [1, 3, 2]), ([[1, 1], [1, 1]], [0, 4]), ([[0, 0]], [2]), ([[1, 0, 1]], [0, 1, 1, 1])],
)
def test_runs_are_lengths_row_by_row_outside_first(mask: list[list[int]], runs: list[int]) -> None:
    array = np.array(mask, bool)
    assert runs_of(array) == runs
    np.testing.assert_array_equal(mask_of(runs, *array.shape), array)


def test_runs_come_back_as_the_mask_that_they_were() -> None:
    rng = np.random.default_rng(3)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = rng.random((7, 11)) < share
        np.testing.assert_array_equal(mask_of(runs_of(mask), 7, 11), mask)


@pytest.mark.parametrize("runs", [[], [5], [-1, 7], [3, 4], [10**20, 1]])
def test_runs_of_another_size_are_refused(runs: list[int]) -> None:
    with pytest.raises(ImageError, match="load the page again"):
        mask_of(runs, 2, 3)


def test_every_mask_has_an_item_and_so_has_an_image_without_one(store: MaskStore) -> None:
    index = build_index(store)
    pairs = list(zip(index.image.tolist(), index.category.tolist(), strict=True))
    tagged = [(row, identity) for row, drawn in enumerate(IMAGES) for identity in sorted(drawn.boxes)]
    assert pairs == sorted([*tagged, (UNTAGGED, NO_CLASS)])
    assert index.errors == {FAILED: f"{IMAGES[FAILED].image_id} is truncated; copy it again."}
    assert index.worst_first == "agreement"
    item = pairs.index((0, POT))
    assert index.columns["confidence"][item] == store.vector("confidence")[0, 0]
    np.testing.assert_allclose(index.columns["share"][item], store.vector("area")[0, 0] / (48 * 64))
    assert np.isnan(index.columns["agreement"][pairs.index((UNTAGGED, NO_CLASS))])


def test_only_the_listed_images_are_there_in_their_order(store: MaskStore) -> None:
    index = build_index(store, only=[IMAGES[2].image_id, "nobody", IMAGES[0].image_id])
    assert list(index.image_ids) == [IMAGES[2].image_id, IMAGES[0].image_id]
    assert index.category.tolist() == [POT, SCREEN, POT]
    assert index.is_listed
    apart = unicodedata.normalize("NFD", "été")
    assert list(build_index(store, only=[apart, "été"]).image_ids) == ["été"]
    assert store.position(apart) == store.position("été")
    with pytest.raises(StoreError, match="none of the 1 listed image"):
        build_index(store, only=["nobody"])


def test_what_somebody_judged_has_an_item_though_the_store_has_no_such_mask(store: MaskStore) -> None:
    index = build_index(store, judged=[(IMAGES[0].image_id, SHEEP), (IMAGES[0].image_id, POT), ("gone", POT)])
    assert [c for i, c in zip(index.image.tolist(), index.category.tolist(), strict=True) if i == 0] == [POT, SHEEP]


def test_masks_of_pixel_labels_are_sorted_by_their_area(tmp_path: Path) -> None:
    assert build_index(make_annotation_store(tmp_path / "step-0.zarr")).worst_first != "agreement"


def test_masks_of_a_revised_store_say_where_they_are_from(tmp_path: Path) -> None:
    store = make_store(tmp_path / "step-1.zarr")
    Journal.open(store.path).append(Correction(
        image_id=IMAGES[0].image_id, category=POT, verdict="accepted", author="Ada", origin="cvat", at=datetime.now(UTC)
    ))  # fmt: skip
    runner = CliRunner()
    done = runner.invoke(revise, [str(store.path), "--out", str(tmp_path / "step-1r.zarr")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    index = build_index(MaskStore.open(tmp_path / "step-1r.zarr"))
    assert index.origins == ["fmwiss", "cvat"]
    assert index.origin.tolist() == [1, *[0] * (len(index.origin) - 1)]


def test_a_part_numbers_its_images_as_they_come(store: MaskStore) -> None:
    part = build_index(store).part(np.array([3, 0, 2]))  # the second mask of the third image, the first image, ...
    assert list(part.image_ids) == [IMAGES[2].image_id, IMAGES[0].image_id]
    assert part.image.tolist() == [0, 1, 0]
    assert part.category.tolist() == [SCREEN, POT, POT]
    assert part.rows.tolist() == [2, 0]


def test_an_area_is_as_unusual_as_it_is_far_from_its_class_in_doublings() -> None:
    share, category = np.array([0.1, 0.2, 0.4, 0.01, 0.3]), np.array([1, 1, 1, 2, 3])
    np.testing.assert_allclose(area_deviation(share, category), [1, 0, 1, 0, 0], atol=1e-6)


def test_arrays_travel_as_little_endian_bytes() -> None:
    sent = packed(np.array([1, 258], ">i4"))
    assert sent == {"type": "Int32", "data": base64.b64encode(b"\1\0\0\0\2\1\0\0").decode()}


def test_a_list_of_ids_has_comments_and_each_id_once(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# least sure first\nb 1\na\n\nb 1\n", encoding="utf-8")
    assert read_ids(path) == ["b 1", "a"]
