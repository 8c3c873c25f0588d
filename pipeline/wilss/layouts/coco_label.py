"""COCO's annotations of an image as a label map."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.errors import ImageError
from wilss.taxonomy import BACKGROUND, VOID

__all__ = ["CocoLabel", "CocoShape"]


@dataclass(frozen=True)
class CocoShape:
    """One annotation: its class, whether it is a crowd, area in pixels, id, and its segmentation as json
    text.
    """

    identity: int
    crowd: bool
    area: float
    annotation: int
    segmentation: str


@dataclass(frozen=True, kw_only=True)
class CocoLabel:
    """The annotations of one image, drawn into a label map when it is read.

    Order of drawing, later over earlier: crowds (as VOID), then instances from large to small, equal areas by
    annotation id. So a small thing in front of a large one is not lost, and the result is always the same.
    """

    path: Path
    image_id: str
    height: int
    width: int
    shapes: tuple[CocoShape, ...]

    def read(self) -> NDArray[np.uint8]:
        """Taxonomy ids, uint8 [H, W]. Raises ImageError for a damaged segmentation or without pycocotools."""
        labels = np.full((self.height, self.width), BACKGROUND, np.uint8)
        for shape in sorted(self.shapes, key=lambda s: (not s.crowd, -s.area, s.annotation)):
            mask = self._mask(shape)
            if mask is not None:
                labels[mask] = VOID if shape.crowd else shape.identity
        return labels

    def _mask(self, shape: CocoShape) -> NDArray[np.bool_] | None:
        try:
            return _rasterised(json.loads(shape.segmentation), self.height, self.width)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise ImageError(
                f"{self.path}: annotation {shape.annotation} of {self.image_id} has a segmentation that "
                "cannot be "
                f"drawn ({error}); mend or remove it."
            ) from None


def _rasterised(segmentation: Any, height: int, width: int) -> NDArray[np.bool_] | None:
    try:
        from pycocotools import mask as rle
    except ImportError:
        raise ImageError("COCO labels need pycocotools; run `pip install 'wilss[coco]'`.") from None
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return None
        encoded = rle.merge(rle.frPyObjects(polygons, height, width))
    else:
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size {segmentation['size']} is not the image's {[height, width]}")
        counts = segmentation["counts"]
        encoded = segmentation if isinstance(counts, str) else rle.frPyObjects(segmentation, height, width)
    return np.asarray(rle.decode(encoded), np.bool_)
