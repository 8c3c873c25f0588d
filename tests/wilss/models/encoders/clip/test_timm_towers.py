"""Dense features of open_clip's timm towers against the library's own blocks and pools, with random weights."""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from tests.references import dense as slow
from tests.wilss.models.encoders import tiny, tiny_towers
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.clip.configs import FORMS, check_tower, clip_stride, form_of, forms_of
from wilss.models.encoders.clip.encoder import DenseClip, open_clip_encoder, require_clip
from wilss.models.encoders.multiples import input_multiple

TOKEN, MAP = {"timm_pool": "token", "timm_proj": None}, {"timm_pool": "map", "timm_proj": "none"}
LINEAR, HEAD = {"timm_pool": "", "timm_proj": "linear"}, {"timm_pool": "avg", "timm_proj": None}
RESNET, ALONE = ("maskclip", "value"), ("maskclip", "value", "neighbour", "proxy")
POOLED = ("pool_each", *ALONE)
#: Family: its tower, how open_clip's configs pool and project it, pixels per place, dense forms (the default first).
FAMILIES: dict[str, tuple[str, dict[str, Any], int, tuple[str, ...]]] = {
    "SigLIP": ("vit_base_patch16_siglip_tiny", MAP, 16, POOLED),
    "PE-Core": ("vit_pe_core_tiny_patch16_tiny", MAP | {"timm_proj": None}, 16, POOLED),
    "EVA02-CLIP": ("eva02_base_patch16_clip_tiny", TOKEN, 16, ALONE),
    "EVA01-CLIP": ("eva_giant_patch14_tiny", TOKEN, 14, ALONE),
    "MobileCLIP-B": ("vit_base_mci_tiny", TOKEN, 16, ALONE),
    "MobileCLIP2-L": ("vit_large_patch14_clip_tiny", TOKEN, 14, ALONE),
    "gap": ("vit_medium_patch16_gap_tiny", LINEAR, 16, ALONE),
    "ViTamin": ("vitamin_tiny", LINEAR, 16, ALONE),
    "ConvNeXt": ("convnext_tinier", LINEAR, 32, ("head_each",)),
    "ConvNeXt, mlp": ("convnext_tinier", LINEAR | {"timm_proj": "mlp"}, 32, ("head_each",)),
    "MobileCLIP2-S": ("fastvit_mci0_tiny", HEAD, 32, ("head_each",)),
    "MobileCLIP2-S3": ("fastvit_mci3_tiny", HEAD, 64, ("head_each",)),
}
WIDE = pytest.mark.wide
GRIDS = [(4, 4), (2, 5), (6, 4)]  # the first is the towers' own
TIGHT: dict[str, Any] = {"rtol": 0, "atol": 1e-5}


def vision_of(family: str) -> dict[str, Any]:
    tower, pooling, _, _ = FAMILIES[family]
    return {"timm_model_name": tower, "timm_model_pretrained": False, "image_size": 64, **pooling}


def opened(folder: Path, family: str, **more: Any) -> DenseClip:
    spec = tiny.clip_spec(folder, vision_of(family), embed_dim=32, custom_text=True)
    encoder = open_clip_encoder(spec, "cpu", **more)
    tiny.shake(encoder.network)
    return encoder


def by_open_clip(encoder: DenseClip, family: str, size: tuple[int, int]) -> Any:
    """open_clip's own tower of fixed size, set to `size` by timm's own resampling, with the encoder's weights."""
    whole = untrained(family)
    whole.load_state_dict(encoder.network.state_dict())
    visual = copy.deepcopy(whole.visual)
    if hasattr(visual.trunk, "set_input_size"):
        visual.trunk.set_input_size(size)
    return visual


@functools.cache
def untrained(family: str) -> Any:
    """open_clip's own network, to be filled and copied, by tests in inference mode and by others."""
    with torch.inference_mode(False):
        return CustomTextCLIP(embed_dim=32, vision_cfg=vision_of(family), text_cfg=tiny.TEXT).eval()


def pixels_of(encoder: DenseClip, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in (encoder.mean, encoder.std))
    return (images.float() / 255 - mean) / std


def see_itself_alone(trunk: Any) -> None:
    """Makes timm's last block attend under a diagonal mask."""

    def masked(_: Any, args: Any, kwargs: Any) -> Any:
        return args, kwargs | {"attn_mask": torch.eye(args[0].shape[1], dtype=torch.bool)}

    trunk.blocks[-1].register_forward_pre_hook(masked, with_kwargs=True)


def without_the_rest(trunk: Any) -> None:
    """Makes timm's last block return what its attention adds, and nothing else."""
    block = trunk.blocks[-1]
    seen: dict[str, torch.Tensor] = {}
    block.attn.register_forward_hook(lambda module, args, output: seen.update(attention=output))
    scale = getattr(block, "ls1", None) or (lambda x: x if block.gamma_1 is None else block.gamma_1 * x)
    block.register_forward_hook(lambda module, args, output: scale(seen["attention"]))


def each_alone(visual: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Every token through the library's own pool and head as if it were the only one. [B, N, C] to [B, N, D]."""
    places = [visual.head(visual.trunk.forward_head(tokens[:, i : i + 1])) for i in range(tokens.shape[1])]
    return F.normalize(torch.stack(places, dim=1), dim=-1)


def mixed_by_loops(
    form: str, keys: torch.Tensor, values: torch.Tensor, prefix: int, grid: tuple[int, int], proxy: torch.Tensor
) -> torch.Tensor:
    """What the slow twins mix of values [B, n, P + N, d], zero for the prefix."""
    found = torch.zeros_like(values)
    for i in range(len(values)):
        key, value = keys[i].double().numpy(), values[i].double().numpy()
        places = F.interpolate(proxy[i : i + 1], size=grid, mode="bilinear")[0].flatten(1).T.double().numpy()
        if form == "neighbour":
            patches = slow.neighbour_attention(key, value, prefix, grid, 5.0)
        else:
            patches = slow.proxy_attention(places, value[:, prefix:], 3.0)
        found[i, :, prefix:] = torch.from_numpy(patches)
    return found


#: Families whose blocks, pools or heads another has as well.
FURTHER = ("PE-Core", "EVA01-CLIP", "MobileCLIP2-L", "ConvNeXt, mlp", "MobileCLIP2-S3")


def families(*, head_each: bool | None = None) -> list[Any]:
    """Those of FAMILIES whose default form is `head_each`, or is not; all of them."""
    return [
        pytest.param(family, marks=WIDE if family in FURTHER else ())
        for family, row in FAMILIES.items()
        if head_each in (None, row[3] == ("head_each",))
    ]


def transformers() -> list[Any]:
    """With each form that a family has; in `make test` each family once, and the two plainest in all of theirs."""
    rows = [(family, form) for family, row in FAMILIES.items() for form in POOLED[:3] if form in row[3]]
    first = {family: form for family, form in reversed(rows)}
    return [
        pytest.param(*row, marks=() if first[row[0]] == row[1] or row[0] in ("SigLIP", "EVA02-CLIP") else WIDE)
        for row in rows
    ]


@pytest.mark.parametrize(("family", "form"), transformers())
@torch.inference_mode()
def test_each_token_alone_is_the_librarys_own(tmp_path: Path, family: str, form: Any) -> None:
    encoder = opened(tmp_path, family, form=form)
    for grid in GRIDS:
        images = tiny.images(2, *(side * encoder.patch for side in grid))
        visual = by_open_clip(encoder, family, images.shape[-2:])  # type: ignore[arg-type]
        if form != "pool_each":
            see_itself_alone(visual.trunk)
        if form == "value":
            without_the_rest(visual.trunk)
        tokens = visual.trunk.forward_features(pixels_of(encoder, images))[:, visual.trunk.num_prefix_tokens :]
        if visual.trunk.attn_pool is None:
            visual.trunk.global_pool = "avg"
            visual.trunk.num_prefix_tokens = 0
        expected = each_alone(visual, tokens)
        found = encoder.features(images)
        assert found.shape == (2, 32, *grid)
        torch.testing.assert_close(found.flatten(2).mT, expected, **TIGHT)


@pytest.mark.parametrize("family", ["EVA02-CLIP", "SigLIP", "gap"])
@pytest.mark.parametrize("form", ["neighbour", "proxy"])
@torch.inference_mode()
def test_other_attentions_mix_what_the_librarys_own_block_projects(tmp_path: Path, family: str, form: Any) -> None:
    encoder = opened(tmp_path, family, form=form)
    grid = (2, 5)
    images = tiny.images(2, *(side * encoder.patch for side in grid))
    visual = by_open_clip(encoder, family, images.shape[-2:])  # type: ignore[arg-type]
    trunk, proxy = visual.trunk, torch.randn((2, 7, 3, 3), generator=torch.Generator().manual_seed(1))
    without_the_rest(trunk)
    own = F.scaled_dot_product_attention
    calls: list[int] = []

    def by_loops(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **more: Any) -> torch.Tensor:
        """In the last block the attention of the slow twins."""
        calls.append(len(calls))
        if len(calls) != len(trunk.blocks):
            return own(queries, keys, values, **more)
        return mixed_by_loops(form, keys, values, trunk.num_prefix_tokens, grid, proxy)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", by_loops)
        tokens = trunk.forward_features(pixels_of(encoder, images))[:, trunk.num_prefix_tokens :]
    if trunk.attn_pool is None:
        trunk.global_pool, trunk.num_prefix_tokens = "avg", 0
    expected = each_alone(visual, tokens)
    found = encoder.features(images, proxy if form == "proxy" else None)
    torch.testing.assert_close(found.flatten(2).mT, expected, **TIGHT)


@pytest.mark.parametrize("family", families(head_each=True))
@torch.inference_mode()
def test_convolutions_are_the_librarys_head_over_each_place(tmp_path: Path, family: str) -> None:
    encoder = opened(tmp_path, family)
    assert encoder.form == "head_each"
    for grid in [(2, 2), (1, 3)]:
        images = tiny.images(2, *(side * encoder.patch for side in grid))
        visual = by_open_clip(encoder, family, images.shape[-2:])  # type: ignore[arg-type]
        places = visual.trunk.forward_features(pixels_of(encoder, images))
        assert places.shape[-2:] == grid
        found = encoder.features(images)
        for row in range(grid[0]):
            for column in range(grid[1]):
                alone = places[:, :, row : row + 1, column : column + 1]
                expected = F.normalize(visual.head(visual.trunk.forward_head(alone)), dim=-1)
                torch.testing.assert_close(found[:, :, row, column], expected, **TIGHT)


@pytest.mark.parametrize("family", ["gap", "MobileCLIP2-S"])
@torch.inference_mode()
def test_where_the_head_is_linear_the_mean_over_places_is_the_pooled_vector(tmp_path: Path, family: str) -> None:
    encoder = opened(tmp_path, family)
    images = tiny.images(2, 64, 128)
    visual = by_open_clip(encoder, family, (64, 128))
    if family == "gap":
        see_itself_alone(visual.trunk)
    pixels = pixels_of(encoder, images)
    torch.testing.assert_close(encoder.path(pixels).mean(dim=(2, 3)), visual(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", families())
def test_a_tower_opens_with_its_default_form_and_bf16_is_near_fp32(tmp_path: Path, family: str) -> None:
    spec = tiny.clip_spec(tmp_path, vision_of(family), embed_dim=32, custom_text=True)
    whole, half = (open_clip_encoder(spec, "cpu", precision=precision) for precision in ("fp32", "bf16"))
    assert (whole.form, whole.patch) == (FAMILIES[family][3][0], FAMILIES[family][2])
    images = tiny.images(2, 2 * whole.patch, 3 * whole.patch)
    assert torch.equal(whole.features(images), whole.features(images))
    assert 0 < (half.features(images) - whole.features(images)).abs().max() < 0.06


@pytest.mark.parametrize("family", ["SigLIP", "MobileCLIP2-S"])
def test_local_weights_compute_what_was_saved_and_others_are_refused_by_name(tmp_path: Path, family: str) -> None:
    encoder = opened(tmp_path, family)
    state = encoder.network.state_dict()
    spec = EncoderSpec(library="open_clip", config=str(tmp_path / "clip.json"), file=str(tmp_path / "w.safetensors"))
    save_file(state, tmp_path / "w.safetensors")
    images = tiny.images(1, 64, 96)
    assert torch.equal(open_clip_encoder(spec, "cpu").features(images), encoder.features(images))
    lost = next(name for name in state if name.startswith("visual.trunk."))
    save_file({name: tensor for name, tensor in state.items() if name != lost}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=f"1 missing \\({lost}\\)"):
        open_clip_encoder(spec, "cpu")


@pytest.mark.parametrize(
    ("model", "forms", "stride"),
    [
        ("ViT-B-16-SigLIP2", POOLED, 16),
        pytest.param("ViT-SO400M-14-SigLIP", POOLED, 14, marks=WIDE),
        ("PE-Core-L-14-336", POOLED, 14),
        ("EVA02-L-14", ALONE, 14),
        ("MobileCLIP2-B", ALONE, 16),
        ("MobileCLIP2-S4", ("head_each",), 64),
        pytest.param("MobileCLIP-S1", ("head_each",), 32, marks=WIDE),
        ("ViTamin-L-336", ALONE, 16),
        ("convnext_large_d_320", ("head_each",), 32),
        pytest.param("ViT-B-32-SigLIP2-256", POOLED, 32, marks=WIDE),
        ("RN50", RESNET, 32),
    ],
)
def test_forms_and_strides_are_read_off_open_clips_configs(model: str, forms: tuple[str, ...], stride: int) -> None:
    spec = EncoderSpec(library="open_clip", model=model, pretrained="random")
    require_clip(spec)
    assert input_multiple(spec) == stride
    assert form_of(spec) == forms[0]
    for form in FORMS:
        if form in forms:
            assert form_of(spec, form) == form
        else:
            why = ", whose attention it is about: its image tower is convolutional" if form in ALONE[2:] else ""
            with pytest.raises(EncoderError, match=f"{model} has no dense form '{form}'{why}; use {forms[0]}"):
                form_of(spec, form)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("swin_base_patch4_window7_224", "attends in windows"),
        ("vit_relpos_medium_patch16_cls_224", "has a relative position bias"),
        ("coca_base", "attentional pool"),
    ],
)
def test_other_towers_are_refused_with_the_reason(model: str, said: str) -> None:
    with pytest.raises(EncoderError, match=f"{model}.* {said}"):
        require_clip(EncoderSpec(library="open_clip", model=model, pretrained="random"))


def test_own_configs_of_towers_that_are_not_known_are_refused() -> None:
    config = {"embed_dim": 8, "text_cfg": {}, "vision_cfg": {"timm_model_name": "hiera_tiny_224"}}
    with pytest.raises(EncoderError, match="hiera_tiny_224 of timm, of which wilss knows no dense features"):
        check_tower(config, "mine")
    config["vision_cfg"] = {"timm_model_name": "convnext_tiny", "timm_pool": "rot_attn"}
    with pytest.raises(EncoderError, match="pools by rot_attn"):
        check_tower(config, "mine")
    assert (clip_stride(config), forms_of(config)) == (32, ("head_each",))


def test_every_tower_here_is_made_by_timms_own_entry_point() -> None:
    assert {row[0] for row in FAMILIES.values()} == set(tiny_towers.TOWERS)
