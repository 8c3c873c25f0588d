"""Which masks are taken, once more, slowly: numpy and loops, importing nothing of wilss."""

import numpy as np


def trusted(masks, void, kept):
    """masks [T, H, W], void [H, W] or None, kept [T] -> masks that stand, void."""
    count, height, width = masks.shape
    standing, left = np.zeros_like(masks), np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            of_kept = [k for k in range(count) if kept[k] and masks[k, row, column]]
            of_gone = [k for k in range(count) if not kept[k] and masks[k, row, column]]
            for k in of_kept:
                standing[k, row, column] = True
            was_void = void is not None and void[row, column]
            left[row, column] = was_void or (bool(of_gone) and not of_kept)
    return standing, left
