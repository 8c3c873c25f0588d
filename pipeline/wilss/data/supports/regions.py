"""Connected regions, distances inside a region, and a line through its middle.

Neighbours are the eight around a pixel. The search walks a front of flat positions on an array with a frame of one
pixel, so that a step costs what the front costs and no position runs off the picture.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Steps = NDArray[np.int32]


def numbered(mask: Mask) -> Steps:
    """The connected regions of `mask` [H, W] by number from 1, in raster order of their first pixels; 0 elsewhere."""
    from scipy import ndimage  # here: a run that needs none should not wait for it

    return np.asarray(ndimage.label(mask, structure=np.ones((3, 3)))[0], np.int32)


def depth_inside(mask: Mask) -> Steps:
    """How many steps a pixel of `mask` [H, W] is away from what is not in it; 0 outside. The picture's edge is."""
    from scipy import ndimage

    framed = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")
    return np.asarray(framed[1:-1, 1:-1], np.int32)


def steps_from(start: Mask, inside: Mask) -> Steps:
    """Steps from `start` to every pixel along pixels of `inside`; -1 where no way leads. All [H, W]."""
    width = start.shape[1] + 2
    free = np.pad(inside, 1).ravel()
    steps = np.full(free.size, -1, np.int32)
    last, neighbours = np.empty(free.size, np.intp), _neighbours(width)
    front, count = np.flatnonzero(np.pad(start, 1)), 0
    steps[front] = 0
    while front.size:
        count += 1
        around = (front[:, None] + neighbours).ravel()
        around = around[free[around] & (steps[around] < 0)]
        steps[around] = count
        places = np.arange(around.size)
        last[around] = places  # each position once, without sorting them
        front = around[last[around] == places]
    return steps.reshape(-1, width)[1:-1, 1:-1]


def middle_line(mask: Mask, keep: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Pixels (row, column) [L, 2] of a line through the deep part of a region, from one far end to the other.

    mask: not empty. keep: the deep part is what is at least this share of the greatest depth away from the outside.
    It starts where the draw falls; from there the farthest point is one end, the farthest from that the other.
    """
    depth = depth_inside(mask)
    deep = depth >= max(1, keep * depth.max())
    somewhere = np.zeros_like(deep)
    somewhere.flat[rng.choice(np.flatnonzero(deep))] = True
    one_end = _farthest(steps_from(somewhere, deep))
    steps = steps_from(one_end, deep)
    return _way_back(_farthest(steps), steps, depth)


def _farthest(steps: Steps) -> Mask:
    line = np.zeros(steps.shape, np.bool_)
    line.flat[int(np.argmax(steps))] = True
    return line


def _way_back(end: Mask, steps: Steps, depth: Steps) -> NDArray[np.intp]:
    """From `end` down to where `steps` are 0, over the deepest of the pixels that are one step nearer."""
    width = steps.shape[1] + 2
    near, deep = np.pad(steps, 1, constant_values=-1).ravel(), np.pad(depth, 1).ravel()
    here = int(np.flatnonzero(np.pad(end, 1))[0])
    way = [here]
    while near[here] > 0:
        around = here + _neighbours(width)
        nearer = around[near[around] == near[here] - 1]
        here = int(nearer[np.argmax(deep[nearer])])
        way.append(here)
    return np.stack(np.divmod(np.array(way), width), axis=1) - 1


def _neighbours(width: int) -> NDArray[np.intp]:
    """Offsets of the eight neighbours on a flat array of this width."""
    return np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1], np.intp)
