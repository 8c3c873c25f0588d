"""Where things are kept that can be made again."""

import contextlib
import os
from pathlib import Path


def cache_folder(kind: str) -> Path | None:
    """The folder of one kind of things: in `WILSS_CACHE`, else the user's cache folder; None without a home."""
    if named := os.environ.get("WILSS_CACHE"):
        return Path(named).expanduser() / kind
    with contextlib.suppress(RuntimeError):
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "wilss" / kind
    return None
