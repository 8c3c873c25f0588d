"""Features kept in few numbers: a projection to fewer dimensions, whole numbers of eight bits, and scores of both.

What is linear in the features needs them no more once its other side is projected too: the cosine of a patch with a
text is that of its projection with the text's. What is not linear (an attention) takes the features that the
projection restores.

Shapes: `L` patches or tokens of an image, `D` feature width, `K` dimensions that are kept, `C` texts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: The greatest whole number of a kept value; -128 is not used, so that signs are alike.
LARGEST = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """K directions of R^D and what lies in the middle: f is kept as z = (f - mean) rows^T, restored as mean + z rows.

    mean: float32 [D]. rows: float32 [K, D], of unit length and orthogonal, but for a random basis, whose rows are
    longer by sqrt(D / K), so that products of what is kept are on average those of what was (`random_basis`).
    """

    mean: Tensor
    rows: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Of N vectors: how many, their sum [D] and the sum of their outer products [D, D], both float64."""

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """features: [N, D]."""
        exact = features.double()
        return cls(count=len(exact), total=exact.sum(dim=0), outer=exact.T @ exact)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(count=self.count + other.count, total=self.total + other.total, outer=self.outer + other.outer)


def principal_basis(moments: Moments, dims: int) -> Basis:
    """The K directions along which N vectors differ most (K. Pearson, 1901), about their mean; K = min(dims, D).

    Rows are eigenvectors of the covariance, the greatest first, each with its greatest entry positive, so that the same
    vectors give the same basis.
    """
    mean = moments.total / moments.count
    covariance = moments.outer / moments.count - torch.outer(mean, mean)
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(-1).T[:dims]
    greatest = vectors.abs().argmax(dim=-1, keepdim=True)
    return Basis(mean=mean.float(), rows=(vectors * vectors.gather(-1, greatest).sign()).float().contiguous())


def random_basis(width: int, dims: int, generator: torch.Generator) -> Basis:
    """K random orthogonal directions of R^D, longer by sqrt(D / K), about zero; K = min(dims, D).

    Products of what is kept are then on average those of the features (W. Johnson, J. Lindenstrauss, 1984).
    """
    dims = min(dims, width)
    directions, upper = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator))
    rows = (directions * upper.diagonal().sign()).T[:dims]
    return Basis(mean=torch.zeros(width), rows=(rows * (width / dims) ** 0.5).float().contiguous())


def projected(features: Tensor, basis: Basis) -> Tensor:
    """z = (f - mean) rows^T: [..., D] to [..., K]."""
    return (features - basis.mean) @ basis.rows.T


def restored(kept: Tensor, basis: Basis) -> Tensor:
    """mean + z rows: [..., K] to [..., D]. With K = D it is what was projected."""
    return basis.mean + kept @ basis.rows


def quantised(kept: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers q and a scale s of every dimension: z = s q, s = max |z| / 127 over the image's tokens.

    kept: [..., L, K]. Returns int8 [..., L, K] and float32 [..., K]; off by half a scale at most.
    """
    scale = kept.abs().amax(dim=-2) / LARGEST
    whole = (kept / scale.clamp_min(torch.finfo(kept.dtype).tiny)[..., None, :]).round()
    return whole.clamp(-LARGEST, LARGEST).to(torch.int8), scale.float()


def dequantised(whole: Tensor, scale: Tensor) -> Tensor:
    """z = s q, float32. whole: int8 [..., L, K]; scale: [..., K]."""
    return whole.float() * scale[..., None, :]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectedVectors:
    """Vectors t that features are multiplied with, as what is kept of the features takes them.

    rows: rows t, [C, K]. offset: mean . t, [C].
    """

    rows: Tensor
    offset: Tensor

    @classmethod
    def of(cls, vectors: Tensor, basis: Basis) -> "ProjectedVectors":
        """vectors: [C, D]."""
        return cls(rows=vectors @ basis.rows.T, offset=vectors @ basis.mean)


def projected_scores(kept: Tensor, vectors: ProjectedVectors) -> Tensor:
    """Products of features with vectors, by what is kept: mean . t + z . (rows t), those of `restored` features.

    kept: [..., L, K]. Returns [..., C, L].
    """
    return vectors.rows @ kept.transpose(-2, -1) + vectors.offset[:, None]
