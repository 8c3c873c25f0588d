"""What the masks of a store show, from its small arrays alone: no mask is read.

`coverage_of` and `empty_masks` say of which classes there are none, which would be trained on as background; `look_at`
what a person would notice at first sight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.names import some
from wilss.errors import counted

from .schema import Status
from .store import MaskStore
from .verdicts import REJECTED, verdicts_of

_HALF = 0.5
#: Init and seeds that share less than this of what they cover together say different things.
_LOW_AGREEMENT = 0.2


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


def shows_none(store: MaskStore) -> NDArray[np.bool_]:
    """bool [N]: the finished images that are known to show none of the step's classes.

    They have no tag and no mask; an image of which nothing is known is not finished. None where the source asked for
    all classes, whatever the tags.
    """
    if store.attributes.get("uses_tags") is False:
        return np.zeros(store.layout.num_images, np.bool_)
    return np.asarray((store.current_status() == Status.DONE) & ~store.vector("tags").any(axis=1))


def empty_masks(store: MaskStore) -> tuple[str, ...]:
    """A sentence for every class whose mask is empty in some of the finished images that are tagged with it.

    Not for a class that no mask shows, see `Coverage.without_mask`, nor where the source asked for all classes.
    """
    if store.attributes.get("uses_tags") is False:
        return ()
    done = store.current_status() == Status.DONE
    tags, area = store.vector("tags") & done[:, None], store.vector("area")
    rejected = verdicts_of(store) == REJECTED  # what such a mask showed is void, and not learnt as background
    sentences = []
    for place, name in enumerate(store.category_names):
        empty = np.flatnonzero(tags[:, place] & (area[:, place] == 0) & ~rejected[:, place])
        tagged = int(tags[:, place].sum())
        if 0 < empty.size < tagged:
            who = some([store.image_ids[row] for row in empty[:6].tolist()], empty.size)
            sentences.append(f"{name!r} is tagged in {counted(tagged, 'image')}, and its mask is empty in {who}.")
    return tuple(sentences)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Of a store's finished images that have a mask, or were asked for one.

    images: how many. share: by class, the median share of an image that a mask of it covers, where there is one.
    covered: images of which one mask covers more than half. agreement: median IoU of the two masks in `of`, None where
    masks are not made of two (`compared_masks`). differ: masks whose two hardly agree. fell_back: masks whose seeds
    were no foreground, since M_init was empty, None where none are drawn; with_fallback: images that have one. masks:
    how many were asked for.
    empty: by class, images that are tagged with it and whose mask is empty.
    """

    images: int
    masks: int
    share: Mapping[str, float]
    covered: int
    agreement: float | None
    differ: int
    fell_back: int | None
    with_fallback: int
    empty: Mapping[str, int]
    of: tuple[str, str] = ("M_init", "M_seeds")

    def sentences(self) -> list[str]:
        """What is known, a line each."""
        lines = []
        if self.share:
            areas = ", ".join(f"{name} {_percent(share)}" for name, share in self.share.items())
            lines.append(f"median area of a mask, in % of its image: {areas}")
        if self.images:
            lines.append(f"masks of more than half of their image: on {self.covered} of {self.images} images")
        if self.agreement is not None:
            lines.append(
                f"{' and '.join(self.of)} agree by {_percent(self.agreement)} % (median IoU); on {self.differ} of "
                f"{self.masks} masks by less than {_percent(_LOW_AGREEMENT)} %"
            )
        if self.fell_back is not None:
            lines.append(f"seeds without foreground (M_init was empty): {self.fell_back} of {self.masks} masks, on "
                         f"{self.with_fallback} images")  # fmt: skip
        if self.empty:
            lines.append("empty masks: " + ", ".join(f"{name} {count}" for name, count in self.empty.items()))
        return lines

    def warnings(self) -> list[str]:
        """What makes masks useless, each as a sentence without its full stop."""
        found = []
        if 2 * self.covered > self.images:
            found.append(
                f"a mask covers more than half of its image on {self.covered} of {self.images} images, which few "
                "objects do"
            )
        if self.fell_back is not None and 2 * self.fell_back > self.masks:
            found.append(
                f"M_init was empty for {self.fell_back} of {self.masks} masks, on {self.with_fallback} images, so that "
                "all their seeds are one patch: the threshold is too high for these scores"
            )
        if 2 * self.differ > self.masks:
            found.append(
                f"{' and '.join(self.of)} agree by less than {_percent(_LOW_AGREEMENT)} % for {self.differ} of "
                f"{self.masks} masks: one of them is wrong there"
            )
        if 2 * sum(self.empty.values()) > self.masks:
            found.append(f"{sum(self.empty.values())} of {self.masks} masks are empty")
        return found


def compared_masks(store: MaskStore) -> tuple[str, str] | None:
    """The two masks of which `agreement` tells, by name; None where a store's masks are not made of both.

    FMWISS' are its union or intersection. With one of them alone, and of the maps of other sources, an agreement says
    nothing of the mask.
    """
    parameters = store.attributes.get("parameters")
    if store.attributes.get("source") != "fmwiss" or not isinstance(parameters, dict):
        return None
    if parameters.get("fusion", "union") not in ("union", "intersection"):
        return None
    return "M_init", "M_seeds" if _draws(parameters) else "the mask of the spread map"


def seeded(store: MaskStore) -> bool:
    """Whether masks of a store are made of seeds that were drawn from M_init, or from the best patch where it is empty.

    So alone `fallback` says something of them.
    """
    parameters = store.attributes.get("parameters")
    if store.attributes.get("source") != "fmwiss" or not isinstance(parameters, dict):
        return False
    return _draws(parameters) and parameters.get("fusion") != "init"


def _draws(parameters: Mapping[str, Any]) -> bool:
    placing: str = parameters.get("placing", "drawn")
    return placing == "drawn"


def look_at(store: MaskStore) -> Look:
    """The look of what is made so far; a run that was killed and resumed gives the same as one that was not."""
    asked = store.vector("tags") if store.attributes.get("uses_tags") is not False else store.vector("area") > 0
    rows, places = np.nonzero(asked & (store.current_status() == Status.DONE)[:, None])
    area, agreement, fell_back = (store.vector(name)[rows, places] for name in ("area", "agreement", "fallback"))
    share = area / np.maximum(store.vector("height")[rows].astype(np.float64) * store.vector("width")[rows], 1)
    masks = compared_masks(store)
    known = agreement[np.isfinite(agreement)] if masks is not None else agreement[:0]
    shares = {name: share[(places == place) & (area > 0)] for place, name in enumerate(store.category_names)}
    empty = np.bincount(places[area == 0], minlength=len(store.category_names)).tolist()
    return Look(
        images=len(np.unique(rows)),
        masks=len(rows),
        share={name: float(np.median(some)) for name, some in shares.items() if some.size},
        covered=len(np.unique(rows[share > _HALF])),
        agreement=float(np.median(known)) if known.size else None,
        differ=int((known < _LOW_AGREEMENT).sum()),
        fell_back=int(fell_back.sum()) if seeded(store) else None,
        with_fallback=len(np.unique(rows[fell_back])),
        empty={name: count for name, count in zip(store.category_names, empty, strict=True) if count},
        of=masks or Look.of,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
