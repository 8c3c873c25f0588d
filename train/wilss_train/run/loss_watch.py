"""Losses that are not finite: found without waiting for any step's, since whoever reads a number stops the device."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wilss.errors import TrainingError


class _Part(NamedTuple):
    """Of an optimiser step: its loss, a scalar on its device, and the images in it."""

    total: Tensor
    step: int
    image_ids: Sequence[str]


class LossWatch:
    """The losses since the last look, on their device. steps: of the whole run, for the sentence."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._parts: list[_Part] = []

    def note(self, total: Tensor, step: int, image_ids: Sequence[str]) -> None:
        """The loss of a part of a step, a scalar; nobody looks at it yet."""
        self._parts.append(_Part(total.detach(), step, image_ids))

    def look(self) -> None:
        """Raise TrainingError for the first loss since the last look that is not finite, naming its images."""
        parts, self._parts = self._parts, []
        if not parts:
            return
        totals = torch.stack([part.total for part in parts]).tolist()  # one wait for all
        for total, part in zip(totals, parts, strict=True):
            if not math.isfinite(total):
                raise TrainingError(
                    f"the loss is {total} at step {part.step} of {self._steps}, with the images "
                    f"{', '.join(part.image_ids)}; the last saved state is kept. Look at these images' masks, or start "
                    "again with a lower --lr or --set clip=1, and --overwrite."
                )

    @contextlib.contextmanager
    def told_first(self) -> Iterator[None]:
        """Around a step: whatever fails in it after a loss that was not finite, that loss is what is told."""
        try:
            yield
        except Exception:
            self.look()
            raise
