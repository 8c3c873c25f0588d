"""Random reads of one image's masks, warm: store, palette PNG, npz; at VOC's usual size."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from measure import figure, interleaved
from numpy.typing import NDArray
from PIL import Image

from wilss.store import ImageContent, MaskStore, MaskStoreWriter, Status, StoreHeader, StoreLayout, write_shard

from .common import row

HEIGHT, WIDTH, CATEGORIES, SHARD = 375, 500, 20, 32


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """One or two blobby masks an image, 20 categories."""
    count = 64 if quick else 512
    masks = [_blob(i) for i in range(count)]
    store = _store(scratch / "read.zarr", masks)
    for i, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8)).save(scratch / f"{i}.png")
        np.savez_compressed(scratch / f"{i}.npz", mask=mask)
    order = np.random.default_rng(1).permutation(count).tolist()
    readers = {
        "store": lambda i: store.read(i).masks,
        "png": lambda i: np.asarray(Image.open(scratch / f"{i}.png")),
        "npz": lambda i: np.load(scratch / f"{i}.npz")["mask"],
    }
    actions = {name: (lambda read=read: [read(i) for i in order]) for name, read in readers.items()}
    taken = interleaved(actions, 2 if quick else 7)
    return [
        row(f"random read of one image's mask, {name}, ms", figure([1000 * t / count for t in taken[name]]),
            "at most 0.5" if name == "store" else "", images=count)
        for name in readers
    ]  # fmt: skip


def _blob(i: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng(i)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    height, width = rng.uniform(40, 150, 2)
    centre = rng.uniform(100, 300, 2)
    wave = 1 + 0.2 * np.sin(6 * np.arctan2(y - centre[0], x - centre[1]))
    inside: NDArray[np.bool_] = ((y - centre[0]) / height) ** 2 + ((x - centre[1]) / width) ** 2 < wave
    return inside


def _store(path: Path, masks: list[NDArray[np.bool_]]) -> MaskStore:
    count = len(masks)
    layout = StoreLayout(num_images=count, num_categories=CATEGORIES, canvas=(500, 500), shard_size=SHARD)
    tags = np.zeros((count, CATEGORIES), bool)
    tags[np.arange(count), np.arange(count) % CATEGORIES] = True
    header = StoreHeader(
        layout=layout,
        image_ids=tuple(str(i) for i in range(count)),
        category_ids=tuple(range(1, CATEGORIES + 1)),
        category_names=tuple(f"class {i}" for i in range(CATEGORIES)),
        heights=np.full(count, HEIGHT, np.int32),
        widths=np.full(count, WIDTH, np.int32),
        tags=tags,
        status=np.zeros(count, np.int8),
        errors=("",) * count,
        attributes={},
    )
    shutil.rmtree(path, ignore_errors=True)
    writer = MaskStoreWriter.create(path, header)
    for shard in range(layout.num_shards):
        images = [
            ImageContent(status=Status.DONE, planes={"mask": {i % CATEGORIES: masks[i]}}) for i in layout.rows(shard)
        ]
        writer.commit(write_shard(path, layout, shard, images))
    writer.seal()
    return MaskStore.open(path)
