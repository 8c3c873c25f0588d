"""What several commands of this verb share; what both verbs share is in `wilss.console`."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from PIL import Image

store_argument: Callable[..., Any] = click.argument("store", type=click.Path(path_type=Path))


def require_png(target: Path) -> Path:
    """`target`, refused where it is not called a PNG."""
    if target.suffix.lower() != ".png":
        raise click.BadParameter(f"{target} does not end in .png; a sheet is a PNG picture.", param_hint="--out")
    return target


def write_sheet(page: "Image.Image", target: Path) -> None:
    """The page as a PNG, whole or not at all."""
    from wilss.disk import write_output

    buffer = io.BytesIO()
    page.save(buffer, format="PNG")
    write_output(target, buffer.getvalue())
