"""`verdicts.json`: what somebody said on a page of files, on its way back. Read as data that anybody may have written.

    {"format": "wilss-verdicts", "format_version": 1, "store": "step-1.zarr", "digest": ..., "author": ...,
     "corrections": [{"image": id, "category": 16, "verdict": ..., "runs": [...] or null, "tag": ..., "at": ...}]}

`runs` are run lengths of the corrected mask, row by row, outside first.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from wilss.data.layouts.files import read_text
from wilss.data.taxonomy import VOID
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss.store.verdicts import Verdict

from .corrections import Correction
from .given import read_given
from .journal import Event, Journal
from .runs import mask_of

ORIGIN = "static page"
_NOBODY = "unnamed"


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image: str
    category: int = Field(gt=0, le=VOID)
    verdict: Verdict
    runs: list[int] | None = None
    tag: bool | None = None
    at: AwareDatetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["wilss-verdicts"]
    format_version: Literal[1]
    store: str
    digest: str
    author: str = Field(default="", max_length=200)
    corrections: list[_Said]


def read_verdicts(path: Path, store: MaskStore, author: str = "") -> Iterator[Correction]:
    """What the file says, one correction at a time. author: of a file that names nobody.

    Raises StoreError, before the first, where it is no such file or of another store; StoreError or ImageError for an
    image that the store does not hold or a mask of another size.
    """
    try:
        file = _File.model_validate_json(read_given(path, read_text))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise StoreError(
            f"{path} is not the verdicts.json of a review ({where}: {first['msg']}); ask for it again."
        ) from None
    if file.digest != store.digest:
        raise StoreError(
            f"{path} is of another store than {store.path} (it says {file.store}, digest {file.digest[:12]}; here "
            f"{store.digest[:12]}); name the store that the page was made of."
        )
    return (_correction(said, file.author.strip() or author or _NOBODY, store) for said in file.corrections)


class Imported(NamedTuple):
    """How many verdicts of a file were taken over, and how many stood already."""

    taken: int
    known: int


def import_verdicts(path: Path, journal: Journal) -> Imported:
    """Take over what the file says into a journal, but for what stands there already.

    A file that names nobody is the journal's author's.
    Raises what `read_verdicts` raises; then nothing is taken over.
    """
    standing = journal.latest()
    corrections = list(read_verdicts(path, journal.store, journal.author))
    new = [one for one in corrections if not _stands(one, standing.get((one.image_id, one.category)))]
    journal.extend(new)
    return Imported(len(new), len(corrections) - len(new))


def _stands(correction: Correction, event: Event | None) -> bool:
    """Whether this very correction stands: the file was taken over before."""
    return event is not None and all(
        getattr(event, name) == getattr(correction, name) for name in ("verdict", "author", "at", "origin")
    )


def _correction(said: _Said, author: str, store: MaskStore) -> Correction:
    mask = None
    if said.runs is not None:
        row = store.position(said.image)
        mask = mask_of(said.runs, int(store.vector("height")[row]), int(store.vector("width")[row]))
    return Correction(
        image_id=said.image,
        category=said.category,
        verdict=said.verdict,
        mask=mask,
        tag=said.tag,
        author=author,
        at=said.at.astimezone(UTC) if isinstance(said.at, datetime) else said.at,
        origin=ORIGIN,
    )
