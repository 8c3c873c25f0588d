"""Void where nobody is sure: against the slow twin, with calibration, and as parameters that a store notes."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.references import calibration as slow
from wilss.equations import calibration, fmwiss
from wilss.errors import ParameterError
from wilss.params import with_values
from wilss_masks.sources.fmwiss_params import ALWAYS_NOTED, FmwissParams, confidence_noted
from wilss_masks.sources.fusion import evidence_of, refine
from wilss_masks.stages.chain import run_stages
from wilss_masks.stages.params import StageParams, noted
from wilss_masks.stages.unsure import labels_of, sureness_inside, sureness_of

CURVE = ((0.5, 0.4), (0.6, 0.7), (0.8, 0.95))


def evidence(tags: int = 3, size: tuple[int, int] = (9, 11), seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(1.2, (tags, *size)).astype(np.float32))


@pytest.mark.parametrize("classes", ["overlap", "compete"])
@pytest.mark.parametrize("curve", [(), CURVE])
def test_void_is_what_the_slow_twin_is_not_sure_of(classes: Any, curve: Any) -> None:
    some = evidence()
    params = StageParams(classes=classes, unsure=0.62, calibration=curve)
    staged = run_stages(some, None, 9, 11, params)
    labels = np.concatenate([np.ones((1, 9, 11)), some.numpy()]).argmax(axis=0)  # of overlapping tags the strongest
    sure = slow.sureness(some.numpy(), labels, np.ones((9, 11)))
    expected = [[(slow.on_curve(one, curve) if curve else one) < 0.62 for one in row] for row in sure]
    assert staged.void is not None
    np.testing.assert_array_equal(staged.void.numpy(), expected)
    assert 0 < staged.void.float().mean() < 1
    plain = run_stages(some, None, 9, 11, StageParams(classes=classes)).masks
    assert torch.equal(staged.masks, plain & ~staged.void)


def test_evidence_of_another_size_is_seen_at_pixels() -> None:
    small, labels = evidence(2, (3, 4)), torch.zeros(9, 12, dtype=torch.uint8)
    from wilss.data.images import to_pixels

    assert torch.equal(sureness_of(small, labels), calibration.sureness(to_pixels(small, 9, 12), labels))


def test_labels_of_masks_that_overlap_and_that_do_not() -> None:
    some = evidence()
    masks = some >= 1
    strongest = torch.where(masks.any(dim=0), some.argmax(dim=0) + 1, 0)
    assert torch.equal(labels_of(some, masks).long(), strongest)
    masks[1:] &= ~masks[0]
    masks[2] &= ~masks[1]
    assert torch.equal(labels_of(some, masks).long(), (masks * torch.arange(1, 4)[:, None, None]).sum(dim=0))
    nothing = torch.zeros(2, 3, 3)  # a mask that no evidence speaks for is a mask all the same
    assert labels_of(nothing, torch.ones(2, 3, 3, dtype=torch.bool)).tolist() == [[1] * 3] * 3


@pytest.mark.parametrize("overlap", [True, False])
def test_a_mask_is_as_sure_as_its_pixels_are_in_the_mean(overlap: bool) -> None:
    """Of its own tag, also where another mask lies on it; an empty one is not sure at all."""
    some = evidence(4)
    masks = some >= 1 if overlap else run_stages(some, None, 9, 11, StageParams(classes="compete")).masks
    masks[2] = False
    for tag, found in enumerate(sureness_inside(some, masks).tolist()):
        sure = slow.sureness(some.numpy(), np.full((9, 11), tag + 1), np.ones((9, 11)))
        inside = [float(one) for one in np.asarray(sure)[masks[tag].numpy()]]
        assert found == pytest.approx(sum(inside) / len(inside) if inside else 0.0, abs=1e-6)


def test_confidence_is_of_the_score_unless_stages_decide_where_masks_are() -> None:
    rng = np.random.default_rng(1)
    score, attention = (torch.from_numpy(rng.random((2, 6, 6))).half() for _ in range(2))
    for values, by_score in (({}, True), ({"unsure": 0.55}, True), ({"classes": "compete"}, False)):
        params = with_values(FmwissParams(fusion="seeds"), values, where="here")
        found = refine(score, attention, 24, 24, params)
        expected = fmwiss.confidence(found.score, found.fused)
        if not by_score:
            expected = sureness_inside(evidence_of(score, attention, (24, 24), params), found.fused)
        assert torch.equal(found.confidence, expected)
        assert confidence_noted(params) == ({} if by_score else {"confidence_of": "sureness"})


def test_off_is_off() -> None:
    assert run_stages(evidence(), None, 9, 11, StageParams()).void is None
    params = StageParams(calibration=CURVE)  # a curve alone makes nothing void
    assert not params.has_stages
    assert run_stages(evidence(), None, 9, 11, params).void is None
    assert set(noted(FmwissParams(), ALWAYS_NOTED)) == set(ALWAYS_NOTED)


def test_masks_of_fmwiss_lose_what_is_unsure() -> None:
    rng = np.random.default_rng(0)
    score, attention = (torch.from_numpy(rng.random((2, 6, 6))).half() for _ in range(2))
    plain = refine(score, attention, 24, 24, FmwissParams(fusion="seeds"))
    found = refine(score, attention, 24, 24, FmwissParams(fusion="seeds", unsure=0.55))
    assert plain.void is None
    assert found.void is not None
    assert found.void.any()
    assert not (found.fused & found.void).any()
    assert torch.equal(found.fused | (plain.fused & found.void), plain.fused)


def test_a_curve_is_noted_as_it_is_read_again() -> None:
    params = with_values(FmwissParams(), {"calibration": "[[0.5, 0.4], [1, 0.9]]", "unsure": "0.7"}, where="--set")
    assert params.calibration == ((0.5, 0.4), (1.0, 0.9))
    told = noted(params, ALWAYS_NOTED)
    assert json.loads(json.dumps(told)) == told
    again = with_values(FmwissParams(), {name: told[name] for name in ("calibration", "unsure")}, where="store")
    assert again == params


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"calibration": "half"}, r"--set: calibration must be pairs as in \[\[0.5, 0.6\], \[0.7, 0.9\]\], not 'half'"),
        ({"calibration": [0.5, 0.6]}, "must be pairs"),
        ({"calibration": [["a", 1]]}, "calibration must be a number, not 'a'"),
        ({"calibration": [[0.5, 0.6, 0.7]]}, "it must be pairs of numbers from 0 to 1"),
        ({"calibration": [[0.5, 0.6], [0.7, 0.5]]}, "the second never falling"),
        ({"calibration": [[0.5, 0.6], [0.5, 0.7]]}, "the first rising"),
        ({"calibration": [[0.5, 1.6]]}, "from 0 to 1"),
        ({"calibration": [[0.5, float("nan")]]}, "from 0 to 1"),
        ({"unsure": 1}, "at least 0 and below 1"),
        ({"unsure": 0.99, "calibration": CURVE}, "ends at 0.95, so that all pixels would be void"),
    ],
)
def test_what_is_no_curve_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        with_values(FmwissParams(), values, where="--set")


@pytest.mark.parametrize("classes", ["overlap", "compete"])
def test_a_map_that_is_at_its_cut_everywhere_gives_the_mask_that_it_gives_without_stages(classes: Any) -> None:
    """An image of one patch: what is kept of its attention is all of it."""
    score, attention = torch.full((1, 1, 1), 0.2).half(), torch.ones(1, 1, 1).half()
    for keep in ("mass", "std"):
        params = FmwissParams(keep=keep, fusion="seeds")
        plain = refine(score, attention, 5, 7, params)
        assert plain.fused.any()
        staged = with_values(params, {"classes": classes, "unsure": 0.4}, where="here")
        assert torch.equal(refine(score, attention, 5, 7, staged).fused, plain.fused)
