"""A network's first layers in strips of rows, for large images: their maps take more memory than all that follows.

A ResNet's first convolution has 64 channels at half the image's size, 43 times the bytes of the image itself, and its
norm as many again; the pooling behind them leaves a quarter.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: Layers by which a pixel sees its neighbourhood alone, and the same one wherever it lies.
_POINTWISE = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.Identity)
#: Pixels of a strip, about.
_PIXELS = 1 << 20


def in_strips(segmenter: nn.Module, prepare: Callable[[Tensor], Tensor]) -> nn.Module | None:
    """The same network, with the same weights, that takes its first layers strip by strip; None where it cannot.

    prepare: what makes the network's input of images [B, 3, rows, W], pixel by pixel; of each strip by itself, so that
    images as floats never exist as a whole. It is for evaluation alone, and changes nothing of `segmenter`.
    """
    network = getattr(getattr(segmenter, "backbone", None), "network", None)
    if not isinstance(network, nn.ModuleDict):
        return None
    first = _first_layers(network)
    if not any(isinstance(layer, nn.Conv2d) for name in first for layer in _flat(network[name])):
        return None
    strips = _Strips([layer for name in first for layer in _flat(network[name])], prepare)
    others: dict[str, nn.Module] = {name: nn.Identity() for name in first[1:]}
    network = _with(network, {first[0]: strips, **others})
    return _with(segmenter, {"backbone": _with(segmenter.get_submodule("backbone"), {"network": network})})


def _with(module: nn.Module, parts: dict[str, nn.Module]) -> nn.Module:
    """A copy that shares all but these parts."""
    other = copy.copy(module)
    other._modules = {**module._modules, **parts}
    return other


def _first_layers(network: nn.ModuleDict) -> list[str]:
    """The names of the layers in front that can be taken in strips, of those whose maps nobody asks for."""
    asked, names = getattr(network, "return_layers", {}), []
    for name, module in network.items():
        if name in asked or not all(map(_is_local, _flat(module))):
            break
        names.append(name)
    return names


def _flat(module: nn.Module) -> list[nn.Module]:
    return [layer for part in module for layer in _flat(part)] if isinstance(module, nn.Sequential) else [module]


def _is_local(layer: nn.Module) -> bool:
    """Whether its output at row r is of rows around `stride * r`; what pads by another rule is not."""
    if type(layer) not in (nn.Conv2d, nn.MaxPool2d):
        return isinstance(layer, _POINTWISE)
    size, _, padding, dilation = _form(layer)
    is_plain = getattr(layer, "padding_mode", "zeros") == "zeros" and not getattr(layer, "ceil_mode", False)
    return is_plain and 2 * padding == dilation * (size - 1)


def _form(layer: nn.Module) -> tuple[int, int, int, int]:
    """Size, stride, padding and dilation of a convolution or pooling along the rows; no padding it says in words."""
    said = (getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation"))
    size, stride, padding, dilation = (one[0] if isinstance(one, tuple) else one for one in said)
    return size, stride, -1 if isinstance(padding, str) else padding, dilation


class _Strips(nn.Module):
    """Layers that are applied to one strip of rows after the other, each with the rows beside it that they look at."""

    def __init__(self, layers: Sequence[nn.Module], prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._layers, self._prepare = nn.Sequential(*layers), prepare
        self._stride, self._reach = 1, 0
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                _, stride, padding, _ = _form(layer)
                self._reach += padding * self._stride
                self._stride *= stride

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W], as `prepare` takes them. Returns [B, D, ceil(H / stride), ceil(W / stride)]."""
        height, width = images.shape[-2:]
        rows, at_once = -(-height // self._stride), max(1, _PIXELS // (width * self._stride))
        beside = -(-self._reach // self._stride)
        whole: Tensor | None = None
        for first in range(0, rows, at_once):
            last, top = min(rows, first + at_once), max(0, first - beside)
            part = images[:, :, top * self._stride : (last + beside) * self._stride]
            found = self._layers(self._prepare(part))[:, :, first - top : last - top]
            if whole is None:
                form = torch.contiguous_format if found.stride(1) > 1 else torch.channels_last
                whole = found.new_empty((*found.shape[:2], rows, found.shape[3])).to(memory_format=form)
            whole[:, :, first:last] = found
        assert whole is not None
        return whole
