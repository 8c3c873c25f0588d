"""The prototypes of a support set (PANet Sec. 3.2): what a class looks like, and what everything else does."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wilss.data.supports import BACKGROUND, FOREGROUND, Support, SupportMap
from wilss.errors import ManifestError

from .patch_features import PatchEncoder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["background_of", "prototypes_of"]


def prototypes_of(
    supports: Sequence[Support], category_ids: Sequence[int], encoder: PatchEncoder, device: str
) -> NDArray[np.float32]:
    """Prototypes [1 + C, D] of any length, the background's first (PANet Eqs. 1 and 2).

    A class's is the mean over its supports, the background's over the support images, of the features averaged inside
    the annotation; what says nothing has no part in it. An image's background counts once, whatever the number of its
    supports [D]. Raises ManifestError where nothing says what background is.
    Images are encoded one at a time, since the shape of a batch shows in the last bits of a network's results.
    """
    import torch

    from wilss.equations import panet

    embedding = encoder.open(device)
    pooled: dict[int, list[tuple[Tensor, Tensor]]] = {identity: [] for identity in (0, *category_ids)}
    with torch.inference_mode():
        for shots in _by_image(supports):
            features = embedding.features(encoder.load(shots[0].record.path)[None].to(device))[0]
            regions = [(shot.spec.class_id, shot.map == FOREGROUND) for shot in shots]
            for identity, mask in [(0, background_of([shot.map for shot in shots])), *regions]:
                pooled[identity].append(panet.masked_average(features, torch.from_numpy(mask).to(device)))
        if not any(float(area) for _, area in pooled[0]):
            raise ManifestError(
                "no support says what background looks like; add a background line to a scribble, or a box that leaves "
                "some of its image free."
            )
        rows = [[torch.stack(part) for part in zip(*found, strict=True)] for found in pooled.values()]
        return torch.stack([panet.mean_of_filled(*row) for row in rows]).cpu().numpy()


def background_of(maps: Sequence[SupportMap]) -> NDArray[np.bool_]:
    """The background of an image, bool [H, W]: what one of its maps calls so, and none calls foreground.

    So a second object of the episode is no background of the first one's class (PANet Eq. 2).
    """
    called = np.any([one == BACKGROUND for one in maps], axis=0)
    return np.asarray(called & ~np.any([one == FOREGROUND for one in maps], axis=0))


def _by_image(supports: Iterable[Support]) -> list[list[Support]]:
    """Supports by their image, in the order of the images' names."""
    groups: dict[str, list[Support]] = {}
    for support in supports:
        groups.setdefault(support.spec.image_id, []).append(support)
    return [groups[image_id] for image_id in sorted(groups)]
