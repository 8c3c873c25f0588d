"""Families by name, and with each the positions and the mean that its own code has."""

from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.wilss.models.encoders import tiny
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.vit.encoder import open_vit, require_vit
from wilss.models.encoders.vit.families import FAMILIES, family_of, positions_of
from wilss.models.encoders.vit.preprocessing import vit_preprocessing

IMAGENET, OPENAI, HALF = 0.485, 0.48145466, 0.5
NAMES = {
    "vit_small_patch16_224.dino": ("DINO", "dino", IMAGENET),
    "vit_small_patch8_224": ("DINO", "dino", IMAGENET),
    "vit_small_patch14_dinov2.lvd142m": ("DINOv2", "dino", IMAGENET),
    "vit_small_patch14_reg4_dinov2.lvd142m": ("DINOv2 with registers", "timm", IMAGENET),
    "vit_small_patch16_dinov3.lvd1689m": ("DINOv3", "none", IMAGENET),
    "vit_large_patch16_dinov3_qkvb.sat493m": ("DINOv3", "none", 0.43),
    "vit_small_patch16_dinov3_qkvb.eupe_lvd1689m": ("EUPE", "none", IMAGENET),
    "vit_tiny_patch16_dinov3_qkvb": ("EUPE", "none", IMAGENET),
    "vit_pe_core_base_patch16_224.fb": ("Perception Encoder", "timm", HALF),
    "vit_pe_spatial_base_patch16_512.fb": ("Perception Encoder", "timm", HALF),
    "eva02_base_patch14_224.mim_in22k": ("EVA02, EVA", "timm", OPENAI),
    "vit_small_patch16_rope_mixed_224.naver_in1k": ("RoPE ViT", "timm", IMAGENET),
    "vit_base_patch16_224.mae": ("MAE", "timm", IMAGENET),
    "vit_small_patch16_224.augreg_in21k": ("AugReg", "timm", HALF),
    "deit3_small_patch16_224.fb_in1k": ("DeiT III", "timm", IMAGENET),
    "vit_base_patch16_siglip_224.v2_webli": ("SigLIP, SigLIP 2", "timm", HALF),
    "naflexvit_base_patch16_siglip.v2_webli": ("SigLIP 2 NaFlex", "timm", HALF),
    "vit_base_patch16_clip_quickgelu_224.openai": ("CLIP ViT", "timm", OPENAI),
    "vit_base_patch14_reg1_tipsv2.webli": ("TIPSv2", "timm", 0.0),
    "aimv2_large_patch14_224.apple_pt": ("AIMv2", "timm", OPENAI),
    "vit_base_patch16_radio_v3.c_radio": ("RADIO", "timm", OPENAI),
    "naflexvit_base_patch16_radio_v3.c_radio": ("RADIO (NaFlex)", "timm", OPENAI),
    "beit3_base_patch16_224.pt": ("BEiT-3", "timm", IMAGENET),
    "vit_small_patch16_224": ("AugReg", "timm", HALF),
    "vit_medium_patch16_reg4_gap_256.sbb_in12k": ("other ViTs of timm", "timm", HALF),
    "naflexvit_base_patch16_gap.e300_s576_in1k": ("other NaFlex ViTs", "timm", HALF),
}
SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_family_positions_and_mean(name):
    family, positions, mean = NAMES[name]
    spec = EncoderSpec(library="timm", model=name)
    assert (family_of(spec).name, family_of(spec).positions) == (family, positions)
    assert positions_of(spec) == ("dino" if positions == "dino" else "timm")
    assert vit_preprocessing(spec).mean[0] == mean
    assert positions_of(EncoderSpec(library="timm", model=name, pos_interp="size")) == "size"


def test_every_family_has_models_in_timm():
    names = timm.list_models(pretrained=True)
    found = {family_of(EncoderSpec(library="timm", model=name)).name for name in names}
    assert {family.name for family in FAMILIES} <= found


@pytest.mark.parametrize("name", [name for name in NAMES if "eva02" not in name and "large" not in name])
@torch.inference_mode()
def test_opened_networks_resample_as_the_familys_own_code(name):
    """That code is timm's forward pass; for DINO and DINOv2 the table is resampled beforehand as theirs does."""
    flexible = name.startswith("naflex")
    spec = EncoderSpec(
        library="timm", model=name, args=SMALL | ({} if flexible else {"img_size": 64}), pretrained="random:1"
    )
    encoder = open_vit(spec, "cpu", precision="fp32")
    network: Any = encoder.network
    grid = (3, 5)
    images = tiny.images(1, grid[0] * encoder.patch, grid[1] * encoder.patch)
    features = encoder.features(images)
    if encoder.pos_interp == "dino":
        side = network.patch_embed.grid_size[0]
        patches = network.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = tuple((n + 0.1) / side for n in grid)
        moved = torch.nn.functional.interpolate(patches, scale_factor=scale, mode="bicubic", antialias=False)
        network.pos_embed = torch.nn.Parameter(
            torch.cat([network.pos_embed[:, :1], moved.flatten(2).mT], dim=1), requires_grad=False
        )
        network.patch_embed.grid_size = grid
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (encoder.mean, encoder.std))
    whole = network.forward_features((images.float() / 255 - mean) / std)
    whole = whole if network.attn_pool is not None else network.fc_norm(whole)
    expected = whole[:, network.num_prefix_tokens :].mT.reshape(1, -1, *grid)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def saved(folder, model):
    encoder = open_vit(EncoderSpec(library="timm", model=model, args=SMALL, pretrained="random"), "cpu")
    save_file(encoder.network.state_dict(), folder / "vit.safetensors")
    return str(folder / "vit.safetensors")


def test_a_file_is_normalised_as_the_weights_that_it_is_a_copy_of(tmp_path, caplog):
    file = saved(tmp_path, "vit_base_patch16_siglip_224")
    untagged = EncoderSpec(library="timm", model="vit_base_patch16_siglip_224", args=SMALL, file=file)
    assert open_vit(untagged, "cpu").mean == (0.5, 0.5, 0.5)  # all published ones agree
    satellite = EncoderSpec(library="timm", model="vit_large_patch16_dinov3", pretrained="sat493m", file=file)
    assert vit_preprocessing(satellite).mean == (0.43, 0.411, 0.296)
    own = EncoderSpec(library="timm", model="vit_tiny_patch16_224", args=SMALL, file=file)
    assert vit_preprocessing(own).mean == (0.485, 0.456, 0.406)
    assert "normalised by ImageNet's mean" in caplog.text


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            "vit_small_patch16_224",
            r"does not say how its position table.*`pretrained: TAG` \(one of augreg_in1k.*`pos_interp: dino` "
            r"\(DINO and iBOT\) or `pos_interp: timm` \(most others\) beside `args: {mean",
        ),
        ("vit_large_patch16_dinov3", r"does not say with which mean.*one of lvd1689m, sat493m"),
        ("vit_base_patch16_clip_224", "may have been trained with GELU or QuickGELU"),
        ("vit_base_patch16_clip_224.openai", "'openai' were trained with QuickGELU"),
    ],
)
def test_a_file_of_which_nothing_says_the_mean_or_activation_is_refused_before_it_is_read(model, told):
    spec = EncoderSpec(library="timm", model=model, file="nowhere.safetensors")
    with pytest.raises(EncoderError, match=told):
        require_vit(spec)
    if "does not say" in told:
        args = {"mean": [0.5] * 3, "std": [0.5] * 3}
        require_vit(spec.model_copy(update={"args": args, "pos_interp": "timm" if "position" in told else None}))


def test_a_file_of_no_named_family_says_by_itself_how_its_positions_are_resampled():
    told = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    spec = EncoderSpec(library="timm", model="vit_small_patch16_224", file="ibot.pth", args=told)
    with pytest.raises(EncoderError, match=r"or `pos_interp: timm` \(most others\)\.$"):
        positions_of(spec)
    assert positions_of(spec.model_copy(update={"pos_interp": "dino"})) == "dino"
    assert positions_of(spec.model_copy(update={"pretrained": "dino"})) == "dino"
    assert positions_of(spec.model_copy(update={"pretrained": "augreg_in21k"})) == "timm"
    assert positions_of(EncoderSpec(library="timm", model="vit_small_patch16_224", pretrained="random")) == "timm"
