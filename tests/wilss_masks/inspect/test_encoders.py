"""Weights that cannot be right show in what they make of a drawing; what is taken is listed with what it lacks."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from tests.wilss.models.encoders.clip.test_timm_towers import vision_of
from tests.wilss.models.encoders.tiny import DINO, RESNET, clip_spec, vit_spec
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.clip.encoder import open_clip_encoder
from wilss.models.encoders.known import Job, families, known_models, library_of
from wilss.models.encoders.vit.encoder import LastBlock, open_vit
from wilss_masks.commands.encoders import command
from wilss_masks.inspect.encoders import attention_spread, look_at, look_at_clip, look_at_vit, variety_of
from wilss_masks.inspect.untrained import is_initial, norms_are_initial


def block_of(queries: torch.Tensor, keys: torch.Tensor) -> LastBlock:
    """A block of one head without prefix on a grid of 4 x 4. queries, keys: [16, d]."""
    return LastBlock(queries=queries[None, None], keys=keys[None, None], prefix=0, grid=(4, 4))


def test_attention_is_flat_the_same_for_all_or_neither() -> None:
    each = 20 * torch.eye(16)
    assert attention_spread(block_of(each, torch.zeros(16, 16))) == pytest.approx((0, 0), abs=1e-6)
    assert attention_spread(block_of(each[:1].expand(16, 16), each)) == pytest.approx((15 / 16, 0), abs=1e-3)
    assert attention_spread(block_of(each, each)) == pytest.approx((15 / 16, 15 / 16), abs=1e-3)


def test_variety_is_none_of_equal_vectors_and_nearly_one_of_orthogonal_ones() -> None:
    assert variety_of(torch.ones(1, 3, 4, 4)) == pytest.approx(0, abs=1e-6)
    assert variety_of(torch.eye(16).reshape(1, 16, 4, 4)) == pytest.approx(15 / 16)


def test_a_file_of_untrained_weights_is_doubted_and_a_network_asked_for_as_random_is_not(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    save_file(open_vit(vit_spec(), "cpu").network.state_dict(), file)
    look = look_at(EncoderSpec(library="timm", args=DINO, file=str(file)), "where")
    assert look.doubts[0].startswith("its attention is flat (")
    assert (look.facts["weights"], look.facts["patch"]) == (str(file), 8)
    assert look_at(vit_spec(), "where").doubts == ()


def test_features_that_say_nothing_are_doubted(tmp_path: Path) -> None:
    vit, clip = open_vit(vit_spec(), "cpu"), open_clip_encoder(clip_spec(tmp_path), "cpu")
    network: Any = vit.network
    both: Any = clip.network
    with torch.no_grad():
        network.norm.weight.zero_()
        network.norm.bias.fill_(1)
        both.visual.proj.fill_(torch.inf)
    assert look_at_vit(vit).doubts[0] == "its patch features are the same everywhere; are these its weights?"
    assert look_at_clip(clip).doubts[0].startswith("it gives values that are not finite")


def _saved(network: torch.nn.Module, file: Path) -> str:
    save_file({name: value.clone() for name, value in network.state_dict().items()}, file)
    return str(file)


def _trained(network: Any, *towers: str) -> None:
    """Moves what the first step of training moves, of a tiny CLIP's towers."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            is_of = "visual" if name.startswith("visual.") else "text"
            if is_of in towers and (".ln_" in name or name.startswith("ln_")):
                value.add_(0.01)


@pytest.mark.parametrize("vision", [None, RESNET, "SigLIP", "EVA02-CLIP", "ConvNeXt"])
def test_a_clip_that_was_never_trained_is_doubted_by_each_tower_and_its_scale(tmp_path: Path, vision: Any) -> None:
    spec = clip_spec(tmp_path, vision_of(vision) if isinstance(vision, str) else vision)
    file = _saved(open_clip_encoder(spec, "cpu").network, tmp_path / "clip.safetensors")
    look = look_at(spec.model_copy(update={"pretrained": None, "file": file}), "what")
    assert [doubt.partition(",")[0] for doubt in look.doubts[-3:]] == [
        "all norms of its image tower are 1 and 0",
        "all norms of its text tower are 1 and 0",
        "its logit scale is 14.2857",
    ]
    assert look_at(spec, "what").doubts == ()


def test_one_tower_that_was_never_trained_is_told(tmp_path: Path) -> None:
    clip = open_clip_encoder(clip_spec(tmp_path), "cpu")
    network: Any = clip.network
    _trained(network, "text")
    assert [doubt[:30] for doubt in look_at_clip(replace(clip, logit_scale=100.0)).doubts] == [
        "all norms of its image tower a"
    ]
    _trained(network, "visual")
    look = look_at_clip(replace(clip, logit_scale=100.0))
    assert look.doubts == ()
    assert look.warnings[0].startswith("its attention is flat (")
    assert look_at_clip(replace(clip, logit_scale=10.0)).doubts[0].startswith("its logit scale is 10.0000")


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("begin", [1 / 0.07, 10])
def test_where_a_logit_scale_begins_is_known_in_any_type(kind: torch.dtype, begin: float) -> None:
    stored = torch.tensor(math.log(begin)).to(kind).float()
    assert is_initial(float(stored.exp()))
    assert not is_initial(float((stored + 0.02).exp()))


def test_norms_of_every_kind_are_looked_at() -> None:
    batch, plain, rms = torch.nn.BatchNorm2d(4), torch.nn.LayerNorm(4), torch.nn.RMSNorm(4)
    torch.nn.init.zeros_(batch.weight)  # as the last norm of a residual branch begins
    assert norms_are_initial(torch.nn.Sequential(batch, plain, rms))
    assert not norms_are_initial(torch.nn.Linear(2, 2))
    torch.nn.init.constant_(plain.bias, 1e-3)
    assert not norms_are_initial(torch.nn.Sequential(batch, plain, rms))


def test_what_it_says_of_a_clip(tmp_path: Path) -> None:
    look = look_at(clip_spec(tmp_path), "what")
    assert (look.job, look.facts["form"], look.facts["mean"]) == ("what", "maskclip", [0.5, 0.4, 0.3])
    assert look.facts["features"].startswith("24 a patch, variety 0.")
    assert look.facts["positions"] == "table, resampled as timm does"
    tower = look_at(clip_spec(tmp_path, vision_of("ConvNeXt")), "what")
    assert tower.facts["positions"] == "none are used, of convolutions"


def test_check_of_the_manifest_s_own_says_all_is_right() -> None:
    result = CliRunner().invoke(command, ["check", "--json"], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert [facts["job"] for facts in told.values()] == ["what", "where"]
    assert result.exit_code == 0
    assert not any(facts["doubts"] for facts in told.values())


def test_check_of_a_file_that_is_not_right_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    spec = EncoderSpec(library="timm", model="test_vit", pretrained="random:1")
    save_file(open_vit(spec, "cpu").network.state_dict(), file)
    result = CliRunner().invoke(command, ["check", "test_vit", "--file", str(file), "--pretrained", "r160_in1k"])
    assert result.exit_code == 1
    assert "Error: test_vit: its attention is flat" in result.stderr
    assert "parameters" in result.stdout


def test_an_option_of_a_model_beside_a_name_of_the_manifest_is_refused() -> None:
    result = CliRunner().invoke(command, ["check", "vit", "--file", "w.pt"])
    assert (result.exit_code, "--file is for a model by its NAME" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["vit_small_patch16_224", "--library", "timm"],
        ["vit_large_patch16_dinov3", "--library", "timm"],
        ["ViT-B-32", "--library", "open_clip"],
        ["test_vit", "--pretrained", "r160_in1k"],
    ],
    ids=["positions", "statistics", "activation", "all is said"],
)
def test_of_a_missing_file_nobody_is_asked_what_it_is_a_copy_of(tmp_path: Path, words: list[str]) -> None:
    result = CliRunner().invoke(command, ["check", *words, "--file", str(tmp_path / "missing.safetensors")])
    assert isinstance(result.exception, WeightsError)
    assert str(result.exception) == (
        f"{tmp_path / 'missing.safetensors'} does not exist or may not be read; check `file:` and `config:` of the "
        "encoder in the manifest."
    )


def test_the_library_is_known_by_the_name() -> None:
    assert library_of("ViT-B-16-SigLIP2") == "open_clip"
    assert library_of("vit_small_patch16_224.dino") == "timm"
    assert library_of("convnext_base") == "open_clip"
    assert library_of("convnext_base.fb_in1k") == "timm"
    with pytest.raises(EncoderError, match="both open_clip and timm have a model vit_medium_patch16_gap_256"):
        library_of("vit_medium_patch16_gap_256")
    with pytest.raises(
        EncoderError, match="neither open_clip nor timm has a model 'ViT-B-33'; did you mean 'ViT-B-32'"
    ):
        library_of("ViT-B-33")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (["list", "dinov33"], "in its name or tags."),
        (["list", "ViT-B-16-SigLP2"], "in its name or tags; did you mean 'ViT-B-16-SigLIP2'."),
        (["check", "ViT-B-16-SigLP2", "--library", "open_clip"], "no model 'ViT-B-16-SigLP2'; did you mean 'ViT-B-16-"),
        (["check", "ViT-B-16", "--library", "timm"], "timm has no model 'ViT-B-16'; it is one of open_clip's."),
        (["check", "vit_small_patch16_dinov3", "--library", "open_clip"], "; it is one of timm's, which has no text"),
        (["check", "zzz", "--library", "timm"], "timm has no model 'zzz'."),
    ],
)
def test_a_misspelt_name_is_met_with_the_closest_and_that_of_another_library_is_told(ask: list[str], said: str) -> None:
    result = CliRunner().invoke(command, ask)
    assert said in (result.stderr + str(result.exception))


def test_what_is_taken_is_listed_first_and_no_weights_are_made_up() -> None:
    models, _ = known_models("dinov3", ["where"], most=30)
    refused = [bool(model.refusal) for model in models]
    assert refused == sorted(refused)
    assert len(set(refused)) == 2
    (unpublished,), _ = known_models("vit_base_patch16_gap_224", ["where"], most=1)
    assert unpublished.missing == ("weights: none are published by the library; name yours with `file:`",)


def test_families_are_listed_by_job() -> None:
    where = {family.name: family for family in families("where")}
    assert where["DINOv3"].licence == "DINOv3 License"
    assert where["DINO"].such_as.endswith(".dino")
    what = {family.name: family for family in families("what")}
    assert {"CLIP, OpenCLIP", "MetaCLIP", "SigLIP 2"} <= set(what)
    assert what["CLIP, ResNet"].such_as == "RN101-quickgelu, openai"
    assert what["DFN"].such_as == "ViT-B-16-quickgelu, dfn2b"
    assert (what["SigLIP 2"].form, what["SigLIP 2"].text) == ("pool_each", "transformers")
    assert (what["TIPSv2"].form, what["TIPSv2"].text) == ("maskclip", "files beside it")
    assert where["DINOv3"].prefix == "class, 4 registers"
    assert list(where) == sorted(where, key=str.lower)
    assert {what[name].licence for name in ("NLLB-CLIP on SigLIP", "MetaCLIP 2")} == {"CC-BY-NC-4.0"}


@pytest.mark.parametrize(
    ("word", "job", "told"),
    [
        ("ViT-H-14", "what", {
            ("CLIP, OpenCLIP", ""): ("laion2b_s32b_b79k",), ("MetaCLIP", "CC-BY-NC-4.0"): ("metaclip_altogether",)}),
        ("vit_large_patch16_224", "where", {
            ("AugReg", "Apache-2.0"): ("augreg_in21k", "augreg_in21k_ft_in1k"), ("MAE", "CC-BY-NC-4.0"): ("mae",),
            ("other ViTs of timm", "Apache-2.0"): ("orig_in21k",)}),
        ("ViT-B-16-quickgelu", "what", {
            ("CLIP, OpenCLIP", "Apache-2.0"): ("openai",), ("DFN", "Apple ASCL"): ("dfn2b",),
            ("MetaCLIP", "CC-BY-NC-4.0"): ("metaclip_400m", "metaclip_fullcc")}),
    ],
)  # fmt: skip
def test_licences_are_told_by_the_weights(word: str, job: Job, told: dict[tuple[str, str], tuple[str, ...]]) -> None:
    (model, *_), _ = known_models(word, [job], most=1)
    assert {(each.family, each.licence): each.tags for each in model.weights} == told
    (line, *lines) = CliRunner().invoke(command, ["list", word, "--for", job]).stdout.splitlines()
    assert ": by its weights" in line
    assert all(any(licence in each and tags[-1] in each for each in lines) for (_, licence), tags in told.items())


def test_models_are_taken_or_refused_with_the_reason_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.models.encoders.known.cached_file", lambda *_: None)
    monkeypatch.setattr("wilss.models.encoders.clip.tokenizer_files.cached_folder", lambda *_: None)
    (model,), more = known_models("vit_small_patch16_dinov3.", ["where"], most=1)
    assert (model.name, model.family, model.refusal, more) == ("vit_small_patch16_dinov3", "DINOv3", "", 0)
    assert model.missing == ("weights: not in the cache; of the hub lvd1689m, or `file:` beside `pretrained: TAG`",)
    (clip,), _ = known_models("ViT-B-16-SigLIP2-512", ["what"], most=5)
    assert clip.form == "pool_each"
    assert clip.missing[0].startswith("tokenizer: timm/ViT-B-16-SigLIP2-512 of the hub is not in the cache")
    (rn50, quick), _ = known_models("RN50", ["what"], most=2)
    assert (rn50.name, rn50.tags, quick.tags) == ("RN50", (), ("openai", "yfcc15m", "cc12m"))
    assert rn50.missing == ("weights trained with the other activation, under RN50-quickgelu: openai, yfcc15m, cc12m",)
    (vit, *_), _ = known_models("ViT-B-16", ["what"], most=1)
    assert "laion400m_e32" in vit.tags
    assert "openai" not in vit.tags
    (tips, vision), _ = known_models("vit_base_patch14_reg1_tipsv2", ["what", "where"], most=5)
    assert (tips.job, tips.form, tips.family, vision.job) == ("what", "maskclip", "TIPSv2", "where")
    assert tips.missing[0].startswith("text tower and tokenizer: local files; write `text:`")
    (coca,), _ = known_models("coca_ViT-B-32", ["what"], most=5)
    assert "CoCa" in coca.refusal
    monkeypatch.setattr("wilss.models.encoders.known.cached_file", lambda *_: Path("w"))
    (here, *_), _ = known_models("vit_small_patch16_dinov3", ["where"], most=1)
    assert here.missing == ("weights in the cache: lvd1689m; of the hub: lvd1689m",)
