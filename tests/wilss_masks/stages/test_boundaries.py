import pytest
import torch

from wilss.errors import ParameterError
from wilss.params import with_values
from wilss_masks.stages.chain import run_stages, stage_picture
from wilss_masks.stages.params import StageParams, noted

KINDS = ("pamr", "guided")


def picture(height: int = 40, width: int = 60) -> torch.Tensor:
    """A red disc on a grey ground, uint8 [3, h, w]."""
    image = torch.full((3, height, width), 90, dtype=torch.uint8)
    image[0][disc(height, width)] = 220
    return image


def disc(height: int = 40, width: int = 60, reach: float = 14.0) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows - height / 2) ** 2 + (columns - width / 2) ** 2).sqrt() < reach


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("classes", ["overlap", "compete"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_is_too_large_moves_to_the_edge(kind: str, classes: str) -> None:
    params = with_values(StageParams(), {"boundaries": kind, "classes": classes}, where="here")
    evidence = disc(reach=16.0).float()[None] * 2
    masks = run_stages(evidence, stage_picture(picture(), params), 40, 60, params).masks
    assert masks.shape == (1, 40, 60)
    assert iou(masks[0], disc()) > 0.97 > iou(evidence[0] >= 1, disc())


@pytest.mark.parametrize("kind", KINDS)
def test_a_grey_a_dark_and_a_tiny_picture_make_masks(kind: str) -> None:
    params = with_values(StageParams(), {"boundaries": kind}, where="here")
    for size in ((1, 1), (3, 2), (17, 16)):
        for level in (0, 255):
            image = torch.full((3, *size), level, dtype=torch.uint8)
            masks = run_stages(torch.full((2, *size), 3.0), stage_picture(image, params), *size, params).masks
            assert masks.all()


@pytest.mark.parametrize("kind", KINDS)
def test_large_pictures_are_looked_at_in_a_small_size(kind: str) -> None:
    params = with_values(StageParams(), {"boundaries": kind, "stage_size": 30}, where="here")
    small = stage_picture(picture(), params)
    assert small is not None
    assert small.shape == (3, 20, 30)
    masks = run_stages(torch.full((1, 20, 30), 2.0), small, 40, 60, params).masks
    assert masks.shape == (1, 40, 60)


def test_a_stage_without_its_picture_is_an_error() -> None:
    with pytest.raises(ValueError, match="hand its picture over"):
        run_stages(torch.ones(1, 4, 4), None, 4, 4, StageParams(boundaries="pamr"))


def test_the_step_carries_the_name_of_its_kind() -> None:
    params = StageParams(boundaries="guided", classes="compete")
    staged = run_stages(torch.rand(2, 40, 60) * 2, stage_picture(picture(), params), 40, 60, params, trace=True)
    assert list(staged.steps) == ["compete", "guided"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"pamr_dilations": "0,1"},
        {"pamr_dilations": ""},
        {"pamr_rounds": 0},
        {"guided_eps": 0},
        {"guided_radius": 0},
        {"guided_step": 9, "boundaries": "guided"},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        with_values(StageParams(), wrong, where="here")


def test_what_is_at_its_default_is_not_noted_and_the_rest_is_json() -> None:
    assert noted(StageParams(), ()) == {}
    params = with_values(StageParams(), {"boundaries": "pamr", "pamr_dilations": "1,3"}, where="here")
    assert noted(params, ()) == {"boundaries": "pamr", "pamr_dilations": [1, 3]}
