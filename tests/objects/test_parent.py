"""A step that starts from a run in a bucket, and the memory bank there: the bytes of a start from the disk."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.cli import content
from tests.faults.train_cli import wilss_train
from tests.wilss_train.data.semi.world import make, masks
from tests.wilss_train.logs import untimed_lines
from tests.wilss_train.run.test_train import METHOD, PARAMS, QUIET
from wilss.disk import ObjectUrl, UrlPath, folder_at
from wilss.errors import CheckpointError, ParameterError, StoreError, UnreachableError
from wilss.models.networks.checkpoint import read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss_train import train
from wilss_train.cli import memory
from wilss_train.memory import MemoryBank
from wilss_train.results.report.log import LOG_FILE
from wilss_train.run_folder import MEMORY, RUN_FILE

from .proxy import Proxy
from .test_commands import said
from .test_data import uploaded


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with the stores of two steps, and the run of the first."""
    root = make(tmp_path_factory.mktemp("pets"))
    learnt(root, 0, root / "base", None)
    return root


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(root: Path, bucket: ObjectUrl) -> UrlPath:
    return uploaded(root / "base", bucket.parent / "runs/base")


def learnt(root: Path, step: int, out: Path, parent: Path | str | None) -> None:
    how: dict[str, Any] = {"method": replace(METHOD, warmup_epochs=0), "params": replace(PARAMS, epochs=1)}
    train(masks(root, step), manifest=root / "data_manifest.yaml", out=out, parent=parent, options=QUIET, **how)


def test_a_step_from_there_is_one_from_the_disk(root: Path, base: UrlPath, proxy: Proxy, tmp_path: Path) -> None:
    learnt(root, 1, tmp_path / "near", root / "base")
    proxy.asked.clear()
    learnt(root, 1, tmp_path / "far", str(base))
    assert (tmp_path / "near" / MODEL_FILE).read_bytes() == (tmp_path / "far" / MODEL_FILE).read_bytes()
    near, far = (json.loads((tmp_path / name / RUN_FILE).read_text()) for name in ("near", "far"))
    assert [run.pop("about")["weights"] for run in (near, far)] == [str(root / "base"), str(base)]
    assert near == far
    assert content(tmp_path / "near" / MEMORY) == content(tmp_path / "far" / MEMORY)
    assert untimed_lines(tmp_path / "near" / LOG_FILE) == untimed_lines(tmp_path / "far" / LOG_FILE)
    read = Counter(path for method, path in proxy.asked if method == "GET" and "/c/" in path)
    assert read
    assert max(read.values()) <= 4  # whether it is as it was, before training and before the bank is filled


def test_a_run_whose_server_does_not_answer_is_not_damaged(base: UrlPath, proxy: Proxy, quiet: None) -> None:
    proxy.plan = lambda method, path: "refused" if method == "GET" and path.endswith(MODEL_FILE) else ""
    with pytest.raises(UnreachableError, match=rf"{base}/{MODEL_FILE} cannot be .*run the same command again"):
        read_info(base / MODEL_FILE)


def test_a_bank_there_is_read_as_from_disk(root: Path, base: UrlPath) -> None:
    near, far = MemoryBank.open(root / "base" / MEMORY), MemoryBank.open(base / MEMORY)
    far.verify()
    assert (near.digest, near.infos, near.category_ids) == (far.digest, far.infos, far.category_ids)
    for index in range(len(near)):
        np.testing.assert_array_equal(near.read(index).image, far.read(index).image)
        np.testing.assert_array_equal(near.read(index).mask, far.read(index).mask)
    folder_at(base / MEMORY).write("mask/c/0/0/0", b"damaged")
    with pytest.raises(StoreError, match=rf"{base}/{MEMORY} does not match its digest"):
        MemoryBank.open(base / MEMORY).verify()


def test_a_run_that_is_not_there_or_damaged_is_told_before_anything_is_trained(
    root: Path, base: UrlPath, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=rf"{base}-2 is not there; `wilss-train` makes it"):
        learnt(root, 1, tmp_path / "run", f"{base}-2")
    model = folder_at(base).read(MODEL_FILE)
    folder_at(base).write(MODEL_FILE, model[:-1] + bytes([model[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"{base}/{MODEL_FILE} is damaged: its weights do not match"):
        learnt(root, 1, tmp_path / "run", str(base))
    assert not (tmp_path / "run").exists()


def test_commands_take_it(
    root: Path, base: UrlPath, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--masks", masks(root, 1), "--manifest", root / "data_manifest.yaml", "--device", "cpu", "--threads", 1)
    shown = wilss_train(*words, "--from", base, "--parameters")
    assert (shown.code, "Warning" in shown.said) == (0, False), shown.said
    told = wilss_train(*words, "--from", base, "--out", f"{base.parent}/step-1")
    assert (told.code, f"{base.parent}/step-1 is a URL, and this is read or written on disk" in told.said) == (2, True)
    with pytest.raises(ParameterError, match="is a URL, and this is read or written on disk alone; name a path"):
        learnt(root, 1, f"{base.parent}/step-1", str(base))  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_what_a_bank_there_holds_is_shown(
    base: UrlPath, root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said(capsys, "info", base, "--json", main=memory)
    facts = json.loads(text)
    assert (code, facts["bank"], facts["bytes"]) == (0, f"{base}/{MEMORY}", sum(map(len, here(root))))
    assert said(capsys, "sheet", base, main=memory)[0] == 0
    assert (tmp_path / "memory.png").stat().st_size  # in this folder, since nothing stands beside a bucket


def here(root: Path) -> Iterator[bytes]:
    yield from content(root / "base" / MEMORY).values()
