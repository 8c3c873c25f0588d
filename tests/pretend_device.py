"""A device that is none: tensors that say they are elsewhere, and a record of what would wait for a real one.

Its tensors hold a tensor of the CPU, and every operation runs on that, so losses are those of the CPU. What reads a
number where a device computes it (`item`, `bool`, `nonzero`, a mask as an index), copies between device and host and
waits for the copy, or makes a tensor of the device from a list, is written down. Two kinds of tensors in one operation
are an error, as they are on a GPU.

They call themselves `meta`, which torch knows without a driver, and which no code of ours asks for.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
_HOST = torch.device("cpu")

#: Whose results have a size, or are a number, that the host has to know.
_WAITING = (
    "_local_scalar_dense", "nonzero", "nonzero_numpy", "masked_select", "bincount", "equal", "is_nonzero", "_unique",
    "_unique2", "unique_dim", "unique_consecutive", "argwhere",
)  # fmt: skip
_COPIES = ("_to_copy", "copy_", "_copy_from")
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


class There(Tensor):
    """A tensor of the device. held: its values, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "There":
        made: There = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=DEVICE, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held.detach()
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """An operation outside of any record, such as an optimiser's."""
        return _computed(func, args, kwargs or {})


class Record(TorchDispatchMode):
    """Within it tensors can be made on the device, and `waits` names every operation that would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation in this thread."""
        self.waits += _waits(func.overloadpacket.__name__, args, kwargs or {})
        return _computed(func, args, kwargs or {})


def _waits(name: str, args: Any, kwargs: dict[str, Any]) -> list[str]:
    leaves = [one for one in _leaves((args, kwargs)) if isinstance(one, Tensor)]
    if any(not isinstance(one, There) and one.device == DEVICE for one in leaves):
        raise RuntimeError(f"{name} of a tensor that was made on the device from a list, which waits for the device.")
    there = [one for one in leaves if isinstance(one, There)]
    if name in _COPIES:
        target = kwargs.get("device") if name == "_to_copy" else args[0].device
        is_waited_for = not kwargs.get("non_blocking") and not (len(args) > 2 and args[2] is True)
        source = args[1] if name == "copy_" else args[0]
        moves = target is not None and torch.device(target) != source.device
        return [f"{name} from {source.device} to {target}"] if moves and is_waited_for and source.ndim else []
    if not there:
        return []
    if name in _WAITING:
        return [name]
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        return [name]
    if name in _INDEXING:
        indices = [one for one in args[1] if one is not None]
        if any(one.dtype in (torch.bool, torch.uint8) for one in indices):
            return [f"{name} by a mask"]
        if any(not isinstance(one, There) for one in indices):
            return [f"{name} by a list"]
    if any(one.ndim for one in leaves if not isinstance(one, There)):
        raise RuntimeError(f"{name} of tensors of the device and of the CPU: a GPU refuses that.")
    return []


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on what is held; of the device where an argument is, or where it is asked for there."""
    is_there = any(isinstance(one, There) for one in _leaves((args, kwargs)))
    named = dict(kwargs)
    if (asked := named.get("device")) is not None:
        is_there = torch.device(asked) == DEVICE
        named["device"] = _HOST
    named.pop("pin_memory", None)
    made = func(*_mapped(_held, args), **_mapped(_held, named))
    if not is_there:
        return made
    same = {id(one.held): one for one in _leaves((args, kwargs)) if isinstance(one, There)}
    return _mapped(lambda one: _wrapped(one, same) if isinstance(one, Tensor) else one, made)


def _leaves(values: Any) -> Iterator[Any]:
    """What lists, tuples and dicts hold. torch has a function for many kinds more, which takes ten times as long."""
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, list | tuple | dict):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """`value` with every leaf changed."""
    if isinstance(value, dict):
        return {name: _mapped(change, one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, one) for one in value])
    return change(value)


def _wrapped(made: Tensor, same: dict[int, There]) -> There:
    """What an operation in place gives back is the tensor that it was given."""
    return same[id(made)] if id(made) in same else There(made)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, There) else value


def moved(network: nn.Module) -> nn.Module:
    """A network with all its weights and statistics on the device, in place."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(There(weight.detach()), requires_grad=weight.requires_grad)
        module._buffers.update({name: There(value) for name, value in module._buffers.items() if value is not None})
    return network


@contextlib.contextmanager
def pretending(monkeypatch: Any) -> Iterator[Record]:
    """A record, within which autocast takes the device for a CPU, since it knows no such device.

    What runs in inference mode runs without gradients: tensors that hold tensors cannot be made in it.
    """
    autocast: Callable[..., Any] = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, *args, **named: autocast("cpu", *args, **named))

    def enter(mode: Any) -> None:
        mode.instead = torch.no_grad()
        mode.instead.__enter__()

    monkeypatch.setattr(torch.inference_mode, "__enter__", enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", lambda mode, *error: mode.instead.__exit__(*error))
    with Record() as record:
        yield record
