"""A review beside a store: nothing said is lost, and what does not fit is told."""

import json
import multiprocessing
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paths import on_disk
from tests.wilss_masks.review.said import FIRST, NOON, drawn, said
from tests.wilss_masks.stores import IMAGES, Drawn, make_store
from wilss.errors import ImageError, StoreError
from wilss_masks.review import Journal


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return on_disk(make_store(tmp_path / "step-1.zarr"))


def test_what_was_said_stands_with_its_mask(store: Path) -> None:
    mask = drawn()
    Journal.open(store).append(said("corrected", mask=mask, author="<b>Åsa/</b>\n"))
    (one,) = Journal.open(store).corrections()
    assert one.mask is not None
    assert one.mask.tobytes() == mask.tobytes()
    assert (one.verdict, one.author, one.at, one.origin, one.tag) == (
        "corrected",
        "<b>Åsa/</b>\n",
        NOON,
        "page",
        None,
    )
    assert not list(store.rglob("*review*"))


def test_nothing_is_made_before_something_is_said(store: Path) -> None:
    journal = Journal.open(store)
    assert (list(journal.corrections()), journal.problems(), journal.undo()) == ([], (), None)
    assert not journal.folder.exists()
    with pytest.raises(StoreError, match="is no review; judge masks with `wilss-masks review"):
        Journal.open(store, must_exist=True)


def test_the_latest_counts_whoever_wrote_it_and_in_whatever_order(store: Path) -> None:
    one, two = Journal.open(store), Journal.open(store)
    two.append(said("rejected", after=5))
    one.append(said("accepted", after=3))
    one.append(said("accepted", IMAGES[1].image_id, 17, after=1))
    for journal in (one, two, Journal.open(store)):
        standing = journal.latest()
        assert [(pair, event.verdict) for pair, event in standing.items()] == [
            ((IMAGES[1].image_id, 17), "accepted"),
            ((FIRST, 16), "rejected"),
        ]


@pytest.mark.parametrize(
    ("verdicts", "stands"),
    [
        (["corrected", "accepted"], "corrected"),
        (["corrected", "accepted", "accepted"], "corrected"),
        (["corrected", "rejected"], "rejected"),
        (["corrected", "rejected", "accepted"], "accepted"),
        (["corrected", "unjudged", "accepted"], "accepted"),
        (["corrected", "unjudged"], None),
        (["rejected", "corrected"], "corrected"),
    ],
)
def test_what_stands_of_several_verdicts(store: Path, verdicts: list[str], stands: str | None) -> None:
    journal = Journal.open(store)
    for place, verdict in enumerate(verdicts):
        journal.append(said(verdict, after=place, mask=drawn() if verdict == "corrected" else None))
    assert [event.verdict for event in journal.latest().values()] == [stands] * (stands is not None)
    assert [event.verdict for event in journal.of(FIRST).values()] == [stands] * (stands is not None)


def test_undo_takes_back_its_own_last_or_one_by_name(store: Path) -> None:
    journal, other = Journal.open(store), Journal.open(store, author="Bo")
    first = journal.append(said("corrected", mask=drawn()))
    journal.append(said("rejected", after=1))
    other.append(said("accepted", IMAGES[1].image_id, 17))
    taken = journal.undo()
    assert taken is not None
    assert taken.verdict == "rejected"
    assert journal.of(FIRST)[16].verdict == "corrected"
    assert other.undo(first).id == first  # type: ignore[union-attr]
    assert other.undo(first) is None
    assert (journal.of(FIRST), journal.undo()) == ({}, None)
    assert [event.image_id for event in Journal.open(store).latest().values()] == [IMAGES[1].image_id]
    with pytest.raises(StoreError, match="has no event 'x:9'"):
        journal.undo("x:9")


def test_threads_and_processes_lose_nothing(store: Path) -> None:
    # not "fork": what a thread of this process held at that moment nobody would ever let go in the copy
    journal, context = Journal.open(store), multiprocessing.get_context("forkserver")
    work: list[Any] = [threading.Thread(target=_append_many, args=(journal, name)) for name in "ab"]
    work += [context.Process(target=_open_and_append, args=(store, name)) for name in "cd"]
    for one in work:
        one.start()
    for one in work:
        one.join()
    lines = [json.loads(line) for path in journal.folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert sorted(line["author"] for line in lines) == sorted(f"{name}{i}" for name in "abcd" for i in range(15))
    assert len(list(journal.folder.glob("events-*"))) == 3
    assert not journal.problems()


def _open_and_append(store: Path, name: str) -> None:
    _append_many(Journal.open(store), name)


def _append_many(journal: Journal, name: str) -> None:
    for place in range(15):
        journal.append(said(author=f"{name}{place}"))


def test_a_torn_last_line_is_told_and_dropped(store: Path) -> None:
    journal = Journal.open(store)
    journal.append(said())
    journal.append(said("rejected", after=1))
    (events,) = journal.folder.glob("events-*")
    events.write_bytes(events.read_bytes()[:-9])
    again = Journal.open(store)
    assert [event.verdict for event in again.latest().values()] == ["accepted"]
    assert again.problems() == (f"{events}: a kill or a full disk tore its last line, which is left out.",)
    again.append(said("rejected", after=2))
    assert [event.verdict for event in again.latest().values()] == ["rejected"]


def test_after_a_write_that_failed_nothing_follows_half_a_line(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(store)
    journal.append(said(author="whole"))
    (events,) = journal.folder.glob("events-*")
    real = journal._own._file.append  # type: ignore[union-attr]

    def half(data: bytes) -> None:
        real(data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._own._file, "append", half)  # type: ignore[union-attr]
    with pytest.raises(StoreError, match="free some space and judge again"):
        journal.append(said("rejected", after=1))
    journal.append(said("corrected", mask=drawn(), after=2))
    assert len(list(journal.folder.glob("events-*"))) == 2
    assert events.read_bytes().count(b"\n") == 1
    assert [event.verdict for event in Journal.open(store).latest().values()] == ["corrected"]


def test_foreign_lines_are_told_one_by_one(store: Path) -> None:
    journal = Journal.open(store)
    journal.append(said())
    good = json.loads(next(journal.folder.glob("events-*")).read_bytes())
    bad: list[tuple[Any, str]] = [
        (b"\x00\xff", "it is no JSON"),
        (b"[" * 50_000, "it is no JSON"),
        (b"[1]", "it is no JSON object"),
        ({**good, "verdict": "splendid"}, "verdict is none of"),
        ({**good, "at": "2026-11-29T12:00:00"}, "at is no time with a time zone"),
        ({**good, "category": True}, "category is no number"),
        ({**good, "mask": "../../etc/passwd", "verdict": "corrected"}, "mask is no digest"),
        ({**good, "mask": "0" * 64}, "a mask or tag belongs to a correction"),
        ({**good, "tag": 1, "verdict": "corrected"}, "tag is neither true, false nor null"),
        ({**good, "author": None}, "author is no text"),
        ({**good, "image": "gone"}, "'gone' is no image of"),
        ({**good, "category": 3}, "has no class 3, it has 16, 17, 20"),
    ]
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line, _ in bad]
    (journal.folder / "events-other.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    problems = Journal.open(store).problems()
    assert len(problems) == len(bad)
    for number, (problem, (_, says)) in enumerate(zip(problems, bad, strict=True)):
        assert f"events-other.jsonl, line {number + 1}" in problem
        assert says in problem
    assert list(Journal.open(store).latest()) == [(FIRST, 16)]


def test_what_does_not_fit_is_refused_by_name(store: Path) -> None:
    journal = Journal.open(store)
    for correction, says in [
        (said(image="gone"), "'gone' is no image of"),
        (said(category=3), "has no class 3"),
        (said("corrected", mask=drawn((5, 6))), "the mask is 6 x 5 pixels, the image 64 x 48"),
    ]:
        with pytest.raises(ImageError, match=says):
            journal.append(correction)
    assert journal.latest() == {}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"verdict": "fine"}, "the verdict is 'fine'"),
        ({"category": 0}, "a class has a number from 1 to 254, or 255 for void"),
        ({"category": 255}, "void has no tag and is not judged"),
        ({"at": datetime(2026, 1, 1)}, "the time has no time zone"),
        ({"verdict": "corrected"}, "corrected without a mask or tag"),
        ({"verdict": "corrected", "mask": np.zeros((4, 4), np.uint8)}, r"the mask is uint8 \[4, 4\]"),
        ({"mask": np.zeros((4, 4), bool)}, "it is accepted, and brings a mask or tag"),
        ({"verdict": "corrected", "mask": np.zeros((4, 4), bool), "tag": False}, "is said not to hold"),
    ],
)
def test_a_correction_says_what_contradicts_itself(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ImageError, match=f"'{FIRST}', class .*{says}"):
        said(**fields)


def test_another_stores_review_is_refused(store: Path, tmp_path: Path) -> None:
    Journal.open(store).append(said())
    other = make_store(tmp_path / "other.zarr", images=IMAGES[:4])
    with pytest.raises(StoreError, match="is a review of another store than .*bring that store back"):
        Journal.open(other.path, tmp_path / "step-1.review")
    (tmp_path / "things").mkdir()
    (tmp_path / "things/photo.jpg").touch()
    with pytest.raises(StoreError, match="is there and is no review"):
        Journal.open(store, tmp_path / "things")
    (tmp_path / "step-1.review/review.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        Journal.open(store)


def test_a_damaged_mask_is_left_out_and_told(store: Path) -> None:
    journal = Journal.open(store)
    journal.append(said("corrected", mask=drawn()))
    journal.append(said(image=IMAGES[1].image_id, category=17))
    (mask,) = (journal.folder / "masks").iterdir()
    mask.write_bytes(mask.read_bytes()[:-30])
    assert [one.category for one in journal.corrections()] == [17]
    assert "does not match its name" in journal.problems()[0]
    mask.unlink()
    assert [one.category for one in Journal.open(store).corrections()] == [17]


def test_names_are_only_data(tmp_path: Path) -> None:
    names = ["a/../../b", "<script>alert(1)</script>", "line\u2028break\nnext", "猫"]
    authors = [*names[1:], os.fsdecode(b"\xff")]
    images = tuple(Drawn(image_id=name, size=(8, 8), boxes={16: (0, 8, 0, 8)}) for name in names)
    journal = Journal.open(make_store(tmp_path / "s.zarr", images=images, keep=False).path)
    masks = [drawn((8, 8), seed) for seed in range(len(names))]
    journal.extend(
        said("corrected", name, mask=mask, author=author, after=place)
        for place, (name, mask, author) in enumerate(zip(names, masks, authors, strict=True))
    )
    again = list(Journal.open(tmp_path / "s.zarr").corrections())
    assert [(one.image_id, one.author) for one in again] == list(zip(names, authors, strict=True))
    assert all(np.array_equal(one.mask, mask) for one, mask in zip(again, masks, strict=True))  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"s.zarr", "s.review"}


def test_a_review_of_a_kills_first_moment_goes_on(store: Path) -> None:
    folder = store.with_name("step-1.review")
    (folder / "masks").mkdir(parents=True)
    left = [folder / f"review.json.{'0' * 32}.partial", folder / f"masks/{'0' * 64}.png.{'1' * 32}.partial"]
    for path in left:
        path.write_bytes(b"{")
    Journal.open(store).append(said())
    assert not any(path.exists() for path in left)
