"""A small data set of step 0 with a list of labelled images and, where asked for, stored soft labels."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train.inputs import RunInputs, open_inputs
from wilss_train.params import TrainParams

IMAGES = tuple(f"im{i}" for i in range(9))
KNOWN = IMAGES[1], IMAGES[4], IMAGES[5]
PARAMS = TrainParams(
    backbone="resnet18", backbone_args={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}, head_width=8, rates=(1, 2),
    crop=32, batch_size=2, epochs=4, lr=0.01, colour=0.1, loss_stride=2, min_area=4, per_class=5,
)  # fmt: skip


def make(root: Path, known: tuple[str, ...] = KNOWN) -> Path:
    """Nine images of a cat or a dog each, and the list of three of them."""
    disk.voc(root / "data", {name: [1 + i % 2, 3] for i, name in enumerate(IMAGES)})
    for number, name in enumerate(IMAGES):
        _picture(root / "data", name, number)
    disk.text(root / "data/ImageSets/Segmentation/val.txt", *IMAGES[:3])
    manifest = load_manifest(disk.manifest(root, splits={"train": "train", "val": "val"}))
    for step in (0, 1):
        source = AnnotationSource.from_manifest(manifest, step)
        generate(manifest, step=step, source=source, out=masks(root, step), options=MaskOptions(device="cpu"))
    disk.text(root / "labelled.txt", *known)
    return root


def masks(root: Path, step: int = 0) -> Path:
    """The store of a step."""
    return root / f"masks/step-{step}.zarr"


def inputs(root: Path) -> RunInputs:
    """Step 0."""
    return open_inputs(load_manifest(root / "data_manifest.yaml"), masks(root), None, "pseudoseg")


def _picture(data: Path, name: str, number: int) -> None:
    """A noisy image in which every class has a colour, and its label."""
    size = ((24, 32), (32, 24), (28, 28))[number % 3]
    labels = np.zeros(size, np.uint8)
    labels[4:16, 3:14] = 1 + number % 2
    labels[-6:, -9:] = 3
    labels[:2] = 255
    colours = np.array([[90, 90, 90], [200, 60, 60], [60, 200, 60], [60, 60, 200]])
    noise = np.random.default_rng(number).integers(-30, 30, (*size, 3))
    pixels = colours[np.where(labels == 255, 0, labels)] + noise
    Image.fromarray(pixels.astype(np.uint8)).save(data / f"JPEGImages/{name}.jpg")
    Image.fromarray(labels).save(data / f"SegmentationClass/{name}.png")
