"""Small mask stores and their images, for the tests of the memory bank: blobs of four classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.layouts import ImageRecord
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.store import ImageContent, MaskStore, MaskStoreWriter, Status, StoreHeader, StoreLayout, write_shard

TAXONOMY = Taxonomy(name="pets", class_names=("background", "ant", "bee", "cat", "dög"))
PROTOCOL = StepProtocol(name="2-2", taxonomy=TAXONOMY, steps=((1, 2), (4, 3)))
Masks = Mapping[int, NDArray[np.bool_]]


def blob(size: tuple[int, int], top: int, left: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def random_masks(count: int, ids: Sequence[int], seed: int = 0) -> dict[str, Masks]:
    """Image name -> class -> mask: a square of 3 to 9 pixels and, of some, a speck beside it."""
    rng = np.random.default_rng(seed)
    made: dict[str, Masks] = {}
    for number in range(count):
        size = (int(rng.integers(14, 24)), int(rng.integers(14, 24)))
        masks = {}
        for identity in ids:
            top, left = (int(v) for v in rng.integers(0, 6, 2))
            masks[identity] = blob(size, top, left, int(rng.integers(3, 9)))
            masks[identity][-1, -3:] = rng.random() > 0.5
        made[f"image-{number:03}"] = masks
    return made


def write_images(folder: Path, images: Mapping[str, Masks]) -> dict[str, Path]:
    """Noise of the masks' sizes, as PNG; the same for the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, masks in images.items():
        height, width = next(iter(masks.values())).shape
        rng = np.random.default_rng(list(name.encode()))
        paths[name] = folder / f"{name}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(paths[name])
    return paths


def records_of(paths: Mapping[str, Path]) -> dict[str, ImageRecord]:
    return {name: ImageRecord(image_id=name, path=path) for name, path in paths.items()}


def make_store(
    path: Path,
    images: Mapping[str, Masks],
    *,
    step: int = 0,
    confidence: Mapping[str, float] | None = None,
    failed: Sequence[str] = (),
) -> MaskStore:
    """A complete store of `images`, some of which may hold other classes than the step's alone.

    confidence: by image, of all its masks; NaN where none is given.
    """
    ids, names = PROTOCOL.new(step), tuple(images)
    shapes = [next(iter(masks.values())).shape for masks in images.values()]
    layout = StoreLayout(
        num_images=len(images), num_categories=len(ids), shard_size=4,
        canvas=(max(h for h, _ in shapes), max(w for _, w in shapes)),
    )  # fmt: skip
    header = StoreHeader(
        layout=layout, image_ids=names, category_ids=ids,
        category_names=tuple(TAXONOMY.name_of(identity) for identity in ids),
        heights=np.array([h for h, _ in shapes], np.int32), widths=np.array([w for _, w in shapes], np.int32),
        tags=np.array([[identity in masks for identity in ids] for masks in images.values()], bool),
        status=np.zeros(len(images), np.int8), errors=("",) * len(images), attributes={"step": step},
    )  # fmt: skip
    writer = MaskStoreWriter.create(path, header)
    for shard in range(layout.num_shards):
        some = [names[row] for row in layout.rows(shard)]
        contents = [
            ImageContent(status=Status.FAILED, error=f"{name} is truncated; copy it again.")
            if name in failed
            else _content({ids.index(i): m for i, m in images[name].items() if i in ids}, (confidence or {}).get(name))
            for name in some
        ]
        writer.commit(write_shard(path, layout, shard, contents))
    writer.seal()
    return MaskStore.open(path)


def _content(masks: Masks, confidence: float | None) -> ImageContent:
    return ImageContent(
        status=Status.DONE,
        planes={"mask": masks},
        confidence={} if confidence is None else dict.fromkeys(masks, confidence),
        area={place: int(mask.sum()) for place, mask in masks.items()},
    )


def files_of(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}
