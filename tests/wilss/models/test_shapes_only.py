"""Networks without values are those that torch's meta device makes, in all but the time that they take."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.wilss.models.encoders import tiny, tiny_towers
from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.encoder import require_clip
from wilss.models.encoders.vit.encoder import open_vit
from wilss.models.networks.segmenter import Segmenter
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.shapes_only import filled_by_its_file, shapes_only, undrawn

SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2}
#: Of every kind: how layers are filled, and what is computed beside them (tables of rotations, distances, masks).
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in tiny_towers.TOWERS},
    "registers": ("vit_small_patch14_reg4_dinov2", SMALL),
    "rotations": ("vit_small_patch16_dinov3", SMALL),
    "mixed rotations": ("vit_small_patch16_rope_mixed_224", SMALL),
    "distances": ("beit_base_patch16_224", SMALL),
    "windows": ("swin_tiny_patch4_window7_224", {"depths": (1, 2, 1, 1), "embed_dim": 24}),
    "free sizes": ("naflexvit_base_patch16_siglip", SMALL),
    "efficientnet": ("test_efficientnet", {}),
    "resnet": ("test_resnet", {}),
    "no norms": ("test_nfnet", {}),
}


def tensors_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All, with those that are in no file of weights."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def told(network: nn.Module) -> list[tuple[Any, ...]]:
    return [
        (name, type(each), each.shape, each.dtype, each.device, each.stride(), each.requires_grad)
        for name, each in tensors_of(network)
    ]


def require_same(ours: nn.Module, theirs: nn.Module) -> None:
    assert told(ours) == told(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert any(each.is_meta for _, each in tensors_of(ours))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_has_the_names_shapes_and_types_that_it_has_on_torchs_meta_device(kind: str) -> None:
    name, args = NETWORKS[kind]
    with torch.device("meta"):
        theirs = timm.create_model(name, **args)
    with shapes_only():
        ours = timm.create_model(name, **args)
    require_same(ours, theirs)


def test_so_have_open_clips_own_and_a_segmenter() -> None:
    spec = SegmenterSpec(backbone="wide_resnet38", head_width=8, num_channels=2)
    clips = (partial(CLIP, 24, vision, tiny.TEXT) for vision in (tiny.VIT, tiny.RESNET))
    for make in (*clips, partial(Segmenter, spec)):
        with torch.device("meta"):
            theirs = make()
        with shapes_only():
            ours = make()
        require_same(ours, theirs)


class Mixed(nn.Module):
    """With a table that is computed on the CPU, and one that is drawn there."""

    table: Tensor
    drawn: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("table", torch.zeros(4, device="cpu").fill_(2).add_(1).mul_(torch.arange(4, device="cpu")))
        self.register_buffer("drawn", torch.empty(5, device="cpu").uniform_(1, 2), persistent=False)
        nn.init.constant_(self.layer.weight, 1.0)


def test_what_a_network_computes_on_the_cpu_is_computed() -> None:
    with shapes_only():
        network = Mixed()
    assert network.layer.weight.is_meta
    assert network.table.tolist() == [0, 3, 6, 9]
    assert bool((network.drawn >= 1).all())


def test_the_random_state_stays_as_it_was_and_values_outside_are_filled(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    with shapes_only():
        Mixed()
    require_clip(tiny.clip_spec(tmp_path, {"timm_model_name": "convnext_tinier", "timm_proj": "linear"}))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.zeros(3).fill_(2).tolist() == [2, 2, 2]
    assert nn.Linear(2, 2).weight.device.type == "cpu"


class Seen(TorchDispatchMode):
    """The names of all that torch does."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["vit_base_patch16_siglip_tiny", "convnext_tinier", "vitamin_tiny", "resnet"])
def test_nothing_is_drawn_or_filled(kind: str) -> None:
    """That takes most of the time."""
    name, args = NETWORKS[kind]
    with shapes_only(), Seen() as seen:
        timm.create_model(name, **args)
    assert "empty" in seen.names
    assert not seen.names & {"uniform_", "normal_", "erfinv_", "clamp_", "mul_", "add_", "fill_", "zero_"}


@pytest.mark.parametrize(
    ("model", "args"),
    [(None, tiny.DINO), ("vit_small_patch14_reg4_dinov2", SMALL), ("vit_small_patch16_dinov3", SMALL)],
    ids=["DINO", "DINOv2", "DINOv3, of rotations that no file holds"],
)
def test_weights_that_a_file_holds_are_not_drawn_first(tmp_path: Path, model: str | None, args: dict[str, Any]) -> None:
    drawn = open_vit(EncoderSpec(library="timm", model=model, args=args, pretrained="random:1"), "cpu")
    save_file({name: value.clone() for name, value in drawn.network.state_dict().items()}, tmp_path / "w.safetensors")
    spec = EncoderSpec(library="timm", model=model, args=args, file=str(tmp_path / "w.safetensors"))
    with Seen() as seen:
        read = open_vit(spec, "cpu")
    assert not seen.names & {"uniform_", "normal_"}
    for (name, one), (_, other) in zip(tensors_of(read.network), tensors_of(drawn.network), strict=True):
        assert torch.equal(one, other), name
    assert not any(part.training for part in read.network.modules())


class Beside(nn.Module):
    """A network with a tensor that is in no file, kept as `kind`, or whose two layers are one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        if kind == "buffer":
            self.first.register_buffer("table", torch.arange(3), persistent=False)
        elif kind == "attribute":
            self.first.table = torch.arange(3)
        elif kind == "one layer":
            self.second = self.first


def test_a_network_with_tensors_beside_those_of_its_file_is_not_left_empty() -> None:
    assert filled_by_its_file(Beside("nothing"))
    assert filled_by_its_file(nn.BatchNorm2d(2))
    for kind in ("buffer", "attribute", "one layer"):
        assert not filled_by_its_file(Beside(kind)), kind


def test_what_cannot_fit_is_still_refused() -> None:
    with shapes_only(), pytest.raises(RuntimeError, match="doesn't match the broadcast shape|must match|shape"):
        torch.zeros(3).add_(torch.ones(4, 3))


@pytest.mark.parametrize("vision", [tiny.VIT, tiny.RESNET], ids=["ViT", "ResNet"])
def test_an_undrawn_network_with_a_files_weights_is_the_network_that_was_drawn(vision: dict[str, Any]) -> None:
    drawn = CLIP(24, vision, tiny.TEXT)
    before = torch.get_rng_state()
    with undrawn(), Seen() as seen:
        ours = CLIP(24, vision, tiny.TEXT)
    assert torch.equal(torch.get_rng_state(), before)
    assert not seen.names & {"uniform_", "normal_"}
    ours.load_state_dict(drawn.state_dict())
    for (name, one), (_, other) in zip(tensors_of(ours), tensors_of(drawn), strict=True):
        assert torch.equal(one, other), name


def test_an_undrawn_network_draws_what_no_file_may_hold() -> None:
    with undrawn():
        network = Mixed()
    assert bool((network.drawn >= 1).all())
    assert network.table.tolist() == [0, 3, 6, 9]
    assert bool((network.layer.weight == 1).all())
