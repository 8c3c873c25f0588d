import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as rle

from tests.references import regions as slow
from wilss import digests
from wilss.data.layouts import ImageRecord
from wilss.errors import ImageError, ParameterError
from wilss_masks.stages.region_file import images_without_regions, region_file, sampled

SIDES = st.integers(1, 12)
Masks = NDArray[np.bool_]


def coded(mask: Masks) -> dict[str, Any]:
    """Compressed run lengths, as proposers write them."""
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def runs_of(mask: Masks) -> list[int]:
    pixels = [False, *mask.T.ravel().tolist()]
    ends = [i for i in range(mask.size) if pixels[i] != pixels[i + 1]]
    return [int(length) for length in np.diff([0, *ends, mask.size])]


def record(image_id: str = "a") -> ImageRecord:
    return ImageRecord(image_id=image_id, path=Path(f"{image_id}.jpg"))


def written(folder: Path, content: Any, name: str = "proposals.json") -> str:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def results(*masks: Masks, image_id: Any = "a", scores: list[float] | None = None) -> list[dict[str, Any]]:
    """A list of results, as detectors write them."""
    scores = scores or [0.9] * len(masks)
    return [
        {"image_id": image_id, "segmentation": coded(mask), "score": score}
        for mask, score in zip(masks, scores, strict=True)
    ]


def regions(name: str, size: tuple[int, int], at: tuple[int, int] | None = None, **more: Any) -> torch.Tensor:
    return region_file(name).regions(more.get("record", record()), size, at or size, more.get("least", 0.0))


def ring(size: int = 9) -> Masks:
    mask = np.ones((size, size), bool)
    mask[3:-3, 3:-3] = False
    return mask


# -- masks from run lengths ---------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.tuples(SIDES, SIDES).flatmap(lambda size: hnp.arrays(np.bool_, size)), SIDES, SIDES)
def test_a_sampled_mask_is_the_mask_at_the_centres_of_pixels(mask: Masks, rows: int, columns: int) -> None:
    if not mask.any():
        return
    found = sampled(np.array(runs_of(mask)), mask.shape, (rows, columns))
    y = [int((row + 0.5) * mask.shape[0] / rows) for row in range(rows)]
    x = [int((column + 0.5) * mask.shape[1] / columns) for column in range(columns)]
    expected = mask[np.ix_(y, x)]
    if expected.any():
        np.testing.assert_array_equal(found, expected)
    else:
        assert found.sum() == 1


def test_a_small_mask_keeps_the_pixel_where_it_lies() -> None:
    mask = np.zeros((600, 400), bool)
    mask[101:104, 201:203] = True
    found = sampled(np.array(runs_of(mask)), mask.shape, (30, 20))
    assert np.argwhere(found).tolist() == [[5, 10]]


# -- what a file says ---------------------------------------------------------------------------------------


def test_overlaps_and_holes_become_a_partition(tmp_path: Path) -> None:
    masks = np.stack([np.ones((9, 9), bool), ring(), np.eye(9, dtype=bool)])
    found = regions(written(tmp_path, results(*masks)), (9, 9))
    np.testing.assert_array_equal(found.numpy(), slow.partition(masks))
    assert found[4, 5] == 0  # through the hole


def test_the_forms_of_an_outline_are_read_alike(tmp_path: Path) -> None:
    """Compressed, uncompressed as crowds are, and polygons; a box alone is no region."""
    mask = np.zeros((8, 10), bool)
    mask[2:6, 3:7] = True
    outlines = [coded(mask), {"size": [8, 10], "counts": runs_of(mask)}, [[3, 2, 7, 2, 7, 6, 3, 6]]]
    for number, outline in enumerate(outlines):
        row = {"image_id": 5, "segmentation": outline, "iscrowd": number % 2, "bbox": [3, 2, 4, 4]}
        box = {"image_id": 5, "segmentation": [], "bbox": [0, 0, 2, 2]}
        images = [{"id": 5, "file_name": "a.jpg", "height": 8, "width": 10}]
        name = written(tmp_path, {"images": images, "annotations": [box, row]}, f"{number}.json")
        found = regions(name, (8, 10))
        np.testing.assert_array_equal(found.numpy() == 0, mask)


def test_a_folder_of_sa_1b_is_read_as_one_file_is(tmp_path: Path) -> None:
    """SAM says `predicted_iou` for a score."""
    one, two = results(ring(), ~ring(), scores=[0.9, 0.2])
    for row in (one, two):
        row["predicted_iou"] = row["score"]
    whole = regions(written(tmp_path, [one, two]), (9, 9))
    image = {"image_id": 77, "file_name": "a.jpg", "height": 9, "width": 9}
    bare = [{key: row[key] for key in ("segmentation", "predicted_iou")} for row in (one, two)]
    (tmp_path / "sam").mkdir()
    file = tmp_path / "sam/sa_77.json"
    file.write_text(json.dumps({"image": image, "annotations": bare}))
    assert torch.equal(regions(str(tmp_path / "sam"), (9, 9)), whole)
    assert torch.equal(regions(str(tmp_path / "sam"), (9, 9), least=0.5), regions(written(tmp_path, [one]), (9, 9)))
    file.write_text("{}")
    with pytest.raises(ParameterError, match="sa_77.json has no `image` and `annotations`"):
        region_file(str(file.parent.rename(tmp_path / "other")))


def test_five_hundred_masks_and_a_minimum_score(tmp_path: Path) -> None:
    masks = np.zeros((500, 25, 20), bool)
    masks[np.arange(500), np.arange(500) // 20, np.arange(500) % 20] = True
    name = written(tmp_path, results(*masks, scores=[place / 500 for place in range(500)]))
    assert regions(name, (25, 20)).flatten().tolist() == list(range(500))
    assert int((regions(name, (25, 20), least=0.5) >= 0).sum()) == 250


@pytest.mark.parametrize(
    ("image_id", "file_name"),
    [("a", "a.png"), ("train/a", "train/a.jpg"), ("train/a", "a.jpg"), ("a", "images/a.jpg"), ("a.b", "a.b.jpg")],
)
def test_images_are_found_by_their_names(tmp_path: Path, image_id: str, file_name: str) -> None:
    content = {
        "images": [{"id": 7, "file_name": file_name}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": results(np.ones((2, 3), bool), image_id=7),
    }
    found = regions(written(tmp_path, content), (2, 3), record=record(image_id))
    assert found.tolist() == [[0, 0, 0]] * 2


def test_results_are_found_by_ids_with_and_without_zeros(tmp_path: Path) -> None:
    name = written(tmp_path, results(np.ones((2, 3), bool), image_id=139))
    assert regions(name, (2, 3), record=record("000000000139")).min() == 0
    assert regions(name, (2, 3), record=record("000000000140")).max() == -1


def test_a_bare_name_that_two_folders_have_stands_for_neither(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "x/a.jpg"}, {"id": 2, "file_name": "y/a.jpg"}]
    content = {"images": images, "annotations": results(np.ones((2, 3), bool), image_id=1)}
    assert regions(written(tmp_path, content), (2, 3)).max() == -1


def test_proposals_of_another_folders_image_of_the_same_name_are_not_taken(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "frames/cam01/1.jpg"}],
        "annotations": results(np.ones((2, 3), bool), image_id=1),
    }
    name = written(tmp_path, content)
    assert regions(name, (2, 3), record=record("cam01/1")).min() == 0
    assert regions(name, (2, 3), record=record("cam02/1")).max() == -1
    (said,) = images_without_regions(name, ["cam01/1", "cam02/1"])
    assert "no proposal of 1 image of 2 (cam02/1 is the first)" in said


def test_proposals_that_may_be_of_two_images_are_refused(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": results(np.ones((2, 3), bool), image_id=1),
    }
    with pytest.raises(
        ParameterError, match=r"of one image that may be cam01/1 or cam02/1; name its images with their"
    ):
        list(images_without_regions(written(tmp_path, content), ["cam01/1", "cam02/1"]))


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = written(tmp_path, results(np.ones((2, 3), bool)))
    first = region_file(name)
    read: list[Path] = []
    digest = digests.digest_of_file
    monkeypatch.setattr(digests, "digest_of_file", lambda path: (read.append(path), digest(path))[1])
    assert region_file(name) is first
    assert not read
    written(tmp_path, results(np.ones((2, 3), bool), ring(3)[:2]))
    assert region_file(name).sha256 != first.sha256


# -- what is wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
def test_another_size_than_the_images_is_a_sentence(tmp_path: Path, listed: bool) -> None:
    content: Any = results(np.ones((2, 3), bool))
    if listed:
        content = {"images": [{"id": "a", "file_name": "a.jpg", "height": 2, "width": 3}], "annotations": content}
    with pytest.raises(ImageError, match=r"has a as 3 x 2 pixels, a.jpg is 2 x 3; make its proposals on the image"):
        regions(written(tmp_path, content), (3, 2))


@pytest.mark.parametrize("counts", [[1, 2], "????", [-1, 7]])
def test_an_outline_that_cannot_be_drawn_names_its_place(tmp_path: Path, counts: Any) -> None:
    content = [*results(np.ones((2, 3), bool)), {"image_id": "a", "segmentation": {"size": [2, 3], "counts": counts}}]
    with pytest.raises(ImageError, match=r"the proposal 1 \(counted from 0\), of a, cannot be drawn"):
        regions(written(tmp_path, content), (2, 3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "neither a COCO json"),
        ({"annotations": 3}, "neither a COCO json"),
        ([3], "proposal 0 .* has no image_id"),
        ([{"image_id": 1, "segmentation": [], "score": "high"}], "the score of its proposal 0"),
        ([{"image_id": 1, "segmentation": [], "score": float("nan")}], "the score of its proposal 0"),
        ({"images": [{"id": 1}], "annotations": []}, "image 0 .* has no id or no file_name"),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], "annotations": []},
            "lists the image 'a' twice",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        region_file(written(tmp_path, content))


def test_a_file_that_is_missing_or_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="say which, e.g. --set regions_file=proposals.json"):
        region_file("")
    with pytest.raises(ParameterError, match="none.json cannot be read"):
        region_file(str(tmp_path / "none.json"))
    (tmp_path / "cut.json").write_text("[{")
    with pytest.raises(ParameterError, match=r"cut.json is no whole json file"):
        region_file(str(tmp_path / "cut.json"))


def test_images_that_the_file_does_not_know_are_counted_once(tmp_path: Path) -> None:
    name = written(tmp_path, results(np.ones((2, 3), bool)))
    assert list(images_without_regions(name, ["a"])) == []
    (said,) = images_without_regions(name, ["a", "b", "c"])
    assert "no proposal of 2 images of 3 (b is the first)" in said
    with pytest.raises(ParameterError, match="it names e.g. 'a', the list 'b'; give the file of this split"):
        list(images_without_regions(name, ["b", "c"]))
