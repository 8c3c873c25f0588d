"""Kinds of pictures of the twenty drawn classes, which the built-in encoders know, that look as different as can be.

Each is a folder with images, labels, tags.csv and a manifest, with a list to choose on and one to judge on.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wilss.data.manifest.manifest import Manifest, load_manifest
from wilss.data.shapes.drawing import Style, draw
from wilss.data.shapes.outlines import CLASS_NAMES, OUTLINES
from wilss.data.shapes.textures import lch
from wilss.randomness import numpy_generator_for

ROOT = Path(__file__).resolve().parents[2]
SEED = 4711
#: Pictures to choose on, and to judge on.
CHOSEN, JUDGED = 40, 60

Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def drawings(number: int) -> Picture:
    """The built-in drawings, of another seed."""
    drawn = draw(SEED, number)
    return drawn.image, drawn.label


def one_large(number: int) -> Picture:
    """One object, with nothing beside it."""
    drawn = draw(SEED + 1, number, Style(objects=(1, 1), sides=(120, 160), distractors=(0, 0)))
    return drawn.image, drawn.label


def grey_clutter(number: int) -> Picture:
    """Textures without colour: small objects among many other things, on larger pictures."""
    drawn = draw(SEED + 2, number, Style(objects=(2, 4), sides=(200, 280), distractors=(10, 16), smallest=0.005))
    grey = np.asarray(Image.fromarray(drawn.image).convert("L"))
    return np.repeat(grey[..., None], 3, axis=2), drawn.label


def emoji(number: int) -> Picture:
    """Flat icons with a dark line around them, on a plain pale ground."""
    rng = numpy_generator_for(SEED, "emoji", number)
    side, count = int(rng.integers(112, 176)), int(rng.integers(1, 4))
    ground = tuple((255 * lch(float(rng.uniform(0.93, 1.0)), 0.02, float(rng.uniform(0, 360)))).astype(int).tolist())
    image, label = Image.new("RGB", (2 * side, 2 * side), ground), Image.new("L", (2 * side, 2 * side))
    classes = rng.choice(np.arange(1, len(CLASS_NAMES)), size=count, replace=False).tolist()
    places = [(0.5, 0.5)] if count == 1 else [(0.27, 0.3), (0.73, 0.34), (0.5, 0.75)][:count]
    for identity, (x, y) in zip(classes, places, strict=True):
        radius = 2 * side * (0.42 if count == 1 else 0.22)
        fill = tuple((255 * lch(float(rng.uniform(0.6, 0.85)), 0.16, float(rng.uniform(0, 360)))).astype(int).tolist())
        for points, solid in OUTLINES[CLASS_NAMES[identity]](rng):
            corners = [tuple(p) for p in (points * radius + np.array([x, y]) * 2 * side).tolist()]
            ImageDraw.Draw(image).polygon(corners, fill=fill if solid else ground, outline=(40, 36, 44), width=6)
            ImageDraw.Draw(label).polygon(corners, fill=identity if solid else 0)
    small = label.resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX)), np.asarray(small)


KINDS: dict[str, tuple[str, Callable[[int], Picture], bool]] = {
    "drawings": ("the built-in drawings", drawings, True),
    "drawings-package-words": ("the same, with the package's background words", drawings, False),
    "one-large": ("one large object, nothing beside it", one_large, True),
    "grey-clutter": ("textures without colour, small objects, much clutter", grey_clutter, True),
    "emoji": ("flat icons on a plain ground", emoji, True),
}


def made(kind: str, folder: Path) -> Manifest:
    """The data of a kind below `folder`, drawn if it is not there."""
    root = folder / kind
    _, picture, own_words = KINDS[kind]
    if not (root / "data_manifest.yaml").exists():
        for name in ("images", "labels"):
            (root / name).mkdir(parents=True, exist_ok=True)
        rows = [_write(root, number, *picture(number)) for number in range(CHOSEN + JUDGED)]
        with (root / "tags.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        for split, some in (("choose", rows[:CHOSEN]), ("judge", rows[CHOSEN:])):
            (root / f"{split}.txt").write_text("".join(f"{name}\n" for name, _ in some), encoding="utf-8")
        (root / "data_manifest.yaml").write_text(yaml.safe_dump(_manifest(kind, own_words)), encoding="utf-8")
    return load_manifest(root)


def _write(root: Path, number: int, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> tuple[str, str]:
    name = f"{number:04d}"
    Image.fromarray(image).save(root / f"images/{name}.png")
    Image.fromarray(label).save(root / f"labels/{name}.png")
    seen = [int(value) for value in np.unique(label) if 0 < value < 255]
    return name, ";".join(CLASS_NAMES[identity] for identity in seen)


def _manifest(kind: str, own_words: bool) -> dict[str, Any]:
    built_in = yaml.safe_load((ROOT / "data_manifest.yaml").read_text(encoding="utf-8"))
    words = {"background_prompts": built_in["background_prompts"]} if own_words else {}
    return {
        "schema_version": 1, "name": kind, "path": ".", "layout": "folder", "names": built_in["names"],
        "splits": {"train": "choose", "val": "judge"}, "tags": {"from": "csv", "file": "tags.csv"},
        "steps": [{"classes": list(range(1, 21)), "supervision": "tags"}], "encoders": built_in["encoders"], **words,
    }  # fmt: skip
