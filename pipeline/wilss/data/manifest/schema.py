"""The shape of data_manifest.yaml. Unknown keys are refused; short forms are written out first."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from wilss.data.layouts.spec import DataModel, NameModel, Part, Text
from wilss.data.manifest.encoders import Encoders
from wilss.data.manifest.text import Key, Where
from wilss.data.taxonomy import COCO, VOC, closest
from wilss.errors import ManifestError

_MOST_ERRORS = 20
_TAXONOMIES = {"voc": VOC, "coco": COCO}


class StepModel(Part):
    """A step: its classes, their supervision and their data."""

    classes: list[Any] | None = None
    supervision: Literal["pixel", "tags", "shots"] | None = None
    data: str | None = None
    split: str | None = None


class EvaluationModel(Part):
    """A part of an evaluation: a split of a data set."""

    data: str | None = None
    split: str | None = None


class LicenseModel(Part):
    """Under which terms something that is used may be used."""

    name: str
    path: str | None = None
    url: str | None = None


class MasksModel(Part, extra="allow"):
    """Parameters by the name of the source that makes masks; and what holds for all of them."""

    preset: str | None = None
    chosen_on: Text | None = None
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)


class ManifestModel(DataModel):
    """A whole manifest; what describes a data set at its top is that of the first one."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
    title: str = ""
    licenses: list[LicenseModel] = Field(default_factory=list)
    names: dict[int, NameModel]
    data: dict[str, DataModel] = Field(default_factory=dict)
    protocol: str | None = None
    steps: list[StepModel] | None = Field(default=None, min_length=1)
    setting: Literal["overlap", "disjoint"] = "overlap"
    encoders: Encoders = Encoders()
    masks: MasksModel = MasksModel()
    train: dict[str, Any] = Field(default_factory=dict)
    background_prompts: list[str] | None = None
    evaluation: dict[str, list[EvaluationModel]] = Field(default_factory=dict)
    supports: Any = None


def parse(content: Any, where: Where) -> ManifestModel:
    """The manifest in its full form.

    Raises ManifestError naming file, line, key path and fix of the first faults.
    """
    if not isinstance(content, dict):
        raise where.error((), "is no mapping of keys; `wilss-masks manifest init` writes one.")
    try:
        return ManifestModel.model_validate(_written_out(content, where), context=where.path.parent)
    except ValidationError as error:
        raise refusal(error, where) from None


def refusal(
    error: ValidationError, where: Where, key: Key = (), model: type[BaseModel] = ManifestModel
) -> ManifestError:
    """The first faults of a text as sentences. key: where it stands in its file; model: what it was read as."""
    faults = error.errors(include_url=False)
    sentences = [f"{where.at((*key, *_key(fault)))}: {_sentence(fault, model)}" for fault in faults[:_MOST_ERRORS]]
    if len(faults) > _MOST_ERRORS:
        sentences.append(f"... and {len(faults) - _MOST_ERRORS} more.")
    return ManifestError("\n".join(sentences))


def _written_out(content: dict[str, Any], where: Where) -> dict[str, Any]:
    """Short forms in full: `names: voc`, `names: [background, cat]`, `splits: {train: train}`, `tags: masks`.

    A key whose lines below are all commented out is not there.
    """
    full = _data_written_out({key: value for key, value in content.items() if value is not None}, where, ())
    data = full.get("data")
    if isinstance(data, dict):
        full["data"] = {
            name: _data_written_out(one, where, ("data", name)) if isinstance(one, dict) else one
            for name, one in data.items()
        }
    evaluation = full.get("evaluation")
    if isinstance(evaluation, dict):
        full["evaluation"] = {split: _listed(parts) for split, parts in evaluation.items()}
    return full


def _data_written_out(content: dict[str, Any], where: Where, key: Key) -> dict[str, Any]:
    full = dict(content)
    if "names" in full:
        full["names"] = _names(full["names"], where, (*key, "names"))
    if isinstance(splits := full.get("splits"), dict):
        full["splits"] = {k: {"list": v} if isinstance(v, str) else v for k, v in splits.items()}
    if isinstance(tags := full.get("tags"), str):
        full["tags"] = {"from": tags}
    return full


def _names(names: Any, where: Where, key: Key) -> Any:
    if isinstance(names, str):
        if names not in _TAXONOMIES:
            raise where.error(
                key, f"{names!r} is no known set of names{closest(names, _TAXONOMIES)}; or write them out."
            )
        names = list(_TAXONOMIES[names].class_names)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        return {k: {"name": v} if isinstance(v, str) else v for k, v in names.items()}
    return names


def _listed(parts: Any) -> Any:
    if isinstance(parts, list):
        return [{"data": part} if isinstance(part, str) else part for part in parts]
    return parts


# -- pydantic's findings as sentences -----------------------------------------------------------------------


def _key(error: ErrorDetails) -> Key:
    return tuple(part for part in error["loc"] if part != "[key]")


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    kind, value = error["type"], error["input"]
    if kind == "sentence":
        return error["msg"]
    if kind == "extra_forbidden":
        loc = error["loc"]
        return f"{loc[-1]!r} is not a key here{closest(str(loc[-1]), _keys_at(loc[:-1], model))}."
    if kind == "model_type":
        return f"is {value!r}; it must be a mapping of keys to values."
    if kind == "missing":
        return "this key is missing; add it."
    if kind == "literal_error":
        return f"is {value!r}; it must be {error['ctx']['expected']}."
    if kind == "string_pattern_mismatch":
        return f"is {value!r}; {_PATTERNS.get(str(error['loc'][-1]), error['msg'])}."
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"YAML reads this as {value!r}; put it in quotes."
    shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:37]}..."
    return f"is {shown}; {error['msg'][:1].lower()}{error['msg'][1:]}."


_PATTERNS = {
    "name": "a manifest's name is made of a-z, 0-9, `.`, `_` and `-`",
    "sha256": "a sha256 is 64 hexadecimal digits",
}


def _keys_at(loc: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    """The keys that the model at `loc` of `model` knows."""
    for part in loc:
        known = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if known is not None:
            model = next(iter(_models_in(known.annotation)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
