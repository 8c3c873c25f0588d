"""The same picture twice: in training and validation lists (leaks), in two lists, in one; with which tags."""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.data.taxonomy import Taxonomy
from wilss.equations.duplicates import RADIUS, TURNS, close_pairs, difference, turned
from wilss.errors import ImageError, counted

from .findings import Finding
from .hashes import Hashes, hashes_of, small_picture
from .lists import ImageList, Picture, trained_and_judged

#: Hashes of copies differ in no more bits, and their pixels by no more than this where they differ most; set by hand.
BITS, PIXELS = RADIUS, 0.08
#: Of so many images with equal hashes all pairs are compared; of more each with this many.
_COMPARED_WITH = 16
_PICTURES_HELD = 2_000


class Pair(NamedTuple):
    """Two pictures by their places, of a leak the one that is trained on first; how far apart, 0 the same, and how."""

    first: int
    second: int
    difference: float
    turn: int


def duplicate_findings(
    lists: Sequence[ImageList],
    pictures: Sequence[Picture],
    taxonomy: Taxonomy,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Finding], dict[str, str]]:
    """Leaks, duplicates and pictures with different tags; and why images could not be read, by id."""
    records = [picture.record for picture in pictures]
    hashes = hashes_of(records, threads=threads, progress=progress)
    judged = np.array([not lists[picture.lists[0]].steps for picture in pictures], np.bool_)
    findings = list(_same_file(lists, pictures))
    pairs = duplicate_pairs(hashes, records)
    findings += _told(pairs, judged, lists, pictures)
    return findings + list(_with_other_tags(pairs, lists, pictures, taxonomy)), hashes.failed


def duplicate_pairs(hashes: Hashes, records: Sequence[ImageRecord]) -> list[Pair]:
    """Pairs of the same picture, exact ones first; of many equal ones each with the first.

    Near ones are found by their hashes, in any turn, and confirmed by their pixels.
    """
    exact = [Pair(first, second, 0.0, 0) for first, second in _equal(hashes)]
    alone = hashes.known.copy()
    alone[[pair.second for pair in exact]] = False
    rows = np.flatnonzero(alone)
    look = functools.lru_cache(maxsize=_PICTURES_HELD)(lambda row: small_picture(records[row]))
    near: dict[tuple[int, int], Pair] = {}
    for first, second, turn in _candidates(hashes.turns[rows]):
        one, other = int(rows[first]), int(rows[second])
        if (one, other) in near and near[one, other].difference == 0:
            continue
        try:
            apart = difference(turned(look(one), turn), look(other))
        except ImageError:  # it has gone meanwhile
            continue
        if apart <= PIXELS and apart < near.get((one, other), Pair(0, 0, 1.0, 0)).difference:
            near[one, other] = Pair(one, other, apart, turn)
    return [*exact, *(near[key] for key in sorted(near))]


def _equal(hashes: Hashes) -> Iterator[tuple[int, int]]:
    """(first, other) of images with the same decoded pixels."""
    rows = np.flatnonzero(hashes.known)
    keys = hashes.digests[rows]
    order = np.lexsort((rows, keys[:, 1], keys[:, 0]))
    first = -1
    for before, now in pairwise([-1, *order.tolist()]):
        if before < 0 or (keys[before] != keys[now]).any():
            first = int(rows[now])
        else:
            yield first, int(rows[now])


def _candidates(turns: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """(first, second, turn) of images that may be the same, the first before the second, each once and in order."""
    unique, inverse = np.unique(turns[:, 0], return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(inverse, minlength=len(unique)))[:-1]) if len(unique) else []
    found: set[tuple[int, int, int]] = set()
    for turn in range(len(TURNS)):
        asked, of_asked = np.unique(turns[:, turn], return_inverse=True)
        askers = np.argsort(of_asked, kind="stable")
        asking = np.split(askers, np.cumsum(np.bincount(of_asked, minlength=len(asked)))[:-1]) if len(asked) else []
        for group, place in close_pairs(unique, asked, BITS).tolist():
            found |= _within(groups[group], asking[place], turn)
    return sorted(found)


def _within(members: NDArray[np.int64], askers: NDArray[np.int64], turn: int) -> set[tuple[int, int, int]]:
    """Each of the askers, in its turn, with the first of the members; turns that swap two images are one."""
    pairs = set()
    for asker in askers.tolist():
        for member in members[:_COMPARED_WITH].tolist():
            if asker < member:
                pairs.add((asker, member, turn))
            elif member < asker:
                pairs.add((member, asker, _BACK[turn]))
    return pairs


#: The turn that undoes each turn.
_BACK = (0, 1, 2, 3, 4, 6, 5, 7)


def _same_file(lists: Sequence[ImageList], pictures: Sequence[Picture]) -> Iterator[Finding]:
    """One file in a list that is trained on and in one that is judged on."""
    for picture in pictures:
        trained = [place for place in picture.lists if lists[place].steps]
        judged = [place for place in picture.lists if not lists[place].steps]
        if trained and judged:
            names = (lists[trained[0]].name, lists[judged[0]].name)
            yield Finding(
                kind="leaks",
                score=1.0,
                sentence=f"{picture.record.image_id} is in both lists, {names[0]} and {names[1]}.",
                images=(picture.record.image_id,),
                places=names,
                records=(picture.record,),
            )


def _told(
    pairs: Sequence[Pair], judged: NDArray[np.bool_], lists: Sequence[ImageList], pictures: Sequence[Picture]
) -> Iterator[Finding]:
    """A finding for every image that is a copy of an earlier one: of the nearest of each kind."""
    best: dict[tuple[str, int], Pair] = {}
    for pair in pairs:
        key = ("leaks" if judged[pair.first] != judged[pair.second] else "duplicates", pair.second)
        if key not in best or pair.difference < best[key].difference:
            best[key] = pair
    for (kind, _), pair in best.items():
        yield _finding(kind, pair, lists, pictures)


def _finding(kind: str, pair: Pair, lists: Sequence[ImageList], pictures: Sequence[Picture]) -> Finding:
    both = [pictures[place] for place in (pair.first, pair.second)]
    names = [f"{picture.record.image_id} ({lists[picture.lists[0]].name})" for picture in both]
    how = "are the same pixels" if pair.difference == 0 and pair.turn == 0 else f"are alike {_how(pair)}"
    return Finding(
        kind=kind,
        score=1 - pair.difference,
        sentence=f"{names[0]} and {names[1]} {how}.",
        images=tuple(picture.record.image_id for picture in both),
        places=tuple(lists[picture.lists[0]].name for picture in both),
        records=tuple(picture.record for picture in both),
    )


def _how(pair: Pair) -> str:
    apart = f"the mean colour and differences of up to {100 * pair.difference:.1f} % of the range of brightness"
    return f"but for {apart}" if pair.turn == 0 else f"if one is {TURNS[pair.turn]}, but for {apart}"


def _with_other_tags(
    pairs: Sequence[Pair], lists: Sequence[ImageList], pictures: Sequence[Picture], taxonomy: Taxonomy
) -> Iterator[Finding]:
    for pair in pairs:
        one, other = (pictures[place].record for place in (pair.first, pair.second))
        if one.tags and other.tags and set(one.tags) != set(other.tags):
            names = tuple(taxonomy.name_of(tag) for tag in sorted(set(one.tags) ^ set(other.tags)))
            found = _finding("tag-conflicts", pair, lists, pictures)
            yield Finding(
                kind="tag-conflicts",
                score=found.score,
                sentence=f"{found.sentence[:-1]}, but differ in their tags: {', '.join(names)}.",
                images=found.images,
                classes=names,
                places=found.places,
                records=found.records,
            )


def leaking_lists(manifest: Manifest, lists: list[ImageList]) -> Iterator[Finding]:
    """Whole lists that are trained on and judged on."""
    for one in trained_and_judged(manifest, lists):
        yield Finding(
            kind="leaks",
            score=1.0,
            sentence=f"{one.name}: {counted(len(one.records), 'image')}, trained on and judged on.",
            places=(one.name,),
        )


def conflicts_of_ids(lists: Sequence[ImageList], taxonomy: Taxonomy) -> Iterator[Finding]:
    """The same image id in two lists of a data set, or twice in one, with different tags; none where one has none."""
    seen: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {}
    for place, one in enumerate(lists):
        for image_id, tags, _ in one.records.facts():
            if not tags:
                continue
            before, known = seen.setdefault((one.data, image_id), (place, tags))
            if set(known) != set(tags):
                names = tuple(taxonomy.name_of(tag) for tag in sorted(set(known) ^ set(tags)))
                places = (lists[before].name, one.name)
                yield Finding(
                    kind="tag-conflicts",
                    score=1.0,
                    sentence=f"{image_id} is tagged otherwise in {places[0]} than in {places[1]}: {', '.join(names)}.",
                    images=(image_id,),
                    classes=names,
                    places=places,
                )
