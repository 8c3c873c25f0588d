"""The commands take URLs where they take stores, and say what is wrong in a sentence without secrets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.wilss.store.test_store import make_header
from tests.wilss_train.data.semi.world import make, masks
from wilss.disk import ObjectUrl, folder_at
from wilss.store import FeatureLayout, MaskStore, MaskStoreWriter
from wilss_masks.cli import main

from .servers import SETTINGS

KEY, SECRET = (SETTINGS[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


def said(
    capsys: pytest.CaptureFixture[str], *words: object, main: Callable[[list[str]], None] = main
) -> tuple[int, str]:
    """The exit code and all that was printed. main: of another command line than `wilss-masks`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    told = capsys.readouterr()
    text = told.out + told.err
    assert "Traceback" not in text
    assert not any(secret in text for secret in (KEY, SECRET))
    return int(ended.value.code or 0), text


def test_a_walk_of_commands(
    root: Path, bucket: ObjectUrl, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there, manifest = bucket / "step-0.zarr", ("--manifest", root / "data_manifest.yaml")
    code, text = said(capsys, "generate", "--step", 0, "--out", there, "--dry-run", *manifest)
    assert (code, f"would write {there}" in text) == (0, True)
    assert said(capsys, "generate", "--step", 0, "--out", there, *manifest)[0] == 0
    assert MaskStore.open(there).digest == MaskStore.open(masks(root)).digest
    code, text = said(capsys, "generate", "--step", 0, "--out", there, *manifest)
    assert (code, f"{there} was complete already" in text) == (0, True)
    assert f"wilss-masks sheet {there}" in text
    code, text = said(capsys, "info", there)
    assert (code, str(there) in text) == (0, True)
    assert said(capsys, "verify", there, *manifest)[0] == 0
    assert said(capsys, "evaluate", there, *manifest)[0] == 0
    assert said(capsys, "sheet", there, "--count", 2, *manifest)[0] == 0
    assert (tmp_path / "step-0.png").stat().st_size  # in this folder, since nothing stands beside a bucket
    assert said(capsys, "export", "voc", there, tmp_path / "labels")[0] == 0
    assert len([*(tmp_path / "labels").rglob("*.png")]) == 9
    assert said(capsys, "review", there, "--static", tmp_path / "page", *manifest)[0] == 0
    assert (tmp_path / "page/index.html").stat().st_size
    folder_at(there).write("mask/c/0/0/0/0", b"damaged")
    code, text = said(capsys, "verify", there)
    assert (code, "shard 0 does not match its digest" in text) == (1, True)


def test_how_much_the_features_of_a_store_take_is_told(bucket: ObjectUrl, capsys: pytest.CaptureFixture[str]) -> None:
    kept, plain = FeatureLayout(name="clip", tokens=4, dims=2, width=3), make_header()
    bases = {"clip_mean": np.zeros(3, np.float32), "clip_basis": np.zeros((2, 3), np.float32)}
    header = replace(plain, layout=replace(plain.layout, features=(kept,)), bases=bases)
    store = MaskStoreWriter.create(bucket / "step-1.zarr", header).store
    store.folder.write("clip_features/c/0/0/0", bytes(12_000))
    code, text = said(capsys, "info", store.path)
    assert (code, "clip 2 of 3 numbers of 4 tokens at most; 14 kB an image" in text) == (0, True), text


@pytest.mark.parametrize(
    ("url", "code", "why"),
    [
        (
            f"s3://{KEY}:{SECRET}@masks/step-0.zarr",
            2,
            "was given with more than bucket",
        ),
        ("ftp://masks/step-0.zarr", 2, "of a kind that is not known"),
        ("s3://masks", 2, "names no place in a bucket"),
        ("s3://no-such-bucket/step-0.zarr", 1, "cannot be listed (the server says 404)"),
    ],
)
def test_wrong_urls_are_sentences(
    bucket: ObjectUrl, capsys: pytest.CaptureFixture[str], url: str, code: int, why: str
) -> None:
    ended, text = said(capsys, "info", url)
    assert (ended, why in text) == (code, True), text
