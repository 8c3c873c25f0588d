"""Networks so small that a test builds them in milliseconds, and the specs that name them."""

import json
from pathlib import Path
from typing import Any, Literal

import torch

from wilss.data.manifest import EncoderSpec

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.5]}
DINO = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}


def clip_config(folder: Path, vision: dict[str, Any] | None = None, **more: Any) -> Path:
    """An open_clip json, written into `folder`, with a mean and deviation unlike the usual ones."""
    path = folder / "clip.json"
    model = {"embed_dim": 24, "vision_cfg": vision or VIT, "text_cfg": TEXT} | more
    path.write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPROCESS}))
    return path


def clip_spec(folder: Path, vision: dict[str, Any] | None = None, **more: Any) -> EncoderSpec:
    """An untrained CLIP of `vision`, seed 1."""
    path = clip_config(folder, vision, **more)
    return EncoderSpec(library="open_clip", config=str(path), pretrained="random:1")


def vit_spec(pos_interp: Literal["dino", "size", "timm"] | None = None, **args: Any) -> EncoderSpec:
    """An untrained timm vision transformer, seed 1."""
    return EncoderSpec(library="timm", args=DINO | args, pretrained="random:1", pos_interp=pos_interp)


def images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def shake(network: torch.nn.Module, seed: int = 2) -> None:
    """Makes every tensor non-trivial: biases, scales and norms start as 0 and 1, which hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.3 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.mul_(1 + torch.rand(buffer.shape, generator=generator))
