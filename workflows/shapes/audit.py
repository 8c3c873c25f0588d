"""What `wilss-masks audit` finds of errors that were put into drawings: precision and recall of every detector.

    python workflows/shapes/audit.py            # the table, on held-out drawings; writes figures/audit.json
    python workflows/shapes/audit.py choose     # the same on drawings of another seed, on which limits were chosen

5 % of the tags are taken away and as many wrong ones added; copies go from the training list into the other one, as
they are and changed; masks made from pixel labels get specks far away, become tiny or huge, and one class is drawn as
another. What is made is kept in results/audit, and made again only where that is removed. `--predictions RUN` adds rows
for a trained network, here one that learnt the very masks of the wrong tags:

    wilss-train --manifest results/audit/report/data_manifest.yaml --masks results/audit/report/step-0.zarr --out RUN
"""

import csv
import functools
import io
import json
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from PIL import Image
from runs import HERE, RESULTS

import wilss
from wilss.data.manifest import Manifest
from wilss.data.shapes.drawing import draw
from wilss.data.shapes.outlines import CLASS_NAMES
from wilss.data.shapes.voc import split_seed
from wilss.data.taxonomy import voc_palette
from wilss.randomness import numpy_generator_for
from wilss.store import MaskStore
from wilss_masks import AnnotationSource, FmwissSource, Options, generate
from wilss_masks.auditing.audit import audit
from wilss_masks.auditing.findings import Audit

sys.path.insert(0, str(HERE.parent))
import tables

SHARE = 0.05
#: Drawings, and how many of them are judged on; copies of each kind.
IMAGES, JUDGED, COPIES = 300, 60, 10
SEEDS = {"report": split_seed(0, "val"), "choose": split_seed(2000, "val")}
MASK_ERRORS = 15
#: This class is drawn as that one on four of ten of its masks.
TAKEN, FOR, OF_TEN = "boat", "cup", 4
COPIED = ("exact", "jpeg", "rescaled", "mirrored", "all three")


@dataclass(frozen=True, kw_only=True)
class Injected:
    """What was put in. removed, added: (image id, class). copies: id of a copy -> (id of the original, how)."""

    removed: Collection[tuple[str, str]]
    added: Collection[tuple[str, str]]
    copies: Mapping[str, tuple[str, str]]
    masks: Mapping[str, Collection[tuple[str, str]]] = field(default_factory=dict)


@click.group(invoke_without_command=True)
@click.option("--predictions", type=click.Path(path_type=Path), help="A run that learnt results/audit/report's masks.")
@click.pass_context
def main(context: click.Context, predictions: Path | None) -> None:
    """Print the table of the held-out drawings."""
    if context.invoked_subcommand is None:
        rows = list(_rows("report", predictions))
        figures = {
            "title": "Errors that were put into 300 held-out drawings, and what audit finds of them; in percent",
            "measured": tables.measured_now(
                f"python workflows/shapes/audit.py{' --predictions RUN' if predictions else ''}", seeds=1
            ),
            "heading": "errors, and what they are found by",
            "columns": {"put_in": "put in", "found": "found", "precision": "precision", "recall": "recall"},
            "rows": rows,
        }
        print(tables.table_of(figures))
        (HERE / "figures/audit.json").write_text(tables.as_text(figures), encoding="utf-8")


@main.command()
@click.option("--predictions", type=click.Path(path_type=Path))
def choose(predictions: Path | None) -> None:
    """The same rows on the drawings on which limits were chosen; nothing is written."""
    for row in _rows("choose", predictions):
        print({key: value for key, value in row.items() if key != "key"})


def _rows(name: str, predictions: Path | None) -> Iterator[dict[str, Any]]:
    """A row for each detector and what it is given."""
    manifest, put_in = with_wrong_tags(name)
    store = masks_of(manifest, RESULTS / f"audit/{name}/step-0.zarr")
    removed, added = set(put_in.removed), set(put_in.added)
    ways: dict[str, dict[str, Any]] = {
        "masks": {"labels": False},
        "network": {"labels": False, "predictions": predictions},
        "labels": {},
    }
    told = {
        "masks": "masks and scores",
        "network": "masks, scores and a network trained on them",
        "labels": "pixel labels",
    }
    first = None
    for key, how in ways.items():
        if key == "network" and predictions is None:
            continue
        found = audit(manifest, store, duplicates=first is None, **how)
        first = first or found
        yield _row(f"added-{key}", f"wrong tags, by {told[key]}", added, _pairs(found, "unsupported-tags"))
        if key != "masks":
            yield _row(f"removed-{key}", f"tags taken away, by {told[key]}", removed, _pairs(found, "missing-tags"))
    assert first is not None
    yield from _copy_rows(first, put_in)
    yield from _mask_rows(name)


def _copy_rows(found: Audit, put_in: Injected) -> Iterator[dict[str, Any]]:
    pairs = {tuple(sorted(one.images)) for kind in ("leaks", "duplicates") for one in found.of(kind)}
    wanted = {tuple(sorted((copy, original))): how for copy, (original, how) in put_in.copies.items()}
    yield _row("leaks", "copies in the other list, all", set(wanted), pairs)
    for way in COPIED:
        those = {pair for pair, how in wanted.items() if how == way}
        cells = _row(f"leaks-{way}", f"copies: {way}", those, pairs & those)
        yield {**cells, "precision": None}


def _mask_rows(name: str) -> Iterator[dict[str, Any]]:
    manifest, store, put_in = with_wrong_masks(name)
    found = audit(manifest, store, labels=False, duplicates=False)
    for kind, what in (("stray-parts", "specks far from the mask"), ("odd-areas", "masks far too small or large")):
        yield _row(kind, what, set(put_in.masks[kind]), _pairs(found, kind))
    by_labels = audit(manifest, store, duplicates=False)
    confused = {tuple(one.classes) for one in by_labels.of("confused-classes")}
    yield _row("confused-classes", "one class drawn as another, by pixel labels", {(TAKEN, FOR)}, confused)


def _pairs(found: Audit, kind: str) -> set[tuple[str, ...]]:
    return {(one.images[0], one.classes[0]) for one in found.of(kind)}


def _row(key: str, name: str, wanted: Collection[Any], found: Collection[Any]) -> dict[str, Any]:
    right = len(set(wanted) & set(found))
    return {
        "key": key,
        "name": name,
        "put_in": str(len(wanted)),
        "found": str(len(found)),
        "precision": 100 * right / len(found) if found else None,
        "recall": 100 * right / len(wanted) if wanted else None,
    }


# -- drawings with errors -----------------------------------------------------------------------------------------


def with_wrong_tags(name: str) -> tuple[Manifest, Injected]:
    """Drawings with pixel labels, wrong tags and copies in the other list; made once."""
    folder = RESULTS / "audit" / name
    noted = folder / "injected.json"
    if not noted.exists():
        shutil.rmtree(folder, ignore_errors=True)
        put_in = _draw(folder / "data", SEEDS[name])
        _manifest(folder, "tags")
        noted.write_text(json.dumps(put_in), encoding="utf-8")
    known = json.loads(noted.read_text(encoding="utf-8"))
    removed, added = ([(name, tag) for name, tag in known[key]] for key in ("removed", "added"))
    copies = {copy: (original, how) for copy, original, how in known["copies"]}
    manifest = wilss.load_manifest(folder / "data_manifest.yaml")
    return manifest, Injected(removed=removed, added=added, copies=copies)


def masks_of(manifest: Manifest, path: Path) -> MaskStore:
    if not path.exists():
        print(f"  {path.name} ...", file=sys.stderr, flush=True)
        source = FmwissSource.from_manifest(manifest, step=0)
        generate(manifest, step=0, source=source, out=path, options=Options(keep_scores=True))
    return MaskStore.open(path)


def _draw(folder: Path, seed: int) -> dict[str, Any]:
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    drawings = {f"drawing{number:04d}": draw(seed, number) for number in range(IMAGES)}
    tags = {name: {CLASS_NAMES[i] for i in drawing.tags} for name, drawing in drawings.items()}
    train, val = list(drawings)[JUDGED:], list(drawings)[:JUDGED]
    for name, drawing in drawings.items():
        Image.fromarray(drawing.image).save(folder / f"images/{name}.jpg", quality=95, subsampling=0)
        _save_label(folder, name, drawing.label)
    removed, added = _wrong_tags({name: tags[name] for name in train}, seed)
    told = {name: tags[name] for name in tags}
    for name, tag in removed:
        told[name] = told[name] - {tag}
    for name, tag in added:
        told[name] = told[name] | {tag}
    copies = []
    rng = numpy_generator_for(seed, "copies")
    for number, original in enumerate(rng.choice(train, len(COPIED) * COPIES, replace=False).tolist()):
        way, copy = COPIED[number % len(COPIED)], f"copy{number:04d}"
        told[copy] = told[original]
        label = _copy(folder, original, copy, way, drawings[original].label, rng)
        _save_label(folder, copy, label)
        val.append(copy)
        copies.append((copy, original, way))
    rows = io.StringIO()
    csv.writer(rows).writerows([f"{name}.jpg", ";".join(sorted(names))] for name, names in sorted(told.items()))
    (folder / "tags.csv").write_text(rows.getvalue(), encoding="utf-8")
    for split, names in (("train", train), ("val", val)):
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return {"removed": removed, "added": added, "copies": copies}


def _wrong_tags(tags: Mapping[str, set[str]], seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Which tags are taken away, SHARE of all, and as many that are added, of other images; no image loses its last."""
    rng = numpy_generator_for(seed, "wrong tags")
    pairs = [(name, tag) for name in sorted(tags) for tag in sorted(tags[name])]
    count = round(SHARE * len(pairs))
    removed: list[tuple[str, str]] = []
    for place in rng.permutation(len(pairs)).tolist():
        name, tag = pairs[place]
        if len(removed) < count and len(tags[name]) > 1 and name not in {one for one, _ in removed}:
            removed.append((name, tag))
    others = [name for name in sorted(tags) if name not in {one for one, _ in removed}]
    added = []
    for name in rng.choice(others, count, replace=False).tolist():
        wrong = [tag for tag in CLASS_NAMES[1:] if tag not in tags[name]]
        added.append((name, str(rng.choice(wrong))))
    return removed, added


def _copy(folder: Path, original: str, copy: str, way: str, label: Any, rng: np.random.Generator) -> Any:
    """A copy of a picture, changed; its label, changed likewise."""
    source, target = folder / f"images/{original}.jpg", folder / f"images/{copy}.jpg"
    if way == "exact":
        shutil.copy(source, target)
        return label
    picture: Image.Image = Image.open(source)
    map_ = Image.fromarray(label)
    quality = int(rng.integers(30, 70))
    scale = float(rng.uniform(0.5, 0.9))
    if way in ("rescaled", "all three"):
        size = (round(picture.width * scale), round(picture.height * scale))
        picture, map_ = picture.resize(size, Image.Resampling.BICUBIC), map_.resize(size, Image.Resampling.NEAREST)
    if way in ("mirrored", "all three"):
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        picture, map_ = picture.transpose(flip), map_.transpose(flip)
    picture.save(target, quality=quality if way in ("jpeg", "all three") else 95)
    return np.asarray(map_)


def _save_label(folder: Path, name: str, label: Any) -> None:
    picture = Image.fromarray(label)
    picture.putpalette(voc_palette())
    picture.save(folder / f"labels/{name}.png")


def _manifest(folder: Path, supervision: str) -> None:
    content = yaml.safe_load((HERE / "held-out.yaml").read_text(encoding="utf-8"))
    for key in ("generate", "tags"):
        del content[key]
    content |= {
        "name": "audit",
        "title": "Drawings with errors",
        "path": "./data",
        "layout": "folder",
        "splits": {"train": "train.txt", "val": "val.txt"},
        "tags": {"from": "csv", "file": "tags.csv"},
        "steps": [{"classes": list(range(1, len(CLASS_NAMES))), "supervision": supervision}],
        "train": yaml.safe_load((HERE / "joint.yaml").read_text(encoding="utf-8"))["train"],
    }
    (folder / "data_manifest.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def with_wrong_masks(name: str) -> tuple[Manifest, MaskStore, Injected]:
    """Masks made from pixel labels that were changed; the labels are then put right again."""
    folder = RESULTS / "audit" / f"{name}-masks"
    noted, path = folder / "injected.json", folder / "step-0.zarr"
    if not noted.exists():
        shutil.rmtree(folder, ignore_errors=True)
        right = RESULTS / "audit" / name / "data"
        shutil.copytree(right, folder / "data")
        tags = {p.stem: sorted({int(i) for i in np.unique(np.asarray(Image.open(p)))} - {0, 255})
                for p in sorted((right / "labels").iterdir()) if not p.stem.startswith("copy")}  # fmt: skip
        rows = [f"{image}.jpg,{';'.join(CLASS_NAMES[i] for i in ids)}\n" for image, ids in tags.items()]
        (folder / "data/tags.csv").write_text("".join(rows), encoding="utf-8")
        for split in ("train", "val"):
            lines = (right / f"{split}.txt").read_text(encoding="utf-8").splitlines()
            kept = [f"{line}\n" for line in lines if not line.startswith("copy")]
            (folder / f"data/{split}.txt").write_text("".join(kept), encoding="utf-8")
        _manifest(folder, "pixel")
        changed = _wrong_masks(folder / "data", SEEDS[name])
        manifest = wilss.load_manifest(folder / "data_manifest.yaml")
        generate(manifest, step=0, source=AnnotationSource.from_manifest(manifest, step=0), out=path)
        shutil.rmtree(folder / "data/labels")
        shutil.copytree(right / "labels", folder / "data/labels")
        noted.write_text(json.dumps(changed), encoding="utf-8")
    known = json.loads(noted.read_text(encoding="utf-8"))
    masks = {kind: [(name, tag) for name, tag in pairs] for kind, pairs in known.items()}
    manifest = wilss.load_manifest(folder / "data_manifest.yaml")
    return manifest, MaskStore.open(path), Injected(removed=(), added=(), copies={}, masks=masks)


def _wrong_masks(folder: Path, seed: int) -> dict[str, list[tuple[str, str]]]:
    rng = numpy_generator_for(seed, "wrong masks")
    names = (folder / "train.txt").read_text(encoding="utf-8").split()
    chosen = rng.choice(names, 2 * MASK_ERRORS, replace=False).tolist()
    kinds: dict[str, list[tuple[str, str]]] = {"stray-parts": [], "odd-areas": []}
    taken, instead = CLASS_NAMES.index(TAKEN), CLASS_NAMES.index(FOR)
    count = 0
    for name in names:
        path = folder / f"labels/{name}.png"
        label = np.array(Image.open(path))
        if name in chosen:
            kind = "stray-parts" if chosen.index(name) < MASK_ERRORS else "odd-areas"
            ids = sorted({int(i) for i in np.unique(label)} - {0, 255})
            if not ids:
                continue
            identity = int(rng.choice(ids))
            wrong = _specks(label, identity, rng) if kind == "stray-parts" else _resized(label, identity, rng)
            if wrong is None:
                continue
            label = wrong
            kinds[kind].append((name, CLASS_NAMES[identity]))
        if (label == taken).any() and not (label == instead).any():
            count += 1
            if count % 10 < OF_TEN:
                label[label == taken] = instead
        _save_label(folder, name, label)
    return kinds


def _specks(label: Any, identity: int, rng: np.random.Generator) -> Any | None:
    """A few specks in the corner that is farthest from the class; None where it is everywhere."""
    rows, columns = np.nonzero(label == identity)
    far = functools.partial(_from_corner, rows, columns, label.shape)
    corner = max(((0, 0), (0, 1), (1, 0), (1, 1)), key=far)
    if far(corner) < 0.25:
        return None
    size = 2 + int(rng.integers(2))
    top = 3 if not corner[0] else label.shape[0] - 3 - size
    left = 3 if not corner[1] else label.shape[1] - 3 - size
    changed = label.copy()
    changed[top : top + size, left : left + size] = identity
    return changed


def _from_corner(rows: Any, columns: Any, shape: tuple[int, int], corner: tuple[int, int]) -> float:
    """How far a class is from a corner, of the diagonal."""
    y, x = corner[0] * (shape[0] - 1), corner[1] * (shape[1] - 1)
    return float(np.hypot(rows - y, columns - x).min() / np.hypot(*shape))


def _resized(label: Any, identity: int, rng: np.random.Generator) -> Any:
    """The class as a few pixels of itself, or nearly everywhere."""
    changed = label.copy()
    if rng.random() < 0.5:
        rows, columns = np.nonzero(label == identity)
        middle = len(rows) // 2
        changed[label == identity] = 0
        changed[rows[middle] : rows[middle] + 4, columns[middle] : columns[middle] + 4] = identity
    else:
        changed[changed != 255] = identity
    return changed


if __name__ == "__main__":
    main()
