"""`load_model`: the same label maps as `wilss-predict`, whatever form an image comes in."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
import zarr
from PIL import Image

from tests.wilss_train.colours import NAMES, ColourNet, blocks, info, picture, save
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.errors import CheckpointError, ImageError
from wilss.models.networks.checkpoint import write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss_train import Model, cli, load_model

SPEC = SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, num_channels=4)
PROTOCOL = StepProtocol(
    name="2-1", taxonomy=Taxonomy(name="pets", class_names=("background", "cat", "dog", "horse")), steps=((1, 3), (2,))
)
FACTS = {
    "method": "finetune", "step": 1, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "params": {}, "seed": 0,
    "iterations": 0, "parent_digest": None, "store_digest": None, "manifest_name": "pets", "manifest_digest": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network whose classes are seen in another order than their ids."""
    run = tmp_path_factory.mktemp("run")
    weights = build(SPEC, seed=0).state_dict()
    write_model(run / MODEL_FILE, weights, spec=SPEC, protocol=PROTOCOL, facts=FACTS)
    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two sizes, one of them lying on its side by its EXIF, and one with a transparent half."""
    folder = tmp_path_factory.mktemp("photos")
    values = np.random.default_rng(0).integers(0, 256, (40, 56, 4), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(values[..., :3]).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(values[:24, :, :3]).save(folder / "plain.png")
    values[:, :28, 3] = 0
    Image.fromarray(values).save(folder / "clear.png")
    return folder


def test_label_maps_are_those_of_the_command(run: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        cli.predict([str(run), str(photos), "--out", str(tmp_path), "--no-overlays", "--device", "cpu"])
    assert not end.value.code
    model = load_model(run, "cpu")
    assert dict(model.classes) == {0: "background", 1: "cat", 3: "horse", 2: "dog"}
    for path in photos.iterdir():
        expected = np.array(Image.open(next(tmp_path.glob(f"{path.stem}*.png"))))
        with Image.open(path) as opened:
            labels = [model.predict(image) for image in (path, str(path), opened)]
        assert all(map.dtype == np.uint8 and np.array_equal(map, expected) for map in labels)
        assert set(np.unique(expected)) <= set(model.classes)
    plain = photos / "plain.png"
    assert np.array_equal(model.predict(np.array(Image.open(plain))), model.predict(plain))
    assert model.predict(photos / "turned.jpg").shape == (56, 40)


def test_probabilities_are_of_each_class_or_of_one_out_of_all(run: Path, photos: Path) -> None:
    model = load_model(run / MODEL_FILE, "cpu")
    image = np.array(Image.open(photos / "plain.png"))
    normalised = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        logits = F.interpolate(model.network(normalised), image.shape[:2], mode="bilinear", align_corners=False)[0]
    found = model.probabilities(image)
    assert found.dtype == np.float32
    assert found.shape == (4, 24, 56)
    np.testing.assert_allclose(found, logits.sigmoid().numpy(), atol=1e-5)
    competing = replace(model, info=replace(model.info, method="pseudoseg")).probabilities(image)
    np.testing.assert_allclose(competing, logits.softmax(dim=0).numpy(), atol=1e-5)
    np.testing.assert_allclose(competing.sum(axis=0), 1, atol=1e-5)


def test_classes_are_found_where_they_are(tmp_path: Path) -> None:
    model = Model(info=info(step=1), network=ColourNet(info(step=1).seen, 1).eval())
    save(tmp_path / "a.png", picture(blocks([0, 4])))
    assert {NAMES[identity] for identity in np.unique(model.predict(tmp_path / "a.png"))} == {NAMES[0], NAMES[4]}


def test_what_cannot_be_used_is_refused(run: Path, tmp_path: Path) -> None:
    model = load_model(run, "cpu")
    for wrong in (np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"or an array uint8 \[H, W, 3\], not (uint8|float32) \[.*; (give|it) "):
            model.predict(wrong)
    with pytest.raises(ImageError, match=r"none\.jpg is not there"):
        model.predict(tmp_path / "none.jpg")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(tmp_path)
    broken = replace(model, network=lambda images: torch.full((1, 4, 2, 2), float("nan")))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"values that are not finite on an image; it did not learn"):
        broken.predict(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (
            torch.zeros(3, 4, 5, dtype=torch.uint8),
            r"not torch\.uint8 \[3, 4, 5\]; give image\.permute\(1, 2, 0\)\.cpu\(\)\.numpy\(\)\.",
        ),
        (torch.zeros(3, 4, 5), r"not torch\.float32 \[3, 4, 5\]; give its values as uint8, black 0 and white 255\."),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), r"not torch\.uint8 \[4, 5, 3\]; give image\.cpu\(\)\.numpy\(\)\."),
        (np.zeros((3, 4, 5), np.uint8), r"not uint8 \[3, 4, 5\]; give image\.transpose\(1, 2, 0\)\."),
        (np.zeros((4, 5), np.uint8), r"not uint8 \[4, 5\]; give PIL\.Image\.fromarray\(image\)\."),
        (np.zeros((4, 5, 4), np.uint8), r"not uint8 \[4, 5, 4\]; give PIL\.Image\.fromarray\(image\)\."),
        (np.zeros((2, 4, 5, 3), np.uint8), r"not uint8 \[2, 4, 5, 3\]; give one image at a time\."),
        (np.zeros((0, 5, 3), np.uint8), r"not uint8 \[0, 5, 3\]; it has no pixels\."),
        (io.BytesIO(b"jpeg"), r"not _io\.BytesIO; give PIL\.Image\.open\(image\)\."),
        (b"jpeg", r"not bytes; give PIL\.Image\.open\(io\.BytesIO\(image\)\)\."),
        (["a.jpg", "b.jpg"], r"not list; give one image at a time\."),
        (None, r"not NoneType; convert it\."),
    ],
)
def test_what_is_no_image_is_told_with_a_remedy(run: Path, image: object, told: str) -> None:
    with pytest.raises(ImageError, match=r"an image is a path, a PIL image or an array uint8 \[H, W, 3\], " + told):
        load_model(run, "cpu").predict(image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [np.array(row, kind) for row, kind in (([[0, 0.5]], np.float32), ([[9, 255]], np.float32), ([[9, 255]], np.int32))],
)
def test_a_pil_image_of_32_bits_is_refused_since_nobody_knows_its_white(run: Path, values: Any) -> None:
    with pytest.raises(ImageError, match=r"a PIL image of mode [IF] holds 32-bit numbers.*; give one of mode L \("):
        load_model(run, "cpu").predict(Image.fromarray(values))


def test_grey_of_8_and_16_bits_and_clear_pictures_are_as_the_same_in_colour(run: Path, photos: Path) -> None:
    model, grey = load_model(run, torch.device("cpu")), np.array(Image.open(photos / "plain.png").convert("L"))
    expected = model.probabilities(np.repeat(grey[..., None], 3, axis=2))
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    for same in (grey, grey.astype(np.uint16) * 257, opaque):
        assert np.array_equal(model.probabilities(Image.fromarray(same)), expected)


def test_a_pil_image_whose_file_is_damaged_or_closed_is_an_image_error(run: Path, photos: Path, tmp_path: Path) -> None:
    whole = (photos / "turned.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)  # enough for several chunks
    Image.fromarray(noise).save(tmp_path / "chunk.png")
    before, _, behind = (tmp_path / "chunk.png").read_bytes().rpartition(b"IDAT")
    (tmp_path / "chunk.png").write_bytes(before + b"I-AT" + behind)
    with Image.open(photos / "turned.jpg") as closed:
        pass
    with Image.open(tmp_path / "cut.jpg") as cut, Image.open(tmp_path / "chunk.png") as chunk:
        for image in (closed, cut, chunk):
            with pytest.raises(ImageError, match=r"the pixels of <.*ImageFile.*> cannot be read \(.+\); open it"):
                load_model(run, "cpu").predict(image)


def test_the_remedy_for_a_tensor_is_one(run: Path, photos: Path) -> None:
    model, pixels = load_model(run, "cpu"), np.array(Image.open(photos / "plain.png"))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    assert np.array_equal(model.predict(tensor.permute(1, 2, 0).cpu().numpy()), model.predict(pixels))


def test_arrays_of_stores_are_images(run: Path, photos: Path) -> None:
    model, pixels = load_model(run, "cpu"), np.array(Image.open(photos / "plain.png"))
    stored = zarr.create_array({}, data=pixels)
    labelled = xr.DataArray(pixels, dims=("y", "x", "channel"))
    for image in (stored, labelled):
        assert np.array_equal(model.predict(image), model.predict(pixels))


def test_an_array_that_may_not_be_written_to_is_an_image(run: Path, photos: Path) -> None:
    model, pixels = load_model(run, "cpu"), np.array(Image.open(photos / "plain.png"))
    pixels.flags.writeable = False
    np.testing.assert_array_equal(model.predict(pixels), model.predict(pixels.copy()))


def test_a_model_is_shown_without_its_network(run: Path) -> None:
    shown = repr(load_model(run, "cpu"))
    assert shown.startswith("Model(info=CheckpointInfo(path=")
    assert "Conv2d" not in shown
