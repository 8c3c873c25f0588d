"""The review beside a store: where it lies, and of which store it is. `wilss_masks.review` writes and reads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..disk import Location
from ..errors import StoreError, first_line
from .store import MaskStore

ABOUT = "review.json"
#: Of the files that verdicts are appended to, one for each process that judged.
EVENTS = "events-{writer}.jsonl"


def folder_beside(store: Location) -> Path:
    """`step-1.review` of `step-1.zarr`; of a store in a bucket, where nothing can be appended, in this folder."""
    beside = store if isinstance(store, Path) else Path(store.name)
    return beside.with_name(f"{store.name.removesuffix('.zarr')}.review")


def is_of(folder: Path, store: MaskStore) -> bool:
    """Whether a folder is a review, and of this very store. Raises StoreError where it cannot be read."""
    about = read_about(folder)
    return about is not None and about.get("digest") == store.digest


def read_about(folder: Path) -> Mapping[str, Any] | None:
    """What a review says of itself, None where there is none. Raises StoreError where it cannot be read."""
    path = folder / ABOUT
    if not path.exists():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({first_line(error)}); bring it back from a copy.") from error
    return cast(Mapping[str, Any], about) if isinstance(about, dict) else {}


def judged_beside(store: MaskStore) -> str:
    """A sentence where the review beside a complete store says something of its masks; empty where it does not."""
    folder = folder_beside(store.path)
    try:
        if not is_of(folder, store):
            return ""
    except StoreError as error:
        return str(error)
    if not any(path.stat().st_size for path in folder.glob(EVENTS.format(writer="*"))):
        return ""
    return (
        f"{folder} holds what people said of the masks, {store.path} does not; `wilss-masks revise {store.path}` makes "
        "a store with it."
    )
