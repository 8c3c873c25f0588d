"""CLIP-ES' maps against plain autograd through the whole network, with random weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.references import gradcam as slow
from tests.wilss.models.encoders import tiny
from tests.wilss.models.encoders.clip import test_timm_towers as timm_towers
from wilss.errors import EncoderError
from wilss.models.encoders.clip import pooling
from wilss.models.encoders.clip.configs import require_last_block
from wilss.models.encoders.clip.encoder import DenseClip, open_clip_encoder
from wilss.models.encoders.clip.gradcam import gradcam, path_of

CUSTOM = {"scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "ls_init_value": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "class token": {},
    "mean": {"pool_type": "avg"},
    "mean, norm after": {"pool_type": "avg", "final_ln_after_pool": True},
    "custom blocks": CUSTOM,
}
COUNTS, TAGS = (2, 1, 1, 1), 2  # two tags, the first of two names, and two background words


def text_of(width: int) -> torch.Tensor:
    return F.normalize(torch.randn((sum(COUNTS), width), generator=torch.Generator().manual_seed(4)), dim=-1)


def by_autograd(clip: DenseClip, visual: Any, last: Any, images: torch.Tensor, text: torch.Tensor) -> np.ndarray:
    """[B, T, N]: the gradient of the probabilities, through the library's own forward pass."""
    seen: list[torch.Tensor] = []
    pixels = timm_towers.pixels_of(clip, images).requires_grad_()
    with last.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        pooled = F.normalize(visual(pixels), dim=-1)
    names = (clip.logit_scale * pooled @ text.T).split(COUNTS, dim=1)
    probabilities = torch.stack([of_class.amax(dim=1) for of_class in names], dim=1).softmax(dim=1)
    prefix, found = path_of(clip).trunk.prefix, []
    for i in range(len(images)):
        for c in range(TAGS):
            (gradient,) = torch.autograd.grad(probabilities[i, c], seen[0], retain_graph=True)
            parts = (gradient[i, prefix:], seen[0][i, prefix:].detach())
            found.append(slow.class_map(*(part.double().numpy() for part in parts)))
    return np.array(found).reshape(len(images), TAGS, -1)


def opened(folder: Path, vision: dict[str, Any], **more: Any) -> DenseClip:
    clip = open_clip_encoder(tiny.clip_spec(folder, tiny.VIT | vision), "cpu", **more)
    tiny.shake(clip.network)
    return clip


def maps_of(clip: DenseClip, images: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        state = clip.before_last(images)
        return torch.stack([gradcam(clip, state, i, text, COUNTS, TAGS) for i in range(len(images))])


@pytest.mark.parametrize("vision", VARIANTS.values(), ids=VARIANTS)
def test_maps_are_those_of_a_gradient_through_open_clips_own_network(tmp_path: Path, vision: dict[str, Any]) -> None:
    clip, images, text = opened(tmp_path, vision), tiny.images(2, 32, 32), text_of(24)
    found = maps_of(clip, images, text)
    visual: Any = clip.network.visual
    expected = by_autograd(clip, visual, visual.transformer.resblocks[-1], images, text)
    assert found.shape == (2, TAGS, 4, 4)
    np.testing.assert_allclose(found.flatten(2), expected, atol=1e-3)
    assert expected.max() == 1


@pytest.mark.few(2)
@pytest.mark.parametrize("family", ["EVA02-CLIP", "EVA01-CLIP", "SigLIP", "PE-Core", "MobileCLIP-B", "gap", "ViTamin"])
def test_so_they_are_where_timm_has_the_tower(tmp_path: Path, family: str) -> None:
    """At another size than the tower's own."""
    clip = timm_towers.opened(tmp_path, family)
    images, text = tiny.images(2, 2 * clip.patch, 5 * clip.patch), text_of(32)
    found = maps_of(clip, images, text)
    visual = timm_towers.by_open_clip(clip, family, images.shape[-2:])  # type: ignore[arg-type]
    expected = by_autograd(clip, visual, visual.trunk.blocks[-1], images, text)
    np.testing.assert_allclose(found.flatten(2), expected, atol=1e-3)


@pytest.mark.parametrize("family", ["EVA02-CLIP", "gap"])
def test_rows_of_attention_in_blocks_change_nothing(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = timm_towers.opened(tmp_path, family)
    images, text = tiny.images(1, 4 * clip.patch, 4 * clip.patch), text_of(32)
    whole = maps_of(clip, images, text)
    assert torch.equal(maps_of(clip, images, text), whole)
    monkeypatch.setattr(pooling, "_BLOCK", 3 * 4 * 17)
    torch.testing.assert_close(maps_of(clip, images, text), whole, atol=1e-5, rtol=0)


def test_bf16_is_near_fp32_and_a_batch_mate_changes_nothing(tmp_path: Path) -> None:
    images, text = tiny.images(2, 24, 40), text_of(24)
    whole, half = (maps_of(opened(tmp_path, {}, precision=name), images, text) for name in ("fp32", "bf16"))
    assert 0 < (half - whole).abs().max() < 0.1
    torch.testing.assert_close(maps_of(opened(tmp_path, {}), images[1:], text), whole[1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("vision", [tiny.RESNET, timm_towers.vision_of("ConvNeXt")], ids=["ResNet", "ConvNeXt"])
def test_convolutional_towers_have_no_such_maps(tmp_path: Path, vision: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match=r"convolutional image tower.*; use score: text\."):
        require_last_block(tiny.clip_spec(tmp_path, vision))
    require_last_block(tiny.clip_spec(tmp_path))
