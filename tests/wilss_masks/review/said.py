"""Corrections for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.wilss_masks.stores import IMAGES
from wilss_masks.review import Correction

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
FIRST = IMAGES[0].image_id  # of class 16


def said(verdict: str = "accepted", image: str = FIRST, category: int = 16, after: int = 0, **more: Any) -> Correction:
    """What Ada says, so many seconds after noon."""
    fields: dict[str, Any] = {"author": "Ada", "at": NOON + timedelta(seconds=after), "origin": "page", **more}
    return Correction(image_id=image, category=category, verdict=verdict, **fields)  # type: ignore[arg-type]


def drawn(size: tuple[int, int] = IMAGES[0].size, seed: int = 1) -> NDArray[np.bool_]:
    """A mask of single pixels."""
    return np.asarray(np.random.default_rng(seed).random(size) < 0.3)
