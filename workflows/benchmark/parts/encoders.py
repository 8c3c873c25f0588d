"""Encoders beside each other: DINOv3 per GFLOP, one model for both jobs, and the memory of a large input.

All with untrained weights, which cost the same time.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import interleaved, ratios
from torch import Tensor

from wilss.data.manifest import EncoderSpec
from wilss.equations import fmwiss
from wilss.models.encoders.both import open_both
from wilss.models.encoders.clip.encoder import open_clip_encoder
from wilss.models.encoders.vit.encoder import SeedViT, open_vit, seed_rows

from .common import row
from .flops import counter

DINO, DINOV3 = "vit_small_patch16_224.dino", "vit_small_patch16_dinov3"
#: A CLIP whose tokenizer is in the package, and whose tower is timm's.
SHARED = "EVA02-B-16"
SEEDS = 9

_CHILD = """
import json
from pathlib import Path
import torch
from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.vit.encoder import open_vit
torch.set_num_threads(1)
vit = open_vit(EncoderSpec(library="timm", model={model!r}, pretrained="random:1"), "cpu")
vit.last_block(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
vit.last_block(torch.zeros(1, 3, {side}, {side}, dtype=torch.uint8))
print(json.dumps(status("VmHWM") - before))
"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Per GFLOP, both jobs, memory."""
    return [_per_gflop(quick), _both_jobs(quick), _memory(quick)]


def _spec(model: str, library: Any = "timm") -> EncoderSpec:
    return EncoderSpec(library=library, model=model, pretrained="random:1")


def _images(side: int, count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _per_gflop(quick: bool) -> dict[str, Any]:
    """Seeds' rows of one tag, from uint8 images."""
    side, repeats = (128, 1) if quick else (512, 7)
    images = _images(side, 1)
    actions = {name: _rows(open_vit(_spec(name), "cpu"), images) for name in (DINO, DINOV3)}
    gflop = {name: _gflop(action) for name, action in actions.items()}
    taken = interleaved(actions, repeats)
    per = {name: [seconds / gflop[name] for seconds in taken[name]] for name in taken}
    return row(f"seeds' rows at {side}, DINOv3-S over DINO-S, GFLOP/s", ratios(per[DINO], per[DINOV3]),
               "at least 0.95", gflop=gflop)  # fmt: skip


def _rows(vit: SeedViT, images: Tensor) -> Callable[[], Tensor]:
    def rows() -> Tensor:
        block = vit.last_block(images)
        points = torch.arange(SEEDS)[:, None].expand(SEEDS, 2) % block.grid[0]
        seeds = seed_rows(block, 0, points, "qk")
        return fmwiss.seed_attention(seeds, block.keys[0], prefix=block.prefix, affinity="qk")

    return rows


def _gflop(action: Callable[[], object]) -> float:
    with torch.inference_mode(), counter() as counted:
        action()
    return float(counted.get_total_flops()) / 1e9


def _both_jobs(quick: bool) -> dict[str, Any]:
    """What clip and vit of one size take, over what one model takes that is both."""
    repeats, images = (1, _images(64, 1)) if quick else (7, _images(224, 4))
    spec = _spec(SHARED, "open_clip")
    clip, vit, both = open_clip_encoder(spec, "cpu"), open_vit(spec, "cpu"), open_both(spec, "cpu")

    def two() -> None:
        clip.features(images)
        vit.last_block(images)

    taken = interleaved({"two": two, "one": lambda: both.features_and_block(images)}, repeats)
    return row(f"{SHARED}, one model for both jobs over two of its size, images/s",
               ratios(taken["two"], taken["one"]), "at least 1.7")  # fmt: skip


def _memory(quick: bool) -> dict[str, Any]:
    side = 512 if quick else 2048
    code = _CHILD.format(model=DINOV3, side=side)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout.splitlines()[-1])
    tokens = (side // 16) ** 2
    return row(f"peak memory for an input of {side} x {side}, DINOv3-S, MiB beside the network",
               f"{peak / 2**20:.0f}", "less than one L x L map of its 6 heads", peak=peak,
               map=4 * 6 * tokens**2)  # fmt: skip
