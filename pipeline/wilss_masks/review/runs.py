"""A mask as run lengths, as the page sends and gets it: row by row, pixels outside first, then inside, in turns."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wilss.errors import ImageError


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths of `mask` [H, W], row by row; the first is of pixels outside, 0 where the first one is inside."""
    flat = np.concatenate([[False], mask.ravel()])
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    lengths: list[int] = np.diff(turns, prepend=0, append=mask.size).tolist()
    return lengths


def mask_of(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask, bool [height, width], of `runs_of`. Raises ImageError where they are not those of such a mask."""
    if not runs or min(runs) < 0 or max(runs) > height * width:
        raise ImageError("run lengths are numbers from 0 to the size of the image; load the page again.")
    lengths = np.asarray(runs, np.int64)
    if lengths.sum() != height * width:
        raise ImageError(
            f"the run lengths are of {lengths.sum()} pixels, the image has {height} x {width}; load the page again."
        )
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
