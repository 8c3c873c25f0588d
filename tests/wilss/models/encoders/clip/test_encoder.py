"""The dense path against open_clip's own forward, with random weights."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, resize_pos_embed
from open_clip.modified_resnet import AttentionPool2d

from tests.wilss.models.encoders import tiny
from tests.wilss.models.encoders.clip.test_timm_towers import mixed_by_loops
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip.encoder import open_clip_encoder

TIGHT: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
CUSTOM = {"scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "ls_init_value": 0.1}
VARIANTS = {
    "tok": {},
    "avg": {"pool_type": "avg"},
    "avg, ln after pool": {"pool_type": "avg", "final_ln_after_pool": True},
    "sine": {"pos_embed_type": "sin_cos_2d"},
    "no ln_pre": {"no_ln_pre": True},
    "layer scale": {"ls_init_value": 0.1},
    "custom blocks": CUSTOM,
    "patch dropout": {"patch_dropout": 0.5},
}
SIZES = [(32, 32), (24, 48), (16, 64), (64, 40)]  # 16 x 64 has as many patches as 32 x 32, on another grid


def opened(folder, vision=None, form="maskclip", **more):
    """A shaken encoder and its network."""
    encoder = open_clip_encoder(tiny.clip_spec(folder, tiny.VIT | (vision or {}), **more), "cpu", form=form)
    tiny.shake(encoder.network)
    return encoder


def normalised(encoder, images):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (encoder.mean, encoder.std))
    return (images.float() / 255 - mean) / std


def at_size(encoder, size, vision):
    """open_clip's own network for this input size, with the encoder's weights by open_clip's own resize."""
    square = {"pos_embed_type": "learnable"} if vision.get("pos_embed_type") else {}
    config = tiny.VIT | vision | square | {"image_size": size}
    other = CLIP(embed_dim=24, vision_cfg=config, text_cfg=tiny.TEXT).eval()
    state = encoder.network.state_dict()
    if (size[0] // 8) * (size[1] // 8) == 16 and size != (32, 32):
        table = state["visual.positional_embedding"]  # resize_pos_embed leaves equal counts alone
        grid = table[1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (size[0] // 8, size[1] // 8), mode="bicubic", antialias=True)
        state["visual.positional_embedding"] = torch.cat([table[:1], grid[0].flatten(1).T])
    else:
        resize_pos_embed(state, other)
    other.load_state_dict(state)
    return other.visual


def diagonal(visual, size):
    """Makes the last block of open_clip's network attend to itself alone, by its own attention mask."""
    length = 1 + (size[0] // 8) * (size[1] // 8)
    mask = torch.full((length, length), float("-inf")).fill_diagonal_(0)
    block = visual.transformer.resblocks[-1]
    block.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs | {"attn_mask": mask}), with_kwargs=True)


@pytest.mark.few(8)
@pytest.mark.parametrize("vision", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_maskclip_equals_open_clips_last_block_under_a_diagonal_mask(tmp_path, vision, size):
    encoder = opened(tmp_path, vision)
    images = tiny.images(2, *size)
    visual = at_size(encoder, size, vision)
    diagonal(visual, size)
    tokens = visual.transformer(visual._embeds(normalised(encoder, images)))[:, 1:]
    expected = F.normalize(visual.ln_post(tokens) @ visual.proj, dim=-1)
    found = encoder.features(images)
    assert found.shape == (2, 24, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(found.flatten(2).mT, expected, **TIGHT)


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_the_mean_of_dense_features_is_open_clips_pooled_output(tmp_path, size):
    """End to end through open_clip's own forward: with average pooling its output is the mean over patches."""
    encoder = opened(tmp_path, {"pool_type": "avg"})
    images = tiny.images(2, *size)
    visual = at_size(encoder, size, {"pool_type": "avg"})
    diagonal(visual, size)
    pooled = visual(normalised(encoder, images))
    torch.testing.assert_close(encoder.path(normalised(encoder, images)).mean(dim=(2, 3)), pooled, **TIGHT)


@torch.inference_mode()
def test_dense_features_are_open_clips_tokens_for_class_token_models(tmp_path):
    encoder = opened(tmp_path)
    images = tiny.images(2, 24, 48)
    visual = at_size(encoder, (24, 48), {})
    diagonal(visual, (24, 48))
    visual.output_tokens = True
    _, tokens = visual(normalised(encoder, images))
    expected = F.normalize(tokens @ visual.proj, dim=-1)
    torch.testing.assert_close(encoder.features(images).flatten(2).mT, expected, **TIGHT)


@torch.inference_mode()
def test_without_the_diagonal_mask_the_same_oracle_disagrees(tmp_path):
    encoder = opened(tmp_path, {"pool_type": "avg"})
    images = tiny.images(2, 32, 32)
    pooled = encoder.network.visual(normalised(encoder, images))
    assert (encoder.path(normalised(encoder, images)).mean(dim=(2, 3)) - pooled).abs().max() > 1e-2


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_value_is_the_last_blocks_attention_alone(tmp_path, size):
    encoder = opened(tmp_path, form="value")
    images = tiny.images(2, *size)
    visual = at_size(encoder, size, {})
    length = 1 + (size[0] // 8) * (size[1] // 8)
    mask = torch.full((length, length), float("-inf")).fill_diagonal_(0)
    tokens = visual._embeds(normalised(encoder, images))
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    last = visual.transformer.resblocks[-1]
    values = last.attention(last.ln_1(tokens), attn_mask=mask)[:, 1:]
    expected = F.normalize(visual.ln_post(values) @ visual.proj, dim=-1)
    torch.testing.assert_close(encoder.features(images).flatten(2).mT, expected, **TIGHT)


@pytest.mark.few(4)
@pytest.mark.parametrize("vision", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("form", ["neighbour", "proxy"])
@torch.inference_mode()
def test_other_attentions_mix_what_open_clips_own_block_projects(tmp_path, vision, form):
    """open_clip's custom attention calls torch's; of the plain one its parts are multiplied by hand."""
    encoder = opened(tmp_path, vision, form=form)
    images, proxy = tiny.images(2, 24, 40), torch.randn((2, 7, 4, 4), generator=torch.Generator().manual_seed(1))
    trunk = encoder.path.trunk
    state = trunk.before_last(normalised(encoder, images), (3, 5))
    block = trunk.attention(state, ("values",))
    mixed = mixed_by_loops(form, block.keys, block.values, 1, (3, 5), proxy)
    last, heads = encoder.network.visual.transformer.resblocks[-1], mixed.transpose(1, 2)
    if getattr(last.attn, "head_scale", None) is not None:
        heads = heads * last.attn.head_scale.flatten()[:, None]
    joined = getattr(last.attn, "ln_inner", torch.nn.Identity())(heads.flatten(2))
    added = last.ls_1(getattr(last, "ln_attn", torch.nn.Identity())(last.attn.out_proj(joined)))
    expected = F.normalize(encoder.network.visual.ln_post(added[:, 1:]) @ encoder.network.visual.proj, dim=-1)
    found = encoder.features(images, proxy if form == "proxy" else None)
    torch.testing.assert_close(found.flatten(2).mT, expected, **TIGHT)
    alone = encoder.features(images[1:], proxy[1:] if form == "proxy" else None)
    torch.testing.assert_close(found[1:], alone, **TIGHT)


def test_a_proxy_cannot_be_left_out(tmp_path):
    with pytest.raises(EncoderError, match="`proxy` needs the patches of another network"):
        opened(tmp_path, form="proxy").features(tiny.images(1, 32, 32))


@torch.inference_mode()
def test_the_two_forms_differ(tmp_path):
    images = tiny.images(1, 32, 32)
    features = [opened(tmp_path, form=form).features(images) for form in ("maskclip", "value")]
    assert (features[0] - features[1]).abs().max() > 0.05


@pytest.mark.parametrize("form", ["maskclip", "value"])
@pytest.mark.parametrize("size", [(64, 64), (96, 32), (32, 32)])
@torch.inference_mode()
def test_resnet_equals_its_attention_pool_over_each_place_alone(tmp_path, form, size):
    """Over a single place the mean token is that place, so that attention between them returns its value."""
    encoder = open_clip_encoder(tiny.clip_spec(tmp_path, tiny.RESNET), "cpu", form=form)
    tiny.shake(encoder.network)
    visual: Any = encoder.network.visual
    pool = AttentionPool2d(1, 8 * 32, 8, 24).eval()
    pool.load_state_dict(visual.attnpool.state_dict() | {"positional_embedding": torch.zeros(2, 8 * 32)})
    images = tiny.images(2, *size)
    pixels = normalised(encoder, images)
    maps = visual.forward_intermediates(pixels, indices=1, intermediates_only=True)["image_intermediates"][-1]
    found = encoder.features(images)
    assert encoder.patch == 32
    assert found.shape == (2, 24, size[0] // 32, size[1] // 32)
    for row in range(found.shape[2]):
        for column in range(found.shape[3]):
            expected = F.normalize(pool(maps[:, :, row : row + 1, column : column + 1]), dim=-1)
            torch.testing.assert_close(found[:, :, row, column], expected, **TIGHT)


def test_features_are_unit_length_float32_and_the_same_bytes_for_the_same_batch(tmp_path):
    encoder = opened(tmp_path)
    images = tiny.images(3, 32, 40)
    first, second = encoder.features(images), encoder.features(images)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3, 4, 5))
    again = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")
    assert torch.equal(again.features(images), open_clip_encoder(tiny.clip_spec(tmp_path), "cpu").features(images))


def test_opening_leaves_the_global_generator_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")
    assert torch.equal(torch.rand(3), expected)


def test_bf16_is_near_fp32(tmp_path):
    images = tiny.images(2, 32, 32)
    half = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu", precision="bf16").features(images)
    whole = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu").features(images)
    assert half.dtype == torch.float32
    assert 0 < (half - whole).abs().max() < 0.05


def test_own_mean_and_deviation_come_from_the_config(tmp_path):
    encoder = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")
    assert encoder.mean == (0.5, 0.4, 0.3)
    assert encoder.std == (0.25, 0.5, 0.5)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (tiny.images(1, 33, 32), "multiples of 8"),
        (tiny.images(1, 32, 0), "multiples of 8"),
        (tiny.images(1, 32, 32).float(), "uint8"),
        (tiny.images(1, 32, 32)[0], "uint8"),
    ],
)
def test_input_that_does_not_fit_is_refused(tmp_path, images, said):
    with pytest.raises(EncoderError, match=said):
        open_clip_encoder(tiny.clip_spec(tmp_path), "cpu").features(images)


def test_an_unknown_form_or_precision_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="use maskclip, value"):
        open_clip_encoder(tiny.clip_spec(tmp_path), "cpu", form="dense")  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match="fp32 or bf16"):
        open_clip_encoder(tiny.clip_spec(tmp_path), "cpu", precision="fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("coca_ViT-B-32", "attentional pool"),
        ("ViT-B-17", "no model 'ViT-B-17'"),
    ],
)
def test_models_without_a_dense_path_are_refused_before_they_are_built(model, said):
    with pytest.raises(EncoderError, match=said):
        open_clip_encoder(EncoderSpec(library="open_clip", model=model, pretrained="random"), "cpu")


@pytest.mark.parametrize(("model", "mend"), [("ViT-B-16", "ViT-B-16-quickgelu"), ("RN50", "RN50-quickgelu")])
def test_openai_weights_need_the_quickgelu_model(model, mend):
    with pytest.raises(EncoderError, match=f"use model: {mend}"):
        open_clip_encoder(EncoderSpec(library="open_clip", model=model, pretrained="openai"), "cpu")


def test_quickgelu_is_built_where_the_config_says_so(tmp_path):
    from open_clip.transformer import QuickGELU

    encoder = open_clip_encoder(tiny.clip_spec(tmp_path, quick_gelu=True), "cpu")
    network: Any = encoder.network
    blocks = [*network.visual.transformer.resblocks, *network.transformer.resblocks]
    assert all(isinstance(block.mlp.gelu, QuickGELU) for block in blocks)


def test_a_config_that_open_clip_cannot_build_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="cannot build .*wdith"):
        open_clip_encoder(tiny.clip_spec(tmp_path, tiny.VIT | {"wdith": 3}), "cpu")
    (tmp_path / "clip.json").write_text("{}")
    empty = EncoderSpec(library="open_clip", config=str(tmp_path / "clip.json"), pretrained="random")
    with pytest.raises(EncoderError, match="lacks embed_dim"):
        open_clip_encoder(empty, "cpu")


def test_custom_text_towers_are_built_and_loaded(tmp_path):
    encoder = open_clip_encoder(tiny.clip_spec(tmp_path, custom_text=True), "cpu")
    assert encoder.text(["a dog"]).shape == (1, 24)


def test_no_warning_is_given(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")
        encoder.features(tiny.images(1, 16, 24))
        encoder.text(["a dog"])
