"""The folder of a review: begun for one store, refused for another."""

import json
from pathlib import Path

from wilss.disk import make_folder, write_atomically
from wilss.errors import StoreError
from wilss.store import MaskStore
from wilss.store.review_folder import ABOUT, read_about

from .event_files import LOCK

FORMAT, FORMAT_VERSION = "wilss-review", 1
MASKS = "masks"


def require_review_of(folder: Path, store: MaskStore, must_exist: bool, *, or_another: bool = False) -> None:
    """Raise StoreError unless the folder is a review of this very store, or there is none yet and it need not exist.

    or_another: whether it may be of another store.
    """
    about = read_about(folder)
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
