"""What the parts share: a manifest over drawn images, a source with its networks open, rows for the table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from measure import Figure

import wilss
from wilss.data.manifest import EncoderSpec, Manifest
from wilss_masks import FmwissSource, Options, generate
from wilss_masks.make.plan import MaskPlan
from wilss_masks.make.request import plan_for

MANIFEST = """\
schema_version: 1
name: benchmark-{count}
title: Drawn images for the benchmark
path: {path}
layout: voc
generate: {{with: shapes, train: {count}, val: 1, seed: 77}}
names: {{{names}}}
splits: {{train: train, val: val}}
tags: {{from: voc-main}}
steps: [{{classes: [{classes}], supervision: tags}}]
encoders: {encoders}
masks: {masks}
"""


def manifest_over(folder: Path, count: int) -> Manifest:
    """A manifest over `count` drawn images in which every class is new, with the built-in encoders."""
    built_in = wilss.load_manifest("data_manifest.yaml")
    path = folder / f"benchmark-{count}.yaml"
    if not path.exists():
        names = ", ".join(f"{i}: {name}" for i, name in enumerate(built_in.taxonomy.class_names))
        classes = ", ".join(str(i) for i in range(1, len(built_in.taxonomy.class_names)))
        text = Path("data_manifest.yaml").read_text(encoding="utf-8")
        content = MANIFEST.format(
            count=count, path=folder / f"data-{count}", names=names, classes=classes,
            encoders=section(text, "encoders"), masks=section(text, "masks"),
        )  # fmt: skip
        path.write_text(content, encoding="utf-8")
    return wilss.load_manifest(path)


def section(text: str, key: str) -> str:
    """One section of a manifest, as text that can stand in another."""
    return json.dumps(yaml.safe_load(text)[key])


def built_in_source(manifest: Manifest) -> FmwissSource:
    """The source that `data_manifest.yaml` describes, prompts encoded."""
    return FmwissSource.from_manifest(manifest, step=0).prepare("cpu")


def large_source(manifest: Manifest) -> FmwissSource:
    """ViT-B/16 for both encoders at 224 pixels; untrained weights cost the same time."""
    source = FmwissSource.from_manifest(
        manifest, step=0, values={"clip_size": 224, "vit_size": 224, "affinity": "qk", "templates": "plain"}
    )
    clip = EncoderSpec(library="open_clip", model="ViT-B-16", pretrained="random:0")
    vit = EncoderSpec(library="timm", model="vit_base_patch16_224.dino", pretrained="random:0")
    return replace(source, clip=clip, vit=vit).prepare("cpu")


def options(**changes: Any) -> Options:
    """As a user would run it."""
    return replace(Options(), **{"overwrite": True, **changes})


def plan_of(manifest: Manifest, source: FmwissSource, **changes: Any) -> MaskPlan:
    """The plan of the benchmark's only step."""
    return plan_for(manifest, 0, source, manifest.records(0).records, options(**changes))


def end_to_end(manifest: Manifest, source: FmwissSource, store: Path, **changes: Any) -> None:
    """Decode to fsynced store."""
    summary = generate(manifest, step=0, source=source, out=store, options=options(**changes))
    if summary.failed or summary.lost:
        raise SystemExit(f"the benchmark's own images failed: {summary}")


def loaded_batches(plan: MaskPlan, proposer: Any) -> list[tuple[list[Any], torch.Tensor, torch.Tensor]]:
    """Tasks and both inputs of every batch of the plan, decoded beforehand."""
    batches = []
    for shard in range(plan.layout.num_shards):
        task = plan.shard(shard)
        for batch in task.batches:
            images = [task.images[i] for i in batch]
            loaded = [proposer.load(image) for image in images]
            clip, vit = (torch.stack([pair[k] for pair in loaded]) for k in (0, 1))
            batches.append((images, clip, vit))
    return batches


def row(what: str, figure: Figure | str, asked: str = "", **more: Any) -> dict[str, Any]:
    """One row of the table."""
    values = {"figure": str(figure), **({"values": figure.as_json()} if isinstance(figure, Figure) else {})}
    return {"what": what, **values, "asked": asked, **more}
