"""Which encoders are taken, and what they cost: the figures of the table in pipeline/ENCODERS.md.

    python workflows/encoders/measure.py             # writes figures.json and the page's table
    python workflows/encoders/measure.py vit_small_patch16_224.dino    # prints rows of single models, writes nothing

Parameters and products are counted on networks without memory; what a pass takes in memory is that of a process of its
own, with untrained weights. Licences, families and dense forms are those of `wilss.models.encoders`.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.configs import clip_config, clip_stride, form_of
from wilss.models.encoders.clip.timm_towers import timm_path, timm_tower
from wilss.models.encoders.clip.towers import dense_path
from wilss.models.encoders.known import Job, family_and_licence
from wilss.models.encoders.vit.trunks import trunk_of

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "benchmark")]
import tables  # noqa: E402
from parts.flops import counter  # noqa: E402

SIDE = 512
WHERE = (
    "vit_small_patch16_224.dino",
    "vit_base_patch14_dinov2.lvd142m",
    "vit_base_patch14_reg4_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m",
    "vit_base_patch16_dinov3.lvd1689m",
    "vit_pe_spatial_base_patch16_512.fb",
    "vit_base_patch16_siglip_512.v2_webli",
    "vit_base_patch14_reg1_tipsv2.webli",
    "vit_base_patch16_radio_v3.c_radio",
    "eva02_base_patch14_224.mim_in22k",
    "vit_base_patch16_224.mae",
    "deit3_base_patch16_384.fb_in1k",
    "aimv2_large_patch14_224.apple_pt",
)
WHAT = (
    "ViT-B-16-quickgelu",
    "RN50-quickgelu",
    "ViT-L-14-worldwide",
    "ViT-B-16-SigLIP2-512",
    "PE-Core-B-16",
    "EVA02-B-16",
    "MobileCLIP2-S0",
    "MobileCLIP2-B",
    "ViTamin-B",
    "convnext_base_w",
)
COLUMNS = {
    "job": "for",
    "family": "family",
    "licence": "licence of the weights",
    "parameters": "parameters, M (of it text)",
    "gflop": "GFLOP at 512",
    "memory": "MiB at 512",
    "form": "dense form",
    "tested": "tested with",
}
_LIBRARIES: dict[Job, tuple[str, ...]] = {"where": ("timm",), "what": ("open_clip_torch", "timm")}

_CHILD = """
import sys
from pathlib import Path
import torch
sys.path[:0] = [{here!r}]
from measure import encode, spec_of
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
torch.set_num_threads(1)
run = encode({name!r}, "cpu")
Path("/proc/self/clear_refs").write_text("5")
with torch.inference_mode():
    run()
print(peak())
"""


def spec_of(name: str) -> EncoderSpec:
    """An untrained network: of timm for `where`, of open_clip for `what`."""
    return EncoderSpec(library="timm" if job_of(name) == "where" else "open_clip", model=name, pretrained="random")


def job_of(name: str) -> Job:
    """What a model of the table is for."""
    return "what" if name in WHAT else "where"


def image_tower(name: str, device: str) -> nn.Module:
    """What encodes images, untrained, in eval mode."""
    with torch.device(device):
        if job_of(name) == "where":
            import timm

            return timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
        config = clip_config(spec_of(name))["model_cfg"]
        if config["vision_cfg"].get("timm_model_name"):
            return timm_tower(config).to(device).eval()
        from open_clip.model import _build_vision_tower

        quick = config.get("quick_gelu", False)
        tower: nn.Module = _build_vision_tower(config["embed_dim"], config["vision_cfg"], quick)
        return tower.eval()


def text_parameters(name: str) -> int:
    """Of a CLIP's text tower, without those of a network of transformers."""
    from open_clip.model import _build_text_tower

    config = clip_config(spec_of(name))["model_cfg"]
    with torch.device("meta"):
        tower = _build_text_tower(config["embed_dim"], config["text_cfg"], config.get("quick_gelu", False))
    return _parameters(tower)


def encode(name: str, device: str) -> Callable[[], Any]:
    """One pass over an image of 512 x 512, or the multiple of the patch that is next to it."""
    tower = image_tower(name, device).requires_grad_(False)
    if job_of(name) == "where":
        trunk = trunk_of(tower, name=name)
        side, pixels = _pixels(trunk.patch, device)
        return lambda: trunk.queries_and_keys(trunk.before_last(pixels, (side, side)))
    spec, stride = spec_of(name), int(clip_stride(clip_config(spec_of(name))["model_cfg"]))
    form = form_of(spec)
    path = timm_path(tower, form, stride) if hasattr(tower, "trunk") else dense_path(tower, form)
    pixels = _pixels(stride, device)[1]
    return lambda: path(pixels)


def _pixels(patch: int, device: str) -> tuple[int, torch.Tensor]:
    side = round(SIDE / patch)
    return side, torch.zeros(1, 3, side * patch, side * patch, device=device)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def row_of(name: str) -> dict[str, Any]:
    """A model's row."""
    family, licence = family_and_licence(name, job_of(name))
    images = _parameters(image_tower(name, "meta"))
    text = text_parameters(name) if job_of(name) == "what" else 0
    run = encode(name, "meta")
    with torch.inference_mode(), counter() as counted:
        run()
    return {
        "key": name,
        "name": f"`{name}`",
        "job": job_of(name),
        "family": family,
        "licence": licence,
        "parameters": f"{(images + text) / 1e6:.0f}" + (f" ({text / 1e6:.0f})" if text else ""),
        "gflop": f"{counted.get_total_flops() / 1e9:.0f}",
        "memory": f"{_peak(name) / 2**20:.0f}",
        "form": form_of(spec_of(name)) if job_of(name) == "what" else "",
        "tested": " and ".join(f"{library} {version(library)}" for library in _LIBRARIES[job_of(name)]),
    }


def _peak(name: str) -> int:
    """Of a pass and of the weights that encode images, beside what Python and torch take by themselves."""
    return _printed(_code(name)) - _of_nothing()


@lru_cache
def _of_nothing() -> int:
    return _printed(_code(WHERE[0]).replace("run()", "pass").replace("run = encode", "encode, "))


def _code(name: str) -> str:
    return _CHILD.format(here=str(HERE), name=name)


def _printed(code: str) -> int:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def rows(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Row by row, as they are measured."""
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        yield row_of(name)


def main(names: Sequence[str]) -> None:
    """Measure all and write, or single ones and print."""
    if names:
        for row in rows(names):
            print(json.dumps(row))
        return
    figures: dict[str, Any] = {
        "measured": tables.measured_now("python workflows/encoders/measure.py"),
        "heading": "encoder",
        "columns": COLUMNS,
        "rows": [],
    }
    for row in rows([*WHERE, *WHAT]):
        figures["rows"].append(row)
        (HERE / "figures.json").write_text(tables.as_text(figures), encoding="utf-8")
    tables.main(())


if __name__ == "__main__":
    main(sys.argv[1:])
