"""CLIP-ES' class maps: the gradient of CLIP's answer for a whole image, through the last block.

The equations stand in `wilss.equations.gradcam`.

Everything before the last block is run without gradients, and once for all classes.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from wilss.equations.gradcam import class_maps, log_odds
from wilss.equations.kernels import unit
from wilss.models.encoders.arithmetic import precision_context
from wilss.models.encoders.clip.encoder import DenseClip
from wilss.models.encoders.clip.towers import TrunkPath
from wilss.models.encoders.vit.trunks import State


def gradcam(clip: DenseClip, state: State, image: int, text: Tensor, counts: Sequence[int], tags: int) -> Tensor:
    """Class maps float32 [T, h, w] in [0, 1] of one image, each with its maximum at 1, or 0 where none is above 0.

    state: what the last block is given of a batch, see `DenseClip.before_last`; image: which of them.
    text: unit features float32 [M, D] of the prompts of the T `tags`, then of the background words; counts: how many
    prompts each of these words has: the greatest of them answers.
    """
    with torch.inference_mode(False), torch.enable_grad():
        tokens = state.tokens[image : image + 1].clone().requires_grad_()
        rope = None if state.rope is None else state.rope.clone()
        with precision_context(clip.device, clip.precision):
            pooled = path_of(clip).pooled(dataclasses.replace(state, tokens=tokens, rope=rope))
        answers = clip.logit_scale * (unit(pooled[0].float()) @ text.clone().T)
        odds = log_odds(torch.stack([names.amax() for names in torch.split(answers, list(counts))]), tags)
        gradients = torch.cat([torch.autograd.grad(one, tokens, retain_graph=True)[0] for one in odds])
    prefix = path_of(clip).trunk.prefix
    maps = class_maps(gradients[:, prefix:].float(), tokens.detach()[:, prefix:].float())
    return maps.unflatten(-1, state.grid)  # type: ignore[no-untyped-call, no-any-return]


def path_of(clip: DenseClip) -> TrunkPath:
    """The path through a transformer; others are refused by `configs.require_last_block`."""
    assert isinstance(clip.path, TrunkPath)
    return clip.path
