"""`wilss-memory`: the table and the picture of a bank."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.wilss_train.memory.drawn import PROTOCOL, make_store, random_masks, records_of, write_images
from wilss.errors import StoreError
from wilss_train import cli
from wilss_train.commands.memory import command
from wilss_train.memory import MemoryBank, fill
from wilss_train.memory.sheet import draw_sheet


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> MemoryBank:
    """Two certain classes of a step, two weak ones of the next, one of which has a single instance."""
    folder = tmp_path_factory.mktemp("run")
    parent = None
    for step, ids in enumerate(PROTOCOL.steps):
        images = random_masks(6, ids, seed=step)
        if step:
            images = {name: {3: masks[3]} if number else masks for number, (name, masks) in enumerate(images.items())}
        store = make_store(folder / f"step-{step}.zarr", images, step=step)
        given: dict[str, Any] = {
            "store": store,
            "records": records_of(write_images(folder / str(step), images)),
            "seed": 0,
        }
        path = folder / str(step) / "memory.zarr"
        fill(path, protocol=PROTOCOL, step=step, parent=parent, weak=bool(step), min_area=1, **given)
        parent = MemoryBank.open(path)
    assert parent is not None
    return parent


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_info_tells_every_class(bank: MemoryBank) -> None:
    result = invoke("info", bank.path)
    assert result.exit_code == 0
    table = [line.split() for line in result.stdout.splitlines()[-4:]]
    assert [row[:5] for row in table] == [
        ["ant", "1", "6", "0", "0"],
        ["bee", "2", "6", "0", "0"],
        ["dög", "4", "1", "1", "1"],
        ["cat", "3", "6", "6", "1"],
    ]
    areas = [info.area for info in bank.instances(1)]
    assert table[0][5:] == [f"{np.mean(areas):.0f}", "-"]
    assert f"digest: {bank.digest} (the files match)" in result.stdout


def test_info_as_json_is_the_same(bank: MemoryBank) -> None:
    facts = json.loads(invoke("info", bank.path.parent, "--json").stdout)
    assert (facts["digest"], facts["instances"]) == (bank.digest, 19)
    assert facts["classes"]["dög"] | {"mean_area": 0} == {
        "id": 4, "count": 1, "weak": 1, "steps": [1], "mean_area": 0, "mean_confidence": None,
    }  # fmt: skip
    assert facts["made_with"]["per_class"] == 50


def test_the_sheet_shows_instances_on_a_checkerboard_and_frames_the_weak(bank: MemoryBank) -> None:
    page = np.array(draw_sheet(bank, count=4, cell=80).picture)
    left, top, pitch = 28 + 168, 28 + 76, 80 + 8
    assert page.shape == (top + 4 * pitch - 8 + 28, left + 4 * pitch - 8 + 28, 3)
    framed = [(page[top + row * pitch, left : left + 80] == (230, 130, 0)).all() for row in range(4)]
    assert framed == [False, False, True, True]
    assert (page[top + 2 * pitch : top + 3 * pitch - 8, left + pitch :] == 255).all(), "one instance only"
    one = bank.read(bank.instances(1)[0].index)
    factor = min(68 / one.height, 68 / one.width, 3)
    square = page[top : top + 80, left : left + 80]
    boards = [(square == colour).all(axis=2) for colour in ((250, 250, 252), (231, 233, 238))]
    assert (~(boards[0] | boards[1])).sum() == pytest.approx(one.area * factor**2, rel=0.15)


def test_the_sheet_is_written_beside_the_bank_and_twice_the_same(bank: MemoryBank, tmp_path: Path) -> None:
    result = invoke("sheet", bank.path)
    beside = bank.path.with_suffix(".png")
    assert f"{beside}: 19 of 19 instances" in result.stdout
    assert invoke("sheet", bank.path.parent, "--out", tmp_path / "x" / "again.png").exit_code == 0
    assert (tmp_path / "x" / "again.png").read_bytes() == beside.read_bytes()
    with Image.open(beside) as image:
        assert image.mode == "RGB"
    assert invoke("sheet", bank.path, "--out", tmp_path / "a.jpg").exit_code == 2


def test_a_damaged_instance_is_named_and_the_others_are_drawn(bank: MemoryBank, tmp_path: Path) -> None:
    shutil.copytree(bank.path, tmp_path / "m.zarr")
    with (tmp_path / "m.zarr/image/c/0/0/0/0").open("r+b") as shard:
        shard.write(b"damaged!")
    result = invoke("sheet", tmp_path / "m.zarr", "--count", 4)
    assert result.exit_code == 3
    first = bank.instances(1)[0]
    assert f"Failed: ant of {first.image_id}: " in result.stderr
    assert "instance 0 cannot be read" in result.stderr
    assert "12 of 19 instances" in result.stdout
    page, whole = np.array(Image.open(tmp_path / "m.png")), np.array(draw_sheet(bank, count=4).picture)
    (rows, columns, _) = (page != whole).nonzero()
    assert (rows.min() >= 104, rows.max() < 200, columns.min() >= 196, columns.max() < 292) == (True,) * 4


def test_an_empty_bank_has_no_sheet(tmp_path: Path) -> None:
    images = random_masks(2, (1, 2))
    store = make_store(tmp_path / "s.zarr", images)
    fill(tmp_path / "m.zarr", store=store, records={}, protocol=PROTOCOL, step=0, parent=None, seed=0, weak=False)
    bank = MemoryBank.open(tmp_path / "m.zarr")
    with pytest.raises(StoreError, match="holds no instance, so there is nothing to draw"):
        draw_sheet(bank)
    assert "0 instances of 0 classes" in invoke("info", bank.path).stdout


def test_errors_are_sentences_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, told in (
        (["info", str(tmp_path / "gone")], 1, "gone is not there or no memory bank"),
        (["sheet"], 2, "Missing argument 'BANK'"),
        (["--version"], 0, "wilss-memory "),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.memory(arguments)
        said = capsys.readouterr()
        assert stopped.value.code == code
        assert told in said.out + said.err
