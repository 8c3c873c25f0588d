"""What `info` prints of a store: short facts on a line, long ones on lines of their own, nothing left blank."""

from typing import Any

from wilss_masks.commands.info import _lines


def test_facts_are_told_in_lines_that_can_be_read() -> None:
    clip: dict[str, Any] = {
        "library": "open_clip",
        "args": {},
        "revision": None,
        "sha256": "a" * 64,
        "mean": [0.5, 0.5, 0.5],
    }
    vit: dict[str, Any] = {"library": "timm", "args": {}, "revision": None, "patch": 16}
    facts: dict[str, Any] = {
        "complete": True,
        "masks": {"cat": {"id": 1, "masks": 0, "mean confidence": None}, "dog": {"id": 2, "mean confidence": 0.5}},
        "failed": {},
        "made with": {
            "limit": None,
            "models": {"clip": clip, "vit": vit},
            "parameters": {"draws": 4, "guided_eps": 0.0001},
        },
    }
    assert list(_lines(facts)) == [
        "complete: True",
        "masks:",
        "  cat: id 1, masks 0",
        "  dog: id 2, mean confidence 0.500",
        "failed: none",
        "made with:",
        "  limit: none",
        "  models:",
        "    clip:",
        "      library: open_clip",
        "      args: none",
        "      revision: none",
        f"      sha256: {'a' * 64}",
        "      mean: 0.500, 0.500, 0.500",
        "    vit: library timm, patch 16",
        "  parameters: draws 4, guided_eps 0.0001",
    ]
