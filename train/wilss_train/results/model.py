"""A trained segmenter to be asked about single images; many at once go faster through `wilss-predict`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from wilss.data.images import read_image, rgb_of
from wilss.disk import data_path
from wilss.errors import ImageError, first_line
from wilss.models.devices import resolve_device
from wilss.models.networks.checkpoint import CheckpointInfo, load_segmenter, read_info

from .predict import label_map, logits_of, probabilities_of, require_finite


class ArrayLike(Protocol):
    """What numpy makes an array of, as arrays of zarr, xarray and h5py."""

    def __array__(self) -> Any: ...


#: A file, a PIL image, or an array uint8 [H, W, 3] in RGB.
ImageLike: TypeAlias = Path | str | Image.Image | ArrayLike


def load_model(run: Path | str, device: str | torch.device = "auto") -> "Model":
    """The segmenter that a run has trained, ready to predict.

    run: its folder, or a model.safetensors. device: auto, cpu or cuda, or a torch.device.
    Raises CheckpointError where it is missing or damaged, or holds an embedding.
    """
    info, device = read_info(run), resolve_device(str(device))
    return Model(info=info, network=load_segmenter(info, device), device=device)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A segmenter in evaluation mode on `device`. info: what its checkpoint says of itself.

    Images are files, PIL images, or arrays uint8 [H, W, 3] in RGB, of numpy or of a store; files and PIL images are
    turned upright first, and values of 16 bits are read by the `bits` of the data that the network learnt from.
    """

    info: CheckpointInfo
    network: nn.Module = field(repr=False)
    device: str = "cpu"

    @property
    def classes(self) -> Mapping[int, str]:
        """The names of the classes by taxonomy id, in the order of the channels, background first."""
        return dict(zip(self.info.seen, self.info.channel_names, strict=True))

    def predict(self, image: ImageLike) -> NDArray[np.uint8]:
        """The label map of an image, uint8 [H, W] of taxonomy ids, at the image's own size; as `wilss-predict` has it.

        Raises ImageError for an image that cannot be used.
        """
        logits, height, width = self._logits(image)
        ids = torch.tensor(self.info.seen, dtype=torch.uint8, device=logits.device)
        return np.asarray(label_map(logits, ids, height, width).cpu().numpy())

    def probabilities(self, image: ImageLike) -> NDArray[np.float32]:
        """How probable every class of `classes` is at every pixel, float32 [C, H, W], each value in [0, 1].

        The values of a pixel sum to 1 for pseudoseg, unimatch, mib and plop; other methods learn each class by itself,
        and theirs need not.
        Raises ImageError for an image that cannot be used.
        """
        logits, height, width = self._logits(image)
        return np.asarray(probabilities_of(logits, self.info.method, height, width).cpu().numpy())

    def _logits(self, image: ImageLike) -> tuple[Tensor, int, int]:
        """Logits [C, h, w] of the feature grid, and the image's height and width."""
        pixels = _pixels(image, self.info.bits)
        writable = np.require(pixels, requirements=("C", "W"))  # torch warns of arrays that are not
        batch = torch.from_numpy(writable[None]).to(self.device)
        logits = logits_of(self.network, self.info, batch)[0]
        require_finite(logits.isfinite().all(), self.info, image if isinstance(image, str | Path) else "an image")
        return logits, *pixels.shape[:2]


def _pixels(image: ImageLike, bits: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]. bits: of 16 those that hold values."""
    if isinstance(image, str | Path):
        return read_image(data_path(image), bits)
    if isinstance(image, Image.Image):
        return _pixels_of_pil(image, bits)
    if hasattr(image, "__array__") and not isinstance(image, Tensor):
        image = np.asarray(image)
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
    raise ImageError(
        f"an image is a path, a PIL image or an array uint8 [H, W, 3], not {_kind_of(image)}; {_remedy(image)}."
    )


def _pixels_of_pil(image: Image.Image, bits: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]. Which of their numbers are black and white, images of 32 bits do not say."""
    if image.mode in ("I", "F"):
        raise ImageError(
            f"a PIL image of mode {image.mode} holds 32-bit numbers, of which nobody knows which one is white; give "
            f"one of mode L (0 to 255) or I;16 (0 to {(1 << bits) - 1})."
        )
    try:
        return rgb_of(image, bits)
    except (OSError, SyntaxError, ValueError, AssertionError, AttributeError) as error:  # damaged, or closed already
        why = first_line(error) if str(error) else "its file is closed"
        raise ImageError(f"the pixels of {image!r} cannot be read ({why}); open it again, or give its path.") from None


def _kind_of(image: object) -> str:
    """As in `float32 [24, 32, 3]`, or what else it is."""
    if isinstance(image, np.ndarray | Tensor):
        return f"{image.dtype} {list(image.shape)}"
    return f"{type(image).__module__}.{type(image).__name__}".removeprefix("builtins.")


def _remedy(image: object) -> str:
    if isinstance(image, np.ndarray | Tensor):
        return _remedy_of_numbers(image)
    if isinstance(image, bytes | bytearray):
        return "give PIL.Image.open(io.BytesIO(image))"
    if hasattr(image, "read"):
        return "give PIL.Image.open(image)"
    return "give one image at a time" if isinstance(image, list | tuple) else "convert it"


def _remedy_of_numbers(image: "NDArray[Any] | Tensor") -> str:
    """What makes an image of an array or tensor that is none."""
    shape, is_tensor = tuple(image.shape), isinstance(image, Tensor)
    if 0 in shape:
        return "it has no pixels"
    if len(shape) == 4:
        return "give one image at a time"
    if str(image.dtype).removeprefix("torch.") != "uint8":
        return "give its values as uint8, black 0 and white 255"
    if len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
        return f"give image.{'permute(1, 2, 0).cpu().numpy()' if is_tensor else 'transpose(1, 2, 0)'}"
    if len(shape) == 3 and shape[2] == 3 and is_tensor:
        return "give image.cpu().numpy()"
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 4):
        return f"give PIL.Image.fromarray(image{'.cpu().numpy()' if is_tensor else ''})"
    return "convert it"
