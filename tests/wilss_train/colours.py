"""A network that needs no training: it tells classes by their colours. And pictures in those colours."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import VOID, Taxonomy
from wilss.models.networks.checkpoint import CheckpointInfo

NAMES = ("background", "cat", "dog", "horse", "cow")
TAXONOMY = Taxonomy(name="pets", class_names=NAMES)
#: The new classes do not come in the order of their ids.
PROTOCOL = StepProtocol(name="2-1-1", taxonomy=TAXONOMY, steps=((2, 1), (4,), (3,)))
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)


def info(step: int = 1, protocol: StepProtocol = PROTOCOL, **changes: Any) -> CheckpointInfo:
    facts: dict[str, Any] = {
        "path": Path("runs/pets/step-1/model.safetensors"),
        "digest": "d" * 64,
        "method": "fmwiss",
        "spec": None,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "manifest_name": "pets",
        **changes,
    }
    return CheckpointInfo(step=step, protocol=protocol, **facts)


class ColourNet(nn.Module):
    """Logits on a grid of every `stride` pixels: minus the distance from the colours of the classes seen."""

    def __init__(self, seen: tuple[int, ...], stride: int = 4) -> None:
        super().__init__()
        self.stride, self.shapes = stride, list[tuple[int, ...]]()
        self.colours = nn.Buffer(torch.from_numpy(COLOURS[list(seen)]).float() / 255)

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert images.is_contiguous()
        self.shapes.append(tuple(images.shape))
        height, width = (-(-side // self.stride) for side in images.shape[-2:])
        small = F.interpolate(images, (height, width), mode="nearest")
        return -(small[:, None] - self.colours[None, :, :, None, None]).square().sum(dim=2)


def picture(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image that shows `labels`; what is void is white."""
    return np.where((labels == VOID)[..., None], 255, COLOURS[np.where(labels == VOID, 0, labels)]).astype(np.uint8)


def blocks(ids: list[int], size: tuple[int, int] = (24, 32)) -> NDArray[np.uint8]:
    """A label map with a column of equal width for each of `ids`."""
    columns = np.arange(size[1]) * len(ids) // size[1]
    return np.broadcast_to(np.array(ids, np.uint8)[columns], size).copy()


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {".jpg": "JPEG", ".webp": "WEBP"}.get(path.suffix, "PNG")
    Image.fromarray(pixels).save(path, format=form, **({"lossless": True} if form == "WEBP" else {}))
    return path
