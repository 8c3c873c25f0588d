"""A run from a store that people judged: what it learns from, and what its report says of them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.train_cli import data_set, make_masks, wilss_train, words
from wilss.store import MaskStore
from wilss.store.review_folder import judged_beside
from wilss_masks import Correction, Journal, revise
from wilss_train import MaskDataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose store of step 0 is replaced by one in which six images were judged, of fourteen."""
    root = data_set(tmp_path_factory.mktemp("judged"))
    store = MaskStore.open(make_masks(root, 0))
    told = [
        Correction(
            image_id=store.image_ids[row], category=store.category_ids[place],
            verdict="rejected" if row == 0 else "accepted",
            author="<i>Ada</i>" if row < 4 else "Bo", at=datetime(2026, 11, 29, tzinfo=UTC), origin="page",
        )
        for row in range(6)
        for place in store.read(row).categories
    ]  # fmt: skip
    revise(store, root / "masks/judged.zarr", corrections={"a list": told})
    return root


def given(root: Path, out: str, *more: object) -> list[str]:
    """The words of a short run from the judged store."""
    said = words(root, out, "--epochs", 1, *more, step=0)
    said[said.index("--masks") + 1] = str(root / "masks/judged.zarr")
    said[said.index("--split") + 1] = "val"
    return said


def test_the_report_says_what_came_from_whom(root: Path) -> None:
    done = wilss_train(*given(root, "run", "--set", "trust=accepted"))
    assert done.code == 0, done.said
    training = json.loads((root / "run/report.json").read_text(encoding="utf-8"))["training"]
    assert training["images"] == 5
    assert training["masks"]["source"] == "annotation"
    assert sum(training["masks"]["verdicts"].values()) == 14
    assert training["masks"]["verdicts"]["rejected"] == 1
    assert training["masks"]["authors"] == {"<i>Ada</i>": 4, "Bo": 2}
    page = (root / "run/report.html").read_text(encoding="utf-8")
    assert "Judged by &lt;i&gt;Ada&lt;/i&gt; (4), Bo (2), in page (6)." in page
    assert "<i>Ada" not in page


def test_what_cannot_be_trusted_is_refused_before_anything_is_written(root: Path) -> None:
    wrong = wilss_train(*given(root, "wrong", "--set", "trust=some"))
    assert (wrong.code, "trust" in wrong.err, (root / "wrong/run.json").exists()) == (2, True, False)
    nobody = wilss_train(*words(root, "nobody", "--set", "trust=judged", step=0))
    assert "no mask that trust=judged takes; judge some" in nobody.err
    panet = wilss_train(*given(root, "panet", "--method", "panet", "--set", "trust=judged"))
    assert "trust=judged is for methods that learn from masks of a step, and panet is none" in panet.err
    panet = wilss_train(*given(root, "panet", "--method", "panet", "--set", "least_confidence=0.5"))
    assert "least_confidence=0.5 is for methods that learn from masks of a step" in panet.err
    assert not [name for name in ("nobody", "panet") if (root / name / "run.json").exists()]


def test_the_dataset_reads_it(root: Path) -> None:
    dataset = MaskDataset(root / "masks/judged.zarr", root / "data_manifest.yaml")
    first = dataset[0]
    assert not first["masks"].any()
    assert first["void"].any()
    assert len(dataset) == 14


def test_a_review_that_is_not_in_the_store_is_told_of(root: Path) -> None:
    store = MaskStore.open(root / "masks/judged.zarr")
    assert not judged_beside(store)
    journal = Journal.open(store.path)
    assert not judged_beside(store), "nobody has said anything yet"
    journal.append(
        Correction(
            image_id=store.image_ids[8], category=store.category_ids[0], verdict="rejected",
            author="Ada", at=datetime(2026, 11, 29, tzinfo=UTC), origin="page",
        )
    )  # fmt: skip
    told = judged_beside(store)
    assert told.endswith("a store with it.")
    assert told in wilss_train(*given(root, "told")).err
    (root / "masks/judged.review/review.json").write_text("[")
    assert "cannot be read" in judged_beside(store)
