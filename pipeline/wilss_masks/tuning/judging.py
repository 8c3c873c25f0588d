"""How good the masks of every setting are on one image, without a forward pass.

Masks are made by the functions that `generate` makes them with, each step once for all settings that share it: scores
by background and words, M_init by threshold, attention by seeds, M_seeds by its cut.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.images import read_image, to_pixels
from wilss.data.taxonomy import VOID
from wilss.equations import fmwiss
from wilss.params import names_of
from wilss.store import label_map

from ..sources.fmwiss import FmwissSource
from ..sources.fusion import FmwissParams, FusionParams, Refined, kept, refine
from ..sources.placing import MapMaker, Maps
from ..stages.chain import stage_picture
from ..stages.regions import stage_regions
from .sample import Truth
from .scratch import Seen
from .settings import Setting

#: Shares of an image that a tagged object may well cover; what a mask covers beyond counts less.
_PLAUSIBLE = (0.02, 0.4, 0.9)


@dataclass(eq=False)
class Tally:
    """Sums over images, by setting.

    pixels: int64 [S, 3, C], of every class those that are hit, masked, and there. masks: how many masks. share: of
    their image that they cover, summed [S]. agreement, stability, plausible: in [0, 1] each, and `quality`, what is
    guessed from them, summed [S].
    """

    pixels: NDArray[np.int64]
    sums: NDArray[np.float64]
    masks: int = 0

    NAMES = ("share", "agreement", "stability", "plausible", "quality")

    @classmethod
    def empty(cls, settings: int, classes: int) -> "Tally":
        """Nothing yet."""
        return cls(np.zeros((settings, 3, classes), np.int64), np.zeros((settings, len(cls.NAMES))))

    def add(self, other: "Tally") -> None:
        """Take in another's sums, of the same settings."""
        self.pixels += other.pixels
        self.sums += other.sums
        self.masks += other.masks

    def beside(self, other: "Tally") -> "Tally":
        """These settings, then another's, over the same images."""
        pixels, sums = np.concatenate([self.pixels, other.pixels]), np.concatenate([self.sums, other.sums])
        return Tally(pixels, sums, self.masks)

    @property
    def mean_iou(self) -> NDArray[np.float64]:
        """Mean over the classes of intersection over union [S]; classes that nobody has seen take no part."""
        hits, masked, there = np.moveaxis(self.pixels, 1, 0)
        union = masked + there - hits
        known = (union > 0).any(axis=0) if len(union) else np.zeros(union.shape[1], bool)
        return (hits / np.maximum(union, 1))[:, known].mean(axis=1) if known.any() else np.full(len(hits), np.nan)

    def mean(self, name: str) -> NDArray[np.float64]:
        """The mean of one of NAMES over the masks [S]."""
        return self.sums[:, self.NAMES.index(name)] / max(self.masks, 1)


class Judge:
    """Compares settings on single images; used by several threads.

    sources: by background words, in all but parameters what masks are made with. classes: taxonomy ids of the step, in
    the order of its categories. guesses: whether agreement and stability are wanted, which take twice the time.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        sources: Mapping[str, FmwissSource],
        classes: Sequence[int],
        *,
        guesses: bool,
    ) -> None:
        self._settings, self._sources, self._classes, self._guesses = settings, sources, classes, guesses
        self._tree, self._others = _tree(settings), _others(settings)

    def __call__(self, seen: Seen, truths: Sequence[Truth]) -> Tally:
        """The tally of one image."""
        tally = Tally.empty(len(self._settings), len(self._classes))
        tally.masks = len(seen.task.categories)
        known = [_Known(truth, self._classes) for truth in truths]
        with torch.inference_mode():
            for place, made in self._made(seen):
                self._count(tally, place, made, seen, known)
        return tally

    def _made(self, seen: Seen) -> "Iterator[tuple[int, _Made]]":
        """The masks of every setting."""
        size = seen.task.height, seen.task.width
        for place, setting in enumerate(self._settings):
            if setting.params is None:
                everything = torch.ones((len(seen.task.categories), *size), dtype=torch.bool)
                yield place, _Made(masks=everything, score=everything.float())
        yield from self._made_of_others(seen)
        for (words, background), by_threshold in self._tree.items():
            maker = self._maker(seen, words=words, background=background)
            score = maker.score(seen.tags[words], seen.words[words])
            pixels = to_pixels(score.half().float(), *size)
            for threshold, by_seeds in by_threshold.items():
                init = pixels >= threshold
                for (draws, seeds, affinity), by_cut in by_seeds.items():
                    values = {"draws": draws, "seeds": seeds, "affinity": affinity, "threshold": threshold}
                    maker = self._maker(seen, words=words, background=background, **values)
                    for ends, first, second, free in self._cut(maker, seen, score, by_cut):
                        for place, fusion in ends:
                            masks = fmwiss.fuse(init, first, fusion)
                            again = None if fusion == "init" else second
                            yield (
                                place,
                                _Made(masks=masks, score=pixels, init=init, seeds=first, again=again, free=free),
                            )

    def _made_of_others(self, seen: Seen) -> "Iterator[tuple[int, _Made]]":
        """The masks of settings with more than the paper's steps: the maps once for all that share them."""
        size, picture = (seen.task.height, seen.task.width), _Picture(seen)
        for places in self._others:
            params = self._settings[places[0]].params
            assert params is not None
            maker = MapMaker(dataclasses.replace(self._sources[params.words], params=params), seen.logit_scale)
            score = maker.score(seen.tags[params.words], seen.words[params.words])
            within = picture(params)[1] if params.scope == "regions" else None
            maps = maker.maps(seen.task, score, seen.blocks_for(params), 0, within)
            for place in places:
                own = self._settings[place].params
                assert own is not None
                seen_by_stages, regions = picture(own)
                refined = refine(maps.score, maps.attention, *size, own, seen_by_stages, regions=regions)
                yield place, _Made(masks=refined.fused, score=refined.score, refined=refined)

    def _cut(self, maker: MapMaker, seen: Seen, score: Tensor, by_cut: Any) -> Iterator[Any]:
        """M_seeds by every cut, and that of as many other draws where it is wanted."""
        size = seen.task.height, seen.task.width
        both = [
            m.maps(seen.task, score, seen.blocks, 0) for m in ([maker, _Later(maker)] if self._guesses else [maker])
        ]
        maps, free = [one.attention for one in both], _freedom(both, maker.params.seeds)
        pixels = [to_pixels(attention.float(), *size) for attention in maps]
        for (keep, amount), ends in by_cut.items():
            cuts = [kept(a, p, keep, amount) for a, p in zip(maps, pixels, strict=True)]
            yield ends, cuts[0], cuts[1] if self._guesses else None, free

    def _maker(self, seen: Seen, *, words: str, **values: Any) -> MapMaker:
        source = self._sources[words]
        params = dataclasses.replace(source.params, words=words, **values)  # type: ignore[arg-type]
        return MapMaker(dataclasses.replace(source, params=params), seen.logit_scale)

    def _count(self, tally: Tally, place: int, made: "_Made", seen: Seen, known: "Sequence[_Known]") -> None:
        size = seen.task.height * seen.task.width
        shares = made.masks.sum(dim=(-2, -1)).double() / size
        tally.sums[place, 0] = float(shares.sum())
        if known:
            apart = made.apart([self._classes[position] for position in seen.task.categories])
            for one in known:
                one.count(tally.pixels[place], apart, seen.task.categories)
        if self._guesses:
            tally.sums[place, 1:] = _guesses(made, shares)


def masks_of(source: FmwissSource, params: FmwissParams, seen: Seen) -> Refined:
    """The masks that `generate` would write with these parameters."""
    return maps_and_masks(source, params, seen)[1]


def maps_and_masks(source: FmwissSource, params: FmwissParams, seen: Seen) -> tuple[Maps, Refined]:
    """The maps, and the masks that `generate` would make of them."""
    maker = MapMaker(dataclasses.replace(source, params=params), seen.logit_scale)
    with torch.inference_mode():
        score = maker.score(seen.tags[params.words], seen.words[params.words])
        size, (picture, regions) = (seen.task.height, seen.task.width), _Picture(seen)(params)
        maps = maker.maps(seen.task, score, seen.blocks_for(params), 0, regions if params.scope == "regions" else None)
        return maps, refine(maps.score, maps.attention, *size, params, picture, regions=regions)


class _Picture:
    """The image of what was seen as a setting's stages take it, and its regions.

    Decoded once, where that is wanted, and regions looked for once for all settings that share them.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._image: Tensor | None = None
        self._kept: dict[Any, tuple[Tensor, Tensor | None]] = {}

    def __call__(self, params: FmwissParams) -> tuple[Tensor | None, Tensor | None]:
        if not params.needs_picture:
            return None, None
        which = tuple(getattr(params, name) for name in _OF_PICTURE)
        if which not in self._kept:
            self._kept[which] = self._looked(params)
        return self._kept[which]

    def _looked(self, params: FmwissParams) -> tuple[Tensor, Tensor | None]:
        task = self._seen.task
        if self._image is None:
            self._image = torch.from_numpy(read_image(task.record.path)).permute(2, 0, 1)
        picture = stage_picture(self._image, params)
        assert picture is not None
        picture = picture.to(self._seen.device)
        return picture, stage_regions(task.record, task.height, task.width, picture, params)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """Masks of one image by one setting, bool [T, H, W]; again: M_seeds of other draws, None where none take part.

    free: how far the draws could differ, [T] in [0, 1]. refined: what stages made, None without any.
    """

    masks: Tensor
    score: Tensor
    init: Tensor | None = None
    seeds: Tensor | None = None
    again: Tensor | None = None
    free: Tensor | None = None
    refined: Refined | None = None

    def apart(self, ids: Sequence[int]) -> NDArray[np.bool_]:
        """The masks with each pixel in one at most, as a label map has them."""
        masks = self.masks.cpu().numpy()
        if len(masks) == 1 or not (masks.sum(axis=0) > 1).any():
            return masks
        score, made = self.score, self.refined
        confidence = fmwiss.confidence(score, self.masks) if made is None else made.confidence
        labels = label_map(masks, np.array(ids), confidence.cpu().numpy())
        return np.asarray(labels == np.array(ids, np.uint8)[:, None, None])


class _Known:
    """A truth, taken apart once for all settings."""

    def __init__(self, truth: Truth, classes: Sequence[int]) -> None:
        self._known = truth.labels != VOID
        self._places = {classes.index(identity): truth.labels == identity for identity in truth.classes}
        self._there = {place: int(np.count_nonzero(inside)) for place, inside in self._places.items()}

    def count(self, pixels: NDArray[np.int64], masks: NDArray[np.bool_], categories: Sequence[int]) -> None:
        """Add hits, masked and true pixels to `pixels` [3, C]. masks: bool [T, H, W] of these categories."""
        for place, there in self._there.items():
            pixels[2, place] += there
        for category, mask in zip(categories, masks, strict=True):
            if category in self._places:
                pixels[0, category] += np.count_nonzero(mask & self._places[category])
                pixels[1, category] += np.count_nonzero(mask & self._known)


class _Later(MapMaker):
    """The maps of as many draws again, that come after those of a setting."""

    def __init__(self, maker: MapMaker) -> None:
        self._count = maker.params.draws * maker.params.seeds
        params = dataclasses.replace(maker.params, draws=2 * maker.params.draws)
        super().__init__(dataclasses.replace(maker.source, params=params), maker.logit_scale)

    def _seeds(self, task: Any, position: int, score: Tensor) -> fmwiss.Seeds:
        drawn = super()._seeds(task, position, score)
        return fmwiss.Seeds(drawn.points[self._count :], drawn.fell_back)


def _guesses(made: _Made, shares: Tensor) -> tuple[float, float, float, float]:
    """Sums over an image's masks of agreement, stability, plausible area, and the quality that is guessed from them.

    quality: stability x plausible area, NaN where no draws take part. Agreement is no part of it: with it the choice on
    drawn pictures was worse.
    """
    plausible = _plausible(shares)
    if made.init is None or made.seeds is None or made.again is None or made.free is None:
        return math.nan, math.nan, float(plausible.sum()), math.nan
    agreement = fmwiss.agreement(made.init, made.seeds).double()
    stability = _beyond_chance(made.seeds, made.again) * made.free.to(shares.device)
    parts = (agreement, stability, plausible, stability * plausible)
    one, two, three, four = (float(part.sum()) for part in parts)
    return one, two, three, four


def _freedom(both: Sequence[Maps], seeds: int) -> Tensor:
    """Of each tag the different patches its draws fell on, over twice the seeds of one [T]: on one patch all agree."""
    points = torch.cat([one.points for one in both], dim=1)
    different = [len(torch.unique(of_tag, dim=0)) for of_tag in points]
    return (torch.tensor(different).double() / (2 * seeds)).clamp(max=1)


def _beyond_chance(a: Tensor, b: Tensor) -> Tensor:
    """How far masks agree beyond what masks of their areas would anywhere, in [0, 1]: large ones overlap of themselves.

    a, b: bool [T, H, W]. Returns float64 [T].
    """
    p, q = a.double().mean(dim=(-2, -1)), b.double().mean(dim=(-2, -1))
    chance = p * q / (p + q - p * q).clamp_min(1e-9)
    iou = fmwiss.agreement(a, b).double()
    return ((iou - chance) / (1 - chance).clamp_min(1e-9)).clamp(0, 1)


def _plausible(shares: Tensor) -> Tensor:
    """1 for a share of the image that an object may well have, falling to 0 at nothing and at nearly all of it."""
    least, most, end = _PLAUSIBLE
    return (shares / least).clamp(max=1) * ((end - shares) / (end - most)).clamp(0, 1)


def _tree(settings: Sequence[Setting]) -> dict[Any, Any]:
    """Places of the settings by words and background, threshold, seeds, and cut of the attention."""
    tree: dict[Any, Any] = {}
    for place, setting in enumerate(settings):
        p = setting.params
        if p is not None and _is_plain(p):
            branch = tree.setdefault((p.words, p.background), {}).setdefault(p.threshold, {})
            branch = branch.setdefault((p.draws, p.seeds, p.affinity), {}).setdefault((p.keep, p.keep_amount), [])
            branch.append((place, p.fusion))
    return tree


#: What decides the picture and the regions that stages look at.
_OF_PICTURE = ("stage_size", "regions", "region_size", "regions_file", "regions_score")
#: What the masks are cut by once there are maps.
_OF_CUT = frozenset((*names_of(FusionParams), "words"))


def cost(settings: Sequence[Setting]) -> int:
    """About how long the masks of an image take by all of these; one of the paper's steps alone counts 1."""
    return sum(
        1 if one.params is None or _is_plain(one.params) else 90 if one.params.needs_picture else 20 for one in settings
    )


def _is_plain(params: FmwissParams) -> bool:
    """Whether the masks are those of the paper's steps alone."""
    return params.is_literal and not params.has_stages


def _others(settings: Sequence[Setting]) -> list[list[int]]:
    """Places of the settings with more than that, those together that share their maps."""
    groups: dict[Any, list[int]] = {}
    for place, setting in enumerate(settings):
        p = setting.params
        if p is not None and not _is_plain(p):
            of_maps = tuple(value for name, value in vars(p).items() if name not in _OF_CUT)
            drawn_at = p.threshold if p.placing == "drawn" else None
            inside = (p.regions, p.region_size) if p.scope == "regions" else None
            groups.setdefault((p.words, drawn_at, inside, of_maps), []).append(place)
    return list(groups.values())
