"""From a manifest to a store with encoders of today's forms, untrained and tiny: SigLIP's says what, DINOv3's where."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.built_in import manifest_of_few
from tests.wilss.models.encoders import tiny
from tests.wilss.models.encoders.clip.test_timm_towers import vision_of
from tests.wilss.models.encoders.texts import tokenizer_folder
from wilss import load_manifest
from wilss.models.encoders import hub
from wilss.store import MaskStore
from wilss_masks import FmwissSource, Options, generate
from wilss_masks.commands.generate import command as generate_command
from wilss_masks.commands.info import command as info_command

TEXT = tiny.TEXT | {"hf_tokenizer_name": "some/siglip2", "tokenizer_kwargs": {"clean": "canonicalize"}}
SMALL = {"embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("today")
    tiny.clip_config(folder, vision_of("SigLIP"), embed_dim=32, custom_text=True, text_cfg=TEXT)
    tokenizer_folder(folder / "words", "siglip2")
    return folder


def manifest_in(folder: Path, vit: Any) -> Path:
    """Four drawings; the tokenizer is a folder beside the manifest."""
    clip = {"library": "open_clip", "config": "clip.json", "pretrained": "random:1", "tokenizer": "words"}
    masks = {"fmwiss": {"clip_size": 64, "vit_size": 64, "templates": "plain"}}
    return manifest_of_few(folder, drawn=(4, 1), encoders={"clip": clip, "vit": vit}, masks=masks)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("vit", "told"),
    [
        ({"library": "timm", "model": "vit_small_patch16_dinov3", "pretrained": "random:1", "args": SMALL}, "vit timm"),
        ("same", "for both jobs; it encodes each image once"),
    ],
    ids=["DINOv3", "same"],
)
def test_masks_are_made_offline(folder: Path, monkeypatch: pytest.MonkeyPatch, vit: Any, told: str) -> None:
    monkeypatch.setattr(hub, "require_connection", lambda *_: pytest.fail("the hub was asked"))
    path = manifest_in(folder, vit)
    manifest = load_manifest(path)
    source = FmwissSource.from_manifest(manifest, 1)
    out = folder / f"{told[:3]}.zarr"
    summary = generate(manifest, step=1, source=source, out=out, options=Options(keep_scores=True))
    assert (summary.done, dict(summary.failed)) == (summary.images, {})
    assert generate(manifest, step=1, source=source, out=out, options=Options(keep_scores=True)).made_now == 0
    models = MaskStore.open(out).attributes["models"]
    assert models["vit"]["family"] == ("DINOv3" if isinstance(vit, dict) else models["clip"]["family"])
    dry = CliRunner().invoke(generate_command, ["--step", "1", "--dry-run", "--manifest", str(path)])
    assert told in dry.stdout
    facts = json.loads(CliRunner().invoke(info_command, [str(out), "--json"]).stdout)
    assert ("for both jobs" in facts["encoders"]) == (vit == "same")
