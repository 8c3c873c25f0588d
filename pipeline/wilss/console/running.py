"""Running a command: every error that a user can fix is one sentence on stderr and an exit code."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from wilss.errors import ManifestError, ParameterError, ProtocolError, WilssError, first_line

from .options import add_common_options, set_level
from .streams import open_closed_streams, plain_streams

_OK, _ERROR, _USAGE, _INTERRUPTED = 0, 1, 2, 130
_USAGE_ERRORS = (ManifestError, ProtocolError, ParameterError)
_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def run(
    command: click.Command, *, prog_name: str, package: str, env_prefix: str, arguments: list[str] | None = None
) -> None:
    """Run `command` with the common options and exit codes of this project, and exit.

    prog_name: what a user types. package: whose log is shown, besides that of wilss. env_prefix: what stands
    before the environment variable of every option. arguments: None for the words of this process.

    OpenMP reads OMP_WAIT_POLICY when torch is loaded, so commands import it where they use it, and not before. Workers
    and processes that a command starts inherit it.

    Exit codes: 0 done, 1 error, 2 usage, manifest or parameters, 3 finished with failed images (the command's
    own), 130 Ctrl-C.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin hold up each other beside other processes
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to stop
    with plain_streams():
        _run(command, prog_name, package, env_prefix, arguments)


@contextlib.contextmanager
def going_on(how: Callable[[], str]) -> Iterator[None]:
    """Answer Ctrl-C in the block with what to do next. how: asked then; "" where nothing is left that is in the way."""
    try:
        yield
    except KeyboardInterrupt:
        told = how()
        raise click.Abort(f"Interrupted; {told}" if told else "") from None


def _run(command: click.Command, prog_name: str, package: str, env_prefix: str, arguments: list[str] | None) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    state: dict[str, Any] = {"verbose": False, "quiet": False, "loggers": ("wilss", package)}
    set_level(state["loggers"], logging.INFO)
    set_level(("matplotlib",), logging.ERROR)  # it tells of every home that cannot be written, which is in nobody's way
    add_common_options(command)
    context = {**_SETTINGS, "auto_envvar_prefix": env_prefix, "obj": state}
    try:
        code = command.main(arguments, prog_name=prog_name, standalone_mode=False, **context)
        sys.exit(code if isinstance(code, int) else _OK)
    except click.ClickException as error:
        error.show()
        sys.exit(_USAGE)
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo(str(error) or "Interrupted.", err=True)
        _exit_now(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_ERROR)
    except Exception as error:
        sys.exit(_tell(error, verbose=state["verbose"]))


def _tell(error: Exception, *, verbose: bool) -> int:
    """Say what went wrong in one sentence, with the traceback before it where -v was given; the exit code."""
    if verbose:
        logging.error("traceback, since -v was given", exc_info=error)
    if isinstance(error, WilssError):
        click.echo(f"Error: {error}", err=True)
        return _USAGE if isinstance(error, _USAGE_ERRORS) else _ERROR
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror or error}"
        click.echo(f"Error: {what}; fix that (space, permissions or the path) and run the same again.", err=True)
        return _ERROR
    if isinstance(error, MemoryError):
        what = f" ({first_line(error)})" if str(error) else ""
        click.echo(f"Error: there is too little memory{what}; free some, or ask for less at a time.", err=True)
        return _ERROR
    click.echo(
        f"Error: {type(error).__name__}: {error}\nThis should not happen; run again with -v for the traceback "
        "and report it.",
        err=True,
    )
    return _ERROR


def _exit_now(code: int) -> None:
    """Leave without waiting for threads that still decode images nobody wants any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
