"""Networks of every family, small and random, taken apart at their last block, against timm's own forward pass."""

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

from tests.wilss.models.encoders import tiny
from wilss.errors import EncoderError
from wilss.models.encoders.vit.trunks import trunk_of
from wilss.models.shapes_only import shapes_only

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "DINO, MAE, AugReg": ("vit_small_patch16_224", {}),
    "DINOv2": ("vit_small_patch14_dinov2", {}),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {}),
    "DINOv3": ("vit_small_patch16_dinov3", {}),
    "DINOv3 with qkv bias": ("vit_small_plus_patch16_dinov3_qkvb", {}),
    "LingBot": ("vit_small_patch16_lingbot", {}),
    "Sapiens2, shared keys": ("vit_base_patch16_sapiens2", {"num_kv_heads": 1}),
    "PE core": ("vit_pe_core_base_patch16_224", {"num_heads": 2}),
    "PE spatial": ("vit_pe_spatial_base_patch16_512", {}),
    "EVA02": ("eva02_small_patch14_224", {}),
    "EVA02 of CLIP": ("eva02_base_patch16_clip_224", {}),
    "EVA02 with norms after": ("eva02_enormous_patch14_clip_224", {}),
    "EVA": ("eva_large_patch14_196", {}),
    "RoPE": ("vit_small_patch16_rope_224", {}),
    "RoPE and table": ("vit_small_patch16_rope_ape_224", {}),
    "mixed RoPE": ("vit_small_patch16_rope_mixed_224", {}),
    "mixed RoPE and table": ("vit_small_patch16_rope_mixed_ape_224", {}),
    "RoPE, mean pooled": ("vit_base_patch16_rope_reg1_gap_256", {}),
    "DeiT III": ("deit3_small_patch16_224", {}),
    "DeiT distilled": ("deit_small_distilled_patch16_224", {}),
    "SigLIP": ("vit_base_patch16_siglip_224", {}),
    "SigLIP, mean pooled": ("vit_base_patch16_siglip_gap_224", {}),
    "CLIP": ("vit_base_patch16_clip_quickgelu_224", {}),
    "TIPSv2": ("vit_base_patch14_reg1_tipsv2", {}),
    "AIMv2": ("aimv2_large_patch14_224", {}),
    "RADIO": ("vit_base_patch16_radio_v3", {}),
    "BEiT-3": ("beit3_base_patch16_224", {}),
    "mean pooled": ("vit_wee_patch16_reg1_gap_256", {}),
    "SigLIP 2 NaFlex": ("naflexvit_base_patch16_siglip", {}),
    "NaFlex, factorised table": ("naflexvit_base_patch16_parfac_gap", {}),
    "parallel blocks": ("vit_base_patch16_xp_224", {}),
    "norms after": ("vit_base_patch16_rpn_224", {}),
    "ResNet stem": ("vit_small_r26_s32_224", {}),
    "MobileCLIP's stem": ("vit_base_mci_224", {"embed_dim": 768, "num_heads": 24}),
}
GRIDS = [(4, 4), (6, 6), (3, 8)]
#: Their blocks are those of another family; what else they have shows in the tokens that the blocks are given.
FURTHER = (
    "DINOv2 with registers", "DINOv3 with qkv bias", "PE spatial", "RoPE and table", "mixed RoPE and table",
    "RoPE, mean pooled", "DeiT distilled", "SigLIP, mean pooled", "CLIP", "TIPSv2", "RADIO", "mean pooled",
    "NaFlex, factorised table", "ResNet stem", "MobileCLIP's stem",
)  # fmt: skip
BLOCKS = [pytest.param(name, marks=pytest.mark.wide if name in FURTHER else ()) for name in FAMILIES]
#: A convolution of bf16 takes a CPU seconds: one grid is enough there.
WITH_CONVOLUTIONS = ("ResNet stem", "MobileCLIP's stem")


def small(name: str) -> tuple[Any, int]:
    """A network of two blocks, width 64, whose own grid is 4 x 4, and its patch."""
    model, more = FAMILIES[name]
    args = {"depth": 2, "embed_dim": 64, "num_heads": 2, "num_classes": 0} | more
    if "naflex" not in model:
        side = 4 * next((n for n in (32, 14) if f"{n}" in model), 16)
        args |= {"img_size": side, "dynamic_img_size": True}
    torch.manual_seed(1)
    network: Any = timm.create_model(model, **args).eval().requires_grad_(False)
    for block in network.blocks if network.embed_dim == 64 else ():
        tiny.shake(block)
    return network, trunk_of(network).patch


def pixels(patch: int, grid: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn((2, 3, grid[0] * patch, grid[1] * patch), generator=generator)


@pytest.fixture
def compared(monkeypatch):
    """Queries, keys, values and result of every call of the attention that timm makes."""
    calls = []
    plain = F.scaled_dot_product_attention

    def noted(queries, keys, values, **more):
        calls.append((queries, keys, values, plain(queries, keys, values, **more)))
        return calls[-1][-1]

    monkeypatch.setattr(F, "scaled_dot_product_attention", noted)
    return calls


def equal(found: torch.Tensor | None, expected: torch.Tensor, bits: float) -> None:
    """bits: 0 for the very same."""
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=bits, atol=bits)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's, of an RMS norm in bf16
@pytest.mark.few(14)
@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_queries_and_keys_are_those_that_timm_compares(name, compared):
    network, patch = small(name)
    trunk = trunk_of(network)
    for grid in GRIDS:
        for half in (False,) if name in WITH_CONVOLUTIONS and grid != GRIDS[0] else (False, True):
            compared.clear()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                whole = network.forward_features(pixels(patch, grid))
                expected = compared[1]
                state = trunk.before_last(pixels(patch, grid), grid)
                found = trunk.queries_and_keys(state)
                after = trunk.after(state)
            length = trunk.prefix + grid[0] * grid[1]
            assert found[0].shape == found[1].shape == (2, network.embed_dim // 32, length, 32)
            # without a prefix timm keeps its tokens transposed in memory, and a norm of bf16 rounds otherwise
            bits = 0.1 if half and name == "norms after" else 0.0
            equal(found[0], expected[0], bits)
            equal(found[1], expected[1], bits)
            equal(after, whole if network.attn_pool is not None else network.fc_norm(whole), bits)


@pytest.mark.parametrize("name", BLOCKS)
@torch.inference_mode()
def test_several_blocks_tell_all_that_timm_gives_its_attention_and_gets_from_it(name, compared):
    network, patch = small(name)
    trunk, grid = trunk_of(network), (3, 8)
    network.forward_features(pixels(patch, grid))
    expected = compared[:2]
    states = trunk.before(pixels(patch, grid), grid, 2)
    assert [state.place for state in states] == [-2, -1]
    assert torch.equal(states[-1].tokens, trunk.before_last(pixels(patch, grid), grid).tokens)
    for state, (queries, keys, values, result) in zip(states, expected, strict=True):
        found = trunk.attention(state, ("values", "outputs"))
        equal(found.queries, queries, 0)
        equal(found.keys, keys, 0)
        equal(found.values, values, 1e-6)
        equal(found.outputs, result.transpose(1, 2).flatten(2), 1e-5)
        alone = trunk.attention(state)
        assert torch.equal(alone.queries, found.queries)
        assert alone.values is alone.outputs is None


def test_more_blocks_than_there_are_cannot_be_asked_for():
    network, patch = small("DINOv2")
    for count in (0, 3):
        with pytest.raises(EncoderError, match=f"has 2 blocks, not {count}; ask for 1 to 2 of them"):
            trunk_of(network).before(pixels(patch, (4, 4)), (4, 4), count)


@pytest.mark.parametrize("name", BLOCKS)
@torch.inference_mode()
def test_attention_and_lone_tokens_are_those_of_timms_unfused_block(name):
    network, patch = small(name)
    trunk, block = trunk_of(network), network.blocks[-1]
    state = trunk.before_last(pixels(patch, (3, 8)), (3, 8))
    queries, keys = trunk.queries_and_keys(state)
    alone = trunk.alone(state)
    rope = {} if state.rope is None else {"rope": state.rope}
    itself = torch.eye(state.tokens.shape[1], dtype=torch.bool)
    expected = network.norm(block(state.tokens, attn_mask=itself, **rope))
    expected = expected if network.attn_pool is not None else network.fc_norm(expected)
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-5)
    attention: Any = getattr(block, "attn", block)
    attention.fused_attn = False
    maps = []
    attention.attn_drop.register_forward_pre_hook(lambda module, given: maps.append(given[0]))
    block(state.tokens, **rope)
    found = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)
    torch.testing.assert_close(found, maps[0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_queries_are_caught_where_timm_was_told_not_to_fuse_attention():
    network, patch = small("DINOv3")
    expected = trunk_of(network).queries_and_keys(trunk_of(network).before_last(pixels(patch, (4, 4)), (4, 4)))
    network.blocks[-1].attn.fused_attn = False  # as by TIMM_FUSED_ATTN=0
    trunk = trunk_of(network)
    found = trunk.queries_and_keys(trunk.before_last(pixels(patch, (4, 4)), (4, 4)))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("name", ["DINOv2", "DINOv3", "RoPE", "EVA02 of CLIP", "EVA02 with norms after"])
@torch.inference_mode()
def test_the_value_form_is_what_the_last_attention_adds(name):
    network, patch = small(name)
    trunk, block = trunk_of(network), network.blocks[-1]
    state = trunk.before_last(pixels(patch, (4, 4)), (4, 4))
    with torch.no_grad():
        for part in (block.mlp.fc2, block.norm2):  # a block that adds nothing after its attention
            for parameter in part.parameters():
                parameter.zero_()
    added = block(
        state.tokens,
        attn_mask=torch.eye(state.tokens.shape[1], dtype=torch.bool),
        **({} if state.rope is None else {"rope": state.rope}),
    )
    expected = network.fc_norm(network.norm(added - state.tokens))
    torch.testing.assert_close(trunk.alone(state, "value"), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("resnet18", "has no self-attention"),
        ("swin_tiny_patch4_window7_224", "is hierarchical"),
        ("convnext_tiny.dinov3_lvd1689m", "has no self-attention"),
        ("hrnet_w18_small", "has no self-attention"),
        ("resnest14d", "has no self-attention"),
        ("davit_tiny", "is hierarchical"),
        ("mixer_s16_224", "has no self-attention"),
        ("beit_base_patch16_224", "has a relative position bias"),
        ("vit_relpos_small_patch16_224", "has a relative position bias"),
        ("samvit_base_patch16", "has a relative position bias"),
        ("vit_small_patch16_18x2_224", "has several attentions in one block"),
        ("vit_dwee_patch16_reg1_gap_256", "has several attentions in one block"),
        ("xcit_nano_12_p8_224", "attends over channels"),
        ("cait_xxs24_224", "mixes the heads"),
        ("qwen3_vit_88m_enc", "is of another kind"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_with_the_reason(model, reason):
    with shapes_only():
        network = timm.create_model(model, num_classes=0)
    with pytest.raises(EncoderError, match=f"^{model} {reason}.*take one such as"):
        trunk_of(network, name=model)
