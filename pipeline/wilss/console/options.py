"""Options that mean the same in every command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["batch_size_option", "device_option", "manifest_option"]

manifest_option: Callable[..., Any] = click.option(
    "--manifest", "manifest_path", type=click.Path(path_type=Path), default=Path("data_manifest.yaml"),
    show_default=True, envvar="WILSS_MANIFEST", show_envvar=True, help="The data manifest.",
)  # fmt: skip

device_option: Callable[..., Any] = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda."
)

batch_size_option: Callable[..., Any] = click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Images per forward pass."
)
