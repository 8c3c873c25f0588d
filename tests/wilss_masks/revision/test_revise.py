"""A store with what people said: pixels, tags, void, statuses; readable by all that reads stores; the same bytes."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from numpy.typing import NDArray

import wilss
from tests.faults.cli import wilss_masks
from tests.paths import on_disk
from tests.wilss_masks.review.said import FIRST, drawn, said
from tests.wilss_masks.stores import (
    FAILED,
    IMAGES,
    UNTAGGED,
    files_of,
    make_annotation_store,
    make_manifest,
    make_store,
)
from wilss.errors import StoreError
from wilss.store import LabelMaps, MaskStore, Status
from wilss.store.coverage import empty_masks
from wilss.store.verdicts import from_whom
from wilss_masks import revise
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.inspect.fuse import fuse
from wilss_masks.inspect.kept_scores import KeptReader
from wilss_masks.inspect.sheet import collect, rows_of
from wilss_masks.review import Correction, Journal

SECOND, BOTH = IMAGES[1].image_id, IMAGES[2].image_id  # of 17; of 16 and 20
LAST = IMAGES[5].image_id  # of 20, alone in the last shard's second half


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    return make_store(tmp_path / "step-1.zarr")


def revised(store: MaskStore, *corrections: Correction, **options: Any) -> MaskStore:
    out = store.path.with_name("revised.zarr")
    return revise(store, out, corrections={"a list": corrections}, overwrite=True, **options).store


def mask_of(store: MaskStore, image: str, category: int) -> NDArray[np.bool_] | None:
    read, place = store.read(image), store.category_ids.index(category)
    return read.masks[read.categories.index(place)] if place in read.categories else None


def at(store: MaskStore, name: str, image: str, category: int) -> Any:
    return store.vector(name)[store.position(image), store.category_ids.index(category)]


def test_a_corrected_mask_takes_the_old_ones_place(store: MaskStore) -> None:
    mask = drawn()
    new = revised(store, said("corrected", mask=mask, author="Bo", origin="cvat"))
    assert np.array_equal(mask_of(new, FIRST, 16), mask)  # type: ignore[arg-type]
    facts = {name: at(new, name, FIRST, 16) for name in ("confidence", "area", "verdict", "author", "origin")}
    assert facts == {"confidence": 1, "area": mask.sum(), "verdict": 3, "author": "Bo", "origin": "cvat"}
    assert np.isnan(at(new, "agreement", FIRST, 16))
    assert not list(new.verify())
    for image in (SECOND, BOTH, LAST):
        assert np.array_equal(new.read(image).masks, store.read(image).masks)
    assert new.attributes["revisions"] == [
        {**new.attributes["revisions"][0], "parent": store.digest, "rejected": "void"}
    ]


def test_shards_in_which_no_pixel_changes_are_the_same_files(store: MaskStore) -> None:
    new = revised(store, said("corrected", mask=drawn()), said("accepted", LAST, 20))
    shards = [f"mask/c/{shard}/0/0/0" for shard in range(3)]
    same = [os.path.samefile(on_disk(store) / name, on_disk(new) / name) for name in shards]
    assert same == [False, True, True]
    assert (at(new, "verdict", LAST, 20), at(new, "confidence", LAST, 20)) == (1, at(store, "confidence", LAST, 20))


def test_what_was_rejected_is_void_where_no_other_mask_stands(store: MaskStore) -> None:
    old, other = mask_of(store, BOTH, 16), mask_of(store, BOTH, 20)
    new = revised(store, said("rejected", BOTH, 16))
    read = new.read(BOTH)
    assert np.array_equal(read.void, old & ~other)  # type: ignore[arg-type, operator]
    assert np.array_equal(mask_of(new, BOTH, 20), other)  # type: ignore[arg-type]
    assert not mask_of(new, BOTH, 16).any()  # type: ignore[union-attr]
    assert (LabelMaps(new)(BOTH)[old & ~other] == 255).all()  # type: ignore[operator]
    assert new.current_status()[new.position(BOTH)] == Status.DONE
    assert not empty_masks(new)


def test_what_was_rejected_can_be_taken_to_be_absent(store: MaskStore) -> None:
    new = revised(store, said("rejected", BOTH, 16), said("rejected", SECOND, 17), rejected="absent")
    assert not new.layout.has_void
    assert mask_of(new, BOTH, 16) is None
    assert not (LabelMaps(new)(BOTH) == 16).any()
    assert new.current_status()[new.position(SECOND)] == Status.UNTAGGED
    assert at(new, "verdict", SECOND, 17) == 2


def test_tags_are_added_and_removed(store: MaskStore) -> None:
    mask = drawn(IMAGES[1].size)
    new = revised(
        store,
        said("corrected", tag=False),
        said("corrected", SECOND, 20, mask=mask),
        said("corrected", BOTH, 17, tag=True),
        said("corrected", IMAGES[UNTAGGED].image_id, 16, mask=drawn(IMAGES[UNTAGGED].size)),
        said("corrected", LAST, 20, mask=np.zeros(IMAGES[5].size, bool)),
        said("corrected", LAST, 16, tag=False),  # it had none
    )
    status = dict(zip(new.image_ids, new.current_status(), strict=True))
    assert status[FIRST] == status[LAST] == Status.UNTAGGED
    assert status[IMAGES[UNTAGGED].image_id] == Status.DONE
    assert np.array_equal(mask_of(new, SECOND, 20), mask)  # type: ignore[arg-type]
    assert np.array_equal(mask_of(new, SECOND, 17), mask_of(store, SECOND, 17))  # type: ignore[arg-type]
    somewhere = new.read(BOTH)
    assert np.array_equal(somewhere.void, ~somewhere.masks.any(axis=0))  # type: ignore[arg-type]
    assert from_whom(new).verdicts == {"unjudged": 3, "accepted": 0, "rejected": 0, "corrected": 5}


def test_an_image_that_had_failed_can_be_drawn(tmp_path: Path, store: MaskStore) -> None:
    name, size = IMAGES[FAILED].image_id, IMAGES[FAILED].size
    mask = drawn(size)
    new = revised(store, said("corrected", name, 17, mask=mask))
    read = new.read(name)
    assert np.array_equal(mask_of(new, name, 17), mask)  # type: ignore[arg-type]
    assert np.array_equal(read.void, ~mask)  # type: ignore[arg-type]  # it is tagged 16, and nobody knows where
    assert new.vector("error")[new.position(name)] == ""
    assert not revised(store, said("corrected", name, 16, mask=mask)).read(name).void.any()  # type: ignore[union-attr]


def test_an_image_that_had_failed_has_no_mask_to_judge(store: MaskStore, tmp_path: Path) -> None:
    """Else it would be learnt from as an image of background alone."""
    name, size = IMAGES[FAILED].image_id, IMAGES[FAILED].size
    told = [said(image=name), said("rejected", name), said("accepted", LAST, 20)]
    done = revise(store, tmp_path / "r.zarr", corrections={"a list": told})
    assert [sentence.split("class 16 ")[1] for sentence in done.refused] == [
        "that could be accepted.",
        "that could be rejected.",
    ]
    assert done.store.current_status()[FAILED] == Status.FAILED
    drawn_first = {"a list": [said("corrected", name, mask=drawn(size))], "another": [said("rejected", name)]}
    both = revise(store, tmp_path / "s.zarr", corrections=drawn_first).store
    assert both.read(name).void.all()  # type: ignore[union-attr]


def test_void_is_corrected_and_gives_way_to_what_is_drawn(tmp_path: Path) -> None:
    store = make_annotation_store(tmp_path / "labels.zarr")  # with a void column of two pixels at the right
    whole, right = np.ones(IMAGES[0].size, bool), np.zeros(IMAGES[0].size, bool)
    right[:, -1:] = True
    assert not revised(store, said("corrected", mask=whole)).read(FIRST).void.any()  # type: ignore[union-attr]
    new = revised(store, said("corrected", mask=whole), said("corrected", category=255, mask=right))
    assert np.array_equal(new.read(FIRST).void, right)  # type: ignore[arg-type]
    assert from_whom(new).judged == 1


def test_the_same_corrections_give_the_same_bytes(store: MaskStore, tmp_path: Path) -> None:
    told = [
        said("corrected", mask=drawn()),
        said("rejected", BOTH, 16, author="Bo"),
        said("accepted", SECOND, 17),
        said("corrected", BOTH, 20, mask=drawn(IMAGES[2].size)),
        said("corrected", LAST, 16, tag=True, author="Bo"),
    ]
    made = []
    for number, order in enumerate(itertools.islice(itertools.permutations(told), 0, 120, 40)):
        folder = tmp_path / f"{number}.review"
        one, two = Journal.open(store.path, folder), Journal.open(store.path, folder)
        for correction in order:
            (one if correction.author == "Ada" else two).append(correction)
        one.append(said("accepted", LAST, 20))
        one.undo()
        done = revise(store.path, tmp_path / f"{number}.zarr", review=folder, threads=number + 1)
        made.append(files_of(on_disk(done.store)))
    assert made[0] == made[1] == made[2]
    assert files_of(on_disk(revised(store, *told))) == made[0]


def test_a_revised_store_is_revised_again(store: MaskStore, tmp_path: Path) -> None:
    mask = drawn()
    once = revised(store, said("corrected", mask=mask, author="Bo"))
    twice = revise(
        once.path, tmp_path / "twice.zarr", corrections={"a list": [said("accepted"), said("rejected", SECOND, 17)]}
    ).store
    assert np.array_equal(mask_of(twice, FIRST, 16), mask)  # type: ignore[arg-type]
    assert [at(twice, "verdict", FIRST, 16), at(twice, "author", FIRST, 16)] == [3, "Bo"]
    assert at(twice, "verdict", SECOND, 17) == 2
    assert [one["parent"] for one in twice.attributes["revisions"]] == [store.digest, once.digest]


def test_later_sources_count_over_earlier_ones_and_that_is_told(store: MaskStore, tmp_path: Path) -> None:
    Journal.open(store.path).append(said("rejected"))
    mask = drawn()
    done = revise(store, tmp_path / "r.zarr", corrections={"cvat.xml": [said("corrected", mask=mask)]})
    assert np.array_equal(mask_of(done.store, FIRST, 16), mask)  # type: ignore[arg-type]
    assert done.notes == (
        f"1 mask is told otherwise by {store.path.with_name('step-1.review')} and by cvat.xml ({FIRST} pottedplant); "
        "the latter counts.",
    )


def test_what_does_not_fit_is_refused_image_by_image(store: MaskStore, tmp_path: Path) -> None:
    told = [
        said(image="gone"),
        said("corrected", SECOND, 17, mask=drawn()),
        said("corrected", SECOND, 3, mask=drawn(IMAGES[1].size)),
        said("accepted", LAST, 16),
        said("accepted"),
    ]
    done = revise(store, tmp_path / "r.zarr", corrections={"a list": told})
    assert done.images == 1
    for sentence, (image, says) in zip(
        done.refused,
        [
            ("gone", "has no such image"),
            (SECOND, "the mask of class 17 is 64 x 48 pixels, the image 40 x 64"),
            (SECOND, "has no class 3; it has 16 pottedplant, 17 sheep, 20 tvmonitor"),
            (LAST, "has no mask of class 16 that could be accepted"),
        ],
        strict=True,
    ):
        assert sentence.startswith(f"'{image}': ")
        assert says in sentence
    with pytest.raises(StoreError, match="nothing that was said fits .*has no such image"):
        revise(store, tmp_path / "none.zarr", corrections={"a list": told[:1]})
    assert not (tmp_path / "none.zarr").exists()


def test_what_came_back_from_a_tool_counts_over_the_review(store: MaskStore, tmp_path: Path) -> None:
    sent = tmp_path / "sent.json"
    assert wilss_masks("export", "coco", store.path, sent, "--overlaps").code == 0
    document = json.loads(sent.read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in document["images"]}
    kept = [one for one in document["annotations"] if not names[one["image_id"]].startswith(FIRST)]
    sent.write_text(json.dumps({**document, "annotations": kept}), encoding="utf-8")
    Journal.open(store.path).extend([said(), said("accepted", SECOND, 17)])
    done = wilss_masks("revise", store.path, "--from", sent, "--out", tmp_path / "r.zarr")
    assert (done.code, "1 mask is told otherwise by" in done.err) == (0, True), done.err
    new = MaskStore.open(tmp_path / "r.zarr")
    assert [at(new, "verdict", FIRST, 16), at(new, "origin", FIRST, 16), at(new, "verdict", SECOND, 17)] == [
        2,
        "coco",
        1,
    ]
    other = tmp_path / "other.review"
    Journal.open(store.path, other).append(said("corrected", mask=drawn()))
    again = wilss_masks("revise", store.path, "--from", sent, "--from", other, "--out", tmp_path / "s.zarr")
    assert (again.code, at(MaskStore.open(tmp_path / "s.zarr"), "verdict", FIRST, 16)) == (0, 3)


def test_of_another_stores_review_what_was_drawn_is_taken(store: MaskStore, tmp_path: Path) -> None:
    mask = drawn(IMAGES[1].size)
    journal = Journal.open(store.path)
    journal.extend([said(), said("corrected", SECOND, 17, mask=mask), said("corrected", LAST, 20, tag=False)])
    other = make_store(tmp_path / "other.zarr", images=IMAGES[:5])
    done = revise(other, tmp_path / "r.zarr", files=[journal.folder])
    assert np.array_equal(mask_of(done.store, SECOND, 17), mask)  # type: ignore[arg-type]
    assert at(done.store, "verdict", FIRST, 16) == 0
    assert done.notes == (
        f"{journal.folder} is a review of another store: 1 verdict on its masks left out, and what was drawn or tagged "
        "is taken.",
    )
    assert f"'{LAST}' is no image of" in done.refused[0]
    with pytest.raises(StoreError, match="is a review of another store"):
        Journal.open(other.path, journal.folder, or_another=True).append(said())


def test_a_damaged_mask_or_store_is_refused(store: MaskStore, tmp_path: Path) -> None:
    journal = Journal.open(store.path)
    journal.append(said("corrected", mask=drawn()))
    journal.append(said("accepted", SECOND, 17))
    (mask,) = (journal.folder / "masks").iterdir()
    mask.write_bytes(b"")
    done = revise(store, tmp_path / "r.zarr")
    assert "does not match its name" in done.refused[0]
    shard = on_disk(store) / "mask/c/2/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="shard 2 does not match its digest"):
        revise(store, tmp_path / "s.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"step-1.zarr", "step-1.review", "r.zarr", "r.zarr.lock"}


def test_everybody_reads_it(store: MaskStore) -> None:
    new = revised(store, said("corrected", SECOND, 20, mask=drawn(IMAGES[1].size), author="猫"), said("rejected"))
    plain = xarray.open_zarr(new.path)
    mask = plain.sel(image=SECOND, category="tvmonitor")
    assert (str(mask.author.values), str(mask.origin.values), int(mask.verdict)) == ("猫", "page", 3)
    assert plain.verdict.attrs["flag_meanings"].split()[3] == "corrected"
    shown = wilss.open_masks(new.path)
    assert (shown.label.sel(image=SECOND).values == 20).sum() == drawn(IMAGES[1].size).sum()
    assert KeptReader(new).read(1).categories == (1,)
    fused = fuse(new, new.path.with_name("fused.zarr"), {"threshold": 0.3})
    for image in (FIRST, SECOND):
        assert np.array_equal(fused.read(image).masks, new.read(image).masks)
        assert np.array_equal(fused.read(image).void, new.read(image).void)  # type: ignore[arg-type]
    assert not np.array_equal(fused.read(LAST).masks, new.read(LAST).masks)
    assert fused.vector("author")[1, 2] == "猫"
    assert not list(fused.verify())


def test_evaluation_and_sheets_know_classes_without_maps(store: MaskStore, tmp_path: Path) -> None:
    """Maps are compared with labels where nobody judged; a class that somebody added has none."""
    bare = IMAGES[UNTAGGED].image_id
    added = [said("corrected", SECOND, 20, mask=drawn(IMAGES[1].size)), said("corrected", bare, 16, tag=True)]
    new, manifest = revised(store, *added), make_manifest(tmp_path / "images")
    for options in ({"ablation": True}, {"reliability": True}):
        judged = evaluate(new, manifest, **options)  # type: ignore[arg-type]
        assert (judged.counted, judged.failed) == (5, {})
    chosen = rows_of(new, [SECOND, bare])
    assert [row.soft is None for row in collect(new, manifest, chosen).rows] == [False, True, True]  # type: ignore[arg-type]


def test_long_and_broken_names_are_cut_to_what_a_store_holds(store: MaskStore) -> None:
    new = revised(store, said(author=os.fsdecode(b"\xff") + "x" * 10_000, origin="a/<b>\n"))
    assert at(new, "author", FIRST, 16) == "?" + "x" * 199
    assert at(new, "origin", FIRST, 16) == "a/<b>\n"
    assert MaskStore.open(new.path).layout.has_review


def test_the_command_tells_what_came_of_it(store: MaskStore, tmp_path: Path) -> None:
    missing = wilss_masks("revise", store.path, "--out", tmp_path / "r.zarr")
    assert (missing.code, "is no review; judge masks" in missing.err) == (1, True)
    journal = Journal.open(store.path)
    journal.append(said("rejected"))
    journal.append(said("accepted", LAST, 16))
    done = wilss_masks("revise", store.path, "--out", tmp_path / "r.zarr", "--rejected", "absent")
    assert done.code == 3
    assert "1 image judged; masks: 4 unjudged, 1 rejected (1 by Ada)" in done.out
    assert f"Failed: '{LAST}': it has no mask of class 16" in done.err
    assert wilss_masks("revise", store.path, "--out", tmp_path / "r.zarr").code == 1
    assert "is the store to be revised" in wilss_masks("revise", store.path, "--out", store.path, "--overwrite").err
    assert "verdict" in wilss_masks("info", tmp_path / "r.zarr").out
