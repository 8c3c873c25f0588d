"""What stands in the place of CLIP's own attention in the last block, by dense form: see `wilss.equations.dense`.

It is computed in float32, image by image, so that no batch mate changes it.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from wilss.data.images import to_pixels
from wilss.equations.dense import neighbour_attention, proxy_attention
from wilss.errors import EncoderError
from wilss.models.encoders.vit.trunks import State

Mixing = Literal["neighbour", "proxy"]
MIXINGS: tuple[Mixing, ...] = ("neighbour", "proxy")


def mixing_of(form: Mixing, state: State, prefix: int, proxy: Tensor | None) -> Callable[..., Tensor]:
    """The function from queries, keys and values [B, n, P + N, d] to what is mixed of the values, of the same shape.

    proxy: what another network says of the same images, [B, D, h', w'] on any grid. The prefix's rows are its values.
    """
    of_one = _neighbour(state, prefix) if form == "neighbour" else _proxy(state, prefix, _required(proxy))

    def mixed(queries: Tensor, keys: Tensor, values: Tensor, **_: object) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            exact = values.float()
            patches = [of_one(i, keys[i].float(), exact[i]) for i in range(len(values))]
        return torch.cat([values[..., :prefix, :], torch.stack(patches).to(values.dtype)], dim=-2)

    return mixed


def _neighbour(state: State, prefix: int) -> Callable[[int, Tensor, Tensor], Tensor]:
    return lambda _, keys, values: neighbour_attention(keys, values, prefix=prefix, grid=state.grid)


def _proxy(state: State, prefix: int, proxy: Tensor) -> Callable[[int, Tensor, Tensor], Tensor]:
    places = to_pixels(proxy.float(), *state.grid).flatten(2).mT  # [B, N, D]
    return lambda image, _, values: proxy_attention(places[image], values[:, prefix:])


def _required(proxy: Tensor | None) -> Tensor:
    if proxy is None:
        raise EncoderError("the dense form `proxy` needs the patches of another network beside the images.")
    return proxy
