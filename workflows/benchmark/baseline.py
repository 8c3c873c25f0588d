"""How research scripts make such masks: one image at a time, the whole attention map, a PNG per mask.

The plain thing to compare with: the same weights, inputs and parameters as the pipeline, none of its care.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from wilss.data.images import normalise, to_pixels
from wilss.equations import fmwiss
from wilss.equations.kernels import score_map
from wilss.models.encoders.vit.encoder import SeedViT
from wilss_masks.sources.fmwiss_proposer import FmwissProposer


def masks_of_one(proposer: FmwissProposer, task: Any, folder: Path) -> None:
    """Decode, two forward passes at batch 1, the N x N map of every head, one PNG per class."""
    clip_input, vit_input = (x[None].to(proposer.clip.device) for x in proposer.load(task)[:2])
    params = proposer.params
    with torch.inference_mode():
        similarity = score_map(proposer.clip.features(clip_input), proposer.text)[0]
        attention, grid = whole_attention(proposer.vit, vit_input, params.affinity)
        score = fmwiss.foreground_score(
            similarity[list(task.categories)],
            similarity[len(proposer.source.classes) :],
            mode=params.background,
            logit_scale=proposer.clip.logit_scale,
        )
        for position, one in zip(task.categories, score, strict=True):
            mask = _mask(one, attention, grid, task, params)
            name = f"{task.record.image_id}_{position}.png"
            Image.fromarray((mask.cpu().numpy() * 255).astype(np.uint8)).save(folder / name)


def whole_attention(vit: SeedViT, images: torch.Tensor, affinity: str) -> tuple[torch.Tensor, tuple[int, int]]:
    """All rows of the last attention, [n, h * w, h * w], as DINO's own code gets them.

    Every block forms its N x N map, the last one runs to its end, and its map is kept by a hook.
    """
    if affinity != "qk":
        raise ValueError("the baseline is written for the paper's affinity, qk")
    network: Any = vit.network
    trunk: Any = vit.trunk
    kept: list[torch.Tensor] = []
    fused = [block.attn.fused_attn for block in network.blocks]
    hook = network.blocks[-1].attn.attn_drop.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
    grid = (images.shape[-2] // vit.patch, images.shape[-1] // vit.patch)
    try:
        for block in network.blocks:
            block.attn.fused_attn = False
        x, _ = trunk.first(normalise(images, vit.mean, vit.std), grid)
        for block in network.blocks:
            x = block(x)
        network.norm(x)
    finally:
        hook.remove()
        for block, was in zip(network.blocks, fused, strict=True):
            block.attn.fused_attn = was
    prefix = network.num_prefix_tokens
    return kept[0][0, :, prefix:, prefix:], grid


def _mask(score: Any, attention: Any, grid: tuple[int, int], task: Any, params: Any) -> Any:
    height, width = task.height, task.width
    points = torch.nonzero(score >= params.threshold)
    if not len(points):
        points = torch.nonzero(score == score.max())
    points = points[torch.randint(len(points), (params.seeds,), device=points.device)]
    there = fmwiss.move_points(points, tuple(score.shape), grid)
    rows = attention[:, there[:, 0] * grid[1] + there[:, 1]].mean(dim=(0, 1)).clamp_min(0).reshape(grid)
    cut = fmwiss.keep_top(rows[None], params.keep_amount, by=params.keep)
    seeds = to_pixels(rows[None], height, width)[0] >= cut
    return (to_pixels(score[None], height, width)[0] >= params.threshold) | seeds
