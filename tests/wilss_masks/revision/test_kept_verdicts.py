"""The verdicts of a revised store are kept: on the page, in its files, in other tools, by the next `revise`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cli import wilss_masks
from tests.paths import on_disk
from tests.wilss_masks.review.said import FIRST, drawn, said
from tests.wilss_masks.stores import IMAGES, make_manifest, make_store
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss_masks import revise
from wilss_masks.review import Journal
from wilss_masks.review.opening import Asked, open_session
from wilss_masks.review.session import Change, Changed, ReviewSession, Undone
from wilss_masks.review.static import write_static

SECOND, BOTH, LAST = (IMAGES[place].image_id for place in (1, 2, 5))  # of 17; of 16 and 20; of 20
KEPT = {
    (FIRST, 16): ("accepted", "Ada"),
    (SECOND, 17): ("corrected", "Bo"),
    (BOTH, 16): ("rejected", "Ada"),
    (BOTH, 17): ("corrected", "Bo"),
}


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    """A store of which four masks were judged: the last lost a tag that it never had a mask of."""
    old = make_store(tmp_path / "step-1.zarr")
    told = [
        said(),
        said("corrected", SECOND, 17, mask=drawn(IMAGES[1].size), author="Bo"),
        said("rejected", BOTH, 16),
        said("corrected", BOTH, 17, tag=True, author="Bo"),
    ]
    return revise(old, tmp_path / "revised.zarr", corrections={"a list": told}).store


def session_of(store: MaskStore) -> ReviewSession:
    folder = on_disk(store).parent
    manifest: Any = make_manifest(folder / "images")
    return open_session(on_disk(store), manifest, Asked(author="Eve", cache=folder / "cache"))


def shown(session: ReviewSession) -> dict[tuple[str, int], tuple[str, str]]:
    states = session.changes_value(0)["states"]
    return {(session.index.image_ids[one["image"]], one["category"]): (one["verdict"], one["author"]) for one in states}


def verdicts(store: MaskStore) -> dict[tuple[str, int], tuple[str, str]]:
    return {
        (image, category): (("unjudged", "accepted", "rejected", "corrected")[verdict], author)
        for image, row, authors in zip(store.image_ids, store.vector("verdict"), store.vector("author"), strict=True)
        for category, verdict, author in zip(store.category_ids, row, authors, strict=True)
        if verdict
    }


def test_the_page_shows_what_the_store_says_and_what_is_said_over_it(store: MaskStore) -> None:
    session = session_of(store)
    try:
        assert shown(session) == verdicts(store) == KEPT
        place = list(session.index.image_ids).index(FIRST)
        (of_first,) = (one for one in session.image_value(place)["classes"] if one["category"] == 16)
        assert (of_first["state"]["verdict"], of_first["state"]["at"], of_first["stored"]) == ("accepted", "", None)
        told = Changed(who="w", changes=[Change(image=place, category=16, verdict="rejected")])
        events = session.correct(told)["events"]
        assert shown(session) == {**KEPT, (FIRST, 16): ("rejected", "Eve")}
        session.undo(Undone(who="w", events=events))
        assert shown(session) == KEPT
        second = list(session.index.image_ids).index(SECOND)
        session.correct(Changed(who="w", changes=[Change(image=second, category=17, verdict="accepted")]))
        assert shown(session) == KEPT  # accepted, it stays corrected
    finally:
        session.close()


def test_the_page_of_files_shows_them_too(store: MaskStore, tmp_path: Path) -> None:
    session = session_of(store)
    write_static(session, tmp_path / "page", limit=20)
    session.close()
    text = (tmp_path / "page/data/index.js").read_text(encoding="ascii")
    page = json.loads(text.removeprefix("REVIEW = ").rstrip(";\n"))
    ids = page["index"]["images"]
    found = {(ids[one["image"]], one["category"]): (one["verdict"], one["author"]) for one in page["states"]}
    assert found == KEPT


def test_what_nobody_touched_is_kept_by_the_next_revision(store: MaskStore, tmp_path: Path) -> None:
    twice = revise(store, tmp_path / "twice.zarr", corrections={"a list": [said("rejected", LAST, 20, author="Eve")]})
    assert verdicts(twice.store) == {**KEPT, (LAST, 20): ("rejected", "Eve")}


def test_what_the_store_says_itself_cannot_be_taken_back_and_that_is_told(store: MaskStore, tmp_path: Path) -> None:
    cleared = said("unjudged", author="Eve")
    twice = revise(store, tmp_path / "twice.zarr", corrections={"a list": [cleared, said("rejected", LAST, 20)]})
    assert verdicts(twice.store)[FIRST, 16] == KEPT[FIRST, 16]
    assert twice.notes == (
        f"1 mask is to be unjudged ({FIRST} pottedplant), and the verdict of {store.path} itself stays; judge "
        "otherwise, or revise the store that it was made of.",
    )
    with pytest.raises(StoreError, match="the verdict of .* itself stays"):
        revise(store, tmp_path / "none.zarr", corrections={"a list": [cleared]})
    both = [said("rejected"), cleared]
    assert not revise(store, tmp_path / "both.zarr", corrections={"a list": [*both, said("rejected", LAST, 20)]}).notes


@pytest.mark.few(2)
@pytest.mark.parametrize("form", ["cvat", "labelstudio", "labelme", "fiftyone"])
def test_tools_are_told_the_verdicts(store: MaskStore, tmp_path: Path, form: str) -> None:
    out = tmp_path / {"cvat": "a.xml", "labelstudio": "a.json"}.get(form, form)
    assert wilss_masks("export", form, store.path, out).code == 0
    files = [out] if out.is_file() else sorted(out.rglob("*.json"))
    text = " ".join(path.read_text(encoding="utf-8") for path in files)
    told = {"cvat": ">accepted</attribute>", "labelme": '"accepted": true', "fiftyone": '"tags": ["accepted"]',
            "labelstudio": '"choices": ["accepted"]'}[form]  # fmt: skip
    assert text.count(told) == 2  # that which was accepted, and that which was drawn


@pytest.mark.few(1)
@pytest.mark.parametrize("form", ["cvat", "labelme", "fiftyone"])
def test_what_comes_back_as_it_went_out_is_nothing_to_revise(store: MaskStore, tmp_path: Path, form: str) -> None:
    out = tmp_path / {"cvat": "a.zip"}.get(form, form)
    assert wilss_masks("export", form, store.path, out, "--overlaps").code == 0
    back = wilss_masks("revise", store.path, "--from", out, "--out", tmp_path / "r.zarr")
    assert back.code == 1
    assert f"{out}: all is as in {store.path} already, and there is nothing to revise" in back.err
    assert not (tmp_path / "r.zarr").exists()
    nothing = wilss_masks("revise", tmp_path / "step-1.zarr", "--from", out, "--out", tmp_path / "r.zarr")
    assert nothing.code == 0, nothing.err  # of the store of before it says something


def test_who_said_it_stays_where_a_file_says_the_same_and_names_nobody(store: MaskStore, tmp_path: Path) -> None:
    """By the store four masks, by its review one; what was judged in the file alone is by whom the option names."""
    Journal.open(store.path).append(said("accepted", BOTH, 20, author="Cy"))
    out = tmp_path / "a.xml"
    assert wilss_masks("export", "cvat", store.path, out, "--overlaps").code == 0
    text = out.read_text(encoding="utf-8").replace(">unjudged<", ">accepted<")
    out.write_text(text, encoding="utf-8")
    done = wilss_masks("revise", store.path, "--from", out, "--author", "Dee", "--out", tmp_path / "r.zarr")
    assert done.code == 0, done.err
    assert "told otherwise" not in done.err
    found = verdicts(MaskStore.open(tmp_path / "r.zarr"))
    assert {**found, **KEPT} == found
    assert (found[BOTH, 20], found[LAST, 20]) == (("accepted", "Cy"), ("accepted", "Dee"))
