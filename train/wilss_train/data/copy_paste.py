"""Memory copy-paste: instances of old classes, put into images of the new ones (FMWISS Sec. 3.4).

A new-class image holds no labels of the old classes; a pasted instance brings its own. No edge is blended [D].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from wilss.errors import StoreError
from wilss.params import NonNegativeInt, Params, Share, require

if TYPE_CHECKING:
    from ..memory import Instance, MemoryBank


@dataclass(frozen=True, kw_only=True)
class PasteParams(Params):
    """How instances are pasted; the paper says that they are, none of these numbers [D].

    probability: of each paste. scale: range of the factor on an instance's size. flip: probability of mirroring.
    per_image: how many times an image is offered an instance. Raises ParameterError.
    """

    probability: Share = 0.5
    scale: tuple[float, float] = (0.5, 1.5)
    flip: Share = 0.5
    per_image: NonNegativeInt = 1

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        ordered = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] < float("inf")
        require(ordered, "scale", self.scale, "two numbers above 0, the smaller first")


class Pasted(NamedTuple):
    """The arguments of `paste` after the paste, as new tensors of the same shapes."""

    image: Tensor
    pseudo: Tensor
    pasted: Tensor
    void: Tensor


def draw_instance(bank: "MemoryBank", ids: Sequence[int], generator: Generator) -> "Instance":
    """A random class of `ids` that the bank has, then a random instance of it: rare classes come as often as others.

    Raises StoreError when the bank has none of them.
    """
    held = [identity for identity in ids if identity in bank.category_ids]
    if not held:
        raise StoreError(
            f"{bank.path} holds no instance of an old class; train the step before with per_class above 0."
        )
    infos = bank.instances(held[_draw_below(len(held), generator)])
    return bank.read(infos[_draw_below(len(infos), generator)].index)


def paste(
    image: Tensor,
    pseudo: Tensor,
    pasted: Tensor,
    void: Tensor,
    instance: "Instance",
    channel: int,
    params: PasteParams,
    generator: Generator,
) -> Pasted:
    """The instance at a random size, mirrored or not, at a random place that holds all of it.

    image: uint8 [3, H, W]; pseudo: bool [C_new, H, W]; pasted: uint8 [H, W], channels or VOID; void: bool [H, W].
    channel: that of the instance's class, written to `pasted` where the instance lies; masks and void end there.
    The arguments stay as they are. Drawn in this order: factor, mirror, top, left; one that the image has no room for
    is made smaller. An instance shrunk until no pixel's centre is inside its mask leaves no trace.
    """
    height, width = image.shape[-2:]
    size = _drawn_size(instance.mask.shape, (height, width), params.scale, generator)
    mirrored = float(torch.rand((), generator=generator)) < params.flip
    top, left = (_draw_below(room - side + 1, generator) for room, side in zip((height, width), size, strict=True))
    crop, inside = _resized(instance, size, mirrored=mirrored)
    result = Pasted(image.clone(), pseudo.clone(), pasted.clone(), void.clone())
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    under = result.image[:, rows, columns]
    torch.where(inside, crop, under, out=under)
    result.pseudo[:, rows, columns].logical_and_(~inside)
    result.pasted[rows, columns].masked_fill_(inside, channel)
    result.void[rows, columns].logical_and_(~inside)
    return result


def _drawn_size(
    shape: tuple[int, ...], room: tuple[int, int], scale: tuple[float, float], generator: Generator
) -> tuple[int, int]:
    """(height, width) after a factor from `scale`; less than that where the image has no room for it."""
    height, width = shape
    low, high = scale
    drawn = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
    factor = min(drawn, room[0] / height, room[1] / width)
    return _scaled(height, factor, room[0]), _scaled(width, factor, room[1])


def _scaled(side: int, factor: float, most: int) -> int:
    """`side` times `factor`, rounded half up, at least 1 and at most `most`."""
    return min(max(int(side * factor + 0.5), 1), most)


def _resized(instance: "Instance", size: tuple[int, int], *, mirrored: bool) -> tuple[Tensor, Tensor]:
    """The crop, uint8 [3, *size], bilinear with antialiasing, and its mask, bool [*size], the nearest pixel's."""
    crop = torch.from_numpy(instance.image).permute(2, 0, 1)
    inside = torch.from_numpy(instance.mask)
    if size != tuple(inside.shape):
        crop = F.interpolate(crop[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
        nearest = F.interpolate(inside[None, None].to(torch.uint8), size=size, mode="nearest-exact")
        inside = nearest[0, 0].bool()
    return (crop.flip(-1), inside.flip(-1)) if mirrored else (crop, inside)


def _draw_below(count: int, generator: Generator) -> int:
    """One of 0 to `count` - 1, each as likely."""
    return int(torch.randint(count, (), generator=generator))
