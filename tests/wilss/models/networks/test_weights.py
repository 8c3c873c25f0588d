import pickle
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from tests.wilss.models.networks.test_segmenter import SMALL, VIT, images, same_weights, small
from wilss.errors import WeightsError
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.networks.weights import load_backbone


def contiguous(tensors):
    return {name: value.clone().contiguous() for name, value in tensors.items()}


def other_backbone(**changes):
    """A timm network's tensors by timm's own names, and two segmenters: one that has them, one that does not."""
    source = build(small(**changes), seed=1)
    inner = source.backbone.network
    tensors = contiguous(getattr(inner, "model", inner).state_dict())
    return tensors, source, build(small(**changes), seed=2)


@pytest.mark.parametrize("args", [{}, {"backbone": "vit_tiny_patch16_224", "args": VIT}], ids=["resnet", "vit"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.model."])
@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pt"])
def test_weights_are_found_under_any_wrapper(tmp_path, args, prefix, ending):
    tensors, source, target = other_backbone(**args)
    given = {f"{prefix}{name}": value for name, value in tensors.items()} | {f"{prefix}fc.weight": torch.zeros(3)}
    path = tmp_path / f"weights{ending}"
    save_file(given, path) if ending == ".safetensors" else torch.save({"state_dict": given, "epoch": 3}, path)
    head = {name: value.clone() for name, value in target.state_dict().items() if not name.startswith("backbone.")}
    load_backbone(target, path)
    assert same_weights(target.backbone, source.backbone)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in head.items())


def test_a_whole_segmenter_gives_its_backbone(tmp_path):
    _, source, target = other_backbone()
    path = tmp_path / "model.safetensors"
    save_file(contiguous(source.state_dict()), path)
    load_backbone(target, path)
    assert same_weights(target.backbone, source.backbone)
    assert not same_weights(target.body, source.body)


def test_names_that_timm_flattens_are_found(tmp_path):
    spec = SegmenterSpec(backbone="convnext_atto", output_stride=16, head_width=8, num_channels=2)
    source, target = build(spec, seed=1), build(spec, seed=2)
    names = {
        name: name.replace("stages_", "stages.").replace("stem_", "stem.")
        for name in source.backbone.network.state_dict()
    }
    assert "stages.0.blocks.0.conv_dw.weight" in names.values()
    path = tmp_path / "weights.safetensors"
    save_file({names[name]: value for name, value in contiguous(source.backbone.network.state_dict()).items()}, path)
    load_backbone(target, path)
    assert same_weights(target.backbone, source.backbone)


def test_torchvisions_resnet_fits_and_says_the_same(tmp_path):
    theirs = resnet18().eval()
    path = tmp_path / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    segmenter = build(SegmenterSpec(backbone="resnet18", head_width=8, num_channels=2), seed=0).eval()
    load_backbone(segmenter, path)
    batch = images(1, 3, 32, 32)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(batch))))
    network: Any = segmenter.backbone.network
    ours = network.layer3(
        network.layer2(network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(batch))))))
    )
    torch.testing.assert_close(ours, theirs.layer3(theirs.layer2(theirs.layer1(x))))


def test_a_file_without_counters_loads(tmp_path):
    tensors, source, target = other_backbone()
    path = tmp_path / "weights.pth"
    torch.save({name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}, path)
    load_backbone(target, path)
    assert same_weights(target.backbone, source.backbone)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv1.weight": None}, r"1 missing \(conv1_weight\)"),
        ({"extra.weight": torch.zeros(2)}, r"1 unexpected \(extra_weight\)"),
        ({"bn1.bias": torch.zeros(5)}, r"1 of another shape \(bn1_bias is \[5\], the network has \[64\]\)"),
        ({"bn1.bias": torch.full((64,), torch.nan)}, r"1 not finite \(bn1_bias\)"),
    ],
    ids=["missing", "unexpected", "shape", "nan"],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path, change, said):
    tensors, _, target = other_backbone()
    tensors = {name: value for name, value in {**tensors, **change}.items() if value is not None}
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=rf"weights.safetensors does not fit the backbone: .*({said})"):
        load_backbone(target, path)
    assert same_weights(target, build(small(), seed=2))


class Evil:
    def __reduce__(self):
        return print, ("the weights ran code",)


def test_weights_never_run_code(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"conv1.weight": Evil()}}, path)
    with pytest.raises(WeightsError, match="never loaded"):
        load_backbone(build(small(), seed=0), path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("weights.pth", pickle.dumps([1, 2]), "holds no state dict|is no whole checkpoint|is no plain checkpoint"),
        ("weights.pth", b"", "is no whole checkpoint"),
        ("weights.pth", b"PK\x03\x04 cut", "is no whole checkpoint"),
        ("weights.safetensors", b"\x08", "is no whole safetensors file"),
        ("weights.npz", b"", "has no ending that wilss reads"),
        ("weights.safetensors", None, "is not there"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        load_backbone(build(small(args=SMALL), seed=0), path)


def test_an_empty_checkpoint_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_backbone(build(small(), seed=0), path)
