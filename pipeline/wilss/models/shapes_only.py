"""Networks built without the values that their layers draw: for names and shapes alone, or for a file's weights."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

#: What layers fill their weights with; nothing here changes a shape or a type.
_FILLS = frozenset({
    Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.clamp_, Tensor.zero_, Tensor.fill_,
    Tensor.add_, Tensor.sub_, Tensor.mul_, Tensor.div_,
    init.uniform_, init.normal_, init.constant_, init.kaiming_uniform_,  # a mode is handed these as wholes
})  # fmt: skip
_DRAWS = frozenset({
    Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, init.uniform_, init.normal_, init.kaiming_uniform_,
})  # fmt: skip


class _NoFills(TorchFunctionMode):
    """Leaves a tensor without values as it is, where it would be drawn, filled, or reckoned with by a number.

    torch works out the shape and type of each such step in Python, which takes most of the time of building.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {} if kwargs is None else kwargs
        if func in _FILLS:
            filled = args[0] if args else given["tensor"]
            if filled.is_meta and not any(isinstance(value, Tensor) for value in args[1:]):  # that might not fit
                return filled
        return func(*args, **given)


class _NoDraws(TorchFunctionMode):
    """Leaves parameters as they are where they would be drawn. Buffers are drawn: not all of them are in a file."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {} if kwargs is None else kwargs
        if func in _DRAWS:
            drawn = args[0] if args else given["tensor"]
            if isinstance(drawn, nn.Parameter):
                return drawn
        return func(*args, **given)


@contextmanager
def undrawn() -> Iterator[None]:
    """Networks built inside wait for a file that holds all their parameters: these have no values of any meaning yet.

    What is computed beside them (masks, tables) is right. The random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]), _NoDraws():
        yield


@contextmanager
def shapes_only() -> Iterator[None]:
    """Networks built inside have names, shapes and types, and neither memory nor values.

    What a network puts onto a device by name is there, and has its values. The random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"), _NoFills():
        yield


def filled_by_its_file(network: nn.Module) -> bool:
    """Whether a file of its weights holds all tensors that a network has, so that none needs a value before.

    Not where it computes some beside them (tables of rotations, masks), or two names are one tensor's.
    """
    named = [name for name, _ in itertools.chain(network.named_parameters(), network.named_buffers())]
    beside = any(isinstance(value, Tensor) for part in network.modules() for value in vars(part).values())
    return not beside and set(named) == set(network.state_dict())
