"""What an image's masks become by what people said of them: from what a store holds to what the next one holds."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import VOID
from wilss.store import ImageContent, Status
from wilss.store.schema import FEATURE_ARRAYS

from .standing import Change

#: What becomes of the pixels of a rejected mask.
Rejected = Literal["void", "absent"]


def tags_after(tags: NDArray[np.bool_], changes: Mapping[int, Change], rejected: Rejected) -> NDArray[np.bool_]:
    """The tags of an image, bool [C], once `changes` are made. changes: by position on the category axis, or VOID."""
    after = tags.copy()
    for position, change in changes.items():
        if position == VOID:
            continue
        if change.verdict == "corrected":
            after[position] = change.tag is not False
        elif change.verdict == "rejected" and rejected == "absent":
            after[position] = False
    return after


def needs_void(changes: Mapping[int, Change], rejected: Rejected, *, is_unknown: bool) -> bool:
    """Whether `revised_content` may make pixels of an image void, known before its masks are read.

    is_unknown: whether it is tagged and has no masks, since it failed.
    """
    return VOID in changes or any(
        (change.verdict == "rejected" and rejected == "void")
        or (change.verdict == "corrected" and change.mask is None and change.tag is True)
        or is_unknown
        for change in changes.values()
    )


def revised_content(
    content: ImageContent,
    size: tuple[int, int],
    tags: NDArray[np.bool_],
    changes: Mapping[int, Change],
    rejected: Rejected,
    *,
    has_void: bool,
    uses_tags: bool,
) -> ImageContent:
    """An image's content once `changes` are made. size: (H, W). tags: bool [C], before; positions as in `tags_after`.

    A corrected mask has the confidence 1 and no agreement, and is not void but where void was corrected, too. The
    pixels of a rejected mask that no other one covers are void, or what the others say where `rejected` is `absent`.
    Where an image holds a class of which no mask says where, all is void that no mask covers: an added tag without a
    mask, or the other classes of an image that had failed.
    """
    after = tags_after(tags, changes, rejected)
    was_known = content.status is Status.DONE and not tags.any()
    if not after.any() and uses_tags and not was_known:
        return ImageContent(status=Status.UNTAGGED, content=content.content)
    masks, drawn = _masks_after(content, size, after, changes)
    kept = [place for place in masks if place not in drawn]
    confidence, agreement = (
        {place: values[place] for place in kept if place in values}
        for values in (content.confidence, content.agreement)
    )
    planes: dict[str, Mapping[int, NDArray[Any]]] = {**_maps_after(content, after), "mask": masks}
    if has_void:
        planes["void"] = {0: _void_after(content, size, after, masks, drawn, changes, rejected)}
    return dataclasses.replace(
        content,
        status=Status.DONE,
        error="",
        planes=planes,
        confidence={**confidence, **dict.fromkeys(drawn, 1.0)},
        agreement=agreement,
        area={place: int(mask.sum()) for place, mask in masks.items()},
        fallback={place: content.fallback[place] for place in kept if place in content.fallback},
    )


def _maps_after(content: ImageContent, after: NDArray[np.bool_]) -> dict[str, Mapping[int, NDArray[Any]]]:
    """What is kept beside the masks, of the classes that the image still has; features are of no class."""
    return {
        name: {place: plane for place, plane in maps.items() if name in FEATURE_ARRAYS or after[place]}
        for name, maps in content.planes.items()
        if name not in ("mask", "void")
    }


def _masks_after(
    content: ImageContent, size: tuple[int, int], after: NDArray[np.bool_], changes: Mapping[int, Change]
) -> tuple[dict[int, NDArray[np.bool_]], set[int]]:
    """The masks that stand, by position, and the positions of those that people drew."""
    stored = content.planes.get("mask", {})
    masks = {place: plane[: size[0], : size[1]].astype(np.bool_) for place, plane in stored.items() if after[place]}
    drawn = set()
    for place, change in changes.items():
        if place == VOID:
            continue
        if change.verdict == "rejected":
            masks.pop(place, None)
        elif change.mask is not None:
            masks[place] = change.mask()
            drawn.add(place)
    return masks, drawn


def _void_after(
    content: ImageContent,
    size: tuple[int, int],
    after: NDArray[np.bool_],
    masks: Mapping[int, NDArray[np.bool_]],
    drawn: set[int],
    changes: Mapping[int, Change],
    rejected: Rejected,
) -> NDArray[np.bool_]:
    """bool [H, W]: see `revised_content`."""
    covered, by_hand = (_union([masks[place] for place in places], size) for places in (masks, sorted(drawn)))
    stored = content.planes.get("void", {}).get(0)
    void = np.zeros(size, np.bool_) if stored is None else stored[: size[0], : size[1]] & ~by_hand
    corrected = changes.get(VOID)
    if corrected is not None and corrected.mask is not None:
        void = corrected.mask()
    gone = [place for place, change in changes.items() if place != VOID and change.verdict == "rejected"]
    if rejected == "void":
        planes = content.planes.get("mask", {})
        shown = _union([planes[place][: size[0], : size[1]] for place in gone if place in planes], size)
        void = void | (shown & ~covered)
    if _holds_somewhere(content, after, masks, changes):
        void = void | ~covered
    return void


def _holds_somewhere(
    content: ImageContent,
    after: NDArray[np.bool_],
    masks: Mapping[int, NDArray[np.bool_]],
    changes: Mapping[int, Change],
) -> bool:
    """Whether the image holds a class of which no mask says where."""
    added = (place for place, one in changes.items() if one.verdict == "corrected" and one.mask is None)
    if any(place != VOID and after[place] and place not in masks for place in added):
        return True
    unknown = set(np.flatnonzero(after).tolist()) - set(masks)  # a rejected one, too, whose pixels nobody has seen
    return content.status is not Status.DONE and bool(unknown)


def _union(planes: list[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    union = np.zeros(size, np.bool_)
    for plane in planes:
        union |= plane.astype(np.bool_)
    return union
