"""`wilss-masks review`."""

import getpass
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wilss.console import ProgressDisplay, is_quiet, manifest_option
from wilss.disk import Location
from wilss.errors import ParameterError, counted

from .common import store_argument

if TYPE_CHECKING:
    from ..review.session import ReviewSession


@click.command(
    epilog="""\b
Examples:
  wilss-masks review masks/shapes-15-5/step-1.zarr
  wilss-masks review step-1.zarr --predictions labels/ --only suggested.txt --author Ada
  wilss-masks review step-1.zarr --static out/ --limit 200
  wilss-masks review step-1.zarr --import verdicts.json"""
)
@store_argument
@manifest_option
@click.option(
    "--review",
    "folder",
    type=click.Path(path_type=Path),
    help="Where verdicts and corrections are kept.  [default: step-N.review beside the store]",
)
@click.option(
    "--author", help="Who judges, and with --import who did in files that name nobody.  [default: your name here]"
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    help="What a trained model says: a folder that `wilss-predict` wrote, or a second store.",
)
@click.option(
    "--label-quality",
    type=click.Path(path_type=Path),
    help="The audit.json of `wilss-masks audit`, or a json of image ids and scores of their labels, low where wrong.",
)
@click.option("--only", type=click.Path(path_type=Path), help="Only the images of this list, in its order.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1.  [default: one that is free]")
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option(
    "--static",
    "static",
    type=click.Path(path_type=Path),
    help="Write the page as files into this folder instead, to be sent to somebody.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="With --static: how many masks, the least sure first.",
)
@click.option("--overwrite", is_flag=True, help="With --static: replace the folder.")
@click.option(
    "--import",
    "imported",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Take over the verdicts.json that came back from a --static page; may be given again.",
)
def command(
    store: Location,
    manifest_path: Path,
    folder: Path | None,
    author: str | None,
    predictions: Path | None,
    label_quality: Path | None,
    only: Path | None,
    port: int,
    no_browser: bool,
    static: Path | None,
    limit: int,
    overwrite: bool,
    imported: tuple[Path, ...],
) -> None:
    """A page to judge and correct masks: accept, reject, paint, least sure first; everything is saved as it is made.

    The page is served on this machine alone, under an address that nobody else knows, until Ctrl-C. The store itself
    is never changed: what is said lies beside it in step-N.review, and `wilss-masks revise` makes a new store of it.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.disk import cache_folder
    from wilss.store import MaskStore

    from ..review.opening import Asked, open_session

    if imported:
        _import(store, folder, author or "", imported)
        return
    if static is None:
        _require_server()
    MaskStore.open(store)  # before the manifest, whose fault it is not where there is no store
    session = open_session(store, load_manifest(manifest_path), Asked(
        folder=folder, author=author or _own_name(), predictions=predictions,
        label_quality=label_quality, only=only, cache=cache_folder("review"),
    ))  # fmt: skip
    if static is None:
        _serve(session, port, no_browser)
    else:
        _write_static(session, static, limit, overwrite)


def _serve(session: "ReviewSession", port: int, no_browser: bool) -> None:
    from ..review.server import address, bound_socket, new_token, serve

    listener, token = bound_socket(port), new_token()
    masks = counted(int((session.index.category > 0).sum()), "mask")
    where = address(listener.getsockname()[1], token)
    click.echo(
        f"{masks} of {session.store.path} to be judged at\n  {where}\n"
        "Ctrl-C ends it; everything is saved as it is made."
    )
    serve(session, listener, token, open_browser=not no_browser)
    for problem in session.changes.journal.problems():
        click.echo(f"Warning: {problem}", err=True)
    judged = len(session.changes.judged())
    if judged and not is_quiet():
        folder = session.changes.journal.folder
        where = f"; what was said is in {folder}" if folder.is_dir() else ", in the store itself"
        click.echo(f"{counted(judged, 'mask')} judged until now{where}")


def _write_static(session: "ReviewSession", out: Path, limit: int, overwrite: bool) -> None:
    from ..review.static import write_static

    with ProgressDisplay("masks", "mask") as progress:
        written = write_static(session, out, limit=limit, overwrite=overwrite, progress=progress)
    session.close()
    if not is_quiet():
        click.echo(f"{out / 'index.html'}: {counted(written, 'mask')}; send the whole folder, and take over what comes "
                   f"back with `wilss-masks review {session.store.path} --import verdicts.json`")  # fmt: skip


def _import(store: Location, folder: Path | None, author: str, files: tuple[Path, ...]) -> None:
    from ..review.journal import Journal
    from ..review.verdict_file import import_verdicts

    journal = Journal.open(store, folder, author=author)
    for path in files:
        taken, known = import_verdicts(path, journal)
        others = f", {known} known already" if known else ""
        click.echo(f"{path}: {counted(taken, 'verdict')} taken over into {journal.folder}{others}")


def _require_server() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise ParameterError(
            "the page needs starlette and uvicorn, which are not there; install them: pip install 'wilss[review]', or "
            "write it as files with --static."
        ) from None


def _own_name() -> str:
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "somebody"
