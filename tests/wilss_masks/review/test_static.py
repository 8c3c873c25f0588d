"""The page as files, what comes back of it, and what masks are held against."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.wilss_masks.review.sessions import POT, SCREEN, SIZE, make_session
from tests.wilss_masks.stores import IMAGES, make_manifest, make_store
from wilss.errors import ParameterError, StoreError
from wilss_masks import cli
from wilss_masks.commands import review as command
from wilss_masks.review.journal import Journal
from wilss_masks.review.page_files import PAGE_FILES
from wilss_masks.review.runs import runs_of
from wilss_masks.review.static import bundled, write_static
from wilss_masks.review.verdict_file import import_verdicts

DRAWN = np.zeros(SIZE, bool)
DRAWN[3:9, 5:20] = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    session = make_session(folder)
    assert write_static(session, folder / "out", limit=4) == 4
    session.close()
    return folder


def verdicts(store_digest: str, **more: Any) -> dict[str, Any]:
    said = [
        {"image": IMAGES[0].image_id, "category": POT, "verdict": "corrected", "runs": runs_of(DRAWN), "tag": None,
         "at": "2026-11-29T12:00:00.000Z"},
        {"image": IMAGES[5].image_id, "category": SCREEN, "verdict": "rejected", "runs": None, "tag": None,
         "at": "2026-11-29T12:00:01.000Z"},
    ]  # fmt: skip
    return {"format": "wilss-verdicts", "format_version": 1, "store": "step-1.zarr", "digest": store_digest,
            "author": "Grace", "corrections": said, **more}  # fmt: skip


def test_all_that_the_page_shows_lies_in_its_folder(folder: Path) -> None:
    out = folder / "out"
    index = json.loads((out / "data/index.js").read_text().removeprefix("REVIEW = ").rstrip(";\n"))
    assert len(index["index"]["images"]) == len(list((out / "images").glob("*.jpg")))
    assert len(list((out / "thumbs").glob("*.jpg"))) == 4
    html = (out / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert name.startswith("data:,") or (out / name).is_file()
    assert "http://" not in html
    assert 'type="module"' not in html


def test_the_script_is_that_of_the_page_without_modules() -> None:
    script = bundled()
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    assert {name.removesuffix(".js") for name in PAGE_FILES if name.endswith(".js")} - {"server"} <= set(
        re.findall(r"^modules\.(\w+) = ", script, re.MULTILINE)
    )


def test_a_folder_is_replaced_when_asked_for_and_only_where_it_is_such_a_page(folder: Path) -> None:
    session = make_session(folder)
    with pytest.raises(StoreError, match="--overwrite"):
        write_static(session, folder / "out", limit=1)
    assert write_static(session, folder / "out2", limit=1) == 1
    assert write_static(session, folder / "out2", limit=2, overwrite=True) == 2
    with pytest.raises(StoreError, match="no such page"):
        write_static(session, folder / "images", limit=1, overwrite=True)
    session.close()


def test_verdicts_come_back_once(tmp_path: Path) -> None:
    store = make_store(tmp_path / "step-1.zarr")
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps(verdicts(store.digest)))
    journal = Journal.open(store.path)
    assert import_verdicts(path, journal) == (2, 0)
    assert import_verdicts(path, journal) == (0, 2)
    again = CliRunner().invoke(command.command, [str(store.path), "--import", str(path)])
    assert "0 verdicts taken over" in again.output
    assert "2 known already" in again.output
    kept = {one.category: one for one in journal.corrections()}
    assert {(one.author, one.origin) for one in kept.values()} == {("Grace", "static page")}
    np.testing.assert_array_equal(kept[POT].mask, DRAWN)
    assert kept[SCREEN].verdict == "rejected"


def test_verdicts_that_name_nobody_are_the_authors(tmp_path: Path) -> None:
    store = make_store(tmp_path / "step-1.zarr")
    path = tmp_path / "verdicts.json"
    path.write_text(json.dumps(verdicts(store.digest, author=" ")))
    named = CliRunner().invoke(command.command, [str(store.path), "--import", str(path), "--author", "Ida"])
    assert "2 verdicts taken over" in named.output
    assert {one.author for one in Journal.open(store.path).latest().values()} == {"Ida"}


def test_verdicts_of_another_store_or_none_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "step-1.zarr")
    journal, path = Journal.open(store.path), tmp_path / "verdicts.json"
    for content, match in (
        (verdicts("0" * 64), "is of another store than"),
        ({"format": "coco"}, "is not the verdicts.json"),
        (verdicts(store.digest, corrections=[{"image": 3}]), "is not the verdicts.json"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(StoreError, match=match):
            import_verdicts(path, journal)
    wrong_size = verdicts(store.digest)
    wrong_size["corrections"][0]["runs"] = [7]
    path.write_text(json.dumps(wrong_size))
    done = CliRunner().invoke(command.command, [str(store.path), "--import", str(path)])
    assert "the image has 48 x 64" in str(done.exception)
    assert not journal.latest()


def test_what_is_named_wrongly_is_no_fault_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, nope = make_store(tmp_path / "step-1.zarr").path, tmp_path / "nope"
    monkeypatch.chdir(tmp_path)
    manifest = make_manifest(tmp_path / "images")
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: manifest)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for words, said in (
        ((store, "--import", nope), "nope is not there; correct the path."),
        ((store, "--only", nope), "nope is not there; correct the path."),
        ((store, "--only", tmp_path / "latin.txt"), "latin.txt is not UTF-8 text"),
        ((store, "--label-quality", nope), "nope is not there; correct the path."),
        ((nope,), "nope does not exist; make it"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["review", *map(str, words), "--no-browser"])
        told = capsys.readouterr().err
        assert (end.value.code, said in told, "manifest" in told) == (1, True, False), told


def test_listed_images_that_the_store_does_not_hold_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown, other = IMAGES[0].image_id, IMAGES[1].image_id
    path = tmp_path / "list.txt"
    path.write_text(f"{shown}.jpg\nnobody\n{other}\n", encoding="utf-8")
    session = make_session(tmp_path, only=path)
    assert list(session.index.image_ids) == [shown, other]
    assert "list.txt names 1 image (nobody), which " in caplog.text


def test_masks_are_held_against_label_maps_and_that_is_kept(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    labels = IMAGES[0].labels
    Image.fromarray(labels).save(tmp_path / "labels" / f"{IMAGES[0].image_id}.png")
    Image.fromarray(labels).save(tmp_path / "labels" / f"{IMAGES[1].image_id}.png")  # of another size
    for again in (False, True):
        session = make_session(tmp_path, predictions=tmp_path / "labels")
        assert session.comparison is not None
        session.comparison.wait()
        mask = session.store.read(0, [0]).masks[0]
        wanted = 1 - (mask & (labels == POT)).sum() / (mask | (labels == POT)).sum()
        assert session.comparison.values[0] == pytest.approx(wanted)
        assert np.isnan(session.comparison.values[1:]).all()
        assert bool(list((tmp_path / "cache").glob("disagreement-*.npy")))
        assert session.image_value(0)["classes"][0]["prediction"] == runs_of(labels == POT)
        if again:
            session.comparison.values[:] = 0
        session.close()


def test_a_second_store_is_a_prediction_too(tmp_path: Path) -> None:
    make_store(tmp_path / "other.zarr")
    session = make_session(tmp_path, predictions=tmp_path / "other.zarr")
    assert session.comparison is not None
    session.comparison.wait()
    assert np.nanmax(session.comparison.values) == 0
    session.close()
    with pytest.raises(StoreError, match="neither a mask store nor a folder"):
        make_session(tmp_path, predictions=tmp_path / "images" / "none")


def test_scores_of_label_errors_are_a_column(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    path.write_text(json.dumps({IMAGES[0].image_id: 0.25, IMAGES[2].image_id: {"tvmonitor": 0.5}}))
    session = make_session(tmp_path, label_quality=path)
    assert session.quality is not None
    known = dict(zip(zip(session.index.image.tolist(), session.index.category.tolist(), strict=True),
                     session.quality.tolist(), strict=True))  # fmt: skip
    assert known[0, POT] == 0.25
    assert known[2, SCREEN] == 0.5
    assert np.isnan(known[2, POT])
    session.close()
    path.write_text(json.dumps({"format": "wilss-audit", "scores": {IMAGES[0].image_id: {"pottedplant": 0.25}}}))
    session = make_session(tmp_path, label_quality=path)
    assert session.quality is not None
    assert session.quality[0] == 0.75, "an audit scores errors"
    write_static(session, tmp_path / "out", limit=3)
    columns = json.loads((tmp_path / "out/data/index.js").read_text().removeprefix("REVIEW = ").rstrip(";\n"))
    assert "quality" in columns["index"]["columns"], "the page of files is sorted by it, too"
    session.close()
    for content in ("[1]", "{", '{"nobody": 1}', json.dumps({IMAGES[0].image_id: "bad"})):
        path.write_text(content)
        with pytest.raises(ParameterError):
            make_session(tmp_path, label_quality=path)


def test_without_its_libraries_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    done = CliRunner().invoke(command.command, [str(tmp_path / "step-1.zarr")])
    assert "pip install 'wilss[review]'" in str(done.exception)
