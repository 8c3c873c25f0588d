"""From what the networks say of an image to its maps: where each tag scores, and where attention goes from there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wilss.data.images import to_pixels
from wilss.models.devices import Fetched
from wilss.randomness import generator_for
from wilss.store import ImageContent

from .base import ImageTask
from .fusion import on_its_way, refine, scaled

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.equations.affinity import Affinity, Patches
    from wilss.equations.fmwiss import Seeds
    from wilss.models.encoders.vit.encoder import LastBlock

    from .fmwiss import FmwissSource

    Blocks = tuple[LastBlock, ...]  # the last ones of a network, first to last


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """What the masks of one image's T tags are cut from: score float16 [T, h, w], attention float16 [T, ha, wa].

    points: seeds int64 [T, S, 2] (row, column) on the grid of `score`, S = 0 where none are drawn. fell_back: which
    tags had no foreground to draw from.
    """

    score: "Tensor"
    attention: "Tensor"
    points: "Tensor"
    fell_back: Fetched


class MapMaker:
    """Makes the maps of an image by a source's parameters; needs no network."""

    def __init__(self, source: "FmwissSource", logit_scale: float) -> None:
        self.source, self.params, self.logit_scale = source, source.params, logit_scale

    def score(self, tags: "Tensor", words: "Tensor") -> "Tensor":
        """The scores float32 [T, h, w] of an image's tags. tags: [T, h, w], words: [G, h, w] of the background."""
        from wilss.equations import fmwiss

        return fmwiss.foreground_score(tags, words, mode=self.params.background, logit_scale=self.logit_scale)

    def maps(
        self,
        task: ImageTask,
        score: "Tensor",
        blocks: "Sequence[Blocks]",
        row: int,
        regions: "Tensor | None" = None,
        told: "Fetched | None" = None,
    ) -> Maps:
        """The maps of an image of this `score`, which is in the place `row` of the batch.

        blocks: of each network that says where, the ViT first; the maps of several are averaged on the first's grid.
        regions: int32 [h, w], see `stage_regions`, for attention inside them. told: the score, if it is on its way to
        the host already, where seeds are drawn.
        """
        import torch

        drawn = self.params.placing == "drawn"
        here = (told or Fetched(score)).tensor() if drawn else score
        seeds = [self._seeds(task, position, here[t]) for t, position in enumerate(task.categories)] if drawn else []
        fell_back = torch.tensor([one.fell_back for one in seeds]) if drawn else score.amax(dim=(-2, -1)) <= 0
        points = torch.stack([one.points for one in seeds]) if drawn else torch.zeros(len(score), 0, 2).long()
        grid = (score.shape[-2], score.shape[-1])
        if self.params.is_literal:
            attention = self._attention(points, grid, blocks[0][-1], row)
        else:
            attention = _mean([self._spread(points, score, of_one, row, regions) for of_one in blocks])
        return Maps(score=score.half(), attention=scaled(attention).half(), points=points, fell_back=Fetched(fell_back))

    def content(self, *given: Any, **named: Any) -> ImageContent:
        """The masks of an image, see `content_on_its_way`."""
        return self.content_on_its_way(*given, **named)()

    def content_on_its_way(
        self,
        task: ImageTask,
        score: "Tensor",
        blocks: "Sequence[Blocks]",
        row: int,
        picture: "Tensor | None",
        regions: "Tensor | None",
        told: "Fetched | None" = None,
    ) -> "Callable[[], ImageContent]":
        """The masks of an image, for which nobody waits before they are asked for.

        picture, regions: as the stages see it, where they do; the rest: as for `maps`.
        """
        import torch

        if self.params.regions == "patches" and picture is not None:
            regions = self.patch_regions(blocks[0][-1], row, (picture.shape[-2], picture.shape[-1]))
        maps = self.maps(task, score, blocks, row, regions, told)
        picture = None if picture is None else picture.to(maps.score.device, non_blocking=True)
        return on_its_way(
            refine(maps.score, maps.attention, task.height, task.width, self.params, picture, regions=regions),
            task.categories,
            score=maps.score,
            attention=maps.attention,
            seeds=maps.points.to(torch.int16),
            fallback=maps.fell_back,
        )

    def _seeds(self, task: ImageTask, position: int, score: "Tensor") -> "Seeds":
        """Seeds of all draws on CLIP's patch grid [draws * N, 2], named by image, class and draw.

        score: on the host.
        """
        from wilss.equations import fmwiss

        name = self.source.classes[position][0]
        foreground = score >= self.params.threshold
        generators = [
            generator_for(self.source.seed, task.record.image_id, name, draw) for draw in range(self.params.draws)
        ]
        return fmwiss.seed_draws(foreground, score, self.params.seeds, generators)

    def _attention(self, points: "Tensor", grid: tuple[int, int], block: "LastBlock", row: int) -> "Tensor":
        """Seed attention [T, h, w] on the ViT's grid; a mean over all draws' seeds averages the draws.

        points: int64 [T, S, 2] on CLIP's `grid`; only these rows of the attention are ever formed.
        """
        from wilss.equations import fmwiss
        from wilss.models.encoders.vit.encoder import seed_rows

        affinity: fmwiss.Affinity = "kk" if self.params.affinity == "kk" else "qk"
        rows = seed_rows(block, row, fmwiss.move_points(points, grid, block.grid), affinity)
        attention = fmwiss.seed_attention(rows, block.keys[row], prefix=block.prefix, affinity=affinity)
        return attention.reshape(-1, *block.grid)

    def _spread(
        self, points: "Tensor", score: "Tensor", blocks: "Blocks", row: int, regions: "Tensor | None" = None
    ) -> "Tensor":
        """The maps [T, h, w] on a network's grid that weights of patches give, spread along their affinity.

        points: int64 [T, S, 2] on the grid of `score` [T, h, w]; S = 0 where all patches are seeds.
        """
        from wilss.equations import fmwiss
        from wilss.equations.placing import counted_weights, soft_weights, spread_again

        grid, params = blocks[-1].grid, self.params
        there = to_pixels(score, *grid).flatten(-2)
        if params.placing == "soft":
            weights = soft_weights(there, params.power)
        else:
            moved = fmwiss.move_points(points, (score.shape[-2], score.shape[-1]), grid)
            weights = counted_weights(moved, grid[1], grid[0] * grid[1]).to(there, non_blocking=True)
        spread = self._affinity(blocks, row, regions).spread
        maps = spread_again(weights, there, spread, passes=params.passes, power=params.power)
        return maps.reshape(-1, *grid)

    def _affinity(self, blocks: "Blocks", row: int, regions: "Tensor | None") -> "Affinity":
        from wilss.equations.affinity import affinity_of

        params = self.params
        patches = [_patches(one, row) for one in blocks]
        return affinity_of(
            patches,
            params.affinity,
            negatives=params.negatives,
            sharpness=params.sharpness,
            balance=params.balance,
            rounds=params.balance_rounds,
            squared=params.squared,
            scope=self._scope(blocks[-1], row, regions) if params.scope == "regions" else None,
        )

    def patch_regions(self, block: "LastBlock", row: int, size: tuple[int, int]) -> "Tensor":
        """The regions that patches of alike keys make, int32 [h, w] at the size of the stages."""
        from wilss.equations.regions import agglomerate, at_pixels

        keys = block.keys[row][:, block.prefix :].float()
        features = keys.transpose(-2, -1).reshape(-1, *block.grid)
        return at_pixels(agglomerate(features, least=self.params.patches_alike), *size)

    def _scope(self, block: "LastBlock", row: int, regions: "Tensor | None") -> "Tensor":
        """The region of each patch, alike ones joined: int64 [L]. regions: int32 [h, w] of the image."""
        from wilss.equations.regions import merge_alike, of_patches

        if regions is None:
            raise ValueError("attention inside regions needs them; hand them over (`stage_regions`).")
        features = (block.queries[row] + block.keys[row])[:, block.prefix :].transpose(0, 1).flatten(1)
        inside = of_patches(regions.to(features.device), block.grid)
        return merge_alike(inside, features.float(), least=self.params.scope_alike)


def similarity_of(features: "Tensor", text: "Tensor", source: "FmwissSource") -> "tuple[Tensor, Tensor]":
    """Cosines of patches with a source's classes [B, C, h, w] and its background words [B, G, h, w].

    features: [B, D, h, w]; text: see `FmwissProposer`.
    """
    from wilss.equations.kernels import score_map

    return of_tags_and_words(score_map(features, text), source)


def of_tags_and_words(similarity: "Tensor", source: "FmwissSource") -> "tuple[Tensor, Tensor]":
    """The same of the cosines [B, M, h, w] with all prompts."""
    from wilss.equations.gradcam import greatest_of_names

    if source.params.synonyms == "greatest":
        similarity = greatest_of_names(similarity, source.name_counts)
    return similarity[:, : len(source.classes)], similarity[:, len(source.classes) :]


def _mean(maps: "list[Tensor]") -> "Tensor":
    """The mean of several networks' maps [T, h, w], each over its own sum, on the grid of the first."""
    import torch

    if len(maps) == 1:
        return maps[0]
    there = [to_pixels(one, maps[0].shape[-2], maps[0].shape[-1]) for one in maps]
    return torch.stack([one / one.sum(dim=(-2, -1), keepdim=True).clamp_min(1e-12) for one in there]).mean(dim=0)


def _patches(block: "LastBlock", row: int) -> "Patches":
    """What a block says of the image in the place `row`."""
    from wilss.equations.affinity import Patches

    return Patches(
        queries=block.queries[row],
        keys=block.keys[row],
        prefix=block.prefix,
        values=None if block.values is None else block.values[row],
        outputs=None if block.outputs is None else block.outputs[row],
    )
