"""`bits: 12` from the manifest to the prediction: all is as if the images had been scaled to 8 bits before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from tests.faults import cli, train_cli
from wilss.data.contents import content_of
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import load_manifest
from wilss.models.networks.checkpoint import read_info, read_weights
from wilss.store import MaskStore
from wilss_masks.auditing.duplicates import duplicate_pairs
from wilss_masks.auditing.hashes import hashes_of
from wilss_train import MaskDataset, load_model
from wilss_train.commands.predict import command


def as_grey(root: Path, scale: int) -> None:
    """The photographs of a data set as grey PNGs. scale: 1 for 8 bits; 16 for 12 bits that become the same 8."""
    for path in (root / "data/JPEGImages").glob("*.jpg"):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
        path.unlink()
        Image.fromarray(deep(grey) if scale == 16 else grey).save(path.with_suffix(".png"))


def deep(grey: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The values of 12 bits that come nearest to these of 8."""
    return np.asarray((grey.astype(np.uint32) * 4095 + 127) // 255).astype(np.uint16)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The same data set of 8 bits and of 12, with the masks and the run of step 0, by pixel labels."""
    found = {}
    for name, scale, more in (("of 8", 1, {}), ("of 12", 16, {"bits": 12})):
        root = found[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        train_cli.data_set(root, **more)
        as_grey(root, scale)
        train_cli.make_masks(root, 0)
        made = train_cli.wilss_train(*train_cli.words(root, "base", step=0))
        assert made.code == 0, made.said
    return found


def test_a_network_learns_the_same_and_remembers_the_bits(worlds: Mapping[str, Path]) -> None:
    flat, twelve = (read_info(worlds[name] / "base") for name in ("of 8", "of 12"))
    assert (flat.bits, twelve.bits) == (16, 12)
    mine, theirs = read_weights(flat), read_weights(twelve)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert b'"bits"' not in flat.path.read_bytes()[:20_000], "the bytes of other checkpoints are what they were"


def test_new_pictures_are_read_by_the_bits_of_the_checkpoint(worlds: Mapping[str, Path], tmp_path: Path) -> None:
    grey = np.random.default_rng(5).integers(0, 256, (24, 40), np.uint8)
    (tmp_path / "in").mkdir()
    for name, pixels in (("flat", grey), ("deep", deep(grey)), ("light", deep(grey) + np.uint16(4096))):
        Image.fromarray(pixels).save(tmp_path / f"in/{name}.png")
    run = str(worlds["of 12"] / "base")
    given = [run, str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--probabilities", "float32", "--device", "cpu"]
    result = CliRunner().invoke(command, given)
    maps = [np.load(tmp_path / f"out/{name}.probabilities.npz")["probabilities"] for name in ("flat", "deep")]
    np.testing.assert_array_equal(*maps)
    assert result.exit_code == 3
    assert "light.png holds the value 8191, and with `bits: 12` there is none above 4095;" in result.stderr
    model = load_model(run, "cpu")
    with Image.open(tmp_path / "in/deep.png") as opened:
        for image in (tmp_path / "in/deep.png", opened):
            np.testing.assert_allclose(model.probabilities(image), maps[0], atol=1e-6)
    of_8_bits = load_model(worlds["of 8"] / "base", "cpu").probabilities(tmp_path / "in/deep.png")
    assert abs(of_8_bits - maps[0]).max() > 1e-4, "the same weights see another picture where nobody says the bits"


def test_the_next_step_takes_the_bits_of_the_one_before(worlds: Mapping[str, Path], tmp_path: Path) -> None:
    """Images of 8 bits came at step 1: whoever predicts those of step 0 still has 12."""
    root = train_cli.data_set(tmp_path, splits=None, path=None, data={
        "old": {"path": str(worlds["of 12"] / "data"), "splits": {"train": "train"}, "bits": 12},
        "new": {"path": "data", "splits": {"train": "train"}},
    }, steps=[{"classes": [1, 2]}, {"classes": [3], "data": "new", "supervision": "pixel"}])  # fmt: skip
    train_cli.make_masks(root, 1)
    base = str(worlds["of 12"] / "base")
    words = [base if word == str(root / "base") else word for word in train_cli.words(root, "x")]
    made = train_cli.wilss_train(*words, "--epochs", 3)
    assert made.code == 0, made.said
    assert read_info(root / "x").bits == 12


def test_a_dataset_gives_the_same_images(worlds: Mapping[str, Path]) -> None:
    flat, twelve = (MaskDataset(root / "masks/step-0.zarr", root / "data_manifest.yaml") for root in worlds.values())
    assert len(flat) == len(twelve) > 10
    for mine, theirs in zip(flat, twelve, strict=True):
        assert torch.equal(mine["image"], theirs["image"])


def test_an_audit_takes_them_for_the_same(worlds: Mapping[str, Path]) -> None:
    records = [load_manifest(root / "data_manifest.yaml").records(0).records[0] for root in worlds.values()]
    assert [record.bits for record in records] == [16, 12]
    (pair,) = duplicate_pairs(hashes_of(records), records)
    assert pair.difference == 0


# -- what a store is made of --------------------------------------------------------------------------------


def rewritten(root: Path, **changes: Any) -> None:
    path = root / "data_manifest.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))


def test_a_store_of_other_bits_is_another_and_is_made_again_by_an_update(tmp_path: Path) -> None:
    flat, root = cli.data_set(tmp_path / "flat"), cli.data_set(tmp_path / "deep")
    as_grey(flat, 1)
    as_grey(root, 16)
    assert cli.generate(flat).code == cli.generate(root).code == 0
    dark = cli.masks(root / "out/s.zarr")
    rewritten(root, bits=12)
    refused = cli.generate(root)
    assert refused.code == 1
    assert "data.bits: 12 asked for, null in the store" in refused.said
    assert "--update keeps what is the same" in refused.said
    updated = cli.generate(root, "--update")
    assert updated.code == 0, updated.said
    light, expected = cli.masks(root / "out/s.zarr"), cli.masks(flat / "out/s.zarr")
    assert all(np.array_equal(light[name], expected[name]) for name in expected)
    assert not all(np.array_equal(light[name], dark[name]) for name in dark)
    assert MaskStore.open(root / "out/s.zarr").attributes["data"]["bits"] == 12


def test_the_content_of_an_image_is_what_it_was_without_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"some bytes")
    whole, twelve = (content_of(ImageRecord(image_id="a", path=path, bits=bits), "images") for bits in (16, 12))
    assert whole == 0x49D0E610CCCD220D  # of the file's sha256
    assert twelve != whole
