"""From checkpoints to what the package carries: fp16 safetensors, the json config, digests, figures and a page."""

import hashlib
import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipe import clip, vit
from recipe.data import HELD_OUT_SEED
from wilss.data.shapes import Style, draw

#: Both weights files together, in bytes.
LIMIT = 12_000_000

PAGE = """# The built-in encoders

Two small networks for the built-in data (`wilss.data.shapes`), trained by `workflows/shapes/train_encoders.py` on
drawings of seed 1000; no data set that is evaluated uses that seed. `encoders.json` holds the same facts for programs.

| | `clip.safetensors` | `vit.safetensors` |
|---|---|---|
| what | open_clip CLIP of `clip.json` | timm `{vit[model]}` with the args in `encoders.json` |
| learned from | pictures and captions made of their tags | pictures alone |
| loss | open_clip's `ClipLoss` | DINO and co-occurrence (see `recipe/vit.py`) |
| command | `{clip[command]}` | `{vit[command]}` |
| steps x batch | {clip[steps]} x {clip[batch]} | {vit[steps]} x {vit[batch]} |
| time | {clip[minutes]} min, threads: {clip[threads]} | {vit[minutes]} min, threads: {vit[threads]} |
| held-out pictures | top-1 {clip[top1]:.3f} (500 of one object) | seed attention {vit[area]:.3f} (150) |
| size | {clip[bytes]} bytes | {vit[bytes]} bytes |
| sha256 | `{clip[sha256]}` | `{vit[sha256]}` |

Use open_clip's own mean and spread for the CLIP, ImageNet's for the transformer. Prompts: OpenAI's 80 templates, the
class names, and for the background the words {words}.
Other words were never read in training, and their rows of the token table are zero.

The transformer's figure is the area under the ROC curve of its last block's query-key attention against the object
that nine random seeds lie on; untrained it is {vit[untrained]:.3f}. That attention was itself trained to fall on what
lies together, so the paper's affinity (`qk`) localises.

{remark}

Licence: as the package (Apache-2.0); nothing in them comes from other weights or data.
"""


def export(checkpoints: Path, package: Path, remark: str) -> dict[str, Any]:
    """Write the encoders, clip.json, encoders.json and README.md into `package`; returns encoders.json's content."""
    clip.write_config(package / "clip.json")
    facts = {"clip": _export_clip(checkpoints, package), "vit": _export_vit(checkpoints, package)}
    total = sum(entry["bytes"] for entry in facts.values())
    if total > LIMIT:
        raise ValueError(f"the encoders take {total} bytes together; at most {LIMIT} go into the package.")
    (package / "encoders.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    words = ", ".join(clip.BACKGROUND_WORDS)
    (package / "README.md").write_text(PAGE.format(**facts, words=words, remark=remark), encoding="utf-8")
    return facts


def _export_clip(checkpoints: Path, package: Path) -> dict[str, Any]:
    saved = torch.load(checkpoints / "clip.pt", weights_only=True)
    vocabulary = clip.SmallVocabulary()
    small = clip.small_model(vocabulary)
    small.load_state_dict(saved["networks"]["clip"])
    path = _write(package / "clip.safetensors", clip.full_state(small, vocabulary))
    shipped = open_clip.CLIP(**clip.CONFIG)
    shipped.load_state_dict(load_file(path), strict=True)
    single = [draw(HELD_OUT_SEED, i, Style(objects=(1, 1))) for i in range(500)]
    return _facts(path, saved) | {"top1": clip.zero_shot_top1(shipped, vocabulary.tokenizer, single)}


def _export_vit(checkpoints: Path, package: Path) -> dict[str, Any]:
    saved = torch.load(checkpoints / "vit.pt", weights_only=True)
    torch.manual_seed(0)  # of the untrained figure
    network = vit.Network()
    held_out = [draw(HELD_OUT_SEED, i) for i in range(150)]
    untrained = vit.localisation(network, held_out)
    network.load_state_dict(saved["networks"]["teacher"])
    path = _write(package / "vit.safetensors", network.vit.state_dict())
    timm.create_model(vit.ARCHITECTURE, **vit.ARGS).load_state_dict(load_file(path), strict=True)
    network.vit.load_state_dict(load_file(path), strict=True)
    figures = {"area": vit.localisation(network, held_out), "untrained": untrained}
    return _facts(path, saved) | figures | {"model": vit.ARCHITECTURE, "args": vit.ARGS}


def _write(path: Path, state: dict[str, Tensor]) -> Path:
    save_file({name: value.half().contiguous() for name, value in state.items()}, path)
    path.chmod(0o644)
    return path


def _facts(path: Path, saved: dict[str, Any]) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "command": saved["facts"]["command"],
        "steps": saved["step"],
        "batch": saved["facts"]["batch"],
        "minutes": round(saved["seconds"] / 60),
        "threads": saved["facts"]["threads"],
    }
