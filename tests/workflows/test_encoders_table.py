"""The table of encoders says what the package does: families, licences and dense forms, of models that are taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.configs import check_tower, clip_config, form_of
from wilss.models.encoders.known import family_and_licence

ROOT = Path(__file__).parents[2]
ROWS: list[dict[str, Any]] = json.loads((ROOT / "workflows/encoders/figures.json").read_text(encoding="utf-8"))["rows"]


@pytest.mark.parametrize("row", ROWS, ids=[row["key"] for row in ROWS])
def test_a_row_is_as_the_package_has_it(row: dict[str, Any]) -> None:
    assert (row["family"], row["licence"]) == family_and_licence(row["key"], row["job"])
    if row["job"] == "what":
        spec = EncoderSpec(library="open_clip", model=row["key"])
        check_tower(clip_config(spec)["model_cfg"], row["key"])
        assert row["form"] == form_of(spec)
