"""`wilss-masks supports draw|check`."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from wilss.console import FINISHED_WITH_FAILURES, DataPlace, is_quiet, manifest_option, pasted, require_png
from wilss.disk import UrlPath, refuse_existing, write_output

if TYPE_CHECKING:
    from wilss.data.supports.drawing import Drawn

_SHEET = "supports.png"


@click.group(epilog="\b\nExample:\n  wilss-masks supports check supports --step 1")
def command() -> None:
    """A few annotated images of each class (shots): masks, boxes or scribbles."""


@command.command(
    epilog="""\b
Examples:
  wilss-masks supports draw --step 1 --kind scribble --shots 5 --out supports
  wilss-masks generate --step 1 --source panet --supports supports"""
)
@click.option("--step", type=click.IntRange(min=0), required=True, help="The step whose classes are drawn.")
@click.option("--kind", type=click.Choice(["mask", "box", "scribble"]), default="mask", show_default=True,
              help="What a person would have drawn.")  # fmt: skip
@click.option("--shots", type=click.IntRange(1, 100_000), default=5, show_default=True, help="Images per class.")
@manifest_option
@click.option("--seed", type=int, default=0, show_default=True, help="Names all random draws.")
@click.option("--smallest", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="The least share of its image that a class must cover.")  # fmt: skip
@click.option("--fewer", is_flag=True, help="Of a class with fewer such images take those that there are.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--overwrite", is_flag=True, help="Write into a folder that holds supports already.")
def draw(
    step: int,
    kind: Literal["mask", "box", "scribble"],
    shots: int,
    manifest_path: Path,
    seed: int,
    smallest: float,
    fewer: bool,
    out: Path,
    overwrite: bool,
) -> None:
    """Draw supports from pixel labels, for research: what would so many annotated images be worth?

    The same images are drawn for every kind.
    """
    from wilss.data.manifest import load_manifest
    from wilss.data.supports.drawing import draw_supports, save_supports
    from wilss.data.supports.reading import SUPPORTS_FILE

    refuse_existing(out / SUPPORTS_FILE, overwrite)
    drawn = draw_supports(load_manifest(manifest_path), step, shots, seed=seed, smallest=smallest, fewer=fewer)
    file = save_supports(drawn, kind, out, seed=seed, overwrite=overwrite)
    if not is_quiet():
        click.echo(f"{file}: {len(drawn)} supports, {_classes(drawn, shots)}, by {kind}")
        click.echo("Next: " + pasted(f"wilss-masks supports check --step {step}", out, manifest=manifest_path))


@command.command(
    epilog="""\b
Examples:
  wilss-masks supports check --step 1
  wilss-masks supports check supports --step 1 --out supports.png"""
)
@click.argument("supports", required=False, type=DataPlace(), metavar="[SUPPORTS]")
@click.option("--step", type=click.IntRange(min=0), required=True, help="The step whose classes they show.")
@manifest_option
@click.option("--out", type=click.Path(path_type=Path), help="The PNG to write.  [default: supports.png beside them]")
@click.option("--cell", type=click.IntRange(80, 1024), default=220, show_default=True,
              help="Width of a picture in pixels.")  # fmt: skip
def check(supports: Path | None, step: int, manifest_path: Path, out: Path | None, cell: int) -> None:
    """Show the SUPPORTS of a step, the manifest's own by default, on a sheet; name those that cannot be used.

    SUPPORTS is a YAML file or a folder with supports.yaml. Exit code 3 when some cannot be used.
    """
    from wilss.data.manifest import load_manifest
    from wilss.data.supports.reading import problems_of, read_supports
    from wilss.drawing import encoded

    from ..inspect.support_sheet import draw_supports_page

    target = _target(supports, manifest_path, out)
    supports_of_step = read_supports(load_manifest(manifest_path), step, supports, every=False)
    problems = tuple(problems_of(supports_of_step))
    usable = supports_of_step.usable()
    if usable.supports:
        write_output(target, encoded(draw_supports_page(usable, cell)))
    for problem in problems:
        click.echo(f"Failed: {problem}", err=True)
    if not is_quiet():
        counts = ", ".join(f"{name} {len(usable.of(identity))}" for identity, name in usable.classes.items())
        click.echo(f"{target if usable.supports else usable.title}: {len(usable.supports)} supports ({counts})")
    if problems:
        sys.exit(FINISHED_WITH_FAILURES)


def _classes(drawn: "Sequence[Drawn]", shots: int) -> str:
    """How many there are of each class: `5 of each of 5 classes, but train (2)`."""
    counts = Counter(one.class_name for one in drawn)
    few = ", ".join(f"{name} ({count})" for name, count in counts.items() if count < shots)
    return f"{shots} of each of {len(counts)} classes{f', but {few}' if few else ''}"


def _target(supports: Path | None, manifest_path: Path, out: Path | None) -> Path:
    if out is None:
        beside = manifest_path.parent if supports is None else supports if supports.is_dir() else supports.parent
        return Path(_SHEET) if isinstance(beside, UrlPath) else beside / _SHEET
    return require_png(out)
