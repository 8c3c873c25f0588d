"""What the stages between evidence and masks cost, beside a forward pass of ViT-B/16, and the memory that they take.

Evidence has the grid of ViT-B/16, the picture is drawn; both are of 512 and of 1,024 pixels, with two tags and with
twenty.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import Figure, figure, interleaved, ratios
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.vit.encoder import open_vit
from wilss_masks.stages.chain import run_stages
from wilss_masks.stages.params import StageParams

from .common import row

MODEL, PATCH = "vit_base_patch16_224.dino", 16
#: Each beside `compete`, which every one of them starts with.
STAGES: dict[str, dict[str, Any]] = {
    "compete": {},
    "felzenszwalb": {"regions": "felzenszwalb"},
    "slic": {"regions": "slic"},
    "file, 500 masks": {"regions": "file"},
    "pamr": {"boundaries": "pamr"},
    "guided": {"boundaries": "guided"},
}
MASKS = 500

_CHILD = """
import json, sys
sys.path[:0] = {folders!r}
from pathlib import Path
import torch
torch.set_num_threads(1)
from parts.mask_stages import action
run = action({name!r}, {side}, {tags})
action({name!r}, 64, {tags})()
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
run()
print(json.dumps(status("VmHWM") - before))
"""


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Time of every stage over that of a forward pass, and its memory."""
    sides, tags = ((64,), (2,)) if quick else ((512, 1024), (2, 20))
    rows = [one for side in sides for one in _times(side, tags, 1 if quick else 5)]
    return [*rows, *(_memory(name, side, tags[0]) for side in sides for name in STAGES)]


def _times(side: int, tags: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        actions = {(name, count): action(name, side, count) for name in STAGES for count in tags}
        taken = interleaved({**actions, "forward": _forward(side)}, repeats)  # type: ignore[dict-item]
    finally:
        torch.set_num_threads(threads)
    return [
        row(f"{name} at {side}, {count} tags, over a forward pass of ViT-B/16", ratios(taken[key], taken["forward"]))  # type: ignore[index]
        for key in actions
        for name, count in [key]
    ]


def _forward(side: int) -> Callable[[], object]:
    vit = open_vit(EncoderSpec(library="timm", model=MODEL, pretrained="random:1"), "cpu")
    images = picture(side)[None]

    def forward() -> object:
        with torch.inference_mode():
            return vit.last_block(images)

    return forward


def action(name: str, side: int, tags: int) -> Callable[[], object]:
    """One call of the stages, from evidence on ViT-B/16's grid to masks of `side` pixels."""
    params = StageParams(classes="compete", stage_size=side, **STAGES[name])
    grid, seen = patches(side, tags), picture(side)
    given = proposals(side) if params.regions == "file" else None

    def run() -> object:
        with torch.inference_mode():
            regions = None if given is None else given()
            evidence = to_pixels(grid, side, side)
            return run_stages(evidence, seen if params.needs_picture else None, side, side, params, regions=regions)

    return run


def patches(side: int, tags: int) -> Tensor:
    """Evidence [T, side / 16, side / 16] of smooth blobs, some above 1."""
    noise = torch.rand(tags, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, size=side // PATCH, mode="bicubic")[:, 0] * 1.6


def picture(side: int) -> Tensor:
    """A picture uint8 [3, side, side] of blobs in a few colours with noise."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.rand(1, 3, 9, 9, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(colours, size=(side, side), mode="bicubic")[0]
    steps = (smooth / 40).round() * 40 + torch.randn(3, side, side, generator=generator) * 6
    return steps.clamp(0, 255).to(torch.uint8)


def proposals(side: int) -> Callable[[], Tensor]:
    """Regions from a file of 500 overlapping boxes with holes, drawn anew with every call."""
    from wilss.data.layouts import ImageRecord
    from wilss_masks.stages.region_file import region_file

    corners = torch.randint(0, side - side // 8, (MASKS, 2), generator=torch.Generator().manual_seed(2)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proposals.json"
        rows = [{"image_id": "a", "segmentation": _ring(y, x, side, side // 8)} for y, x in corners]
        path.write_text(json.dumps(rows), encoding="utf-8")
        file = region_file(str(path))
    record = ImageRecord(image_id="a", path=Path("a.jpg"))
    return lambda: file.regions(record, (side, side), (side, side), 0.0)


def _ring(top: int, left: int, side: int, size: int) -> dict[str, Any]:
    """A box of `size` pixels with a hole in its middle third, as uncompressed run lengths."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top : top + size, left : left + size] = True
    mask[top + size // 3 : top + 2 * size // 3, left + size // 3 : left + 2 * size // 3] = False
    columns = mask.T.flatten()
    ends = (torch.cat([torch.tensor([False]), columns[:-1]]) != columns).nonzero().flatten()
    edges = torch.cat([torch.tensor([0]), ends, torch.tensor([side * side])])
    return {"size": [side, side], "counts": edges.diff().tolist()}


def _memory(name: str, side: int, tags: int) -> dict[str, Any]:
    """What one call adds to a process at most, in bytes for every pixel of the picture."""
    folders = [str(Path(__file__).parent.parent), *sys.path]
    code = _CHILD.format(folders=folders, name=name, side=side, tags=tags)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak: Figure = figure([json.loads(told.stdout) / 2**20])
    return row(f"memory of {name} at {side}, {tags} tags, MiB", peak)
