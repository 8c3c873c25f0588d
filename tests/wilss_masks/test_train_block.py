"""The `train` section that `manifest init` writes: read by who checks a manifest and by the trainer, in every form."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss.errors import ParameterError
from wilss.models.networks.pretrained import input_statistics
from wilss.params import with_values
from wilss_masks.manifest_tools import init
from wilss_masks.manifest_tools import train_block as module
from wilss_masks.manifest_tools.init import init_manifest
from wilss_masks.manifest_tools.train_block import train_block
from wilss_masks.sources import FmwissSource
from wilss_train.methods import METHODS
from wilss_train.params import TrainParams, from_manifest
from wilss_train.run.processes import require_even_share


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no GPU."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(module, "count_cuda", lambda: 0)
    return tmp_path / "hub"


def parameters(path: Path, text: str) -> Iterator[TrainParams]:
    """What the trainer reads out of a manifest for its two steps; every name is one of its own."""
    path.write_text(text, encoding="utf-8")
    for step in (0, 1):
        params, others = from_manifest(load_manifest(path).train, step=step, where="train")
        assert set(others) <= set(METHODS)
        for name, values in others.items():
            with_values(METHODS[name](), values, where="train")
        yield params


def forms(text: str) -> Iterator[str]:
    """As it is; all commented out; the lines below `train:`; each commented line of a value in its own's place."""
    head, block = text.split("\ntrain:\n")
    yield text
    yield head + "\n" + re.sub("^", "# ", f"train:\n{block}", flags=re.MULTILINE)
    yield f"{head}\ntrain:\n" + re.sub("^", "# ", block, flags=re.MULTILINE)
    for line, name in re.findall(r"(  # (\w+): .*)\n", block):
        without = re.sub(rf"  {name}: .*\n", "", block)
        yield f"{head}\ntrain:\n" + without.replace(line, f"  {line[4:]}")


@pytest.mark.parametrize(
    ("device", "gpus"), [("cpu", 0), ("cpu", 2), ("auto", 0), ("cuda", 0), ("auto", 1), ("auto", 5)]
)
def test_every_form_of_the_section_is_read(
    device: str, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "count_cuda", lambda: gpus)
    disk.voc(tmp_path / "data", {"a": [1], "b": [2, 3]})
    path = tmp_path / "data_manifest.yaml"
    text = init_manifest("voc", tmp_path / "data", path, device=device)
    small = device == "cpu" or (device == "auto" and not gpus)
    for number, form in enumerate(forms(text)):
        for params in parameters(path, form):
            commented = number in (1, 2)
            assert (params.backbone == "tf_efficientnet_lite0") == (small and not commented)
            assert bool(params.backbone_weights) is not commented
            require_even_share(params, 1 if commented else max(1, gpus))


def test_a_cpu_gets_a_small_network_and_a_gpu_the_published_one() -> None:
    assert "backbone: tf_efficientnet_lite0" in train_block("auto")
    assert "crop: 224" in train_block("cpu")
    assert "backbone_weights: timm:tv_in1k" in train_block("cuda")
    steps = [from_manifest(yaml.safe_load(train_block("cuda"))["train"], step=step, where="m")[0] for step in (0, 1)]
    assert [(each.epochs, each.lr, each.head_lr, each.nesterov) for each in steps] == [
        (30, 0.01, 1.0, True), (40, 0.001, 10.0, True)
    ]  # fmt: skip
    assert input_statistics("resnet101", "timm:tv_in1k").source == "timm's of resnet101.tv_in1k"
    with pytest.raises(ParameterError, match="--device gpu is no device; use auto, cpu or cuda"):
        train_block("gpu")


def test_several_gpus_share_a_batch_and_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "count_cuda", lambda: 5)
    block = train_block()
    assert "accelerate launch --num_processes 5 -m wilss_train" in block
    assert "batch_size: 25 " in block
    assert "batch_norm: synchronised" in block


def test_weights_in_the_cache_are_named_with_revision_and_digest(cache: Path) -> None:
    snapshot = cache / "models--timm--tf_efficientnet_lite0.in1k/snapshots/0123abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0123abc")
    block = train_block("cpu")
    assert "  backbone_weights: timm:in1k@0123abc\n" in block
    assert f"  backbone_sha256: {hashlib.sha256(b'weights').hexdigest()}\n" in block


def test_weights_of_an_installed_package_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / module._PACKAGE.removeprefix("package:")
    file.parent.mkdir(parents=True)
    (file.parents[1] / "__init__.py").touch()
    file.write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    block = train_block("cpu")
    assert f"\n  backbone_weights: {module._PACKAGE}\n" in block
    assert f"\n  backbone_sha256: {hashlib.sha256(b'weights').hexdigest()}\n" in block


@pytest.mark.parametrize(
    ("device", "able", "expected"), [("auto", True, "bf16"), ("cpu", False, "auto"), ("cuda", True, "auto")]
)
def test_masks_are_made_in_bf16_where_only_a_processor_that_is_fast_in_it_is_at_hand(
    device: str, able: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "has_bf16", lambda device: able)
    disk.voc(tmp_path / "data", {"a": [1], "b": [2, 3]})
    path = tmp_path / "data_manifest.yaml"
    path.write_text(init_manifest("voc", tmp_path / "data", path, device=device), encoding="utf-8")
    assert FmwissSource.from_manifest(load_manifest(path), 1).params.precision == expected
    assert ("this processor computes faster in bf16" in path.read_text(encoding="utf-8")) == (expected == "bf16")
