"""A small store with kept maps, made as `generate` makes one but without a network; its images and labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wilss.data.layouts import ImageRecord
from wilss.data.protocol import StepProtocol, preset
from wilss.data.taxonomy import VOC
from wilss.store import ImageContent, MaskStore, MaskStoreWriter, Status, StoreHeader, StoreLayout, write_shard
from wilss_masks.sources.fmwiss_params import ALWAYS_NOTED, FmwissParams
from wilss_masks.sources.fusion import as_content, refine
from wilss_masks.stages.params import noted

CLASS_IDS, CLASS_NAMES = (16, 17, 20), ("pottedplant", "sheep", "tvmonitor")
DIGEST = "d" * 64
FAILED, UNTAGGED = 3, 4
NUM_SEEDS = 4


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One image: boxes (top, bottom, left, right) per class id, besides those of a class of another step."""

    image_id: str
    size: tuple[int, int]
    boxes: Mapping[int, tuple[int, int, int, int]]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """uint8 [H, W]: the boxes, a box of class 3, and a void column at the right."""
        labels = np.zeros(self.size, np.uint8)
        labels[:5, :5] = 3
        for identity, (top, bottom, left, right) in self.boxes.items():
            labels[top:bottom, left:right] = identity
        labels[:, -2:] = 255
        return labels


IMAGES = (
    Drawn(image_id="2007_000033", size=(48, 64), boxes={16: (8, 40, 16, 48)}),
    Drawn(image_id="2007_000042", size=(64, 40), boxes={17: (16, 56, 8, 32)}),
    Drawn(image_id="été", size=(40, 80), boxes={16: (8, 32, 8, 32), 20: (8, 32, 40, 72)}),
    Drawn(image_id="2007_000061", size=(32, 32), boxes={16: (8, 24, 8, 24)}),
    Drawn(image_id="2007_000063", size=(32, 48), boxes={}),
    Drawn(image_id="2007_000068", size=(56, 56), boxes={20: (0, 40, 16, 56)}),
)


@dataclass(frozen=True, kw_only=True)
class FakeLabel:
    labels: NDArray[np.uint8]

    def read(self) -> NDArray[np.uint8]:
        return self.labels


@dataclass(frozen=True, kw_only=True)
class FakeManifest:
    """What the commands ask a manifest for."""

    records_: tuple[ImageRecord, ...]
    digest: str = DIGEST
    path: Path = Path("data_manifest.yaml")
    chosen_on: Path | None = None
    protocol: StepProtocol = preset("15-5", VOC)
    asked: list[Any] = field(default_factory=list)

    def records(self, step: int, split: str = "train") -> Any:
        self.asked.append((step, split))
        return type("Selection", (), {"records": self.records_, "warnings": ()})()


def make_manifest(folder: Path, images: tuple[Drawn, ...] = IMAGES, *, labelled: bool = True) -> FakeManifest:
    """Draw the images into `folder` and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    return FakeManifest(records_=tuple(_record(folder, drawn, labelled) for drawn in images))


def _record(folder: Path, drawn: Drawn, labelled: bool) -> ImageRecord:
    pixels = np.random.default_rng(1).integers(90, 130, (*drawn.size, 3)).astype(np.uint8)
    for number, (top, bottom, left, right) in enumerate(drawn.boxes.values()):
        pixels[top:bottom, left:right, number % 3] += 100
    path = folder / f"{drawn.image_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    label = FakeLabel(labels=drawn.labels) if labelled else None
    return ImageRecord(image_id=drawn.image_id, path=path, label=label)


def make_header(
    images: tuple[Drawn, ...], params: FmwissParams, *, keep: bool, attributes: Mapping[str, Any]
) -> StoreHeader:
    n = len(images)
    heights, widths = zip(*(drawn.size for drawn in images), strict=True)
    soft: dict[str, Any] = {"score_grid": (8, 10), "attention_grid": (16, 20), "num_seeds": NUM_SEEDS}
    tags = np.array([[i in drawn.boxes for i in CLASS_IDS] for drawn in images], bool)
    return StoreHeader(
        layout=StoreLayout(
            num_images=n,
            num_categories=3,
            canvas=(max(heights), max(widths)),
            shard_size=2,
            has_void=params.has_void,
            **(soft if keep else {}),
        ),
        image_ids=tuple(drawn.image_id for drawn in images),
        category_ids=CLASS_IDS,
        category_names=CLASS_NAMES,
        heights=np.array(heights, np.int32),
        widths=np.array(widths, np.int32),
        tags=tags,
        status=np.where(tags.any(axis=1), Status.PENDING, Status.UNTAGGED).astype(np.int8),
        errors=("",) * n,
        attributes={
            "manifest": "voc-15-5",
            "protocol": "15-5",
            "setting": "overlap",
            "step": 1,
            "split": "train",
            "source": "fmwiss",
            "classes": ["background", *(f"class {i}" for i in range(1, 21))],
            "parameters": noted(params, ALWAYS_NOTED),
            "keep": ["scores"] if keep else [],
            "manifest_sha256": DIGEST,
            "records_sha256": "e" * 64,
            "versions": {"wilss": "0.0.1", "torch": "0.0.1"},
            **attributes,
        },
    )


def maps_of(drawn: Drawn, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Score [T, H/8, W/8], attention [T, H/4, W/4] and seeds [T, S, 2]: the boxes, blurred by some noise."""
    rng = np.random.default_rng(row)
    scores, attentions, seeds = [], [], []
    for top, bottom, left, right in (drawn.boxes[i] for i in CLASS_IDS if i in drawn.boxes):
        inside = np.zeros(drawn.size)
        inside[top:bottom, left:right] = 0.7
        scores.append(_shrunk(inside, 8) + 0.3 * rng.random((drawn.size[0] // 8, drawn.size[1] // 8)))
        attention = _shrunk(np.roll(inside, 4, axis=1), 4)
        attention += 0.2 * rng.random(attention.shape)
        attentions.append(attention / attention.max())
        seeds.append([[top // 8 + int(rng.integers(2)), left // 8 + int(rng.integers(2))] for _ in range(NUM_SEEDS)])
    score, attention_ = (torch.tensor(np.stack(maps), dtype=torch.float16) for maps in (scores, attentions))
    return score, attention_, torch.tensor(seeds, dtype=torch.int16)


def _shrunk(pixels: NDArray[np.float64], patch: int) -> NDArray[np.float64]:
    h, w = pixels.shape
    return np.asarray(pixels.reshape(h // patch, patch, w // patch, patch).mean(axis=(1, 3)))


def make_content(
    drawn: Drawn, row: int, params: FmwissParams, *, keep: bool, bare: Status = Status.UNTAGGED
) -> ImageContent:
    if row == FAILED:
        return ImageContent(status=Status.FAILED, error=f"{drawn.image_id} is truncated; copy it again.")
    if not drawn.boxes:
        return ImageContent(status=bare)
    score, attention, seeds = maps_of(drawn, row)
    categories = tuple(p for p, identity in enumerate(CLASS_IDS) if identity in drawn.boxes)
    content = as_content(
        refine(score, attention, *drawn.size, params),
        categories, score=score, attention=attention, seeds=seeds, fallback=[row == 2] * len(categories),
    )  # fmt: skip
    planes = (
        content.planes if keep else {name: content.planes[name] for name in ("mask", "void") if name in content.planes}
    )
    return ImageContent(**{**vars(content), "planes": planes})


def make_store(
    path: Path,
    *,
    params: FmwissParams = FmwissParams(),  # noqa: B008  frozen
    keep: bool = True,
    images: tuple[Drawn, ...] = IMAGES,
    finish: bool = True,
    bare: Status = Status.UNTAGGED,
    **attributes: Any,
) -> MaskStore:
    """A store as `generate --keep scores` leaves it: row 3 failed, row 4 without a tag of the step.

    bare: the status of that one, DONE where it is known to show none of the classes.
    """
    header = make_header(images, params, keep=keep, attributes=attributes)
    if bare is Status.DONE:
        header = replace(header, status=np.full(len(images), Status.PENDING, np.int8))
    writer = MaskStoreWriter.create(path, header)
    for shard in range(header.layout.num_shards - (not finish)):
        contents = [make_content(images[row], row, params, keep=keep, bare=bare) for row in header.layout.rows(shard)]
        writer.commit(write_shard(path, header.layout, shard, contents))
    if finish:
        writer.seal()
    return MaskStore.open(path, allow_partial=not finish)


def make_annotation_store(path: Path, images: tuple[Drawn, ...] = IMAGES) -> MaskStore:
    """A store as `generate --source annotation` leaves it: masks and void, no maps, confidence 1."""
    header = make_header(images, FmwissParams(), keep=False, attributes={"source": "annotation", "parameters": {}})
    layout = StoreLayout(**{**vars(header.layout), "has_void": True})
    header = StoreHeader(**{**vars(header), "layout": layout})
    writer = MaskStoreWriter.create(path, header)
    for shard in range(layout.num_shards):
        writer.commit(write_shard(path, layout, shard, [_annotated(images[row]) for row in layout.rows(shard)]))
    writer.seal()
    return MaskStore.open(path)


def _annotated(drawn: Drawn) -> ImageContent:
    if not drawn.boxes:
        return ImageContent(status=Status.UNTAGGED)
    masks = {p: drawn.labels == identity for p, identity in enumerate(CLASS_IDS) if identity in drawn.boxes}
    return ImageContent(
        status=Status.DONE,
        planes={"mask": masks, "void": {0: drawn.labels == 255}},
        confidence=dict.fromkeys(masks, 1.0),
        area={position: int(mask.sum()) for position, mask in masks.items()},
    )


def files_of(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
