"""Regions by a network of a local folder: SAM 2, EoMT or SAM 3 look at the pictures of a batch together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from wilss.errors import ParameterError
from wilss.models.proposers.folders import NetworkFolder, Way, read_folder

from .params import StageParams

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.proposers.regions import RegionNetwork

#: By the word of `regions`, how the network is asked.
NETWORKS: dict[str, Way] = {"sam2": "points", "eomt": "queries", "sam3": "words"}
#: Regions that no picture and no file gives by itself.
OF_A_PASS = ("patches", *NETWORKS)


def region_folder(params: StageParams) -> NetworkFolder:
    """The folder of the network that cuts pictures into regions, looked at. Raises what `read_folder` raises."""
    return read_folder(params.regions_model, NETWORKS[params.regions], "regions_model")


def open_region_network(
    params: StageParams, device: str, precision: Literal["fp32", "bf16"] | None = None
) -> "RegionNetwork | None":
    """That network on one device; None where regions come from elsewhere, or none are asked for."""
    if params.regions not in NETWORKS:
        return None
    from wilss.models.proposers.regions import open_regions

    return open_regions(
        region_folder(params),
        device,
        points=params.regions_points,
        word=params.regions_word,
        least=params.regions_score or None,
        precision=precision,
    )


def batch_regions(
    network: "RegionNetwork | None", pictures: "Sequence[Tensor | None]", known: "Sequence[Tensor | None]"
) -> "list[Tensor | None]":
    """The regions of a batch: those that its images brought along, or what the network makes of their pictures."""
    if network is None:
        return list(known)
    return list(network.regions(cast("Sequence[Tensor]", pictures)))  # where there is a network, a stage looks at them


def refuse_networks(params: StageParams) -> None:
    """ParameterError for regions that only a network can make, where none is asked."""
    if params.regions == "patches":
        raise ParameterError(
            "regions=patches are of the ViT's keys, which only `wilss-masks generate` by fmwiss has; set regions=none, "
            "or other regions."
        )
    if params.regions in NETWORKS:
        raise ParameterError(
            f"regions={params.regions} needs a forward pass, which only `wilss-masks generate` and `bank` make; set "
            "regions=none, or regions=file with proposals of that network."
        )
