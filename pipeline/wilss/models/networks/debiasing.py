"""Frozen features without their positions: what the patches of a blank picture differ in is taken out (INSID3)."""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wilss.equations import insid3
from wilss.models.networks.embedding import Embedding
from wilss.models.networks.embedding_spec import FROZEN_SIZE
from wilss.params import Params, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class DebiasParams(Params):
    """debias: frozen features lose this share of their directions, 0 for none."""

    debias: ShareBelowOne = 0.0


def positional_basis_of(embedding: Embedding, share: float) -> Tensor:
    """The directions in which a black square's patches differ, [D, r] (INSID3): r is this share of the width D.

    embedding: of frozen features; the square has the shorter side of its inputs. With share 0 there are none.
    """
    side = embedding.spec.size or FROZEN_SIZE
    size = embedding.input_size(side, side)
    blank = torch.zeros(1, 3, *size, dtype=torch.uint8, device=embedding.device)
    features = embedding.features(blank)[0]
    return insid3.positional_basis(features, round(share * len(features)))


def without_positions(embedding: Embedding, share: float) -> Embedding:
    """The same features without the part of them in `positional_basis_of`, of no particular length; as is for 0."""
    if not share:
        return embedding
    basis = positional_basis_of(embedding, share)
    width = len(basis)
    projection = nn.Conv2d(width, width, 1, bias=False, device=embedding.device).requires_grad_(requires_grad=False)
    projection.weight.copy_((torch.eye(width, device=basis.device) - basis @ basis.T)[:, :, None, None])
    net = copy.copy(embedding.net)
    net.head = projection
    return dataclasses.replace(embedding, net=net, identity={**embedding.identity, "debias": share})
