"""Weights that cannot be right show in what they make of a drawing; what is taken is listed with what it lacks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from tests.wilss.models.encoders.tiny import DINO, clip_spec, vit_spec
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip import open_clip_encoder
from wilss.models.encoders.dino import LastBlock, open_vit
from wilss.models.encoders.known import families, known_models, library_of
from wilss_masks.commands.encoders import command
from wilss_masks.inspect.encoders import attention_spread, look_at, look_at_clip, look_at_vit, variety_of


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


def test_what_it_says_of_a_clip(tmp_path: Path) -> None:
    look = look_at(clip_spec(tmp_path), "what")
    assert (look.job, look.facts["form"], look.facts["mean"]) == ("what", "maskclip", [0.5, 0.4, 0.3])
    assert look.facts["features"].startswith("24 a patch, variety 0.")


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


def test_the_library_is_known_by_the_name() -> None:
    assert library_of("ViT-B-16-SigLIP2") == "open_clip"
    assert library_of("vit_small_patch16_224.dino") == "timm"
    with pytest.raises(EncoderError, match="both open_clip and timm have a model convnext_base"):
        library_of("convnext_base")
    with pytest.raises(
        EncoderError, match="neither open_clip nor timm has a model 'ViT-B-33'; did you mean 'ViT-B-32'"
    ):
        library_of("ViT-B-33")


def test_families_are_listed_by_job() -> None:
    where = {family.name: family for family in families("where")}
    assert where["DINOv3"].licence == "DINOv3 License"
    assert where["DINO"].such_as.endswith(".dino")
    what = {family.name: family for family in families("what")}
    assert {"CLIP, OpenCLIP", "MetaCLIP", "SigLIP 2"} <= set(what)
    assert what["CLIP, ResNet"].such_as == "RN101-quickgelu"
    assert {what[name].licence for name in ("NLLB-CLIP on SigLIP", "MetaCLIP 2")} == {"CC-BY-NC-4.0"}


def test_models_are_taken_or_refused_with_the_reason_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.models.encoders.known.cached_file", lambda *_: None)
    monkeypatch.setattr("wilss.models.encoders.tokenizer_files.cached_folder", lambda *_: None)
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
