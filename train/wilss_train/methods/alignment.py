"""What share of the pixels each class has, in soft labels of late and in drawn ones, and soft labels brought to these.

A network that learns from its own labels shifts how often each class is found, and nothing in the labels takes it back.
"""

import torch
from torch import Tensor, nn

from ..context import Gather
from .losses.alignment import aligned, drawn_counts, soft_counts

#: How much of the soft labels' shares stays in every step; ReMixMatch takes the mean of the last 128.
_KEPT = 0.99


class Alignment(nn.Module):
    """Distribution alignment (see `losses.alignment`) with the shares of classes that it has seen.

    Those of soft labels are a moving average, since the network that makes them changes; those of drawn labels are the
    mean of all steps. Both are buffers, kept in a state, and the same in every process.
    """

    given: Tensor
    wanted: Tensor
    steps: Tensor

    def __init__(self, channels: int, strength: float, gather: Gather) -> None:
        super().__init__()
        self._strength, self._gather = strength, gather
        for name in ("given", "wanted"):
            self.register_buffer(name, torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def forward(self, soft: Tensor, valid: Tensor, drawn: Tensor) -> Tensor:
        """Soft labels, aligned, after they and the drawn ones are counted.

        soft: [U, C, H, W], rows sum to 1; valid: bool [U, H, W]; drawn: long [B, h, w] with VOID. Returns the shape and
        kind of `soft`.
        """
        self.steps += 1
        all_before = 1 - 1 / self.steps
        self.given.copy_(self._moved(self.given, soft_counts(soft, valid), all_before.clamp_max(_KEPT)))
        self.wanted.copy_(self._moved(self.wanted, drawn_counts(drawn, len(self.wanted)), all_before))
        return aligned(soft, self.given, self.wanted, self._strength)

    def _moved(self, shares: Tensor, counts: Tensor, kept: Tensor) -> Tensor:
        """The average [C] with the shares of these counts in it, unless nothing was counted."""
        counts = self._gather(counts[None]).sum(dim=0)
        total = counts.sum()
        return torch.where(total > 0, shares.lerp(counts / total.clamp_min(1), 1 - kept), shares)
