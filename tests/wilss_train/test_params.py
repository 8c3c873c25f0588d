"""Training's parameters: published values, the manifest's sections, and what is refused."""

import dataclasses
from typing import Any

import pytest

from wilss.errors import ParameterError
from wilss.params import divided, with_values
from wilss_train.methods import METHODS
from wilss_train.params import TrainParams, from_manifest

SETTINGS: dict[str, Any] = {
    "backbone": "resnet18",
    "crop": 64,
    "alpha": 0.3,
    "base": {"epochs": 2, "lr": 0.5},
    "weak": {"epochs": 3, "scale": [1, 2]},
    "fmwiss": {"beta": 0.8},
}


def test_steps_have_the_published_schedules() -> None:
    base, rest = from_manifest({}, step=0, where="m")
    weak, _ = from_manifest({}, step=3, where="m")
    assert (base.epochs, base.lr, base.head_lr, rest) == (30, 0.01, 1.0, {})
    assert weak == TrainParams()
    assert (weak.epochs, weak.lr, weak.batch_size, weak.power, weak.weight_decay) == (40, 1e-3, 24, 0.9, 1e-4)
    assert weak.head_lr == 10.0


def test_a_manifest_speaks_of_both_and_of_each() -> None:
    base, rest = from_manifest(SETTINGS, step=0, where="m")
    weak, _ = from_manifest(SETTINGS, step=1, where="m")
    assert (base.backbone, base.crop, base.epochs, base.lr, base.scale) == ("resnet18", 64, 2, 0.5, (0.5, 2.0))
    assert (weak.backbone, weak.crop, weak.epochs, weak.lr, weak.scale) == ("resnet18", 64, 3, 1e-3, (1.0, 2.0))
    assert rest == {"alpha": 0.3, "fmwiss": {"beta": 0.8}}


def test_a_section_that_is_no_table_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"^m\.weak must be a mapping of parameters\.$"):
        from_manifest({"weak": 3}, step=1, where="m")
    assert from_manifest({"weak": 3}, step=0, where="m")[0].epochs == 30
    assert from_manifest({"weak": None}, step=1, where="m")[0] == TrainParams()


def test_divided_keeps_everything() -> None:
    known, rest = divided(TrainParams, {"lr": 1, "alpha": 2, "crop": 3})
    assert (known, rest) == ({"lr": 1, "crop": 3}, {"alpha": 2})


def test_no_method_takes_the_name_of_a_parameter_of_the_run() -> None:
    for method in METHODS.values():
        known, rest = divided(TrainParams, method().as_json())
        assert not known
        assert rest == method().as_json()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("epochs", 0, "epochs is 0; it must be at least 1"),
        ("batch_size", 0, "batch_size is 0; it must be at least 1"),
        ("lr", 0.0, "lr is 0.0; it must be above 0"),
        ("lr", float("nan"), "lr is nan; it must be above 0"),
        ("momentum", 1.0, "momentum is 1.0; it must be at least 0 and below 1"),
        ("flip", 1.5, "flip is 1.5; it must be between 0 and 1"),
        ("output_stride", 32, "output_stride is 32; it must be 8 or 16"),
        ("scale", (2.0, 0.5), "two numbers above 0, the smaller first"),
        ("scale", (1.0,), "two numbers above 0, the smaller first"),
        ("scale", (0.0, 1.0), "two numbers above 0, the smaller first"),
        ("area", (2.0, 0.5), "two numbers above 0, the smaller first"),
        ("aspect", (1.0,), "two numbers above 0, the smaller first"),
        (
            "area",
            (0.3, 1.0),
            r"area is \(0.3, 1.0\); it must be left out .* cropping is scaled, which heeds scale",
        ),
        ("decay", "cosine", "decay is 'cosine'; choose one of poly, steps"),
        ("decay_every", 0, "decay_every is 0; it must be at least 1"),
        ("loss_stride", 3, "loss_stride is 3; it must be a divisor of the crop 512"),
        ("accumulate", 5, "accumulate is 5; it must be a divisor of the batch size 24"),
        ("batch_norm", "off", "batch_norm is 'off'; choose one of auto, frozen, train, synchronised"),
        ("optimiser", "adam", "optimiser is 'adam'; choose one of sgd, adamw"),
        ("save_steps", -1, "save_steps is -1; it must be 0 or more"),
        ("clip", -0.1, "clip is -0.1; it must be 0 or more"),
    ],
)
def test_what_has_no_meaning_is_refused(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        TrainParams(**{name: value})


def test_a_scale_that_a_published_crop_does_not_heed_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"scale is \(0.4, 1.2\); it must be left out .* cropping is published"):
        TrainParams(cropping="published", scale=(0.4, 1.2))
    assert TrainParams(cropping="published", area=(0.3, 1.0)).area == (0.3, 1.0)


def test_a_value_of_the_manifest_that_does_not_go_with_what_was_set_is_not_blamed_on_what_was_set() -> None:
    """As `manifest init` writes a manifest: its `scale` stays where somebody sets `cropping=published`."""
    params = TrainParams(scale=(0.6, 1.6))
    with pytest.raises(ParameterError) as refused:
        with_values(params, {"cropping": "published", "epochs": "3"}, where="--set")
    assert str(refused.value) == (
        "--set: with cropping=published, scale is (0.6, 1.6); it must be left out where cropping is published, which "
        "heeds area: --set scale=0.5,2 is its default."
    )
    assert with_values(params, {"cropping": "published", "scale": "0.5,2"}, where="--set").cropping == "published"


def test_json_has_every_parameter() -> None:
    told = TrainParams(rates=(1, 2), backbone_args={"channels": [8]}).as_json()
    assert told.keys() == {field.name for field in dataclasses.fields(TrainParams)}
    assert (told["rates"], told["scale"], told["backbone_args"]) == ([1, 2], [0.5, 2.0], {"channels": [8]})
