"""FMWISS's teacher: a plug-in ASPP on the student's backbone features, dropped at inference (Sec. 3.3).

C. Yu et al., "Foundation Model Drives Weakly Incremental Learning for Semantic Segmentation", CVPR 2023.

Shapes: `B` batch, `C` channels, `D` feature width, `E` width of the embedding, `h w` feature grid.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wilss.models.networks.segmenter import Segmenter, aspp
from wilss.randomness import seed_for


class Taught(NamedTuple):
    """logits: [B, C, h, w], of a sigmoid each. embedding: [B, E, h, w], what L_dcl compares, any length."""

    logits: Tensor
    embedding: Tensor


class Teacher(nn.Module):
    """An ASPP and one row of weights per channel, on features that the student's backbone has computed.

    The embedding is the ASPP's own output, after its last ReLU; it has no dropout, since the student learns from
    what the teacher says while it is trained [D]. rates: those of the student's head, `SegmenterSpec.head_rates`.
    In training mode a batch needs two images at least, as the student does.
    """

    def __init__(
        self, feature_dim: int, num_channels: int, width: int = 256, rates: tuple[int, ...] = (6, 12, 18)
    ) -> None:
        super().__init__()
        self.aspp = aspp(feature_dim, width, rates, dropout=0.0)
        self.classifier = nn.Conv2d(width, num_channels, 1)

    def forward(self, features: Tensor) -> Taught:
        """features: [B, D, h, w]."""
        embedding = self.aspp(features)
        return Taught(logits=self.classifier(embedding), embedding=embedding)

    @classmethod
    def like(cls, student: Segmenter, *, seed: int) -> "Teacher":
        """A teacher with the student's channels, width and rates, and random weights that depend on `seed` alone.

        The caller's random state stays as it was.
        """
        spec = student.spec
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(seed, "teacher"))
            return cls(student.feature_dim, spec.num_channels, spec.head_width, spec.head_rates)
