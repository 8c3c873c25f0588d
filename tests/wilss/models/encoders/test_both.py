"""One network with both jobs says what two would that are opened by themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.wilss.models.encoders.clip.test_timm_towers import families, vision_of
from tests.wilss.models.encoders.tiny import RESNET, VIT, clip_spec, images, shake, vit_spec
from wilss.errors import EncoderError
from wilss.models.encoders.both import open_both
from wilss.models.encoders.clip.encoder import open_clip_encoder, require_clip
from wilss.models.encoders.vit.encoder import open_vit, require_vit

#: open_clip's own transformers: OpenAI's form, and its custom block with all that it can have.
CUSTOM = {"block_type": "custom", "scale_heads": True, "scale_attn_inner": True, "scale_attn": True}
TOWERS: dict[str, dict[str, Any]] = {
    "openai": VIT,
    "custom": {**VIT, **CUSTOM},
    "qk norm": {**VIT, "block_type": "custom", "qk_norm": True},
}


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS)
@pytest.mark.parametrize("size", [(32, 32), (24, 56)])
@pytest.mark.parametrize("form", ["maskclip", "value"])
def test_it_says_what_two_say_to_the_bit(
    tmp_path: Path, vision: dict[str, Any], size: tuple[int, int], form: Any
) -> None:
    spec, pictures = clip_spec(tmp_path, vision), images(2, *size)
    both = open_both(spec, "cpu", form=form)
    features, block = both.features_and_block(pictures)
    alone = open_vit(spec, "cpu").last_block(pictures)
    several = both.features_and_blocks(pictures, 2, ("values",))
    assert torch.equal(several[0], features)
    assert torch.equal(several[1][1].keys, block.keys)
    first, alone_first = several[1][0].values, open_vit(spec, "cpu").last_blocks(pictures, 2, ("values",))[0].values
    assert first is not None
    assert alone_first is not None
    assert torch.equal(first, alone_first)
    assert torch.equal(features, open_clip_encoder(spec, "cpu", form=form).features(pictures))
    assert torch.equal(block.queries, alone.queries)
    assert torch.equal(block.keys, alone.keys)
    assert (block.prefix, block.grid) == (alone.prefix, alone.grid) == (1, (size[0] // 8, size[1] // 8))


@pytest.mark.parametrize("family", families(head_each=False))
def test_so_it_does_where_timm_has_the_tower(tmp_path: Path, family: str) -> None:
    """In the tower's own form, on another grid than its table's."""
    spec = clip_spec(tmp_path, vision_of(family), embed_dim=32, custom_text=True)
    both = open_both(spec, "cpu")
    pictures = images(2, 2 * both.clip.patch, 5 * both.clip.patch)
    features, block = both.features_and_block(pictures)
    alone = open_vit(spec, "cpu")
    assert torch.equal(features, open_clip_encoder(spec, "cpu").features(pictures))
    assert torch.equal(block.queries, alone.last_block(pictures).queries)
    assert torch.equal(block.keys, alone.last_block(pictures).keys)
    assert alone.features(pictures).shape == (2, alone.width, 2, 5)


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS)
def test_queries_and_keys_are_those_of_the_tower_s_own_attention(tmp_path: Path, vision: dict[str, Any]) -> None:
    """The tower's last attention, of heads that hand their mean on as it is, against softmax(q k / sqrt(d)) v."""
    vit = open_vit(clip_spec(tmp_path, vision), "cpu")
    shake(vit.network)
    blocks = vit.last_blocks(images(1, 24, 40), 2, ("values", "outputs"))
    assert torch.equal(blocks[-1].queries, vit.last_block(images(1, 24, 40)).queries)
    tower: Any = vit.network
    for block, own in zip(blocks, tower.transformer.resblocks[-2:], strict=True):
        seen: list[torch.Tensor] = []
        assert block.values is not None
        with torch.no_grad(), own.attn.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0])):
            vit.features(images(1, 24, 40))
            attended = (block.queries @ block.keys.transpose(-1, -2) * 8**-0.5).softmax(dim=-1) @ block.values
            expected = _own(own.attn, seen[0], attended)
        torch.testing.assert_close(expected[0], expected[1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(block.outputs, attended.transpose(1, 2).flatten(2), atol=1e-5, rtol=1e-5)


def _own(attention: Any, x: torch.Tensor, attended: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the attention gives, and what its last part makes of heads that were attended to by hand."""
    if isinstance(attention, torch.nn.MultiheadAttention):
        return attention(x, x, x, need_weights=False)[0], attention.out_proj(attended.transpose(1, 2).flatten(2))
    scaled = attended if attention.head_scale is None else attended * attention.head_scale
    return attention(x), attention.out_proj(attention.ln_inner(scaled.transpose(1, 2).flatten(2)))


def test_features_of_the_tower_are_its_output_under_the_final_norm(tmp_path: Path) -> None:
    vit = open_vit(clip_spec(tmp_path), "cpu")
    assert vit.features(images(2, 32, 32)).shape == (2, vit.width, 4, 4)
    tower: Any = vit.network
    tokens: list[torch.Tensor] = []
    with torch.no_grad(), tower.transformer.register_forward_hook(lambda *args: tokens.append(args[2])):
        pixels = images(2, 32, 32).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (vit.mean, vit.std))
        tower((pixels - mean) / std)
        own = tower.ln_post(tokens[0])[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(vit.features(images(2, 32, 32)), own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("vision", [RESNET, vision_of("ConvNeXt")], ids=["ResNet", "ConvNeXt"])
def test_a_convolutional_tower_has_no_last_block(tmp_path: Path, vision: dict[str, Any]) -> None:
    spec = clip_spec(tmp_path, vision, custom_text="timm_model_name" in vision)
    for refuse in (require_vit, lambda spec: open_vit(spec, "cpu"), lambda spec: open_both(spec, "cpu")):
        with pytest.raises(EncoderError, match="has a convolutional image tower, which has no queries and keys"):
            refuse(spec)


def test_positions_that_would_not_be_heeded_are_refused(tmp_path: Path) -> None:
    spec = clip_spec(tmp_path).model_copy(update={"pos_interp": "dino"})
    for refuse in (require_vit, require_clip, lambda spec: open_vit(spec, "cpu"), lambda spec: open_both(spec, "cpu")):
        with pytest.raises(EncoderError, match="positions as open_clip does; leave `pos_interp: dino` out"):
            refuse(spec)


def test_what_is_one_network() -> None:
    spec = vit_spec()
    assert spec.is_the_network_of(spec.held_to("0" * 64, "a lock file"))
    assert not spec.is_the_network_of(vit_spec("timm"))
