"""Class-agnostic regions of a picture by a network of a local folder."""

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

from wilss.models.encoders.arithmetic import Precision
from wilss.models.proposers.folders import NetworkFolder, Way, read_folder
from wilss.models.proposers.mask_pile import MaskPile
from wilss.models.proposers.opening import OpenedNetwork
from wilss.models.proposers.points import PointRegions, masks_at
from wilss.models.proposers.queries import QueryRegions
from wilss.models.proposers.words import WordNetwork

Kind = Literal["sam2", "eomt", "sam3"]

WAYS: dict[Kind, Way] = {"sam2": "points", "eomt": "queries", "sam3": "words"}
#: How good a mask must be by the network's own word, as its authors have it.
LEAST: dict[Kind, float] = {"sam2": 0.8, "eomt": 0.8, "sam3": 0.3}


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


def region_folder(kind: Kind, folder: str) -> NetworkFolder:
    """The folder of a region network, looked at. Raises what `read_folder` raises."""
    return read_folder(folder, WAYS[kind], "regions_model")


def open_regions(
    kind: Kind,
    folder: NetworkFolder,
    device: str,
    *,
    points: int = 32,
    word: str = "object",
    least: float | None = None,
    precision: Precision | None = None,
) -> RegionNetwork:
    """The region network of a folder, on one device.

    points: a side of sam2's grid. word: what sam3 is asked for. least: see `LEAST`, where it is None.
    """
    enough = LEAST[kind] if least is None else least
    if kind == "sam3":
        return WordRegions(WordNetwork(folder, device, precision), word, enough)
    opened = OpenedNetwork(folder, device, precision)
    return QueryRegions(opened, enough) if kind == "eomt" else PointRegions(opened, points, enough)
