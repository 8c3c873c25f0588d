"""What `generate` says of the precision that a processor is slow or fast in."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wilss_masks.commands.making.precision import faster_precision, slow_precision
from wilss_masks.make.cluster import ClusterOptions
from wilss_masks.make.options import Options

ABLE, UNABLE = {"amx_bf16": True}, {"avx2": True, "amx_bf16": False}


def note(source: Any, options: Options) -> str:
    """Before the masks are made, and after."""
    return slow_precision(source, options) + faster_precision(source, options)


def source(precision: str) -> Any:
    return SimpleNamespace(params=SimpleNamespace(precision=precision))


@pytest.mark.parametrize(
    ("precision", "instructions", "begins"),
    [("auto", ABLE, "This processor computes faster in bf16"), ("auto", UNABLE, ""), ("bf16", ABLE, ""),
     ("bf16", UNABLE, "SLOW: this processor has no instructions for precision=bf16"), ("fp32", ABLE, "")],
)  # fmt: skip
def test_the_slower_precision_is_told(
    precision: str, instructions: dict[str, bool], begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    told = note(source(precision), Options(device="cpu"))
    assert told.startswith(begins)
    assert bool(told) == bool(begins)


@pytest.mark.parametrize("elsewhere", [ClusterOptions(devices=(0,)), ClusterOptions(scheduler="tcp://127.0.0.1:8786")])
def test_nothing_is_said_of_processors_that_do_not_compute(
    elsewhere: ClusterOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ABLE)
    assert not note(source("auto"), Options(cluster=elsewhere))


def test_sources_without_networks_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ABLE)
    assert not note(SimpleNamespace(), Options(device="cpu"))


@pytest.mark.parametrize(("capability", "is_fast"), [("AVX2", False), ("AVX512", True)])
def test_a_torch_that_does_not_tell_is_asked_for_avx_512(
    capability: str, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert bool(note(source("auto"), Options(device="cpu"))) == is_fast
    assert bool(note(source("bf16"), Options(device="cpu"))) != is_fast


def test_without_onednn_there_is_no_fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: ABLE)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not note(source("auto"), Options(device="cpu"))


def test_a_source_without_networks_waits_for_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.models.devices.count_cuda", lambda: pytest.fail("torch was asked"))
    assert not note(SimpleNamespace(), Options(device="auto"))
