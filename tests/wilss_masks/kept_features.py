"""What tests of kept features share: settings, how alike masks are, and a run in which no image is encoded."""

from typing import Any

import numpy as np
import pytest

from tests.built_in import built_in_manifest
from wilss.store import MaskStore
from wilss_masks.sources import FmwissSource

#: The built-in manifest's own settings, at a smaller size.
VALUES: dict[str, Any] = {**built_in_manifest()["masks"]["fmwiss"], "vit_size": 96, "templates": "plain"}


def agreement(one: MaskStore, other: MaskStore) -> float:
    """The share of pixels of all masks that are the same in both."""
    assert list(one.image_ids) == list(other.image_ids)
    return float(np.mean([(one.read(name).masks == other.read(name).masks).mean() for name in one.image_ids]))


def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where an image is to be encoded."""
    monkeypatch.setattr(FmwissSource, "open_networks", lambda *_: pytest.fail("an image was to be encoded"))
