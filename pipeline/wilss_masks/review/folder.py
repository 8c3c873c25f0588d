"""The folder of a review, and of which store it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from wilss.disk import Location, make_folder, write_atomically
from wilss.errors import StoreError, first_line
from wilss.store import MaskStore

from .event_files import LOCK

FORMAT, FORMAT_VERSION = "wilss-review", 1
ABOUT, MASKS = "review.json", "masks"


def folder_beside(store: Location) -> Path:
    """`step-1.review` of `step-1.zarr`; of a store in a bucket, where nothing can be appended, in this folder."""
    beside = store if isinstance(store, Path) else Path(store.name)
    return beside.with_name(f"{store.name.removesuffix('.zarr')}.review")


def is_of(folder: Path, store: MaskStore) -> bool:
    """Whether a folder is a review, and of this very store. Raises StoreError where it cannot be read."""
    about = _read_about(folder)
    return about is not None and about.get("digest") == store.digest


def require_review_of(folder: Path, store: MaskStore, must_exist: bool, *, or_another: bool = False) -> None:
    """Raise StoreError unless the folder is a review of this very store, or there is none yet and it need not exist.

    or_another: whether it may be of another store.
    """
    about = _read_about(folder)
    if about is None:
        if must_exist:
            raise StoreError(f"{folder} is no review; judge masks with `wilss-masks review {store.path}` first.")
        if folder.exists() and _holds_other_things(folder):
            raise StoreError(f"{folder} is there and is no review; name another folder with --review.")
        return
    version = about.get("format_version")
    if about.get("format") != FORMAT or not isinstance(version, int):
        raise StoreError(f"{folder / ABOUT} is not that of a review; name another folder with --review.")
    if version > FORMAT_VERSION:
        raise StoreError(f"{folder} has format_version {version}, this wilss reads up to {FORMAT_VERSION}; upgrade it.")
    if about.get("digest") != store.digest and not or_another:
        raise StoreError(
            f"{folder} is a review of another store than {store.path} (digest {str(about.get('digest'))[:12]} there, "
            f"{store.digest[:12]} here); bring that store back, or name another folder with --review."
        )


def _read_about(folder: Path) -> Mapping[str, Any] | None:
    path = folder / ABOUT
    if not path.exists():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({first_line(error)}); bring it back from a copy.") from error
    return cast(Mapping[str, Any], about) if isinstance(about, dict) else {}


def _holds_other_things(folder: Path) -> bool:
    """Whether a folder without `review.json` is anything but what a kill left of a review's beginning."""
    return not folder.is_dir() or any(
        path.name not in (MASKS, LOCK) and not path.name.startswith(f"{ABOUT}.") for path in folder.iterdir()
    )


def begin(folder: Path, store: MaskStore) -> None:
    """Make the folder and say of which store it is, where that is not done. Raises OSError."""
    make_folder(folder / MASKS)
    if not (folder / ABOUT).exists():
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "store": store.path.name, "digest": store.digest}
        write_atomically(folder / ABOUT, json.dumps(about, indent=2).encode("utf-8"))
