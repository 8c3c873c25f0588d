"""Regions: pieces of a picture without a class, each of which votes on its label.

Superpixels come from the picture alone, proposals from a file that any proposer wrote (`region_file`) or from a network
of a local folder (SAM 2, EoMT, SAM 3), and patches that a vision transformer takes for alike from the source that runs
it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from wilss.data.layouts import ImageRecord
from wilss.digests import version_of
from wilss.errors import ParameterError
from wilss.models.proposers.folders import NetworkFolder, Way, read_folder

from .params import StageParams
from .region_file import region_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from wilss.models.proposers.regions import RegionNetwork

#: What `regions_identity` may add to what a store says of itself.
NOTED_OF_REGIONS = ("regions_sha256", "regions_library")
#: Kinds of regions that a picture is enough for.
SUPERPIXELS = ("felzenszwalb", "slic")
#: By the word of `regions`, how the network is asked.
NETWORKS: dict[str, Way] = {"sam2": "points", "eomt": "queries", "sam3": "words"}
#: Regions that no picture and no file gives by itself.
OF_A_PASS = ("patches", *NETWORKS)

_SIGMA = 0.8  # of the blur before felzenszwalb, in pixels: the paper's
_LEAST = 0.25  # of `region_size`: the smallest region of felzenszwalb
_COMPACTNESS = 10.0  # of slic, on L*a*b* colours: the paper's


def require_regions(params: StageParams) -> None:
    """Raise ParameterError, WeightsError or EncoderError for regions that cannot be had: no library, file, network."""
    if params.regions in SUPERPIXELS:
        _segmentation()
    elif params.regions == "file":
        region_file(params.regions_file)
    elif params.regions in NETWORKS:
        region_folder(params)


def region_folder(params: StageParams) -> NetworkFolder:
    """The folder of the network that cuts pictures into regions, looked at. Raises what `read_folder` raises."""
    return read_folder(params.regions_model, NETWORKS[params.regions], "regions_model")


def regions_identity(params: StageParams, *, has_patches: bool = False) -> dict[str, str]:
    """What masks depend on beside the parameters: the digest of the file or network, wherever it lies, and the library.

    has_patches: whether a source makes regions of its ViT's patches. Raises what `require_regions` raises, and
    ParameterError for such regions of any other.
    """
    require_regions(params)
    if params.regions == "patches" and not has_patches:
        refuse_networks(params)
    if params.regions in NETWORKS:
        return {"regions_sha256": region_folder(params).sha256, "regions_library": _named("transformers")}
    if params.regions in SUPERPIXELS:
        return {"regions_library": _named("scikit-image")}
    return {"regions_sha256": region_file(params.regions_file).sha256} if params.regions == "file" else {}


def _named(library: str) -> str:
    return f"{library} {version_of(library)}"


def stage_regions(
    record: ImageRecord, height: int, width: int, picture: "Tensor | None", params: StageParams
) -> "Tensor | None":
    """The regions of an image at the size of the stages; None where none are asked for.

    Those of a network are of a whole batch, see `batch_regions`, and those of patches its source's; None here.

    height, width: of the image. picture: see `stage_picture`. Returns int32 [h, w], -1 for no region.
    """
    if picture is None or params.regions in ("none", "patches", *NETWORKS):
        return None
    if params.regions == "file":
        size = (picture.shape[-2], picture.shape[-1])
        return region_file(params.regions_file).regions(record, (height, width), size, params.regions_score)
    return superpixels(picture, params)


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


def voting(picture: "Tensor", regions: "Tensor | None", params: StageParams) -> "Callable[[Tensor], Tensor]":
    """The stage `regions`, which is not `none`: probabilities [K, h, w] with a vote in every region.

    regions: see `stage_regions`; superpixels are found here where they are not handed over.
    """
    from wilss.equations.regions import vote

    if regions is None:
        refuse_networks(params)
    if regions is None and params.regions not in SUPERPIXELS:
        raise ValueError("regions from a file belong to an image; hand them over (`stage_regions`).")
    known = superpixels(picture, params) if regions is None else regions.to(picture.device)
    return lambda probabilities: vote(probabilities, known)


def superpixels(picture: "Tensor", params: StageParams) -> "Tensor":
    """Regions of alike colours: Felzenszwalb and Huttenlocher (IJCV 2004), or SLIC (Achanta et al., TPAMI 2012).

    picture: uint8 [3, h, w]. Returns int32 [h, w], all of them 0 or more, on the picture's device.
    """
    import numpy as np
    import torch

    segmentation, size = _segmentation(), params.region_size
    image = picture.permute(1, 2, 0).cpu().numpy()
    if params.regions == "felzenszwalb":
        least = max(1, round(_LEAST * size))
        found = segmentation.felzenszwalb(image, scale=size, sigma=_SIGMA, min_size=least, channel_axis=-1)
    else:
        count = max(1, round(image.shape[0] * image.shape[1] / size))
        found = segmentation.slic(image, n_segments=count, compactness=_COMPACTNESS, start_label=0, channel_axis=-1)
    return torch.from_numpy(found.astype(np.int32)).to(picture.device)


def _segmentation() -> Any:
    try:
        from skimage import segmentation
    except ImportError:
        raise ParameterError(
            "superpixels need scikit-image, which is not there; install it: pip install 'wilss[regions]', or set "
            "regions=none."
        ) from None
    return segmentation
