"""`wilss-masks info`."""

import json
from collections.abc import Iterator
from typing import Any

import click

from wilss.disk import Location

from .common import store_argument

_LONG = 120


@click.command(epilog="\b\nExample:\n  wilss-masks info masks/shapes-15-5/step-1.zarr")
@store_argument
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def command(store: Location, as_json: bool) -> None:
    """What a store holds, what it was made with, and which images failed."""
    from wilss.store import MaskStore

    facts = _facts(MaskStore.open(store, allow_partial=True))
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(_lines(facts)))


def _lines(facts: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """A line for each fact; those inside others on one line where it is short, else indented on lines of their own."""
    for key, value in facts.items():
        start = f"{'  ' * depth}{key}:"
        line = f"{start} {_plain(value)}"
        if isinstance(value, dict) and value and (not depth or len(line) > _LONG):
            yield start
            yield from _lines(value, depth + 1)
        else:
            yield line


def _facts(store: Any) -> dict[str, Any]:
    import numpy as np

    from wilss.store import Status

    status, area = store.vector("status"), store.vector("area")
    confidence, errors = store.vector("confidence"), store.vector("error")
    layout = store.layout
    counts = (area > 0).sum(axis=0)
    means = [
        float(np.mean(column[kept])) if (kept := a > 0).any() else None
        for column, a in zip(confidence.T, area.T, strict=True)
    ]
    return {
        "store": str(store.path),
        "complete": store.is_complete,
        "images": {state.name.lower(): int((status == state).sum()) for state in Status},
        **_without_classes(store),
        "size": f"{layout.num_images} images, {layout.num_categories} categories, canvas {layout.canvas[1]} x "
        f"{layout.canvas[0]} pixels",
        "shards": f"{layout.num_shards} of {layout.shard_size} images, {len(store.shards_to_make())} to be made",
        **_parts(store),
        "bytes": sum(size for _, size in store.folder.files()),
        "masks": {
            name: {"id": identity, "masks": int(count), "mean confidence": mean}
            for name, identity, count, mean in zip(store.category_names, store.category_ids, counts, means, strict=True)
        },
        "failed": {store.image_ids[row]: str(errors[row]) for row in np.flatnonzero(status == Status.FAILED)},
        **_judged(store),
        **_encoders(store.attributes.get("models")),
        **_features(store),
        "made with": store.attributes,
    }


def _parts(store: Any) -> dict[str, str]:
    """How far a store is that many processes make; its images count once it is sealed."""
    parts = store.parts()
    if parts is None:
        return {}
    return {"parts": f"{len(parts.state().receipts)} of {store.layout.num_shards} shards have receipts, not sealed yet"}


def _without_classes(store: Any) -> dict[str, str]:
    """How many of the images that are done are known to show none of the step's classes."""
    from wilss.store import shows_none

    count = int(shows_none(store).sum())
    return {"without the step's classes": f"{count} of those that are done"} if count else {}


def _judged(store: Any) -> dict[str, Any]:
    """What people said of the masks of a revised store, and who."""
    from wilss.store.verdicts import from_whom

    if not store.layout.has_review:
        return {}
    whom = from_whom(store)
    return {"judged": {"verdict": whom.verdicts, "author": whom.authors, "origin": whom.origins}}


def _features(store: Any) -> dict[str, str]:
    """What is kept of the encoders' features, and how much it takes."""
    layouts = store.layout.features
    if not layouts:
        return {}
    names = [name for layout in layouts for name in (f"{layout.name}_features", f"{layout.name}_scale")]
    size = sum(size for name in names for _, size in store.folder.files(name))
    images = max(_images_made(store), 1)
    kept = ", ".join(
        f"{layout.name} {layout.dims} of {layout.width} numbers of {layout.tokens} tokens at most" for layout in layouts
    )
    return {"features": f"{kept}; {size / images / 1000:.0f} kB an image"}


def _images_made(store: Any) -> int:
    from wilss.store import Status

    return int((store.current_status() == Status.DONE).sum())


def _encoders(models: Any) -> dict[str, str]:
    """Which network says what and which where, where there are two jobs."""
    if not (isinstance(models, dict) and models.keys() == {"clip", "vit"}):
        return {}
    clip, vit = (_named(models[name]) for name in ("clip", "vit"))
    is_one = all(models["clip"].get(key) == models["vit"].get(key) for key in ("library", "sha256"))
    return {"encoders": f"{clip} for both jobs" if is_one else f"clip {clip}, vit {vit}"}


def _named(model: dict[str, Any]) -> str:
    parts = [model.get(key) for key in ("library", "model", "pretrained")]
    return " ".join([*(part for part in parts if part), str(model.get("sha256"))[:12]])


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.01 or not value else f"{value:.3g}"
    if value is None or (isinstance(value, dict | list) and not value):
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items() if entry not in (None, {}, []))
    if isinstance(value, list):
        between = " | " if value and all(isinstance(entry, list) for entry in value) else ", "
        text = between.join(_plain(entry) for entry in value)
        return text if len(text) <= 100 else f"{text[:97]}..."
    return str(value)
