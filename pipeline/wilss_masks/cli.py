"""`wilss-masks`: parses words and calls. Commands are imported when they are used, so that help is quick."""

import importlib
import io
import logging
import os
import sys
from typing import Any

import click

from wilss.errors import ManifestError, ParameterError, ProtocolError, WilssError

__all__ = ["cli", "main"]

_COMMANDS = {
    "generate": "Make the masks of a step, or go on where it stopped.",
    "info": "What a mask store holds.",
    "evaluate": "IoU of a store's masks against pixel labels.",
    "fuse": "A new store from kept scores, without a forward pass.",
    "sheet": "A contact sheet (PNG) of images, scores, attention and masks.",
    "verify": "Compare every byte of a store with its digests.",
    "export": "Masks as VOC palette PNGs or COCO RLE json.",
    "manifest": "Write, check or lock a data_manifest.yaml.",
}
_OK, _ERROR, _USAGE, _INTERRUPTED = 0, 1, 2, 130
_WRONG_WORDS = (ManifestError, ProtocolError, ParameterError)
_OWN_LOGGERS = ("wilss", "wilss_masks")


class _LazyGroup(click.Group):
    """Knows its commands by name and help line; loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"wilss_masks.commands.{name}").command
        _add_manners(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _add_manners(command: click.Command) -> None:
    """Give a command, and the commands below it, --version, -v and -q."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _add_manners(below)
    if any(option.name == "verbose" for option in command.params):
        return
    command.params += [
        click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_set_verbose,
                     help="Say more, and show tracebacks."),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_quiet,
                     help="Say only what went wrong."),
        click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
                     help="Show the version and exit."),
    ]  # fmt: skip


def _set_verbose(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        _set_level(logging.DEBUG)
        ctx.find_root().obj["verbose"] = True


def _set_quiet(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        _set_level(logging.ERROR)
        ctx.find_root().obj["quiet"] = True


def _set_level(level: int) -> None:
    """What our own code logs; what libraries tell themselves is of no use to anybody here."""
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)


def _show_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from wilss import __version__

        click.echo(f"wilss-masks {__version__}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={
        "auto_envvar_prefix": "WILSS",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Every option can be set by an environment variable, e.g. WILSS_GENERATE_WORKERS=8. "
    "Exit codes: 0 done, 1 error, 2 usage or manifest, 3 finished with failed images, 130 Ctrl-C.",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
              help="Show the version and exit.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Dense masks from cheap supervision: image tags in, a mask store out.

    \b
    Example, on the built-in data:
      wilss-masks generate --step 1
      wilss-masks sheet masks/shapes-15-5/step-1.zarr
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error that a user can mend is one sentence on stderr and an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    _set_level(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to stop
    state: dict[str, Any] = {"verbose": False, "quiet": False}
    try:
        code = cli.main(arguments, prog_name="wilss-masks", standalone_mode=False, obj=state)
        sys.exit(code if isinstance(code, int) else _OK)
    except click.ClickException as error:
        error.show()
        sys.exit(_USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
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
        return _USAGE if isinstance(error, _WRONG_WORDS) else _ERROR
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror or error}"
        click.echo(f"Error: {what}; mend that (space, permissions or the path) and run the same again.", err=True)
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
