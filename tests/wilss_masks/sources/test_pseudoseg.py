"""The source `pseudoseg`: what it keeps is what the networks say, its masks follow from that, and so does its void."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.wilss.data import data_on_disk as disk
from wilss.data.images import normalise, read_image, resize_uint8, to_pixels
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import Taxonomy
from wilss.errors import CheckpointError, ParameterError
from wilss.models.networks.attention_cam import Labeller, SoftLabelParams, soft_labels
from wilss.models.networks.checkpoint import load_segmenter, read_info, write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import LABELLER_FILE, load_labeller, write_labeller
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.store import MaskStore
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.sources.pseudoseg import PseudosegSource, _require_classes

IMAGES = {f"im{i}": [1 + i % 2] for i in range(6)}
SIZES = ((24, 32), (27, 30), (40, 24))
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, and an untrained network of step 0 (a cat or a dog) with its labeller."""
    root = tmp_path_factory.mktemp("pets")
    disk.voc(root / "data", IMAGES)
    for number, name in enumerate(IMAGES):
        disk.image(root / f"data/JPEGImages/{name}.jpg", SIZES[number % 3], seed=number)
    manifest = load_manifest(disk.manifest(root, splits={"train": "train"}))
    spec = SegmenterSpec(
        backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, output_stride=8, num_channels=3
    )
    network = build(spec, seed=3)
    labeller = Labeller.like(network, width=4, seed=3)
    (root / "run").mkdir()
    facts = {
        "method": "pseudoseg", "step": 0, "mean": MEAN, "std": STD, "params": {}, "seed": 0, "iterations": 1,
        "parent_digest": None, "store_digest": None, "manifest_name": "pets", "manifest_digest": "",
    }  # fmt: skip
    write_labeller(root / "run" / LABELLER_FILE, labeller, network)
    protocol = manifest.protocol
    write_model(root / "run" / MODEL_FILE, network.state_dict(), spec=spec, protocol=protocol, facts=facts)
    return root


def manifest(root: Path) -> Manifest:
    return load_manifest(root / "data_manifest.yaml")


def source(root: Path, **values: Any) -> PseudosegSource:
    return PseudosegSource.from_manifest(manifest(root), 0, {"checkpoint": str(root / "run"), **values})


def made(root: Path, out: Path, options: Options | None = None, **values: Any) -> MaskStore:
    options = options or Options(device="cpu", keep_scores=True, batch_size=2)
    generate(manifest(root), step=0, source=source(root, **values), out=out, options=options)
    return MaskStore.open(out)


def test_all_images_and_all_classes_are_asked_whatever_the_tags(root: Path, tmp_path: Path) -> None:
    store = made(root, tmp_path / "store.zarr")
    assert store.image_ids == tuple(IMAGES)
    assert store.vector("tags").all()
    assert (store.vector("status") == 1).all()
    assert not list(store.verify())


@pytest.mark.parametrize("kind", ["fused", "decoder", "sgc"])
def test_kept_labels_are_the_networks_and_masks_their_likeliest(root: Path, tmp_path: Path, kind: Any) -> None:
    options = Options(device="cpu", keep_scores=True, batch_size=1)
    store = made(root, tmp_path / "store.zarr", options, kind=kind, present=0.2, share=0.4, temperature=0.8)
    info = read_info(root / "run")
    segmenter = load_segmenter(info)
    labeller = load_labeller(info, segmenter)
    params = SoftLabelParams(kind=kind, present=0.2, share=0.4, temperature=0.8)
    for row, name in enumerate(store.image_ids):
        image = torch.from_numpy(read_image(root / f"data/JPEGImages/{name}.jpg")).permute(2, 0, 1)
        height, width = image.shape[1:]
        size = (round(height / 8) * 8, round(width / 8) * 8)
        soft = soft_labels(segmenter, labeller, normalise(resize_uint8(image, size)[None], MEAN, STD), params)[0].half()
        rows, columns = soft.shape[1:]
        assert (rows, columns) == (size[0] // 8, size[1] // 8)
        for place, identity in enumerate(store.category_ids):
            plane = store.plane("score", row, place)
            channel = info.seen.index(identity)
            np.testing.assert_allclose(plane[:rows, :columns], soft[channel].numpy(), atol=2e-3)
            assert np.isnan(plane[rows:]).all()
            assert np.isnan(plane[:, columns:]).all()
        label = to_pixels(soft.float(), height, width).argmax(dim=0).numpy()
        masks = store.read(row).masks
        for place, identity in enumerate(store.category_ids):
            assert ((label == info.seen.index(identity)) == masks[place]).mean() > 0.99
        assert not (masks.sum(axis=0) > 1).any()


def test_unsure_pixels_are_void(root: Path, tmp_path: Path) -> None:
    sure, unsure = made(root, tmp_path / "a.zarr"), made(root, tmp_path / "b.zarr", certain=0.6)
    some = False
    for name in IMAGES:
        first, second = sure.read(name), unsure.read(name)
        assert first.void is not None
        assert second.void is not None
        assert not first.void.any()
        np.testing.assert_array_equal(second.masks, first.masks & ~second.void)
        some |= bool(second.void.any())
    assert some
    assert all(made(root, tmp_path / "c.zarr", certain=1.0).read(name).void.all() for name in IMAGES)  # type: ignore[union-attr]


def test_made_twice_the_store_is_the_same(root: Path, tmp_path: Path) -> None:
    options = Options(device="cpu", keep_scores=True, batch_size=2, shard_size=2)
    first, second = (made(root, tmp_path / f"{name}.zarr", options) for name in "ab")
    assert first.vector("shard_digest").tolist() == second.vector("shard_digest").tolist()


def test_identity_follows_the_networks_and_not_their_place(root: Path, tmp_path: Path) -> None:
    told = source(root).identity()
    assert set(told["models"]) == {"segmenter", "labeller"}
    assert "checkpoint" not in told["parameters"]
    assert set(source(root, kind="decoder").identity()["models"]) == {"segmenter"}
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for name in (MODEL_FILE, LABELLER_FILE):
        (copied / name).write_bytes((root / "run" / name).read_bytes())
    assert source(root, checkpoint=str(copied)).identity() == told
    (copied / LABELLER_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"labeller\.safetensors is not there"):
        source(root, checkpoint=str(copied))
    source(root, checkpoint=str(copied), kind="decoder")


def test_classes_are_the_same_however_their_umlauts_are_composed(root: Path) -> None:
    one, two = (
        Taxonomy(
            name="pets", class_names=tuple(unicodedata.normalize(form, name) for name in ("-", "Rüde", "Hündin", "x"))
        )
        for form in ("NFC", "NFD")
    )
    assert one != two
    own, info = manifest(root), read_info(root / "run")
    info = replace(info, protocol=replace(info.protocol, taxonomy=two))
    _require_classes(info, replace(own, taxonomy=one, protocol=replace(own.protocol, taxonomy=one)), 0)
    other = replace(one, class_names=("-", "Rüde", "Hund", "x"))
    with pytest.raises(CheckpointError, match="has learnt no Hund, a class of step 0"):
        _require_classes(info, replace(own, taxonomy=other, protocol=replace(own.protocol, taxonomy=other)), 0)


def test_what_cannot_label_is_refused(root: Path) -> None:
    with pytest.raises(
        ParameterError, match=r"labels with a trained network and has been given none; say --checkpoint"
    ):
        PseudosegSource.from_manifest(manifest(root), 0)
    with pytest.raises(CheckpointError, match=r"has learnt no horse, a class of step 1"):
        PseudosegSource.from_manifest(manifest(root), 1, {"checkpoint": str(root / "run")})
    with pytest.raises(ParameterError, match=r"certain is 3\.0; it must be between 0 and 1"):
        source(root, certain=3.0)
