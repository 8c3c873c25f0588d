"""Supports drawn from pixel labels, for research: a folder that `read_supports` takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from wilss.data.layouts import ImageRecord, read_label_of
from wilss.data.manifest import Manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND, UNKNOWN
from wilss.data.supports.reading import SUPPORTS_FILE
from wilss.data.supports.simulate import Kind, boxes_of, map_for
from wilss.data.taxonomy import VOID
from wilss.disk import refuse_existing, write_output
from wilss.drawing import encoded
from wilss.errors import ImageError, ManifestError
from wilss.randomness import numpy_generator_for, seed_for

_HEAD = "# Drawn by `wilss-masks supports draw` from pixel labels; correct or replace what you like.\n"
#: How the three values look in a viewer; every other entry of the palette is black.
_COLOURS = {BACKGROUND: (40, 44, 60), FOREGROUND: (255, 176, 0), UNKNOWN: (225, 225, 225)}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A support that was drawn. inside, void: bool [H, W], where the class is, and where nobody labelled."""

    image_id: str
    class_name: str
    inside: NDArray[np.bool_]
    void: NDArray[np.bool_]


def draw_supports(
    manifest: Manifest, step: int, shots: int, *, seed: int = 0, smallest: float = 0.01, fewer: bool = False
) -> list[Drawn]:
    """`shots` labelled images of every class of the step, drawn by name: the same on any machine.

    smallest: the least share of its image that the class must cover; nobody annotates a speck [D].
    fewer: a class with too few images gets those that it has.
    Labels are read only until enough are found. Raises ManifestError for a class with too few images.
    """
    names = {identity: manifest.taxonomy.name_of(identity) for identity in manifest.protocol.new(step)}
    records = manifest.images(step).records
    return [
        drawn
        for identity, name in names.items()
        for drawn in _of_class(records, identity, name, shots, seed, smallest, str(manifest.path), fewer=fewer)
    ]


def save_supports(drawn: Sequence[Drawn], kind: Kind, out: Path, *, seed: int = 0, overwrite: bool = False) -> Path:
    """Write the folder `out`: supports.yaml, and for masks and scribbles a PNG each. Returns the YAML file.

    Raises StoreError when it is there and not to be replaced, or cannot be written.
    """
    file = out / SUPPORTS_FILE
    refuse_existing(file, overwrite)
    rows = [_saved(one, kind, out, seed) for one in drawn]
    write_output(file, (_HEAD + _as_yaml(rows)).encode("utf-8"))
    return file


def _of_class(
    records: Sequence[ImageRecord],
    identity: int,
    name: str,
    shots: int,
    seed: int,
    smallest: float,
    where: str,
    *,
    fewer: bool,
) -> list[Drawn]:
    drawn: list[Drawn] = []
    for record in _candidates(records, identity, name, seed):
        try:
            labels = read_label_of(record)
        except ImageError:
            continue  # an image that cannot be used is no candidate; `manifest check` tells of it
        inside = labels == identity
        if inside.any() and inside.mean() >= smallest:
            drawn.append(Drawn(image_id=record.image_id, class_name=name, inside=inside, void=labels == VOID))
        if len(drawn) == shots:
            return drawn
    if drawn and fewer:
        return drawn
    raise ManifestError(
        f"{where} has {len(drawn)} labelled image(s) in which {name!r} covers at least {100 * smallest:g} %, fewer "
        f"than the {shots} shots; use fewer shots, a smaller --smallest, or --fewer to take those."
    )


def _candidates(records: Sequence[ImageRecord], identity: int, name: str, seed: int) -> Iterator[ImageRecord]:
    """Images that may show the class, in the order of the draw; tags, where there are any, spare reading labels."""
    tagged = any(record.tags for record in records)
    able = [one for one in records if one.label is not None and one.problem is None]
    likely = [one for one in able if identity in one.tags] if tagged else able
    yield from sorted(likely, key=lambda one: seed_for(seed, "draw-supports", name, one.image_id))


def _saved(drawn: Drawn, kind: Kind, out: Path, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {"image": drawn.image_id, "class": drawn.class_name, "kind": kind}
    if kind == "box":
        return {**row, "boxes": [list(box) for box in boxes_of(drawn.inside)]}
    rng = numpy_generator_for(seed, "scribble", drawn.image_id, drawn.class_name)
    name = f"{drawn.class_name}/{drawn.image_id}.png"
    drawn_map = _map_png(map_for(kind, drawn.inside, drawn.void, rng))
    write_output(out / name, drawn_map)
    return {**row, "file": name}


def _map_png(found: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(found, mode="P")
    picture.putpalette([part for value in range(256) for part in _COLOURS.get(value, (0, 0, 0))])
    return encoded(picture, optimize=True)


def _as_yaml(rows: list[dict[str, Any]]) -> str:
    """A row per line, as a person would write it."""
    lines = [
        yaml.safe_dump(row, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**20) for row in rows
    ]
    return "".join(f"- {line.strip()}\n" for line in lines)
