"""Four pictures of two classes with supports, an untrained ViT, and what sources of shots are asked of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.wilss.data import data_on_disk as disk
from tests.wilss.models.encoders.tiny import vit_spec
from wilss.data.manifest import Encoders, Manifest, load_manifest
from wilss.store import ImageContent
from wilss_masks.sources import Insid3Source, PanetSource
from wilss_masks.sources.base import ImageTask

SIZES = {"a": (40, 32), "b": (24, 48), "c": (32, 32), "d": (40, 40)}
ROWS: list[dict[str, Any]] = [
    {"image": "a", "class": "cat", "box": [4, 4, 20, 20]},
    {"image": "b", "class": "cat", "points": [[30, 4], [44, 20]], "background": [[1, 1], [1, 20]]},
    {"image": "b", "class": "dog", "boxes": [[2, 2, 12, 20], [20, 2, 26, 8]]},
    {"image": "c", "class": "dog", "box": [10, 10, 30, 30]},
]


def manifest_in(root: Path) -> Manifest:
    """The pictures and a manifest of them that names the supports."""
    disk.voc(root / "data", {"a": (1,), "b": (1, 2), "c": (2,), "d": (1, 2)})
    for seed, (name, size) in enumerate(SIZES.items()):
        disk.image(root / f"data/JPEGImages/{name}.jpg", size, seed)
    found = load_manifest(disk.manifest(root, supports={0: ROWS}))
    return replace(found, encoders=Encoders(clip=found.encoders.clip, vit=vit_spec()))


def task(manifest: Manifest, name: str = "d", categories: tuple[int, ...] = (0, 1)) -> ImageTask:
    """What is asked of one picture."""
    (record,) = [one for one in manifest.images(0).records if one.image_id == name]
    return ImageTask(record=record, height=SIZES[name][0], width=SIZES[name][1], categories=categories)


def proposed(made: PanetSource | Insid3Source, *tasks: ImageTask) -> list[ImageContent]:
    """What a source makes of them in one batch."""
    proposer: Any = made.open("cpu", 1)
    return list(proposer.propose(tasks, [proposer.load(one) for one in tasks]))


def features(made: PanetSource | Insid3Source, manifest: Manifest, name: str) -> Any:
    """Of a picture by the source's encoder, float64 [D, h, w]."""
    return features_of(made, manifest, [name])[0]


def features_of(made: PanetSource | Insid3Source, manifest: Manifest, names: Sequence[str]) -> list[Any]:
    """Of several pictures."""
    encoder, records = made.encoder.open("cpu"), [task(manifest, name).record for name in names]
    return [encoder.features(made.encoder.load(record)[None])[0].double().numpy() for record in records]
