"""Losses and rates for TensorBoard, an extra: `pip install wilss[tensorboard]`. log.jsonl has the same figures."""

from pathlib import Path
from typing import Any

from wilss.errors import ParameterError

from .fit import Progress

__all__ = ["Board"]


class Board:
    """Writes every report of the loop as scalars into a folder. first: the step that the run goes on from."""

    def __init__(self, folder: Path, *, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ParameterError(
                "--tensorboard needs the package tensorboard; install it with `pip install wilss[tensorboard]`, or "
                "read the same figures in log.jsonl."
            ) from None
        self._writer: Any = SummaryWriter(folder, purge_step=first)

    def __call__(self, progress: Progress) -> None:
        """One point of every curve."""
        for kind, values in (("loss", progress.losses), ("lr", progress.lr)):
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, progress.step)
        self._writer.add_scalar("images_per_second", progress.images_per_second, progress.step)
        self._writer.flush()
