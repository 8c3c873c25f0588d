import math

import numpy as np
import pytest
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from wilss.models.encoders.grids import resample_positions

GRIDS = [(4, 4), (8, 8), (7, 5), (2, 8), (3, 11), (1, 1)]


def cubic(distance, a=-0.75):
    """Keys' kernel with torch's constant for bicubic without antialias."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def slow_bicubic(grid, new, scale):
    """[h, w, D] to [new h, new w, D]; output pixel i looks at (i + 1/2) / scale - 1/2, edges repeated."""
    result = np.zeros((*new, grid.shape[2]))
    for row in range(new[0]):
        for column in range(new[1]):
            y, x = (row + 0.5) / scale[0] - 0.5, (column + 0.5) / scale[1] - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    place = min(max(i, 0), grid.shape[0] - 1), min(max(j, 0), grid.shape[1] - 1)
                    result[row, column] += cubic(y - i) * cubic(x - j) * grid[place]
    return result


def table(prefix=1, old=(4, 4)):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(prefix + old[0] * old[1], 3)).astype(np.float32))


@pytest.mark.parametrize("new", GRIDS[1:])
@pytest.mark.parametrize(("how", "extra"), [("dino", 0.1), ("size", 0.0)])
@pytest.mark.parametrize(("prefix", "old"), [(1, (4, 4)), (0, (3, 5))])
def test_resampling_without_antialias_equals_a_slow_one(new, how, extra, prefix, old):
    """DINO asks for scale_factor (n + 0.1) / old, and torch then samples by that very factor."""
    positions = table(prefix, old)
    found = resample_positions(positions, old, new, prefix=prefix, how=how)
    scale = ((new[0] + extra) / old[0], (new[1] + extra) / old[1])
    expected = slow_bicubic(positions[prefix:].reshape(*old, 3).double().numpy(), new, scale)
    np.testing.assert_allclose(found[prefix:].reshape(*new, 3).numpy(), expected, atol=1e-5)
    assert torch.equal(found[:prefix], positions[:prefix])


@pytest.mark.parametrize("new", GRIDS)
def test_resampling_as_timm_does_equals_timms(new):
    expected = resample_abs_pos_embed(table()[None], list(new), [4, 4], num_prefix_tokens=1)[0]
    assert torch.equal(resample_positions(table(), (4, 4), new, prefix=1, how="timm"), expected)


@pytest.mark.parametrize("how", ["dino", "size", "timm"])
def test_the_tables_own_grid_gives_the_table_and_equal_counts_do_not(how):
    assert resample_positions(table(), (4, 4), (4, 4), prefix=1, how=how) is not None
    assert torch.equal(resample_positions(table(), (4, 4), (4, 4), prefix=1, how=how), table())
    assert not torch.equal(resample_positions(table(), (4, 4), (2, 8), prefix=1, how=how), table())


def test_the_three_ways_differ():
    found = [resample_positions(table(), (4, 4), (7, 7), prefix=1, how=how) for how in ("dino", "size", "timm")]
    assert (found[0] - found[1]).abs().max() > 1e-3
    assert (found[1] - found[2]).abs().max() > 1e-3


def test_half_precision_tables_keep_their_type():
    assert resample_positions(table().half(), (4, 4), (5, 6), prefix=1, how="dino").dtype == torch.float16
