"""A batch of masks waits for the device where seeds are drawn, and at its end: nowhere else, whatever the recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pretend_device import DEVICE, There, moved, pretending
from tests.wilss_masks.sources.test_fmwiss import folder, source, task
from wilss.models import devices
from wilss.store import ImageContent
from wilss_masks.sources import FmwissSource

__all__ = ["folder", "source"]  # pytest's fixtures

RECIPES: dict[str, dict[str, Any]] = {
    "drawn": {},
    "literal": {"affinity": "qk", "background": "softmax", "draws": 2, "keep": "std", "keep_amount": 0.5},
    "soft": {
        "placing": "soft", "affinity": "qk", "passes": 2, "fusion": "seeds", "classes": "compete",
        "boundaries": "guided", "guided_radius": 4, "guided_step": 2,
    },
    "balanced": {"placing": "soft", "affinity": "kk", "balance": "sinkhorn", "squared": True},
}  # fmt: skip


def made(proposer: Any, folder: Path) -> list[ImageContent]:
    tasks = [task(folder, 0), task(folder, 0, (1, 2))]
    contents: list[ImageContent] = proposer.propose(tasks, [proposer.load(one) for one in tasks])
    return contents


def there(proposer: Any) -> Any:
    """The proposer with its networks on the device."""
    for name in ("clip", "vit"):
        encoder = getattr(proposer, name)
        moved(encoder.network)
        setattr(proposer, name, replace(encoder, device=DEVICE))
    proposer.text = There(proposer.text)
    return proposer


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_waits_for_its_scores_and_for_its_masks_alone(
    source: FmwissSource, folder: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    source = replace(source, params=replace(source.params, **RECIPES[recipe]))
    expected = made(source.open("cpu", 1), folder)
    order: list[str] = []
    begun, read = devices.Fetched.__init__, devices.Fetched.tensor
    monkeypatch.setattr(devices.Fetched, "__init__", lambda self, values: [order.append("ask"), begun(self, values)][1])
    monkeypatch.setattr(devices.Fetched, "tensor", lambda self: [order.append("wait"), read(self)][1])
    with pretending(monkeypatch) as record:
        found = made(there(source.open("cpu", 1)), folder)
    assert record.waits == []
    last = len(order) - order[::-1].index("ask")
    middle = [order[i] for i in range(last) if order[i] == "wait"]
    assert len(middle) == (2 if source.params.placing == "drawn" else 0)  # the scores of two images, asked for together
    assert set(order[last:]) == {"wait"}
    for one, other in zip(found, expected, strict=True):
        for name, planes in other.planes.items():
            for category, plane in planes.items():
                np.testing.assert_array_equal(one.planes[name][category], plane)
        assert (one.confidence, one.agreement, one.area) == (other.confidence, other.agreement, other.area)
        assert one.fallback == other.fallback
