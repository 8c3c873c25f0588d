"""The rows of a support list: an image, a class on it, and where that class is.

Only the form is checked here; whether images, classes and files are there is for `wilss.data.supports` to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wilss.data.manifest.schema import refusal
from wilss.data.manifest.text import Key, Where
from wilss.data.protocol import StepProtocol
from wilss.disk import joined

_Box = Annotated[list[int], Field(min_length=4, max_length=4)]
_Point = Annotated[list[int], Field(min_length=2, max_length=2)]
_Line = Annotated[list[_Point], Field(min_length=1)]


class SupportRow(BaseModel):
    """One support as it is written down.

    cls: an id or a name of a class. file: a PNG of 0 background, 1 the class, 255 unknown. box, boxes: left, top,
    right, bottom in pixels. points, background: column and row of the points of a line on the object, and beside it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    cls: Any = Field(alias="class")
    kind: Literal["mask", "box", "scribble"] = "mask"
    file: str | None = None
    box: _Box | None = None
    boxes: list[_Box] | None = Field(default=None, min_length=1)
    points: _Line | None = None
    background: _Line | None = None


_ROWS = TypeAdapter(list[SupportRow])


@dataclass(frozen=True, kw_only=True)
class SupportList:
    """The supports of a step as the manifest gives them: a path, or rows that stand at `key` of `where`."""

    where: Where
    key: Key
    path: Path | None = None
    rows: tuple[SupportRow, ...] = ()


def build_supports(given: Any, protocol: StepProtocol, where: Where) -> Mapping[int, SupportList]:
    """`supports:` of a manifest, by step. Raises ManifestError with line and key path."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise where.error(("supports",), "must name supports by step; write e.g. `supports: {1: supports.yaml}`.")
    return {_step(step, protocol, where): _list(content, where, ("supports", step)) for step, content in given.items()}


def parse_rows(content: Any, where: Where, key: Key = ()) -> tuple[SupportRow, ...]:
    """The rows of a list. Raises ManifestError naming file, line, key path and fix of the first faults."""
    if not isinstance(content, list) or not content:
        raise where.error(key, "is no list of supports; write e.g. `- {image: im1, class: cat, box: [10, 5, 60, 40]}`.")
    try:
        return tuple(_ROWS.validate_python([_with_kind(row) for row in content]))
    except ValidationError as error:
        raise refusal(error, where, key, SupportRow) from None


def _step(step: Any, protocol: StepProtocol, where: Where) -> int:
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < protocol.num_steps:
        raise where.error(
            ("supports", step), f"{step!r} is no step of {protocol.name}; its steps are 0 to {protocol.num_steps - 1}."
        )
    return step


def _list(content: Any, where: Where, key: Key) -> SupportList:
    if isinstance(content, str):
        path = joined(where.path.parent, where.expanded(content, key))
        return SupportList(where=where, key=key, path=path)
    return SupportList(where=where, key=key, rows=parse_rows(content, where, key))


def _with_kind(row: Any) -> Any:
    """A row with the kind that its numbers imply, where it names none."""
    if not isinstance(row, dict) or "kind" in row:
        return row
    if "box" in row or "boxes" in row:
        return {**row, "kind": "box"}
    return {**row, "kind": "scribble"} if "points" in row else row
