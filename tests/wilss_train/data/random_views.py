"""Random views of images of which nothing but the size is known."""

import numpy as np

from wilss_train.data.augment import View, view_of
from wilss_train.params import TrainParams


def draw_view(
    height: int,
    width: int,
    *,
    crop: int,
    scale: tuple[float, ...],
    flip: float,
    colour: float,
    rng: np.random.Generator,
) -> View:
    """A view as a run with these parameters draws it."""
    params = TrainParams(crop=crop, scale=scale, flip=flip, colour=colour)
    return view_of(np.zeros((height, width, 3), np.uint8), params, rng)
