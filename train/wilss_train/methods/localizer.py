"""WILSON's localizer: three convolutions on the student's backbone features, dropped at inference (Secs. 3.2, 4.3).

Shapes: `B` batch, `C` channels, `D` feature width, `h w` feature grid.
"""

import torch
from torch import Tensor, nn

from wilss.models.networks.segmenter import Segmenter
from wilss.randomness import seed_for

_SLOPE = 0.01


class Localizer(nn.Sequential):
    """A score per cell for background, old and new classes. In training mode its statistics are a batch's own."""

    def __init__(self, feature_dim: int, num_channels: int, width: int = 256) -> None:
        super().__init__(
            *_normalised(feature_dim, width), *_normalised(width, width), nn.Conv2d(width, num_channels, 1)
        )

    def settled(self, features: Tensor) -> Tensor:
        """Its scores by the statistics that it has gathered, without gradient. [B, D, h, w] to [B, C, h, w]."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                scores: Tensor = self(features)
        finally:
            self.train(was_training)
        return scores

    @classmethod
    def like(cls, student: Segmenter, *, seed: int) -> "Localizer":
        """A localizer with the student's channels and its head's width, and random weights that depend on `seed` alone.

        The caller's random state stays as it was.
        """
        spec = student.spec
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(seed, "localizer"))
            return cls(student.feature_dim, spec.num_channels, spec.head_width)


def _normalised(before: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(_SLOPE)
