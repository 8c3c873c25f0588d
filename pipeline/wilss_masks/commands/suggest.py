"""`wilss-masks suggest`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import is_quiet, write_json
from wilss.console.output import aligned, percent
from wilss.disk import Location
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from ..review.suggest import Suggestion

_SHOWN = 20


@click.command(
    epilog="""\b
Examples:
  wilss-masks suggest step-1.zarr --budget 50 --out next.txt
  wilss-masks suggest step-1.zarr --features features.npy --json next.json"""
)
@store_argument
@click.option("--budget", type=click.IntRange(min=1), default=50, show_default=True, help="How many images at most.")
@click.option("--review", type=click.Path(path_type=Path),
              help="The folder of a review, whose masks need no look.  [default: beside the store]")  # fmt: skip
@click.option("--features", type=click.Path(path_type=Path), metavar="FILE",
              help="A .npy file with a vector for every image, over which they are spread.  [default: what the store "
              "keeps of CLIP's features, with --keep features]")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Write the images' ids to this list, one a line.")
@click.option("--json", "json_path", type=click.Path(allow_dash=True), metavar="FILE",
              help="Write all that is known of them to FILE; - for stdout.")  # fmt: skip
def command(
    store: Location, budget: int, review: Path | None, features: Path | None, out: Path | None, json_path: str | None
) -> None:
    """Which images to correct next: the least sure of every class in turn.

    A mask is doubtful where its confidence, and the agreement of the two masks that it was made of, are low among those
    of its class. Classes take turns. What somebody judged already is left out.
    """  # fmt: skip
    from wilss.disk import write_output
    from wilss.store import MaskStore
    from wilss.store.features import image_vectors

    from ..review.suggest import judged_in, suggest

    opened = MaskStore.open(store)
    vectors = image_vectors(opened) if features is None else _read(features)
    suggestions = suggest(opened, budget, judged=judged_in(opened, review), features=vectors)
    if out is not None:
        write_output(out, "".join(f"{one.image_id}\n" for one in suggestions).encode("utf-8", "surrogatepass"))
    if json_path is not None:
        images = [{key: _plain(value) for key, value in dataclasses.asdict(one).items()} for one in suggestions]
        write_json({"store": store.name, "digest": opened.digest, "images": images}, json_path)
    if json_path != "-" and not is_quiet():
        click.echo("\n".join(_table(suggestions)))


def _table(suggestions: "list[Suggestion]") -> list[str]:
    rows = [
        (one.image_id, one.name, f"{one.doubt:.2f}", percent(one.confidence), percent(one.agreement), str(one.masks))
        for one in suggestions[:_SHOWN]
    ]
    lines = aligned([("image", "for its", "doubt", "confidence", "agreement", "masks"), *rows])
    if len(suggestions) > len(rows):
        left = counted(len(suggestions) - len(rows), "more image")
        lines.append(f"... and {left}; --out or --json names them all")
    return [*lines, "doubt: rank within the class, 1.00 for the least sure; masks: of the image that nobody judged"]


def _read(path: Path) -> Any:
    """An array from a .npy file, which is never unpickled. Raises ParameterError."""
    import numpy as np

    from wilss.errors import ParameterError, first_line

    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise ParameterError(
            f"{path} is no array of numbers ({first_line(error)}); save one with numpy.save."
        ) from error


def _plain(value: Any) -> Any:
    return None if value != value else value
