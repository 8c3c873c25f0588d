"""Memory copy-paste once more, slowly: numpy and loops, written from the text, importing nothing of wilss."""

import math

import numpy as np


def size_after(height, width, factor, room):
    """Sides times the factor, rounded half up; a factor that the room (H, W) has no place for is lowered."""
    factor = min(factor, room[0] / height, room[1] / width)
    rows, columns = math.floor(height * factor + 0.5), math.floor(width * factor + 0.5)
    return min(max(rows, 1), room[0]), min(max(columns, 1), room[1])


def weights(old, new):
    """[new, old]: a triangle around the centre of each new pixel, as wide as a new pixel, at least as an old one."""
    step = old / new
    reach = max(step, 1.0)
    table = np.zeros((new, old))
    for to in range(new):
        centre = (to + 0.5) * step
        for source in range(old):
            table[to, source] = max(0.0, 1 - abs(source + 0.5 - centre) / reach)
        table[to] /= table[to].sum()
    return table


def resized_image(image, size):
    """[h, w, 3] -> [*size, 3], float."""
    if size == image.shape[:2]:
        return image.astype(np.float64)
    made = np.zeros((*size, 3))
    across, down = weights(image.shape[1], size[1]), weights(image.shape[0], size[0])
    for colour in range(3):
        made[..., colour] = down @ image[..., colour].astype(np.float64) @ across.T
    return made


def resized_mask(mask, size):
    """[h, w] -> [*size]: the old pixel that holds the centre of the new one."""
    made = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            y = math.floor((row + 0.5) * mask.shape[0] / size[0])
            x = math.floor((column + 0.5) * mask.shape[1] / size[1])
            made[row, column] = mask[y, x]
    return made


def paste(image, pseudo, pasted, void, crop, mask, channel, size, mirrored, top, left):
    """[3, H, W], [C, H, W], [H, W], [H, W], [h, w, 3], [h, w] -> the first four afterwards; image in float."""
    image, pseudo, pasted, void = image.astype(np.float64), pseudo.copy(), pasted.copy(), void.copy()
    crop, mask = resized_image(crop, size), resized_mask(mask, size)
    for row in range(size[0]):
        for column in range(size[1]):
            source = size[1] - 1 - column if mirrored else column
            if mask[row, source]:
                y, x = top + row, left + column
                image[:, y, x] = crop[row, source]
                pasted[y, x] = channel
                void[y, x] = False
                for c in range(len(pseudo)):
                    pseudo[c, y, x] = False
    return image, pseudo, pasted, void
