"""Small stores of soft labels, written without a network."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.store import ImageContent, MaskStore, MaskStoreWriter, Status, StoreHeader, StoreLayout, write_shard

NAMES = ("background", "cat", "dog", "horse")
TAXONOMY = Taxonomy(name="pets", class_names=NAMES)
#: The classes of step 0 do not come in the order of their ids.
PROTOCOL = StepProtocol(name="2-1", taxonomy=TAXONOMY, steps=((2, 1), (3,)))


def soft_store(
    path: Path, planes: Mapping[str, NDArray[np.floating] | None], *, category_ids: tuple[int, ...], keep: bool = True
) -> MaskStore:
    """A store of these images with soft labels [C, h, w] each; None for an image that failed."""
    count, sizes = len(planes), [(24, 32)] * len(planes)
    layout = StoreLayout(
        num_images=count, num_categories=len(category_ids), canvas=(24, 32), shard_size=max(count, 1),
        score_grid=(4, 4) if keep else None,
    )  # fmt: skip
    header = StoreHeader(
        layout=layout,
        image_ids=tuple(planes),
        category_ids=category_ids,
        category_names=tuple(NAMES[identity] for identity in category_ids),
        heights=np.array([height for height, _ in sizes], np.int32),
        widths=np.array([width for _, width in sizes], np.int32),
        tags=np.ones((count, len(category_ids)), np.bool_),
        status=np.zeros(count, np.int8),
        errors=("",) * count,
        attributes={"protocol": PROTOCOL.name, "step": 0},
    )
    writer = MaskStoreWriter.create(path, header)
    contents = [_content(plane) for plane in planes.values()]
    writer.commit(write_shard(path, layout, 0, contents))
    writer.seal()
    return MaskStore.open(path)


def _content(planes: NDArray[np.floating] | None) -> ImageContent:
    if planes is None:
        return ImageContent(status=Status.FAILED, error="it is damaged")
    score = dict(enumerate(planes.astype(np.float16)))
    return ImageContent(status=Status.DONE, planes={"score": score})
