import copy
import json
import math
import pickle

import pytest
import torch
from torch import nn

from wilss.errors import ParameterError
from wilss.models.networks.norms import set_batch_norm
from wilss.models.networks.segmenter import Segmenter, build, grown, newest_head, with_head
from wilss.models.networks.spec import SegmenterSpec

SMALL = {"channels": [8, 8, 16, 16]}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def small(**changes) -> SegmenterSpec:
    given = {"backbone": "resnet18", "args": SMALL, "output_stride": 8, "head_width": 8, "num_channels": 4}
    return SegmenterSpec(**{**given, **changes})


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- the spec -----------------------------------------------------------------------------------------------


def test_a_spec_survives_json():
    spec = small(rates=(1, 2), dropout=0.25)
    assert SegmenterSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    assert SegmenterSpec.from_json({"num_channels": 3}) == SegmenterSpec(num_channels=3)


def test_heads_are_said_where_there_are_several_and_only_there():
    assert "heads" not in small().as_json()
    spec = small(num_channels=6, heads=(4, 5))
    assert SegmenterSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    assert (small().channels_of_heads, spec.channels_of_heads) == ((4,), (4, 5, 6))
    for heads in ((0,), (5, 5), (5, 4), (6,)):
        with pytest.raises(ParameterError, match="heads is .* it must be growing numbers of channels below 6"):
            small(num_channels=6, heads=heads)


def test_shifts_belong_to_the_classes_of_later_heads():
    spec = small(num_channels=6, heads=(3, 4), shifts=(-2.5, 0.0, -1.0))
    assert SegmenterSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    assert spec.shifts_of_heads == ((-2.5,), (0.0, -1.0))
    assert small(num_channels=6, heads=(3, 4)).shifts_of_heads == ((), ())
    assert "shifts" not in small(num_channels=6, heads=(3, 4)).as_json()
    for shifts in ((-1.0,), (-1.0, -1.0, 0.5), (-math.inf, 0.0, 0.0)):
        with pytest.raises(ParameterError, match="shifts is .* it must be none, or 3 numbers of at most 0"):
            small(num_channels=6, heads=(3, 4), shifts=shifts)
    with pytest.raises(ParameterError, match="shifts is .* it must be none, or 0 numbers"):
        small(shifts=(-1.0,))


def test_a_head_is_joined_with_the_shifts_of_its_classes():
    base = build(small(num_channels=3), seed=0)
    one = with_head(base, build(small(num_channels=4), seed=1), [-2.0])
    assert (one.spec.shifts, one.spec.shifts_of_heads) == ((-2.0,), ((-2.0,),))
    plain = with_head(base, build(small(num_channels=4), seed=1))
    batch = images(2, 3, 32, 32)
    with torch.no_grad():
        assert bool((one.eval()(batch)[:, 3] < plain.eval()(batch)[:, 3]).all())
    assert with_head(one, build(small(num_channels=6), seed=2)).spec.shifts == (-2.0, 0.0, 0.0)
    assert with_head(plain, build(small(num_channels=6), seed=2), [0.0, -1.0]).spec.shifts == (0.0, 0.0, -1.0)
    assert (newest_head(one).spec.shifts, newest_head(one).spec.heads) == ((), ())


def test_rates_are_the_published_ones_of_the_stride():
    assert small(output_stride=16).head_rates == (6, 12, 18)
    assert small(output_stride=8).head_rates == (12, 24, 36)
    assert small(rates=(2, 3)).head_rates == (2, 3)
    dilations = [
        one.dilation[0] for one in build(small(rates=(2, 3)), seed=0).body[0].modules() if type(one) is nn.Conv2d
    ]
    assert dilations == [1, 2, 3, 1, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("output_stride", 32), ("head_width", 0), ("num_channels", 0), ("rates", (0,)), ("dropout", 1.0)],
)
def test_a_spec_without_meaning_is_refused(field, value):
    with pytest.raises(ParameterError, match=f"{field} is .* it must be"):
        small(**{field: value})


def test_a_spec_of_another_version_is_refused():
    with pytest.raises(ParameterError, match="a segmenter has no colour"):
        SegmenterSpec.from_json({"num_channels": 3, "colour": 1})
    with pytest.raises(ParameterError, match="needs num_channels"):
        SegmenterSpec.from_json({})


# -- building -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "width"),
    [
        (small(), 16),
        (small(output_stride=16), 16),
        (small(backbone="vit_tiny_patch16_224", args=VIT), 24),
    ],
    ids=["resnet at 8", "resnet at 16", "vit"],
)
@pytest.mark.parametrize("size", [(32, 48), (33, 31), (1, 9)])
def test_maps_cover_images_of_any_size(spec, width, size):
    segmenter = build(spec, seed=0).eval()
    batch = images(2, 3, *size)
    features = segmenter.features(batch)
    grid = tuple(math.ceil(side / spec.output_stride) for side in size)
    assert segmenter.feature_dim == width
    assert features.shape == (2, width, *grid)
    assert segmenter(batch).shape == (2, 4, *grid)
    assert torch.equal(segmenter.logits(features), segmenter(batch))


@pytest.mark.parametrize(
    "spec", [small(), small(backbone="vit_tiny_patch16_224", args=VIT), small(backbone="efficientnet_lite0", args={})]
)
def test_every_parameter_gets_a_gradient(spec):
    segmenter = build(spec, seed=0)
    segmenter(images(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, value in segmenter.named_parameters() if value.grad is None] == []


def test_weights_depend_on_the_seed_alone():
    first = build(small(), seed=1)
    torch.rand(3)
    state = torch.get_rng_state()
    assert same_weights(first, build(small(), seed=1))
    assert torch.equal(state, torch.get_rng_state())
    assert not same_weights(first, build(small(), seed=2))


def test_the_head_is_torchvisions():
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead

    segmenter = build(small(head_width=256), seed=0).eval()
    theirs = DeepLabHead(16, 4, (12, 24, 36)).eval()
    names = {f"{number}": f"body.{number}" for number in range(4)} | {"4": "classifier"}
    ours = segmenter.state_dict()
    theirs.load_state_dict({
        name: ours[".".join([names[name.split(".")[0]], *name.split(".")[1:]])] for name in theirs.state_dict()
    })  # fmt: skip
    features = images(1, 16, 5, 6)
    torch.testing.assert_close(segmenter.logits(features), theirs(features))


def test_dropout_is_what_the_spec_says():
    rates = [one.p for one in build(small(dropout=0.3), seed=0).body.modules() if isinstance(one, nn.Dropout)]
    assert rates == [0.3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "resnet19", "args": {}}, "timm has no model 'resnet19'; did you mean resnet18"),
        ({"args": {"colour": 3}}, "timm cannot build resnet18 .*colour.*; fix the backbone or its args"),
        (
            {"backbone": "swin_tiny_patch4_window7_224", "args": {}},
            "swin_tiny_patch4_window7_224 .* cannot dilate it to one every 8",
        ),
        (
            {"backbone": "vit_tiny_patch16_224", "args": {**VIT, "patch_size": 16}},
            "a feature every 16 pixels, not every 8",
        ),
        ({"backbone": "wide_resnet38", "args": {"depth": 2}}, "takes no args, but has depth"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(changes, said):
    with pytest.raises(ParameterError, match=said):
        build(small(**changes), seed=0)


def test_a_name_near_ours_is_told():
    with pytest.raises(ParameterError, match="did you mean .*wide_resnet38"):
        build(small(backbone="wide_resnet_38", args={}), seed=0)


# -- growing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["background", "random"])
def test_old_channels_say_what_they_said(rows):
    segmenter = build(small(), seed=0).eval()
    before = copy.deepcopy(segmenter)
    bigger = grown(segmenter, 7, rows=rows, seed=3)
    batch = images(1, 3, 32, 32)
    assert bigger.spec == small(num_channels=7)
    assert not bigger.training
    torch.testing.assert_close(bigger(batch)[:, :4], segmenter(batch))
    assert same_weights(segmenter, before)
    assert same_weights(bigger, grown(segmenter, 7, rows=rows, seed=3))


def test_new_classes_have_the_backgrounds_odds_divided():
    segmenter = build(small(), seed=0).eval()
    batch = images(1, 3, 32, 32)
    odds = grown(segmenter, 6, seed=0)(batch).exp()
    for channel in (4, 5):
        torch.testing.assert_close(odds[:, channel], odds[:, 0] / 3)


def test_random_rows_depend_on_the_seed_and_leave_the_random_state():
    segmenter = build(small(), seed=0)
    state = torch.get_rng_state()
    one, other = (grown(segmenter, 6, rows="random", seed=seed).classifier.weight[4:] for seed in (0, 1))
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(state, torch.get_rng_state())


def test_a_segmenter_may_stay_as_it_is_but_not_shrink():
    segmenter = build(small(), seed=0)
    assert same_weights(grown(segmenter, 4, seed=0), segmenter)
    with pytest.raises(ParameterError, match="4 channels cannot shrink to 3"):
        grown(segmenter, 3, seed=0)


# -- batch normalisation ------------------------------------------------------------------------------------


def norms(segmenter: Segmenter) -> list[nn.modules.batchnorm._BatchNorm]:
    return [one for one in segmenter.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]


def test_frozen_statistics_stay_frozen():
    segmenter = set_batch_norm(build(small(), seed=0), "frozen").train()
    before = copy.deepcopy(segmenter)
    segmenter(images(2, 3, 32, 32)).sum().backward()
    assert segmenter.training
    assert same_weights(segmenter, before)
    for one in norms(segmenter):
        assert not one.training
        assert one.weight.grad is None
    assert segmenter.classifier.weight.grad is not None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_a_frozen_network_is_frozen_for_itself(copied):
    segmenter = set_batch_norm(build(small(), seed=0), "frozen")
    twin = copied(segmenter)
    set_batch_norm(segmenter, "train").train()
    assert all(one.training for one in norms(segmenter))
    assert not any(one.training for one in norms(twin.train()))


def test_frozen_statistics_can_be_thawed():
    segmenter = set_batch_norm(set_batch_norm(build(small(), seed=0), "frozen"), "train")
    assert all(one.training and one.weight.requires_grad for one in norms(segmenter))
    before = copy.deepcopy(segmenter)
    segmenter(images(2, 3, 32, 32))
    assert not same_weights(segmenter, before)


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0"])
def test_synchronised_says_the_same_on_one_process(backbone):
    spec = small(backbone=backbone, args=SMALL if backbone == "resnet18" else {})
    segmenter = build(spec, seed=0)
    before = segmenter.state_dict().keys()
    batch = images(2, 3, 32, 32)
    expected = copy.deepcopy(segmenter).eval()(batch)
    together = set_batch_norm(segmenter, "synchronised")
    assert all(isinstance(one, nn.SyncBatchNorm) for one in norms(together))
    assert together.state_dict().keys() == before
    torch.testing.assert_close(together.eval()(batch), expected)


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="no batch norm mode 'off'"):
        set_batch_norm(nn.BatchNorm2d(2), "off")  # type: ignore[arg-type]


# -- heads of single steps ----------------------------------------------------------------------------------


def test_a_head_joins_and_older_classes_stay():
    known = build(small(), seed=0).eval()
    batch = images(2, 3, 32, 48)
    newest = grown(newest_head(known), 5, rows="random", seed=1)
    both = with_head(known, newest)
    assert (both.spec.heads, both.newest, both.training) == ((4,), "later.0.", False)
    assert torch.equal(both(batch)[:, :4].argmax(dim=1), known(batch).argmax(dim=1))
    torch.testing.assert_close(both(batch)[:, 4].sigmoid(), newest(batch).softmax(dim=1)[:, 4])
    assert same_weights(newest_head(both), newest)
    three = with_head(both, grown(newest_head(both), 7, seed=2))
    assert (three.spec.heads, three.spec.num_channels, three(batch).shape[1]) == ((4, 5), 7, 7)
    assert torch.equal(three(batch)[:, :5].argmax(dim=1), both(batch).argmax(dim=1))


def test_a_segmenter_of_several_heads_grows_by_a_head_alone():
    known = build(small(), seed=0)
    both = with_head(known, grown(newest_head(known), 5, seed=1))
    with pytest.raises(ParameterError, match="grows by another head: --set heads=step"):
        grown(both, 6, seed=0)
