"""What is noted of an encoder, and how that is held against what was noted before."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.built_in import ROOT
from tests.wilss.models.encoders.tiny import clip_spec, vit_spec
from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json
from wilss.models.encoders.clip import text
from wilss.models.encoders.clip.configs import clip_config
from wilss.models.encoders.former import as_noted_now, former_numbers
from wilss.models.encoders.identity import digest_of_encoder, digests_of_encoder, identity_of, way_to_former
from wilss.models.encoders.weights import OPENAI_MEAN, OPENAI_STD, digest_of

IMAGENET = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]
HALVES = [0.5, 0.5, 0.5]


def timm(model: str, **more: Any) -> EncoderSpec:
    return EncoderSpec(library="timm", model=model, **{"pretrained": "random:1", **more})


def noted_before(spec: EncoderSpec) -> dict[str, Any]:
    """What wilss 0.2.0 wrote into a store."""
    return {
        "library": spec.library,
        "model": spec.model,
        "pretrained": spec.pretrained,
        "revision": spec.revision,
        "args": dict(spec.args),
        "pos_interp": spec.pos_interp,
        "sha256": digest_of(spec),
        "config": None,
    }


def changed(spec: EncoderSpec, before: EncoderSpec | None = None) -> set[str]:
    """The numbers that are others than in a store of before. before: as it was named then."""
    then, now = as_noted_now(noted_before(before or spec), spec), identity_of(spec)
    return {key for key in ("args", "positions", "mean", "std") if then[key] != now[key]}


def test_an_identity_says_what_is_used_and_not_what_was_written() -> None:
    noted = identity_of(timm("vit_small_patch16_224.dino"))
    assert (noted["family"], noted["positions"], [noted["mean"], noted["std"]]) == ("DINO", "dino", IMAGENET)
    told = identity_of(timm("vit_small_patch16_224.dino", pos_interp="size", args={"mean": HALVES, "std": HALVES}))
    assert (told["positions"], told["mean"], told["args"]) == ("size", HALVES, {})


@pytest.mark.parametrize(
    ("model", "others"),
    [
        ("vit_small_patch16_224.dino", set()),
        ("vit_small_patch14_reg4_dinov2", set()),
        ("vit_small_patch14_dinov2", {"positions"}),
        ("vit_base_patch16_224.mae", {"positions"}),
        ("vit_base_patch16_siglip_224", {"positions"}),
    ],
)
def test_of_a_store_of_before_only_what_changed_differs(model: str, others: set[str]) -> None:
    assert changed(timm(model)) == others


def test_the_way_of_before_can_be_written_and_goes_on_with_its_store() -> None:
    spec = timm("vit_base_patch16_224.mae")
    assert changed(spec.model_copy(update={"pos_interp": "dino"}), before=spec) == set()
    assert changed(spec, before=spec.model_copy(update={"pos_interp": "timm"})) == set()
    told = timm("vit_small_patch16_224.dino", args={"mean": HALVES, "std": HALVES})
    assert changed(told) == set()


def test_an_own_network_and_a_clip_are_what_they_were(tmp_path: Path) -> None:
    assert changed(vit_spec()) == set()
    assert changed(clip_spec(tmp_path)) == set()


def test_openai_s_mean_that_a_clip_s_file_was_given_in_silence_may_be_told(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    silent = EncoderSpec(library="open_clip", model="ViT-S-16", file=str(tmp_path / "w.pt"))
    openai = {"mean": list(OPENAI_MEAN), "std": list(OPENAI_STD)}
    assert changed(silent.model_copy(update={"args": openai}), before=silent) == set()
    halves = {"mean": HALVES, "std": HALVES}
    assert changed(silent.model_copy(update={"args": halves}), before=silent) == {"mean", "std"}


def test_the_order_of_args_is_noted_nowhere() -> None:
    args = {"depth": 3, "global_pool": "avg", "block_args": {"b": [{"d": 1, "c": 2}], "a": 1}}
    turned = {"block_args": {"a": 1, "b": [{"c": 2, "d": 1}]}, "global_pool": "avg", "depth": 3}
    spec = timm("vit_small_patch16_224.dino", args=args)
    other = spec.model_copy(update={"args": turned})
    assert json.dumps(identity_of(spec)) == json.dumps(identity_of(other))
    assert identity_of(spec)["args"] == args
    assert digests_of_encoder(spec) == digests_of_encoder(other)


def test_a_note_of_today_is_taken_as_it_is() -> None:
    noted = identity_of(timm("vit_base_patch16_224.mae"))
    assert as_noted_now(noted, timm("vit_small_patch16_224.dino")) == noted


def test_a_network_that_computes_what_it_did_is_known_by_its_digest_of_before() -> None:
    spec = vit_spec()
    assert digest_of_json(noted_before(spec)) in digests_of_encoder(spec)
    assert digest_of_json(noted_before(vit_spec("dino"))) in digests_of_encoder(spec)
    assert digest_of_json(noted_before(spec)) in digests_of_encoder(vit_spec("dino"))
    assert digest_of_json(noted_before(spec)) not in digests_of_encoder(vit_spec("timm"))
    assert digests_of_encoder(spec)[0] == digest_of_encoder(spec) == digest_of_encoder(vit_spec("dino"))


def file_of(folder: Path) -> str:
    (folder / "w.pth").write_bytes(b"weights")
    return str(folder / "w.pth")


def test_a_digest_holds_no_name_that_decides_nothing(tmp_path: Path) -> None:
    told = {"args": {"mean": IMAGENET[0], "std": IMAGENET[1]}, "pos_interp": "dino"}
    small, file = "vit_small_patch16_224", file_of(tmp_path)
    same = [
        EncoderSpec(library="timm", file=file, **more)
        for more in (
            {"model": f"{small}.dino"},
            {"model": small, "pretrained": "dino"},
            {"model": small, "pretrained": f"{small}.dino"},
            {"model": small, **told},
        )
    ]
    assert len({digest_of_encoder(spec) for spec in same}) == 1
    for more in ({"pos_interp": "timm"}, {"args": {"depth": 3}}, {"model": "vit_tiny_patch16_224.augreg_in21k"}):
        assert digest_of_encoder(same[0].model_copy(update=more)) != digest_of_encoder(same[0])
    other = same[0].model_copy(update={"file": "builtin:vit.safetensors"})
    assert digest_of_encoder(same[0]) != digest_of_encoder(other)


def test_what_was_written_before_is_known_in_all_ways_to_write_it_now(tmp_path: Path) -> None:
    told = {"args": {"mean": IMAGENET[0], "std": IMAGENET[1]}, "pos_interp": "dino"}
    small, file = "vit_small_patch16_224", file_of(tmp_path)
    ways: list[dict[str, Any]] = [
        {"model": f"{small}.dino"},
        {"model": small, "pretrained": "dino"},
        {"model": small, **told},
    ]
    written: tuple[dict[str, Any], ...] = ({"model": small}, {"model": f"{small}.dino"})
    for before in written:
        digest = digest_of_json(noted_before(EncoderSpec(library="timm", file=file, **before)))
        known = [digest in digests_of_encoder(EncoderSpec(library="timm", file=file, **way)) for way in ways]
        assert known == [True, True, before["model"] == small]  # who names no tag does not say which one it was


def test_another_digest_where_the_numbers_are_others_and_the_way_back() -> None:
    spec = timm("vit_base_patch16_224.mae")
    before = digest_of_json(noted_before(spec))
    assert before not in digests_of_encoder(spec)
    assert way_to_former(spec, before) == "`pos_interp: dino` in `encoders.vit` makes it the same again"
    assert before in digests_of_encoder(spec.model_copy(update={"pos_interp": "dino"}))
    assert way_to_former(spec, "0" * 64) == ""


def test_mean_and_deviation_of_before_are_one_phrase(tmp_path: Path) -> None:
    spec = timm("vit_base_patch16_siglip_224", pretrained="webli", file=file_of(tmp_path), pos_interp="dino")
    before = digest_of_json(noted_before(spec.model_copy(update={"pretrained": None})))
    assert way_to_former(spec, before) == (
        f"`args: {{mean: {IMAGENET[0]}, std: {IMAGENET[1]}}}`, added to args that are there, in `encoders.vit` makes "
        "it the same again"
    )


GAP = {"embed_dim": 64, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("model", "norm"),
    [
        ("vit_small_patch16_224.dino", "applied"),
        ("vit_medium_patch16_gap_256", "applied"),  # averages tokens that are normed
        ("beit3_base_patch16_224", "left out"),
        ("naflexvit_base_patch16_gap", "left out"),
        ("vit_base_patch16_siglip_224.webli", "applied"),  # pools by attention, after its norm
        ("vit_base_patch16_radio_v3", "applied"),  # has none
    ],
)
def test_tokens_note_the_final_norm_which_was_left_out_where_it_came_after_pooling(model: str, norm: str) -> None:
    spec = timm(model, args=GAP)
    assert "final_norm" not in identity_of(spec)
    assert identity_of(spec, tokens=True)["final_norm"] == "applied"
    assert as_noted_now(noted_before(spec), spec, tokens=True)["final_norm"] == norm
    assert "final_norm" not in as_noted_now(noted_before(spec), spec)
    assert as_noted_now(identity_of(spec), spec, tokens=True)["final_norm"] == "applied"


def test_a_digest_of_before_without_the_final_norm_is_good_for_keys_alone() -> None:
    spec = timm("beit3_base_patch16_224", args=GAP, pos_interp="dino")
    before = digest_of_json(noted_before(spec))
    assert before in digests_of_encoder(spec)
    assert before not in digests_of_encoder(spec, tokens=True)
    assert way_to_former(spec, before, tokens=True).startswith("tokens of this network were not under its final norm")
    plain = timm("vit_small_patch16_224.dino", args=GAP)
    assert digest_of_json(noted_before(plain)) in digests_of_encoder(plain, tokens=True)
    assert digest_of_encoder(plain, tokens=True) != digest_of_encoder(plain)


def test_what_open_clip_s_own_config_says_belongs_to_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a model says nothing of it: open_clip's json has changed between versions."""
    spec = EncoderSpec(library="open_clip", model="RN50", pretrained="random:1")
    first, file = identity_of(spec), tmp_path / "model_configs" / "RN50.json"
    file.parent.mkdir()
    content = clip_config(spec)["model_cfg"]
    cases: tuple[tuple[dict[str, Any], set[str]], ...] = (({}, set()), ({"act_kwargs": {}}, {"model_cfg"}))
    monkeypatch.setattr("wilss.models.encoders.clip.configs._open_clip_folder", lambda: tmp_path)
    for more, others in cases:
        file.write_text(json.dumps(content | {"text_cfg": content["text_cfg"] | more}))
        assert {key for key, value in identity_of(spec).items() if value != first[key]} == others


def test_a_store_that_does_not_note_what_a_config_says_goes_on_and_one_that_does_is_held_to_it(tmp_path: Path) -> None:
    spec = clip_spec(tmp_path)
    now = identity_of(spec)
    unnoted = {key: value for key, value in now.items() if key != "model_cfg"}
    assert as_noted_now(unnoted, spec) == now
    assert as_noted_now(noted_before(spec), spec)["model_cfg"] == now["model_cfg"]
    assert as_noted_now(now | {"model_cfg": "other"}, spec)["model_cfg"] == "other"
    assert "model_cfg" not in identity_of(vit_spec()) | as_noted_now(noted_before(vit_spec()), vit_spec())


def test_text_is_kept_by_the_config_and_the_libraries_that_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"open_clip_torch": "3.3", "transformers": "5"}
    monkeypatch.setattr(text, "version_of", lambda name: versions[name])

    def key(**noted: str) -> str:
        spec = clip_spec(tmp_path)
        clip: Any = SimpleNamespace(
            identity=identity_of(spec) | noted, precision="fp32", device=SimpleNamespace(type="cpu")
        )
        return text._key(clip, ("disk",), ("{}",))

    first, of_transformers = key(), key(tokenizer="a")
    assert key(mean="other", family="other") == first
    assert key(model_cfg="other") != first
    versions["transformers"] = "6"
    assert (key(), key(tokenizer="a")) != (first, of_transformers)
    assert key() == first
    versions["open_clip_torch"] = "4"
    assert key() != first


def test_of_local_and_random_weights_it_needs_no_torch() -> None:
    """A second run, which finds its store complete, should not wait for it."""
    code = (
        "import sys, wilss\n"
        "from wilss_masks import FmwissSource\n"
        "FmwissSource.from_manifest(wilss.load_manifest('data_manifest.yaml'), 1).identity()\n"
        "from wilss.data.manifest import EncoderSpec\n"
        "from wilss.models.encoders.identity import identity_of\n"
        "identity_of(EncoderSpec(library='open_clip', config='builtin:clip.json', pretrained='random:0'))\n"
        "assert not {'torch', 'timm', 'open_clip'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_clip_had_the_mean_of_its_tag_and_a_file_had_openai_s() -> None:
    spec = EncoderSpec(library="open_clip", model="ViT-B-16-SigLIP", pretrained="webli")
    assert former_numbers(spec)["mean"] == HALVES
    file = spec.model_copy(update={"file": "/a/file"})
    assert former_numbers(file)["mean"] == list(OPENAI_MEAN)
