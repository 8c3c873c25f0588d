import pytest
import torch
import torch.nn.functional as F

from wilss.errors import ParameterError
from wilss.models.networks.segmenter import Segmenter
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.networks.wide_resnet38 import WideResNet38, _Bottleneck, _Residual

META = torch.device("meta")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_statistics(block):
    for number, buffer in enumerate(block.buffers()):
        if buffer.is_floating_point():
            buffer.copy_(normal(*buffer.shape, seed=number).abs() + 0.5)
    return block.eval()


@pytest.mark.parametrize(("stride", "grid"), [(8, (9, 8)), (16, (5, 4))])
def test_feature_maps_have_the_stride_and_the_width(stride, grid):
    with META:
        network = WideResNet38(stride)
        previous, last = network(torch.empty(2, 3, 65, 64))
        assert previous.shape == (2, 2048, *grid)
        assert last.shape == (2, 4096, *grid)


def test_it_is_a_backbone_of_the_segmenter():
    with META:
        segmenter = Segmenter(SegmenterSpec(backbone="wide_resnet38", output_stride=8, num_channels=61))
        assert segmenter(torch.empty(2, 3, 64, 64)).shape == (2, 61, 8, 8)
    assert segmenter.feature_dim == 4096


def test_weights_have_the_published_names_and_shapes():
    """Read off the published converter and network (psa, Ahn and Kwak 2018), for all 38 layers and their statistics."""
    with META:
        shapes = {name: tuple(value.shape) for name, value in WideResNet38().state_dict().items()}
    convolutions = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if len(shape) == 4}
    first = {"b2": (64, 128, 128), "b3": (128, 256, 256), "b4": (256, 512, 512), "b5": (512, 512, 1024)}
    expected = {"conv1a": (64, 3, 3, 3)}
    for group, blocks in {"b2": 3, "b3": 3, "b4": 6, "b5": 3}.items():
        entering, middle, leaving = first[group]
        for block in range(blocks):
            name = f"{group}_{block}" if block else group
            expected[f"{name}.conv_branch2a"] = (middle, leaving if block else entering, 3, 3)
            expected[f"{name}.conv_branch2b1"] = (leaving, middle, 3, 3)
        expected[f"{group}.conv_branch1"] = (leaving, entering, 1, 1)
    for name, entering, leaving in (("b6", 1024, 2048), ("b7", 2048, 4096)):
        expected[f"{name}.conv_branch2a"] = (leaving // 4, entering, 1, 1)
        expected[f"{name}.conv_branch2b1"] = (leaving // 2, leaving // 4, 3, 3)
        expected[f"{name}.conv_branch2b2"] = (leaving, leaving // 2, 1, 1)
        expected[f"{name}.conv_branch1"] = (leaving, entering, 1, 1)
    assert convolutions == expected
    statistics = {name.removesuffix(".running_var") for name in shapes if name.endswith("running_var")}
    after = {"conv_branch2a": "bn_branch2a", "conv_branch2b1": "bn_branch2b1", "conv_branch2b2": "bn_branch2b2"}
    named = {f"{name.split('.')[0]}.{after[name.split('.')[1]]}" for name in expected if name.split(".")[-1] in after}
    assert statistics == named | {"bn7"}


def test_a_block_normalises_before_it_convolves():
    with torch.no_grad():
        block = with_statistics(_Residual(3, 4, 5, stride=2, first_dilation=1, dilation=2))
        x = normal(2, 3, 9, 9)
        norm = (x - block.bn_branch2a.running_mean[:, None, None]) / (
            block.bn_branch2a.running_var[:, None, None] + 1e-5
        ).sqrt()
        start = norm.clamp_min(0)
        inner = F.conv2d(start, block.conv_branch2a.weight, stride=2, padding=1)
        inner = (inner - block.bn_branch2b1.running_mean[:, None, None]) / (
            block.bn_branch2b1.running_var[:, None, None] + 1e-5
        ).sqrt()
        inner = F.conv2d(inner.clamp_min(0), block.conv_branch2b1.weight, padding=2, dilation=2)
        torch.testing.assert_close(block(x), F.conv2d(start, block.conv_branch1.weight, stride=2) + inner)


def test_the_shortcut_is_the_input_where_shapes_stay():
    with torch.no_grad():
        block = with_statistics(_Residual(4, 3, 4, first_dilation=2, dilation=2))
        block.conv_branch2b1.weight.zero_()
        x = normal(1, 4, 6, 6)
        torch.testing.assert_close(block(x), x)


def test_a_bottleneck_drops_channels_in_training_alone():
    block = _Bottleneck(8, 16, dilation=2, dropout=0.5)
    x = normal(2, 8, 6, 6)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
    assert block(x).shape == (2, 16, 6, 6)


def test_other_strides_are_refused():
    with pytest.raises(ParameterError, match="no output_stride 32; use 8 or 16"):
        WideResNet38(32)
