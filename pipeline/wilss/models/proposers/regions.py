"""Class-agnostic regions of a picture by a network of a local folder."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from wilss.models.encoders.arithmetic import Precision
from wilss.models.proposers.folders import NetworkFolder, Way
from wilss.models.proposers.mask_pile import MaskPile
from wilss.models.proposers.opening import OpenedNetwork
from wilss.models.proposers.points import PointRegions, masks_at
from wilss.models.proposers.queries import QueryRegions
from wilss.models.proposers.words import WordNetwork

#: How good a mask must be by the network's own word, as its authors have it.
LEAST: dict[Way, float] = {"points": 0.8, "queries": 0.8, "words": 0.3}


class RegionNetwork(Protocol):
    """A network that cuts pictures into regions."""

    def regions(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Pictures uint8 [3, h, w], encoded together, as regions int32 [h, w], -1 where there is none."""


class WordRegions:
    """Regions by one word for everything. least: the score that a mask must have."""

    def __init__(self, network: WordNetwork, word: str, least: float) -> None:
        self.network, self.least, self.word = network, least, network.words([word])

    def regions(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Pictures uint8 [3, h, w], encoded together, as regions int32 [h, w], -1 where there is none."""
        with self.network.asking():
            encoded = self.network.encoded(self.network.inputs(pictures))
            answers = self.network.answers(encoded, self.word, [(row, 0) for row in range(len(pictures))])
            return [
                self._one(answer.masks[answer.scores >= self.least].float(), *picture.shape[-2:])
                for answer, picture in zip(answers, pictures, strict=True)
            ]

    def _one(self, logits: Tensor, height: int, width: int) -> Tensor:
        pile = MaskPile(height, width)
        for masks in masks_at(logits, height, width):
            pile.add(masks)
        return pile.regions()


def open_regions(
    folder: NetworkFolder,
    device: str,
    *,
    points: int = 32,
    word: str = "object",
    least: float | None = None,
    precision: Precision | None = None,
) -> RegionNetwork:
    """The network of a folder, on one device.

    points: a side of the grid of one that is asked by points. word: what one that is asked by words is asked for.
    least: see `LEAST`, where it is None.
    """
    enough = LEAST[folder.way] if least is None else least
    if folder.way == "words":
        return WordRegions(WordNetwork(folder, device, precision), word, enough)
    opened = OpenedNetwork(folder, device, precision)
    return QueryRegions(opened, enough) if folder.way == "queries" else PointRegions(opened, points, enough)
