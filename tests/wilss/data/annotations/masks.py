"""Masks that are hard on codes and outlines: holes, parts, single pixels, odd sizes."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

RING = np.ones((5, 7), bool)
RING[1:4, 1:6] = False
RING[2, 3] = True
CHECKED = np.indices((5, 6)).sum(axis=0) % 2 == 0
HARD = {
    "one pixel": np.ones((1, 1), bool),
    "a whole image": np.ones((3, 4), bool),
    "a corner": np.pad(np.ones((1, 1), bool), ((3, 0), (2, 0))),
    "a ring and an island": RING,
    "pixels that touch by corners": CHECKED,
    "two holes in a row": ~np.pad(np.array([[1, 0, 1, 0, 1]], bool), 1),
    "one column": np.ones((9, 1), bool),
    "a thin diagonal": np.eye(6, dtype=bool),
    "a comb": np.pad(np.arange(9) % 2 == 0, ((0, 0)))[None].repeat(4, axis=0) | (np.arange(4) == 0)[:, None],
}


def masks(most: int = 9) -> st.SearchStrategy[np.ndarray]:
    """Masks bool [H, W] with at least one pixel."""
    sizes = st.tuples(st.integers(1, most), st.integers(1, most))
    return sizes.flatmap(lambda size: arrays(np.bool_, size)).filter(np.any)
