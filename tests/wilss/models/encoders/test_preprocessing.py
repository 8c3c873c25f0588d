"""Mean, deviation and activation of a CLIP whose weights are a local file, which says nothing of them itself."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.wilss.models.encoders import tiny
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip.configs import clip_config, open_clip_models
from wilss.models.encoders.clip.encoder import require_clip
from wilss.models.encoders.clip.preprocessing import check_activation, clip_preprocessing, fitting_tags, namesake
from wilss.models.encoders.weights import OPENAI_MEAN, OPENAI_STD

HALF = (0.5, 0.5, 0.5)
OPENAI = (OPENAI_MEAN, OPENAI_STD)
TOLD = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


def spec(**values: Any) -> EncoderSpec:
    return EncoderSpec(library="open_clip", **values)


def found(given: EncoderSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    require_clip(given)
    return clip_preprocessing(given, clip_config(given))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": "ViT-L-14", "pretrained": "laion2b_s32b_b82k", "file": "w.pt"}, (HALF, HALF)),
        ({"model": "ViT-L-14", "pretrained": "laion400m_e32", "file": "w.pt"}, OPENAI),
        ({"model": "ViT-L-14", "pretrained": "laion2b_s32b_b82k"}, (HALF, HALF)),
        ({"model": "ViT-L-14", "pretrained": "laion400m_e32", "args": TOLD}, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
        ({"model": "ViT-B-16", "pretrained": "random:0"}, OPENAI),
        ({"config": "builtin:clip.json", "file": "builtin:clip.safetensors"}, OPENAI),
        ({"config": "builtin:clip.json", "pretrained": "random"}, OPENAI),
    ],
)
def test_they_are_the_tags_unless_the_manifest_tells_them(values: Any, expected: Any) -> None:
    assert found(spec(**values)) == expected


def test_a_json_config_has_its_own(tmp_path: Path) -> None:
    path = str(tiny.clip_config(tmp_path))
    assert found(spec(config=path, file="w.pt")) == ((0.5, 0.4, 0.3), (0.25, 0.5, 0.5))
    assert found(spec(config=path, file="w.pt", args=TOLD))[0] == (0.1, 0.2, 0.3)


def test_a_file_of_a_model_whose_published_weights_agree_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        given = spec(model="ViT-B-16-quickgelu", file="/somewhere/weights.pt")
        assert found(given) == found(given) == OPENAI
    (record,) = caplog.records
    assert "/somewhere/weights.pt: taken to be one of the published weights of ViT-B-16-quickgelu" in record.message


def test_what_open_clip_does_not_say_of_an_activation_is_not_claimed(caplog: pytest.LogCaptureFixture) -> None:
    """One published model computes QuickGELU whose tag says nothing of it; open_clip computes what the config says."""
    with caplog.at_level(logging.WARNING):
        assert found(spec(model="roberta-ViT-B-32", pretrained="laion2b_s12b_b32k")) == OPENAI
    (record,) = caplog.records
    assert record.message.startswith("open_clip does not say with which activation the weights laion2b_s12b")


def test_every_tag_is_under_the_model_of_its_activation_and_nowhere_else() -> None:
    for model in open_clip_models():
        config = clip_config(spec(model=model))["model_cfg"]
        fitting, others = fitting_tags(model, config)
        for tag in fitting:
            check_activation(spec(model=model, pretrained=tag), config)
        for tag in others:
            with pytest.raises(EncoderError, match=f"use model: {namesake(model)}"):
                check_activation(spec(model=model, pretrained=tag), config)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"model": "ViT-L-14", "file": "w.pt"},
            r"w\.pt does not say with which; name its tag as `pretrained:` \(openai",
        ),
        ({"model": "ViT-B-16", "file": "w.pt", "args": TOLD}, "GELU or QuickGELU"),
        (
            {"model": "RN50", "file": "w.pt"},
            "all published weights of RN50 .* QuickGELU.*RN50-quickgelu",
        ),
        ({"model": "ViT-B-16", "file": "w.pt", "pretrained": "openai"}, "use model: ViT-B-16-quickgelu"),
        ({"model": "ViT-B-16", "file": "w.pt", "pretrained": "opnai"}, r"no weights 'opnai' of 'ViT-B-16' \(openai"),
        ({"model": "ViT-S-16", "file": "w.pt"}, r"with which mean and std the weights w\.pt were trained.*0\.48145466"),
        ({"model": "ViT-B-32", "pretrained": "random", "args": {"img_size": 3}}, "mean and std, not img_size"),
        ({"model": "ViT-B-32", "pretrained": "random", "args": {"mean": [0, 0, 0]}}, "three numbers each"),
        ({"model": "ViT-B-32", "pretrained": "random", "args": TOLD | {"std": [1, 0, 1]}}, "std above 0"),
        ({"model": "ViT-B-32", "pretrained": "random", "args": TOLD | {"std": "111"}}, "three numbers each"),
    ],
)
def test_otherwise_the_file_is_refused(values: Any, said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        found(spec(**values))


def test_an_own_json_without_them_is_refused_with_what_to_write(tmp_path: Path) -> None:
    path = tiny.clip_config(tmp_path)
    path.write_text(path.read_text().replace("preprocess_cfg", "other"))
    with pytest.raises(EncoderError, match="a config that has preprocess_cfg, or write them: `args: {mean: "):
        found(spec(config=str(path), file="w.pt"))
