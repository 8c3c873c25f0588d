"""What every method of the table offers, whatever it learns from."""

import dataclasses
import json

import pytest

from wilss.errors import ParameterError
from wilss.params import with_values
from wilss_train.methods import METHODS
from wilss_train.params import TrainParams


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_frozen_dataclass_that_tells_all_its_parameters(name: str) -> None:
    method = METHODS[name]()
    assert method.name == name
    told = method.as_json()
    assert json.loads(json.dumps(told)) == told
    assert list(told) == [field.name for field in dataclasses.fields(method)]  # type: ignore[arg-type]
    assert method == METHODS[name]()
    for field in told:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field, told[field])


@pytest.mark.parametrize("name", METHODS)
def test_a_parameter_is_the_methods_or_the_runs(name: str) -> None:
    """`--set` looks a name up in both."""
    runs = {field.name for field in dataclasses.fields(TrainParams)}
    assert not runs & set(METHODS[name]().as_json())


@pytest.mark.parametrize("name", METHODS)
def test_wrong_parameters_are_refused_in_a_sentence(name: str) -> None:
    method = METHODS[name]()
    with pytest.raises(ParameterError, match=r"--set: there is no parameter 'alhpa'"):
        with_values(method, {"alhpa": 1}, where="--set")
    for field, value in method.as_json().items():
        if isinstance(value, float):
            with pytest.raises(ParameterError, match=f"--set: .*{field}"):
                with_values(method, {field: -1.0}, where="--set")


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_is_explained(name: str) -> None:
    doc = METHODS[name].__doc__ or ""
    assert not [field for field in METHODS[name]().as_json() if field not in doc]
