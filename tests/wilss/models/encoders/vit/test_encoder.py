"""The seeds' rows against timm's full attention map, with random weights."""

import re
from argparse import Namespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.utils.attention_extract import AttentionExtract

from tests.wilss.models.encoders import tiny
from wilss.data.manifest import EncoderSpec
from wilss.equations.fmwiss import seed_attention
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.vit.checkpoints import teacher_tensors
from wilss.models.encoders.vit.encoder import open_vit, require_vit, seed_rows

SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 56}
TIGHT: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
VARIANTS = {
    "plain": {},
    "no qkv bias": {"qkv_bias": False},
    "qk norm": {"qk_norm": True},
    "layer scale": {"init_values": 0.1},
    "registers as in DINOv2": {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0},
    "registers in the table": {"reg_tokens": 2},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "no position table": {"pos_embed": "none"},
    "norm before": {"pre_norm": True},
}
SIZES = [(32, 32), (24, 48), (16, 64), (48, 40)]


def opened(pos_interp="timm", **args):
    encoder = open_vit(tiny.vit_spec(pos_interp, **args), "cpu")
    tiny.shake(encoder.network)
    return encoder


def full_attention(encoder, images):
    """timm's own attention of the last block [B, n, L, L], which it forms only without the fused kernel."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (encoder.mean, encoder.std))
    encoder.network.blocks[-1].attn.fused_attn = False
    extract = AttentionExtract(encoder.network, names=["blocks.2.attn.attn_drop"], method="hook")
    (attention,) = extract((images.float() / 255 - mean) / std).values()
    return attention


@pytest.mark.few(8)
@pytest.mark.parametrize("args", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_seed_rows_equal_timms_full_attention_map(args, size):
    encoder = opened(**args)
    images = tiny.images(2, *size)
    whole = full_attention(encoder, images)
    block = encoder.last_block(images)
    assert block.grid == (size[0] // 8, size[1] // 8)
    assert block.queries.shape == block.keys.shape == (2, 4, block.prefix + block.grid[0] * block.grid[1], 8)
    points = torch.tensor([[0, 0], [1, 2], [block.grid[0] - 1, block.grid[1] - 1]])
    tokens = [block.prefix + row * block.grid[1] + column for row, column in points.tolist()]
    for image in range(2):
        rows = seed_rows(block, image, points, "qk")
        found = seed_attention(rows, block.keys[image], prefix=block.prefix, affinity="qk")
        expected = whole[image][:, tokens, block.prefix :].mean(dim=(0, 1))
        torch.testing.assert_close(found, expected, **TIGHT)


@torch.inference_mode()
def test_all_rows_together_are_the_full_map():
    encoder = opened()
    images = tiny.images(1, 24, 32)
    block = encoder.last_block(images)
    found = (block.queries @ block.keys.mT * block.queries.shape[-1] ** -0.5).softmax(-1)
    torch.testing.assert_close(found, full_attention(encoder, images), **TIGHT)


@torch.inference_mode()
def test_seed_rows_of_several_classes_are_gathered_at_once():
    block = opened().last_block(tiny.images(2, 24, 40))
    points = torch.stack([torch.randint(0, 3, (3, 9)), torch.randint(0, 5, (3, 9))], dim=-1)
    rows = seed_rows(block, 1, points, "qk")
    assert rows.shape == (3, 4, 9, 8)
    for one, alone in zip(rows, points, strict=True):
        assert torch.equal(one, seed_rows(block, 1, alone, "qk"))
    keys = seed_rows(block, 1, points, "kk")
    assert torch.equal(keys[2, :, 4], block.keys[1, :, 1 + points[2, 4, 0] * 5 + points[2, 4, 1]])


@torch.inference_mode()
def test_ways_of_resampling_change_the_attention_at_other_sizes_only():
    encoders = [opened(how) for how in ("dino", "size", "timm")]
    at_home = [encoder.last_block(tiny.images(1, 32, 32)).keys for encoder in encoders]
    away = [encoder.last_block(tiny.images(1, 48, 32)).keys for encoder in encoders]
    assert torch.equal(at_home[0], at_home[1])
    assert torch.equal(at_home[1], at_home[2])
    assert (away[0] - away[1]).abs().max() > 1e-3
    assert (away[1] - away[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        (None, None, "dino"),
        ("vit_small_patch16_224.dino", None, "dino"),
        ("vit_small_patch14_reg4_dinov2.lvd142m", None, "timm"),
        ("vit_small_patch16_224.dino", "size", "size"),
    ],
)
def test_the_default_resampling_is_that_of_the_published_code(model, given, expected):
    small = {"embed_dim": 16, "depth": 1, "num_heads": 2} | ({} if model else tiny.DINO)
    spec = EncoderSpec(library="timm", model=model, args=small, pretrained="random", pos_interp=given)
    assert open_vit(spec, "cpu").pos_interp == expected


def test_equal_batches_give_equal_bytes_in_float32():
    encoder = opened()
    images = tiny.images(3, 32, 40)
    first, second = encoder.last_block(images), encoder.last_block(images)
    assert first.queries.dtype == first.keys.dtype == torch.float32
    assert torch.equal(first.queries, second.queries)
    assert torch.equal(first.keys, second.keys)
    half = open_vit(tiny.vit_spec(), "cpu", precision="bf16").last_block(images)
    assert half.keys.dtype == torch.float32


def test_sides_must_be_multiples_of_the_patch():
    with pytest.raises(EncoderError, match="36 x 32 pixels do not fit patches of 8"):
        opened().last_block(tiny.images(1, 36, 32))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("resnet18", "has no self-attention"),
        ("beit_base_patch16_224", "has a relative position bias"),
        ("vit_small_patch16_18x2_224", "has several attentions in one block"),
        ("hf-hub:timm/vit_small_patch16_224.dino", "write `model: vit_small_patch16_224.dino`, which fetches the same"),
        ("hf-hub:some/model", "name one"),
        ("vit_smal_patch16_224", "timm has no model 'vit_smal_patch16_224'; did you mean 'vit_small_patch16_224'"),
        ("vit_base_patch16_clip_224.openai", "trained with QuickGELU.*use vit_base_patch16_clip_quickgelu_224"),
        ("naflexvit_base_patch16_siglip", "leave `pos_interp: dino` out"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason_before_weights_are_read(model, told):
    spec = EncoderSpec(library="timm", model=model, file="nowhere.safetensors", pos_interp="dino")
    with pytest.raises(EncoderError, match=told) as caught:
        require_vit(spec)
    assert "dynamic_img_size" not in str(caught.value)


def test_a_network_is_built_once_and_refused_before_its_weights_are_asked_for(monkeypatch):
    import timm

    built, create = [], timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **more: (built.append(args), create(*args, **more))[1])
    args = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    open_vit(EncoderSpec(library="timm", model="vit_small_patch16_224.dino", args=args, pretrained="random"), "cpu")
    assert len(built) == 1
    with pytest.raises(EncoderError, match="resnet18 has no self-attention"):
        open_vit(EncoderSpec(library="timm", model="resnet18", file="nowhere.safetensors", pos_interp="timm"), "cpu")


def test_unknown_models_and_args_are_refused():
    with pytest.raises(EncoderError, match="the vision transformer takes images of 4 channels"):
        open_vit(tiny.vit_spec(in_chans=4), "cpu")
    with pytest.raises(EncoderError, match="the vision transformer has no blocks"):
        open_vit(tiny.vit_spec(depth=0), "cpu")
    with pytest.raises(EncoderError, match="timm has no model"):
        open_vit(EncoderSpec(library="timm", model="vit_of_no_kind", pretrained="random"), "cpu")
    with pytest.raises(EncoderError, match="fix its model or args"):
        open_vit(tiny.vit_spec(embed_dimension=3), "cpu")
    with pytest.raises(EncoderError, match="square"):
        open_vit(tiny.vit_spec(patch_size=(8, 16)), "cpu")


# -- checkpoints --------------------------------------------------------------------------------------------


def published(kind, state):
    """The forms in which DINO's and iBOT's weights are found, around the same backbone."""
    head = {"mlp.0.weight": torch.zeros(2, 2), "last_layer.weight_g": torch.zeros(2)}
    wrapped = {f"backbone.{k}": v for k, v in state.items()} | {f"head.{k}": v for k, v in head.items()}
    other = {k: torch.zeros_like(v) for k, v in wrapped.items()}
    mask = {"masked_embed": torch.zeros(1, 32)}
    return {
        "plain": state,
        "ibot teacher": {"state_dict": state | mask | {"head.last_layer.weight": torch.zeros(2)}},
        "full": {
            "student": {f"module.{k}": v for k, v in other.items()},
            "teacher": wrapped | mask,
            "epoch": 3,
            "args": Namespace(arch="vit_small", patch_size=8),
        },
        "flat": {f"student.{k}": v for k, v in other.items()} | {f"teacher.{k}": v for k, v in wrapped.items()},
        "student only": {"student": {f"module.{k}": v for k, v in wrapped.items()}},
        "compiled": {f"_orig_mod.{k}": v for k, v in state.items()},
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "ibot teacher", "full", "flat", "student only", "compiled"])
def test_published_checkpoints_load_strictly_from_local_files(tmp_path, kind):
    source = opened()
    path = tmp_path / "checkpoint.pth"
    torch.save(published(kind, source.network.state_dict()), path)
    loaded = open_vit(EncoderSpec(library="timm", args=tiny.DINO, file=str(path), pos_interp="timm"), "cpu")
    images = tiny.images(1, 32, 32)
    assert torch.equal(loaded.last_block(images).keys, source.last_block(images).keys)
    assert loaded.mean == (0.485, 0.456, 0.406)


def metas(kind, state):
    """A state dict of timm's in the names of Meta's own files, with what only training uses."""
    named = {name.replace("gamma_", "ls").replace("reg_token", "storage_tokens"): v for name, v in state.items()}
    if kind == "DINOv2":
        named["register_tokens"] = named.pop("storage_tokens")
        patches = named["pos_embed"]
        named["pos_embed"] = torch.cat([torch.full_like(patches[:, :1], 0.25), patches], dim=1)
        named["cls_token"] = named["cls_token"] - 0.25
    else:
        named = {re.sub(r"\.ls(\d)$", r".ls\1.gamma", name): v for name, v in named.items()}
        for name in [name for name in named if name.endswith(".q_bias")]:
            stem, queries = name.removesuffix("q_bias"), named.pop(name)
            named[f"{stem}qkv.bias"] = torch.cat([queries, torch.ones_like(queries), named.pop(f"{stem}v_bias")])
            named[f"{stem}qkv.bias_mask"] = torch.full((3 * len(queries),), torch.nan)
        named["rope_embed.periods"] = torch.ones(16)
    return named | {"mask_token": torch.zeros(1, named["cls_token"].shape[-1])}


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("DINOv2", "vit_small_patch14_reg4_dinov2.lvd142m"),
        ("DINOv3", "vit_small_patch16_dinov3.lvd1689m"),
        ("DINOv3", "vit_small_patch16_dinov3_qkvb.lvd1689m"),
    ],
)
def test_metas_own_files_load_strictly(tmp_path, kind, model):
    spec: dict[str, Any] = {"library": "timm", "model": model, "args": SMALL}
    source = open_vit(EncoderSpec(**spec, pretrained="random:1"), "cpu")
    tiny.shake(source.network)
    torch.save(metas(kind, source.network.state_dict()), tmp_path / "meta.pth")
    loaded = open_vit(EncoderSpec(**spec, file=str(tmp_path / "meta.pth")), "cpu")
    images = tiny.images(1, 2 * source.patch, 3 * source.patch)
    torch.testing.assert_close(loaded.features(images), source.features(images), **TIGHT)
    torch.testing.assert_close(loaded.last_block(images).keys, source.last_block(images).keys, **TIGHT)


def test_metas_biases_are_not_left_out_and_their_tables_not_resampled(tmp_path):
    with_bias = "vit_small_patch16_dinov3_qkvb.lvd1689m"
    spec: dict[str, Any] = {"library": "timm", "args": SMALL, "file": str(tmp_path / "meta.pth")}
    source = open_vit(EncoderSpec(library="timm", model=with_bias, args=SMALL, pretrained="random:1"), "cpu")
    tiny.shake(source.network)
    torch.save(metas("DINOv3", source.network.state_dict()), tmp_path / "meta.pth")
    with pytest.raises(WeightsError, match="meta.pth has biases of queries and values.*`_qkvb`"):
        open_vit(EncoderSpec(model="vit_small_patch16_dinov3.lvd1689m", **spec), "cpu")
    registers = "vit_small_patch14_reg4_dinov2.lvd142m"
    source = open_vit(EncoderSpec(library="timm", model=registers, args=SMALL, pretrained="random:1"), "cpu")
    torch.save(metas("DINOv2", source.network.state_dict()), tmp_path / "meta.pth")
    spec["args"] = SMALL | {"img_size": 112}
    with pytest.raises(WeightsError, match=r"does not fit the network: .*pos_embed"):
        open_vit(EncoderSpec(model=registers, **spec), "cpu")


def test_naflex_takes_the_weights_of_its_plain_namesake_at_its_own_size_alone(tmp_path):
    args = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    naflex = EncoderSpec(
        library="timm", model="naflexvit_base_patch16_siglip.v2_webli", args=args, file=str(tmp_path / "w.safetensors")
    )
    for size in (256, 224):
        plain = f"vit_base_patch16_siglip_{size}"
        source = open_vit(EncoderSpec(library="timm", model=plain, args=args, pretrained="random:1"), "cpu")
        save_file(source.network.state_dict(), tmp_path / "w.safetensors")
        if size == 224:
            with pytest.raises(WeightsError, match="does not fit the network"):
                open_vit(naflex, "cpu")
            continue
        images = tiny.images(1, 256, 256)
        state = source.trunk.before_last((images.float() - 127.5) / 127.5, (16, 16))
        keys = source.trunk.queries_and_keys(state)[1]
        torch.testing.assert_close(open_vit(naflex, "cpu").last_block(images).keys, keys, **TIGHT)


def test_half_precision_safetensors_load_into_float32(tmp_path):
    source = opened()
    path = tmp_path / "vit.safetensors"
    save_file({k: v.half() for k, v in source.network.state_dict().items()}, path)
    loaded = open_vit(EncoderSpec(library="timm", args=tiny.DINO, file=str(path)), "cpu")
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}


def test_a_checkpoint_of_another_network_is_refused_naming_tensors(tmp_path):
    state = opened().network.state_dict()
    del state["blocks.2.attn.qkv.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["pos_embed"] = torch.zeros(1, 26, 32)
    save_file(state, tmp_path / "vit.safetensors")
    spec = EncoderSpec(library="timm", args=tiny.DINO, file=str(tmp_path / "vit.safetensors"))
    with pytest.raises(WeightsError) as caught:
        open_vit(spec, "cpu")
    for part in (
        "1 missing (blocks.2.attn.qkv.weight)",
        "1 unexpected (extra.weight)",
        "pos_embed is [1, 26, 32]",
    ):
        assert part in str(caught.value)


def test_a_local_file_of_a_model_without_tag_is_normalised_as_dino(tmp_path):
    """timm's default tag of this model was trained with mean 0.5, which says nothing about the file."""
    args = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    random = open_vit(EncoderSpec(library="timm", model="vit_small_patch16_224", args=args, pretrained="random"), "cpu")
    save_file(random.network.state_dict(), tmp_path / "vit.safetensors")
    file = str(tmp_path / "vit.safetensors")
    spec: dict[str, Any] = {"library": "timm", "model": "vit_small_patch16_224", "file": file}
    assert open_vit(EncoderSpec(**spec, args=args), "cpu").mean == (0.485, 0.456, 0.406)
    own = EncoderSpec(**spec, args=args | {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]})
    assert open_vit(own, "cpu").mean == (0.1, 0.2, 0.3)


def test_a_local_file_takes_the_mean_of_the_weights_that_pretrained_names(tmp_path):
    args = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 16}
    spec: dict[str, Any] = {"library": "timm", "model": "vit_base_patch16_siglip_224", "args": args}
    save_file(
        open_vit(EncoderSpec(**spec, pretrained="random"), "cpu").network.state_dict(), tmp_path / "vit.safetensors"
    )
    spec["file"] = str(tmp_path / "vit.safetensors")
    assert open_vit(EncoderSpec(**spec, pretrained="v2_webli"), "cpu").mean == (0.5, 0.5, 0.5)
    with pytest.raises(EncoderError, match="no weights 'v2_weli' for .*did you mean 'v2_webli'"):
        open_vit(EncoderSpec(**spec, pretrained="v2_weli"), "cpu")
    with pytest.raises(EncoderError, match="has a tag, and `pretrained: webli` names another"):
        open_vit(EncoderSpec(**spec | {"model": "vit_base_patch16_siglip_224.v2_webli"}, pretrained="webli"), "cpu")


def test_teacher_tensors_prefers_the_teacher():
    one, two = torch.zeros(1), torch.ones(1)
    assert teacher_tensors({"student": {"a": one}, "teacher": {"backbone.a": two}}) == {"a": two}
