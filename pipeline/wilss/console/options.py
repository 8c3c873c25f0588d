"""Options: --version, -v and -q, which every command has, and those that mean the same wherever they occur."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.disk import Location, data_path, local_path, location_of
from wilss.errors import ParameterError


def add_common_options(command: click.Command) -> None:
    """Give a command, and the commands below it, --version, -v and -q; one that has --version has them all.

    Where a path is wanted a URL is refused, unless the option's type says that it takes one.
    """
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_common_options(below)
    for option in command.params:
        if type(option.type) is click.Path:
            option.type = _LocalPlace.like(option.type)
    if any(option.name == "version" for option in command.params):
        return
    command.params += [
        click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_note,
                     help="Say more, and show tracebacks."),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_note,
                     help="Say only what went wrong."),
        click.Option(["--version"], **_VERSION),
    ]  # fmt: skip


def is_quiet() -> bool:
    """Whether -q was given."""
    context = click.get_current_context(silent=True)
    return bool(context and (context.find_root().obj or {}).get("quiet"))


def set_level(loggers: tuple[str, ...], level: int) -> None:
    """What our own code logs; what libraries tell themselves is of no use to anybody here."""
    for name in loggers:
        logging.getLogger(name).setLevel(level)


def _note(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value and option.name is not None:
        state = ctx.find_root().ensure_object(dict)
        set_level(state.get("loggers", ()), logging.DEBUG if option.name == "verbose" else logging.ERROR)
        state[option.name] = True


def _show_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from wilss import __version__

        click.echo(f"{ctx.find_root().info_name} {__version__}")
        ctx.exit()


_VERSION: dict[str, Any] = {
    "is_flag": True,
    "expose_value": False,
    "is_eager": True,
    "callback": _show_version,
    "help": "Show the version and exit.",
}
version_option: Callable[..., Any] = click.option("--version", **_VERSION)


if TYPE_CHECKING:
    _Kind = click.ParamType[Location]
else:
    _Kind = click.ParamType  # which older versions of click do not let be asked of what


class StorePlace(_Kind):
    """Where a store lies: a path, or the URL of a place in a bucket."""

    name = "PATH|URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """A path stays one, a URL stays whole. Fails for a URL that is none of a bucket."""
        try:
            return location_of(value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)


class DataPlace(click.Path):
    """Where data lie that are read: a path, or a URL, which becomes a `UrlPath`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for a URL that is none of a bucket."""
        try:
            return data_path(value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)


class _LocalPlace(click.Path):
    """A path on disk, and nothing else."""

    @classmethod
    def like(cls, kind: click.Path) -> "_LocalPlace":
        place = cls()
        place.__dict__.update(kind.__dict__)
        return place

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for a URL: pathlib would make a folder of this machine of it."""
        try:
            if isinstance(value, str):
                local_path(value)
        except ParameterError as error:
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


def manifest_option_with(help_text: str, **more: Any) -> Callable[..., Any]:
    """`--manifest`, the argument `manifest_path`; None where nobody names one, unless `more` has a default."""
    return click.option(
        "--manifest", "manifest_path", type=DataPlace(), envvar="WILSS_MANIFEST", show_envvar=True,
        help=help_text, **more,
    )  # fmt: skip


manifest_option: Callable[..., Any] = manifest_option_with(
    "The data manifest.", default=Path("data_manifest.yaml"), show_default=True
)

device_option: Callable[..., Any] = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda."
)

batch_size_option: Callable[..., Any] = click.option(
    "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Images per forward pass."
)
