"""Named randomness: a draw belongs to its names (seed, image, class), never to the order of drawing.

A resumed run, a run on eight workers and a serial run therefore draw the same numbers. torch is imported where
it is needed, since a store's own description of its numbers is wanted without it.
"""

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

#: Written into every store, so that a later reader knows how its numbers were drawn.
DESCRIPTION = "sha256 of the json list [seed, *names], first 8 bytes, big-endian, modulo 2**63"


def seed_for(seed: int, *names: str | int) -> int:
    """The 63-bit seed that belongs to `names` under `seed`; equal names give equal seeds anywhere."""
    text = json.dumps([seed, *names], ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") % 2**63


def generator_for(seed: int, *names: str | int) -> "torch.Generator":
    """A torch generator on the CPU that belongs to `names`, e.g. `generator_for(0, image_id, "sofa")`."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, *names))


def numpy_generator_for(seed: int, *names: str | int) -> np.random.Generator:
    """The numpy twin of `generator_for`, for code that draws arrays rather than tensors."""
    return np.random.Generator(np.random.PCG64(seed_for(seed, *names)))
