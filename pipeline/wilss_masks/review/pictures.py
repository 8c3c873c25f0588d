"""The pictures of the page: thumbnails with a mask over them, the image, kept maps as heat, regions to take.

Thumbnails are made when they are asked for, and kept in a cache folder.
"""

import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.digests import digest_of_bytes
from wilss.disk import remove_tree, write_atomically
from wilss.drawing import class_colours, encoded
from wilss.errors import ImageError, ParameterError
from wilss.params import divided, with_values
from wilss.store import MaskStore

from ..inspect import drawing
from ..inspect.page import fitted
from ..inspect.sheet import SoftReader
from ..stages.params import StageParams
from ..stages.regions import SUPERPIXELS

if TYPE_CHECKING:
    from torch import Tensor

#: Longer side of a thumbnail in pixels: sharp on a screen of two pixels a point.
THUMBNAIL = 320
_LONGEST_IMAGE, _LONGEST_HEAT, _LONGEST_REGIONS = 4096, 512, 768
_MAPS = {"score": "viridis", "attention": "magma"}
_THUMBNAIL_QUALITY, _IMAGE_QUALITY = 80, 92
#: Thumbnails that wait to be kept; more are made again when they are next asked for.
_MOST_WAITING = 256
#: Bytes of all stores' thumbnails; where there are more, stores that were not looked at for long lose theirs.
_MOST_CACHED = 4 << 30
_WHITE = (255, 255, 255)

Kind = Literal["score", "attention"]


class Pictures:
    """Pictures of one store's images. Several threads may ask at once."""

    def __init__(self, store: MaskStore, records: Mapping[str, ImageRecord], cache: Path | None) -> None:
        self._store, self._records = store, records
        self._soft = SoftReader(store)
        self._heights, self._widths = store.vector("height"), store.vector("width")
        self._cache = None if cache is None else cache / store.digest[:16]
        self._keeper = _Keeper()
        if cache is not None and self._cache is not None:
            _make_room(cache, self._cache)

    def close(self) -> None:
        """Keep what waits to be kept."""
        self._keeper.close()

    def image(self, row: int) -> NDArray[np.uint8]:
        """The image [H, W, 3] as its masks were made of it. Raises ImageError."""
        record = self._records[self._store.image_ids[row]]
        image = read_image(record.path, record.bits)
        height, width = int(self._heights[row]), int(self._widths[row])
        if height and image.shape[:2] != (height, width):
            raise ImageError(
                f"{record.path} is {image.shape[1]} x {image.shape[0]} pixels, the masks made of it {width} x "
                f"{height}; it has changed since, so make the masks again."
            )
        return image

    def jpeg(self, row: int) -> bytes:
        """The image as a JPEG, one of more than 4096 pixels smaller. Raises ImageError."""
        image = Image.fromarray(self.image(row))
        if max(image.size) > _LONGEST_IMAGE:
            image.thumbnail((_LONGEST_IMAGE, _LONGEST_IMAGE))
        return encoded(image, "JPEG", quality=_IMAGE_QUALITY)

    def thumbnail(self, row: int, category: int, mask: NDArray[np.bool_] | None, version: str = "") -> bytes:
        """The image small, with a mask [H, W] in the colour of its class (taxonomy id), as a JPEG. Raises ImageError.

        version: what tells this mask from others of the same class; "" for the store's own.
        """
        name = f"{row}-{category}{f'-{digest_of_bytes(version.encode())[:16]}' if version else ''}.jpg"
        path = None if self._cache is None else self._cache / f"{row // 1000}" / name
        if path is not None and (kept := _kept(path)) is not None:
            return kept
        data = encoded(self._draw(row, category, mask), "JPEG", quality=_THUMBNAIL_QUALITY)
        if path is not None:
            self._keeper.keep(path, data)
        return data

    def _draw(self, row: int, category: int, mask: NDArray[np.bool_] | None) -> Image.Image:
        image = self.image(row)
        size = fitted(image.shape[:2], (THUMBNAIL, THUMBNAIL))
        base = drawing.picture(image, size)
        if mask is not None:
            colour: Any = tuple(class_colours()[category].tolist())
            base = drawing.overlay(base, drawing.resized_mask(mask, size), colour, line=2)
        return Image.fromarray(base)

    def heat(self, kind: Kind, row: int, position: int) -> bytes:
        """A kept map of a class (position on the store's axis) as a PNG over nothing, with the outline of its cut.

        Raises ImageError where the store keeps none of it, StoreError where it is damaged.
        """
        from wilss.data.images import to_pixels

        soft = self._soft.read(row, position)
        values = None if soft is None else soft.score if kind == "score" else soft.attention
        if soft is None or values is None:
            raise ImageError(f"{self._store.path} keeps no {kind} map of this mask; make it with --keep scores.")
        size = _within(int(self._heights[row]), int(self._widths[row]), _LONGEST_HEAT)
        pixels = to_pixels(_tensor(values), *size).numpy()
        colours = drawing.colour_bar(_MAPS[kind], (1, 256))[0]
        drawn = colours[(pixels.clip(0, 1) * 255).round().astype(np.uint8)]
        cut = soft.score_cut if kind == "score" else soft.attention_cut
        return encoded(Image.fromarray(drawing.contour(drawn, pixels >= cut, _WHITE, line=1)))

    def regions(self, row: int) -> NDArray[np.int32]:
        """Pieces of the image to be taken whole, int32 [h, w] at the image's size or smaller, -1 for none.

        Those of the store's own parameters where they are superpixels or a file; else superpixels. Raises ImageError,
        and ParameterError where scikit-image is not there.
        """
        import torch

        from wilss.data.images import resize_uint8

        from ..stages.regions import stage_regions

        image = torch.from_numpy(self.image(row)).permute(2, 0, 1)
        height, width = image.shape[-2:]
        small = resize_uint8(image, _within(height, width, _LONGEST_REGIONS))
        record = self._records[self._store.image_ids[row]]
        found = stage_regions(record, height, width, small, _region_params(self._store))
        return np.full(small.shape[-2:], -1, np.int32) if found is None else found.numpy()


class _Keeper:
    """Writes thumbnails to the cache one after the other, while nobody waits for it."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[Path, bytes] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def keep(self, path: Path, data: bytes) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        if not self._waiting.full():
            self._waiting.put((path, data))

    def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout=10)
            self._thread = None

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            try:
                write_atomically(*waiting)
            except OSError:  # a cache that cannot be written costs time, no more
                continue


def _kept(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _make_room(cache: Path, own: Path) -> None:
    """Remove the thumbnails of stores that were not looked at for longest, where all take too much."""
    folders = [path for path in cache.iterdir() if path.is_dir() and path != own] if cache.is_dir() else []
    sizes = {path: sum(file.stat().st_size for file in path.rglob("*.jpg")) for path in folders}
    total = sum(sizes.values())
    for path in sorted(folders, key=lambda path: path.stat().st_mtime):
        if total <= _MOST_CACHED:
            return
        remove_tree(path)
        total -= sizes[path]


def _within(height: int, width: int, longest: int) -> tuple[int, int]:
    """The size (h, w) of an image whose longer side is `longest` at most."""
    scale = min(1.0, longest / max(height, width, 1))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _tensor(values: NDArray[Any]) -> "Tensor":
    import torch

    return torch.from_numpy(values.astype(np.float32))


def _region_params(store: MaskStore) -> StageParams:
    noted = store.attributes.get("parameters")
    try:
        stored, _ = divided(StageParams, noted if isinstance(noted, dict) else {})
        params = with_values(StageParams(), stored, where=f"{store.path}: parameters")
    except ParameterError:
        params = StageParams()
    return params if params.regions in (*SUPERPIXELS, "file") else StageParams(regions="felzenszwalb", region_size=100)
