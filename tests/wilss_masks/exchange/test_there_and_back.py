"""Out to a tool, edited there, and into a revised store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.wilss_masks.exchange.drawn import CLASSES, store_of
from wilss.data.annotations import READERS
from wilss.data.annotations.runs import runs_by_rows
from wilss.store import MaskStore
from wilss_masks.commands.export import command as export
from wilss_masks.commands.revise import FORMS
from wilss_masks.commands.revise import command as revise

LEFT = np.indices((6, 7))[1] < 3


def test_the_option_format_has_a_word_for_every_reader() -> None:
    assert tuple(READERS) == FORMS


def test_a_form_may_be_forced(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s.zarr", {"b": {1: LEFT}})
    assert call(export, "cvat", store.path, tmp_path / "a.xml").exit_code == 0
    (tmp_path / "a.xml").rename(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8").replace(">unjudged<", ">accepted<")
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    words = ("--from", tmp_path / "a.json", "--out", tmp_path / "r.zarr")
    assert "no whole json" in str(call(revise, store.path, *words).exception)
    assert call(revise, store.path, *words, "--format", "cvat").exit_code == 0


def call(command: Any, *words: object) -> Any:
    return CliRunner().invoke(command, [str(word) for word in words], obj={})


@pytest.mark.parametrize("form", ["a.xml", "a.zip"])
def test_cvat_to_a_revised_store(tmp_path: Path, form: str) -> None:
    store = store_of(tmp_path / "s.zarr", {"a/1": {1: LEFT}, "b": {1: LEFT, 2: ~LEFT}})
    assert call(export, "cvat", store.path, tmp_path / "a.xml").exit_code == 0
    text = (tmp_path / "a.xml").read_text(encoding="utf-8")
    lines = text.splitlines()
    first = next(line for line in lines if "<mask" in line)
    runs = ",".join(map(str, runs_by_rows(~LEFT).tolist()))
    drawn = (
        f'<mask label="cat" rle="{runs}" left="0" top="0" width="7" height="6"/><mask label="dog" rle="1" left="0"/>'
    )
    (tmp_path / "a.xml").write_text(text.replace(first, drawn, 1), encoding="utf-8")
    if form == "a.zip":
        import zipfile

        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(tmp_path / "a.xml", "annotations.xml")
    result = call(revise, store.path, "--from", tmp_path / form, "--out", tmp_path / "r.zarr")
    assert "'dog' is no class of" in result.output
    assert result.exit_code == 3
    revised = MaskStore.open(tmp_path / "r.zarr")
    np.testing.assert_array_equal(revised.read("a/1").masks[0], ~LEFT)
    np.testing.assert_array_equal(revised.read("b").masks, store.read("b").masks)
    assert set(CLASSES) == set(revised.category_ids)
