"""Classes of a store that images are tagged with and that no mask shows: trained on, they would be background."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wilss.data.names import some
from wilss.errors import counted

from .schema import Status
from .store import MaskStore


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage:
    """What a store's finished images are tagged with, and what their masks show.

    tagged, shown: int64 [C], images by category. empty: bool [N], the images that are tagged with a class of which no
    image has a mask; none where the source asked for all classes of all images.
    """

    names: tuple[str, ...]
    tagged: NDArray[np.int64]
    shown: NDArray[np.int64]
    empty: NDArray[np.bool_]

    @property
    def without_mask(self) -> tuple[int, ...]:
        """Categories that some image is tagged with and no mask shows."""
        return tuple(np.flatnonzero((self.tagged > 0) & (self.shown == 0)).tolist())

    @property
    def without_image(self) -> tuple[int, ...]:
        """Categories that no image is tagged with."""
        return tuple(np.flatnonzero(self.tagged == 0).tolist())


def coverage_of(store: MaskStore) -> Coverage:
    """Which classes the masks of a store show; images that are not finished do not count."""
    done = store.current_status() == Status.DONE
    tags, has_mask = store.vector("tags") & done[:, None], (store.vector("area") > 0) & done[:, None]
    tagged, shown = tags.sum(axis=0, dtype=np.int64), has_mask.sum(axis=0, dtype=np.int64)
    by_tags = store.attributes.get("uses_tags") is not False
    return Coverage(
        names=store.category_names,
        tagged=tagged,
        shown=shown,
        empty=(tags & (shown == 0)).any(axis=1) & by_tags,
    )


def empty_masks(store: MaskStore) -> tuple[str, ...]:
    """A sentence for every class whose mask is empty in some of the finished images that are tagged with it.

    Not for a class that no mask shows, see `Coverage.without_mask`, nor where the source asked for all classes.
    """
    if store.attributes.get("uses_tags") is False:
        return ()
    done = store.current_status() == Status.DONE
    tags, area = store.vector("tags") & done[:, None], store.vector("area")
    sentences = []
    for place, name in enumerate(store.category_names):
        empty = np.flatnonzero(tags[:, place] & (area[:, place] == 0))
        tagged = int(tags[:, place].sum())
        if 0 < empty.size < tagged:
            who = some([store.image_ids[row] for row in empty[:6].tolist()], empty.size)
            sentences.append(f"{name!r} is tagged in {counted(tagged, 'image')}, and its mask is empty in {who}.")
    return tuple(sentences)
