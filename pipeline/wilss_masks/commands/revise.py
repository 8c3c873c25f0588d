"""`wilss-masks revise`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import FINISHED_WITH_FAILURES, ProgressDisplay, StorePlace, is_quiet, pasted
from wilss.disk import Location
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from wilss.store.verdicts import FromWhom


#: The forms of files of other tools, by name; `wilss.data.annotations` has a reader for each.
FORMS = ("cvat", "labelstudio", "labelme", "coco", "panoptic", "fiftyone", "labelmaps", "huggingface")


@click.command(
    epilog="""\b
Examples:
  wilss-masks revise step-1.zarr --out step-1r.zarr
  wilss-masks revise step-1.zarr --from cvat.zip --from tasks.json --out step-1r.zarr
  wilss-masks revise step-1.zarr --review ada.review --rejected absent --out step-1r.zarr"""
)
@store_argument
@click.option("--out", type=StorePlace(), required=True, help="The store to write.")
@click.option("--review", type=click.Path(path_type=Path), help="The folder of a review.  [default: beside the store]")
@click.option("--from", "files", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="What came back from another tool, or another review; overrides the review.")  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(FORMS), help="What the files of --from are.  [default: by their content]"
)
@click.option("--author", default="", help="Who judged what files of --from say, where they name nobody.")
@click.option("--rejected", type=click.Choice(["void", "absent"]), default="void", show_default=True,
              help="The pixels of a rejected mask are void, or its image does not hold the class.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Throw an existing store at --out away.")
def command(
    store: Location,
    out: Location,
    review: Path | None,
    files: tuple[Path, ...],
    form: str | None,
    author: str,
    rejected: Any,
    overwrite: bool,
) -> None:
    """A new store with what people said of the masks of another one.

    What was said comes from a review, and from files of CVAT, Label Studio, labelme, COCO and others. Masks are
    replaced by corrected ones, tags added and removed; who judged what stands in the new store's arrays `verdict`,
    `author` and `origin`. What does not fit is refused image by image. The store that is read stays as it is.
    """  # fmt: skip
    from wilss.store import MaskStore

    from ..revision import revise

    with ProgressDisplay() as display:
        revised = revise(
            MaskStore.open(store), out, review=review, files=files, form=form, author=author, rejected=rejected,
            overwrite=overwrite, progress=display,
        )  # fmt: skip
    for note in revised.notes:
        click.echo(f"Warning: {note}", err=True)
    if not is_quiet():
        click.echo(
            f"{out}: {counted(revised.images, 'image')} judged; {told(revised.whom)}\n"
            f"Next: {pasted('wilss-train --masks', out)}"
        )
    tell_problems(revised.refused)


def tell_problems(sentences: Sequence[str]) -> None:
    """Say on stderr what does not fit, all of it, and leave with the exit code that says so where there is any."""
    for sentence in sentences:
        click.echo(f"Failed: {sentence}", err=True)
    if sentences:
        sys.exit(FINISHED_WITH_FAILURES)


def told(whom: "FromWhom") -> str:
    """How many masks came from whom, in words."""
    of = ", ".join(f"{count} by {author or 'nobody named'}" for author, count in whom.authors.items())
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in whom.verdicts.items() if count)
    return f"masks: {verdicts}{f' ({of})' if of else ''}"
