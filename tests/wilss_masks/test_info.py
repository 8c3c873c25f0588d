"""What `info` prints of a store, long facts on lines of their own, and `verify` of one that is not complete."""

import json
from pathlib import Path
from typing import Any

from tests.faults.cli import wilss_masks
from tests.wilss_masks.stores import make_store
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


def test_verify_says_what_an_incomplete_store_lacks_and_what_goes_on_with_it(tmp_path: Path) -> None:
    unsealed, unfinished = make_store(tmp_path / "a.zarr").path, make_store(tmp_path / "b.zarr", finish=False).path
    root = Path(str(unsealed)) / "zarr.json"
    said = json.loads(root.read_text(encoding="utf-8"))
    del said["attributes"]["seal"]
    root.write_text(json.dumps(said), encoding="utf-8")
    for store, lacks in ((unsealed, "a seal"), (unfinished, "1 shard")):
        told = wilss_masks("verify", store)
        assert told.code == 1
        assert f"the store is not complete, without {lacks}: run the same `wilss-masks generate` again" in told.out
    export = ("export", "voc", unsealed, tmp_path)
    assert "a.zarr is not complete: it has no seal; run the same `wilss-masks generate`" in wilss_masks(*export).err
    said["attributes"]["fused_from"] = {}
    root.write_text(json.dumps(said), encoding="utf-8")
    for printed in (wilss_masks("verify", unsealed).out, wilss_masks(*export).err):
        assert "run the same `wilss-masks fuse` again with --overwrite" in printed
