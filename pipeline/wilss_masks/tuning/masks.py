"""The masks of every setting on one image, without a forward pass.

They are made by the functions that `generate` makes them with, each step once for all settings that share it: scores by
background and words, M_init by threshold, attention by seeds, M_seeds by its cut.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.data.images import read_image, to_pixels
from wilss.equations import fmwiss
from wilss.params import names_of
from wilss.store import label_map

from ..sources.fmwiss import FmwissSource
from ..sources.fmwiss_params import FmwissParams, FusionParams
from ..sources.fusion import Refined, kept, refine
from ..sources.placing import MapMaker, Maps
from ..stages.chain import stage_picture
from ..stages.regions import stage_regions
from .scratch import Seen
from .settings import Setting

#: What decides the picture and the regions that stages look at.
_OF_PICTURE = ("stage_size", "regions", "region_size", "regions_file", "regions_score")
#: What the masks are cut by once there are maps.
_OF_CUT = frozenset((*names_of(FusionParams), "words"))

#: A setting's place among all, and its parameters.
_Placed = tuple[int, FmwissParams]


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
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


class SettingMasks:
    """Makes the masks of some settings; used by several threads.

    sources: by background words, in all but parameters what masks are made with. again: whether M_seeds are wanted of
    as many other draws as well, which takes twice the time.
    """

    def __init__(self, settings: Sequence[Setting], sources: Mapping[str, FmwissSource], *, again: bool) -> None:
        self._sources, self._again = sources, again
        placed = [(place, one.params) for place, one in enumerate(settings) if one.params is not None]
        self._whole = [place for place, one in enumerate(settings) if one.params is None]
        self._plain = [(place, params) for place, params in placed if _is_plain(params)]
        self._others = _by_maps([(place, params) for place, params in placed if not _is_plain(params)])

    def of(self, seen: Seen) -> Iterator[tuple[int, Made]]:
        """The masks of every setting on an image, with its place; not in the order of the places."""
        for place in self._whole:
            everything = torch.ones((len(seen.task.categories), *_size(seen)), dtype=torch.bool)
            yield place, Made(masks=everything, score=everything.float())
        yield from self._of_others(seen)
        yield from self._of_plain(seen)

    def _of_others(self, seen: Seen) -> Iterator[tuple[int, Made]]:
        """Of settings with more than the paper's steps: the maps once for all that share them."""
        picture = _Picture(seen)
        for group in self._others:
            maps = _maps(self._sources, group[0][1], seen, picture)
            for place, params in group:
                refined = _refined(maps, params, seen, picture)
                yield place, Made(masks=refined.fused, score=refined.score, refined=refined)

    def _of_plain(self, seen: Seen) -> Iterator[tuple[int, Made]]:
        """Of settings of the paper's steps alone."""
        for of_score in _sharing(self._plain, "words", "background"):
            score = _score(_maker(self._sources, of_score[0][1], seen), seen)
            pixels = to_pixels(score.half().float(), *_size(seen))
            for of_seeds in _sharing(of_score, "threshold", "draws", "seeds", "affinity"):
                maker = _maker(self._sources, of_seeds[0][1], seen)
                init, drawn = pixels >= maker.params.threshold, _Drawn(maker, seen, score, again=self._again)
                for of_cut in _sharing(of_seeds, "keep", "keep_amount"):
                    seeds, again = drawn.cut(of_cut[0][1])
                    for place, params in of_cut:
                        yield (
                            place,
                            Made(
                                masks=fmwiss.fuse(init, seeds, params.fusion),
                                score=pixels,
                                init=init,
                                seeds=seeds,
                                again=None if params.fusion == "init" else again,
                                free=drawn.free,
                            ),
                        )


def masks_of(source: FmwissSource, params: FmwissParams, seen: Seen) -> Refined:
    """The masks that `generate` would write with these parameters."""
    return maps_and_masks(source, params, seen)[1]


def maps_and_masks(source: FmwissSource, params: FmwissParams, seen: Seen) -> tuple[Maps, Refined]:
    """The maps, and the masks that `generate` would make of them."""
    picture = _Picture(seen)
    with torch.inference_mode():
        maps = _maps({params.words: source}, params, seen, picture)
        return maps, _refined(maps, params, seen, picture)


def cost(settings: Sequence[Setting]) -> int:
    """About how long the masks of an image take by all of these; one of the paper's steps alone counts 1."""
    return sum(
        1 if one.params is None or _is_plain(one.params) else 90 if one.params.needs_picture else 20 for one in settings
    )


def _is_plain(params: FmwissParams) -> bool:
    """Whether the masks are those of the paper's steps alone."""
    return params.is_literal and not params.has_stages


def _sharing(placed: Iterable[_Placed], *names: str) -> list[list[_Placed]]:
    """The settings in groups with the same values of these parameters."""
    groups: dict[Any, list[_Placed]] = {}
    for place, params in placed:
        groups.setdefault(tuple(getattr(params, name) for name in names), []).append((place, params))
    return list(groups.values())


def _by_maps(placed: Iterable[_Placed]) -> list[list[_Placed]]:
    """The settings in groups that share their maps."""
    groups: dict[Any, list[_Placed]] = {}
    for place, p in placed:
        of_maps = tuple(value for name, value in vars(p).items() if name not in _OF_CUT)
        drawn_at = p.threshold if p.placing == "drawn" else None
        inside = (p.regions, p.region_size) if p.scope == "regions" else None
        groups.setdefault((p.words, drawn_at, inside, of_maps), []).append((place, p))
    return list(groups.values())


def _size(seen: Seen) -> tuple[int, int]:
    return seen.task.height, seen.task.width


def _maker(sources: Mapping[str, FmwissSource], params: FmwissParams, seen: Seen) -> MapMaker:
    return MapMaker(dataclasses.replace(sources[params.words], params=params), seen.logit_scale)


def _score(maker: MapMaker, seen: Seen) -> Tensor:
    words = maker.params.words
    return maker.score(seen.tags[words], seen.words[words])


def _maps(sources: Mapping[str, FmwissSource], params: FmwissParams, seen: Seen, picture: "_Picture") -> Maps:
    maker = _maker(sources, params, seen)
    within = picture(params)[1] if params.scope == "regions" else None
    return maker.maps(seen.task, _score(maker, seen), seen.blocks_for(params), 0, within)


def _refined(maps: Maps, params: FmwissParams, seen: Seen, picture: "_Picture") -> Refined:
    seen_by_stages, regions = picture(params)
    return refine(maps.score, maps.attention, *_size(seen), params, seen_by_stages, regions=regions)


class _Drawn:
    """The attention of drawn seeds, and of as many other draws where it is wanted. free: see `Made`."""

    def __init__(self, maker: MapMaker, seen: Seen, score: Tensor, *, again: bool) -> None:
        makers = [maker, _Later(maker)] if again else [maker]
        maps = [one.maps(seen.task, score, seen.blocks, 0) for one in makers]
        self.free = _freedom(maps, maker.params.seeds)
        self._attention = [(one.attention, to_pixels(one.attention.float(), *_size(seen))) for one in maps]

    def cut(self, params: FmwissParams) -> tuple[Tensor, Tensor | None]:
        """M_seeds by the cut of these parameters, and that of the other draws."""
        cuts = [kept(attention, pixels, params.keep, params.keep_amount) for attention, pixels in self._attention]
        return cuts[0], cuts[1] if len(cuts) > 1 else None


class _Later(MapMaker):
    """The maps of as many draws again, that come after those of a setting."""

    def __init__(self, maker: MapMaker) -> None:
        self._count = maker.params.draws * maker.params.seeds
        params = dataclasses.replace(maker.params, draws=2 * maker.params.draws)
        super().__init__(dataclasses.replace(maker.source, params=params), maker.logit_scale)

    def _seeds(self, task: Any, position: int, score: Tensor) -> fmwiss.Seeds:
        drawn = super()._seeds(task, position, score)
        return fmwiss.Seeds(drawn.points[self._count :], drawn.fell_back)


def _freedom(both: Sequence[Maps], seeds: int) -> Tensor:
    """Of each tag the different patches its draws fell on, over twice the seeds of one [T]: on one patch all agree."""
    points = torch.cat([one.points for one in both], dim=1)
    different = [len(torch.unique(of_tag, dim=0)) for of_tag in points]
    return (torch.tensor(different).double() / (2 * seeds)).clamp(max=1)


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
            self._image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
        picture = stage_picture(self._image, params)
        assert picture is not None
        picture = picture.to(self._seen.device)
        return picture, stage_regions(task.record, task.height, task.width, picture, params)
