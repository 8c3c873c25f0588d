"""One line of a journal: JSON in ASCII, so that no text of anybody's ends it early; read as data that anybody wrote."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from wilss.store.verdicts import VERDICTS, Verdict

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BadLineError(Exception):
    """A line that is no event; it says why."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A correction; see `Correction`. mask_digest: of the mask's file, or None."""

    image_id: str
    category: int
    verdict: Verdict
    mask_digest: str | None
    tag: bool | None
    author: str
    at: datetime
    origin: str


@dataclass(frozen=True, kw_only=True)
class Undo:
    """The correction `event_id` is taken back."""

    event_id: str
    author: str
    at: datetime


def line_of(line: Line | Undo) -> bytes:
    """The bytes of a line, with its end."""
    if isinstance(line, Undo):
        fields: dict[str, Any] = {"undo": line.event_id, "author": line.author, "at": line.at.isoformat()}
    else:
        fields = {
            "image": line.image_id,
            "category": line.category,
            "verdict": line.verdict,
            "mask": line.mask_digest,
            "tag": line.tag,
            "author": line.author,
            "at": line.at.isoformat(),
            "origin": line.origin,
        }
    return json.dumps(fields).encode("ascii") + b"\n"


def parsed(raw: bytes) -> Line | Undo:
    """What a line says. Raises BadLineError."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadLineError("it is no JSON") from None
    if not isinstance(fields, dict):
        raise BadLineError("it is no JSON object")
    author, at = _text(fields, "author"), _time(fields)
    if "undo" in fields:
        return Undo(event_id=_text(fields, "undo"), author=author, at=at)
    line = Line(
        image_id=_text(fields, "image"),
        category=_category(fields),
        verdict=_verdict(fields),
        mask_digest=_digest(fields),
        tag=_tag(fields),
        author=author,
        at=at,
        origin=_text(fields, "origin"),
    )
    _require_consistent(line)
    return line


def _require_consistent(line: Line) -> None:
    """The rules of `Correction`, without its mask."""
    brings = line.mask_digest is not None or line.tag is not None
    if brings != (line.verdict == "corrected"):
        raise BadLineError("a mask or tag belongs to a correction, and a correction has one")
    if line.tag is False and line.mask_digest is not None:
        raise BadLineError("it brings a mask of a class that the image is said not to hold")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadLineError(f"{name} is no text")
    return value


def _time(fields: dict[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(_text(fields, "at"))
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadLineError("at is no time with a time zone")


def _category(fields: dict[str, Any]) -> int:
    value = fields.get("category")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 256:
        raise BadLineError("category is no number of a class")
    return value


def _verdict(fields: dict[str, Any]) -> Verdict:
    value = fields.get("verdict")
    if value not in VERDICTS:
        raise BadLineError(f"verdict is none of {', '.join(VERDICTS)}")
    return cast(Verdict, value)


def _digest(fields: dict[str, Any]) -> str | None:
    value = fields.get("mask")
    if value is not None and not (isinstance(value, str) and _DIGEST.fullmatch(value)):
        raise BadLineError("mask is no digest")
    return value


def _tag(fields: dict[str, Any]) -> bool | None:
    value = fields.get("tag")
    if not (value is None or isinstance(value, bool)):
        raise BadLineError("tag is neither true, false nor null")
    return value
