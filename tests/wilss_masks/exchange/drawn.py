"""Small stores with any masks at all, for what goes out and comes back."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wilss.store import ImageContent, MaskStore, MaskStoreWriter, Status, StoreHeader, StoreLayout, write_shard

#: Names that are hard on files: markup, quotes, blanks, other scripts.
CLASSES = {1: "cat", 2: 'a "b" <c> & d', 3: "猫 / Ñandú"}
ALL_CLASSES = ("background", *CLASSES.values(), "of another step")

Masks = Mapping[int, np.ndarray]


def store_of(
    path: Path,
    images: Mapping[str, Masks],
    *,
    void: Mapping[str, np.ndarray] | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> MaskStore:
    """A store of these images: masks bool [H, W] by class, all of an image of one size; confidence 0.9, 0.8, 0.7.

    sizes: of images without masks, else 6 x 7.
    """
    sizes = {
        name: next((mask.shape for mask in masks.values()), (sizes or {}).get(name, (6, 7)))
        for name, masks in images.items()
    }
    has_void, ids = void is not None, tuple(images)
    layout = StoreLayout(
        num_images=len(ids),
        num_categories=len(CLASSES),
        canvas=(max(high for high, _ in sizes.values()), max(wide for _, wide in sizes.values())),
        shard_size=4,
        has_void=has_void,
    )
    tags = np.array([[identity in images[name] for identity in CLASSES] for name in ids], bool).reshape(len(ids), 3)
    header = StoreHeader(
        layout=layout,
        image_ids=ids,
        category_ids=tuple(CLASSES),
        category_names=tuple(CLASSES.values()),
        heights=np.array([sizes[name][0] for name in ids], np.int32),
        widths=np.array([sizes[name][1] for name in ids], np.int32),
        tags=tags,
        status=np.where(tags.any(axis=1), Status.PENDING, Status.UNTAGGED).astype(np.int8),
        errors=("",) * len(ids),
        attributes={"manifest": "drawn", "step": 1, "split": "train", "source": "fmwiss", "classes": list(ALL_CLASSES),
                    "manifest_sha256": "d" * 64, "parameters": {}, "versions": {}},
    )  # fmt: skip
    writer = MaskStoreWriter.create(path, header)
    for shard in range(layout.num_shards):
        contents = [_content(images[ids[row]], (void or {}).get(ids[row]), has_void) for row in layout.rows(shard)]
        writer.commit(write_shard(path, layout, shard, contents))
    writer.seal()
    return MaskStore.open(path)


def _content(masks: Masks, void: np.ndarray | None, has_void: bool) -> ImageContent:
    if not masks:
        return ImageContent(status=Status.UNTAGGED)
    places = {list(CLASSES).index(identity): mask for identity, mask in masks.items()}
    planes: dict[str, dict[int, np.ndarray]] = {"mask": places}
    if has_void and void is not None:
        planes["void"] = {0: void}
    return ImageContent(
        status=Status.DONE,
        planes=planes,
        confidence={place: 0.9 - place / 10 for place in places},
        area={place: int(mask.sum()) for place, mask in places.items()},
    )


def blank_like(path: Path, store: MaskStore) -> MaskStore:
    """A store of the same images in their sizes, none of which is tagged."""
    high, wide = store.vector("height").tolist(), store.vector("width").tolist()
    sizes = dict(zip(store.image_ids, zip(high, wide, strict=True), strict=True))
    return store_of(path, {name: {} for name in store.image_ids}, sizes=sizes)


def ring(high: int = 6, wide: int = 7) -> np.ndarray:
    """A frame with an island in its hole."""
    mask = np.zeros((high, wide), bool)
    mask[:5, :6] = True
    mask[1:4, 1:5] = False
    mask[2, 2] = True
    return mask
