"""How batch normalisation behaves while a network is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeVar, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormMode = Literal["frozen", "train", "synchronised"]
M = TypeVar("M", bound=nn.Module)


def set_batch_norm(module: M, mode: BatchNormMode) -> M:
    """`module` with every batch normalisation of it in that mode; changed in place, names of weights unchanged.

    frozen: the statistics that it has, scale and shift not trained; it stays so through `module.train()`.
    train: a batch's own statistics, on each process for itself.
    synchronised: those of the batches of all processes; torch has this on accelerators alone, and on a CPU with
        several processes its forward is refused.

    Returns the module, which under `synchronised` is another object if it is a batch normalisation itself.
    """
    if mode not in ("frozen", "train", "synchronised"):
        raise ValueError(f"there is no batch norm mode {mode!r}; use frozen, train or synchronised.")
    for norm in _norms(module):
        _freeze(norm) if mode == "frozen" else _thaw(norm, training=module.training)
    if mode != "synchronised":
        return module
    from timm.layers.norm_act import convert_sync_batchnorm  # torch's loses the activation of timm's fused layers

    return cast(M, convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]


@contextmanager
def unremembered(module: nn.Module) -> Iterator[None]:
    """Inside, batches leave the statistics of every batch normalisation of `module` as they are.

    One that is training still takes those of the batch; only nothing is kept of them.
    """
    training = [norm for norm in _norms(module) if norm.training]
    were = [norm.momentum for norm in training]
    try:
        for norm in training:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(training, were, strict=True):
            norm.momentum = momentum


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [one for one in module.modules() if isinstance(one, _BatchNorm)]


def _freeze(norm: nn.Module) -> None:
    norm.eval().requires_grad_(False)
    # its class stays, since weights are known by its buffers' names; only this object refuses to train
    vars(norm)["train"] = partial(_stay, norm)


def _thaw(norm: nn.Module, *, training: bool) -> None:
    if vars(norm).pop("train", None) is not None:
        norm.requires_grad_(True).train(training)


def _stay(norm: nn.Module, mode: bool = True) -> nn.Module:
    """`nn.Module.train` of a frozen normalisation: it stays in evaluation mode."""
    del mode
    norm.training = False
    return norm
