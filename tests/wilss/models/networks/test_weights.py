import pickle
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from tests.wilss.models.networks.test_segmenter import SMALL, VIT, images, same_weights, small
from wilss.errors import ParameterError, WeightsError
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


WIDE = pytest.mark.wide


@pytest.mark.parametrize("args", [{}, {"backbone": "vit_tiny_patch16_224", "args": VIT}], ids=["resnet", "vit"])
@pytest.mark.parametrize(
    ("prefix", "ending"),
    [
        ("", ".safetensors"),
        ("module.", ".pth"),
        ("backbone.", ".pt"),
        ("module.model.", ".safetensors"),
        *(pytest.param(prefix, ".pt", marks=WIDE) for prefix in ("", "module.", "module.model.")),
        *(pytest.param(prefix, ".pth", marks=WIDE) for prefix in ("", "backbone.", "module.model.")),
        *(pytest.param(prefix, ".safetensors", marks=WIDE) for prefix in ("module.", "backbone.")),
    ],
)
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


#: A small network of each of timm's families that a segmenter can stand on.
FAMILIES = (
    "lcnet_050", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "test_efficientnet", "test_resnet", "test_vit",
)  # fmt: skip
WIDE_FAMILIES = ("mixnet_s", "mnasnet_small", "resnetv2_18", "rexnet_100")
MORE_FAMILIES = (
    "cs3darknet_focus_s", "cspdarknet53", "cspnext_tiny", "deit_tiny_patch16_224", "efficientnet_b0", "fbnetc_100",
    "gernet_s", "hardcorenas_b", "inception_next_atto", "mobilenetv2_050", "mobilevit_xxs", "regnety_002", "res2next50",
    "resnest14d", "resnetv2_50", "seresnet18", "skresnet18", "spnasnet_100", "test_byobnet", "test_convnext",
    "test_nfnet", "tf_efficientnet_lite0", "tinynet_e", "vit_tiny_patch16_dinov3_qkvb", "xception41p",
)  # fmt: skip


def fits_with_its_own_file(name, folder):
    """Whether timm's own tensors of `name`, in a file, are those that a segmenter on it has afterwards."""
    whole = timm.create_model(name)
    torch.save(whole.state_dict(), folder / "timms.pth")
    segmenter = build(SegmenterSpec(backbone=name, head_width=8, num_channels=2), seed=1)
    load_backbone(segmenter, folder / "timms.pth")
    theirs = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    network = segmenter.backbone.network
    ours = getattr(network, "model", network).state_dict()
    assert all(torch.equal(value, theirs[key.replace(".", "_")]) for key, value in ours.items())
    with torch.no_grad():
        assert segmenter.eval()(torch.zeros(1, 3, 49, 70)).shape[:2] == (1, 2)
    return True


@pytest.mark.parametrize("name", [*FAMILIES, *(pytest.param(name, marks=WIDE) for name in WIDE_FAMILIES)])
def test_timms_own_file_fits_its_network(tmp_path, name):
    assert fits_with_its_own_file(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", MORE_FAMILIES)
def test_timms_own_file_fits_its_larger_networks(tmp_path, name):
    assert fits_with_its_own_file(name, tmp_path)


def test_what_is_in_neither_network_is_refused_beside_what_is_left_out(tmp_path):
    tensors = timm.create_model("test_efficientnet").state_dict()
    torch.save({**tensors, "conv_tail.weight": torch.zeros(2)}, tmp_path / "w.pth")
    target = build(SegmenterSpec(backbone="test_efficientnet", head_width=8, num_channels=2), seed=1)
    with pytest.raises(WeightsError, match=r"does not fit the backbone test_efficientnet: 1 unexpected \(conv_tail_"):
        load_backbone(target, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hgnetv2_b0", "hgnetv2_b0 has a feature every 32 pixels, and timm cannot dilate it to one every 16"),
        ("swiftformer_xs", "timm cannot dilate it to one every 16"),
        ("ghostnet_050", "timm cannot dilate it to one every 16"),
        ("convit_tiny", "timm builds convit_tiny only as it is"),
        ("halonet_h1", "fit one size of image only"),
    ],
)
def test_a_family_that_no_segmenter_can_stand_on_is_refused_with_the_reason(name, said):
    with pytest.raises(ParameterError, match=said + ".*take.* such as resnet50"):
        build(SegmenterSpec(backbone=name, head_width=8, num_channels=2), seed=0)


def as_efficientnet_pytorch_names_them(whole):
    """A timm EfficientNet's tensors under the names of the package efficientnet_pytorch, by their places."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    blocks = [block for stage in whole.blocks for block in stage]
    named = {}
    for name, value in whole.state_dict().items():
        if not name.startswith("blocks."):
            layer, kind = name.split(".")
            named[f"{outside[layer]}.{kind}"] = value
    for number, block in enumerate(blocks):
        widens = hasattr(block, "conv_pwl")
        layers = [block.conv_pw, block.bn1, block.conv_dw, block.bn2, block.conv_pwl, block.bn3] if widens else [
            block.conv_dw, block.bn1, block.conv_pw, block.bn2]  # fmt: skip
        names = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"][0 if widens else 2 :]
        for layer, name in zip(layers, names, strict=True):
            named.update({f"_blocks.{number}.{name}.{kind}": value for kind, value in layer.state_dict().items()})
    return named


def test_efficientnet_pytorchs_names_are_known(tmp_path):
    whole = timm.create_model("tf_efficientnet_lite0")
    torch.save(as_efficientnet_pytorch_names_them(whole), tmp_path / "w.pth")
    segmenter = build(SegmenterSpec(backbone="tf_efficientnet_lite0", head_width=8, num_channels=2), seed=1)
    load_backbone(segmenter, tmp_path / "w.pth")
    ours = segmenter.backbone.network.state_dict()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in ours.items())


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
    with pytest.raises(WeightsError, match=rf"weights.safetensors does not fit the backbone resnet18: .*({said})"):
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
        ("weights.onnx", b"", "has no ending that wilss reads"),
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
