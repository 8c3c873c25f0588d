"""`wilss-masks`: parses words and calls. Commands are imported when they are used, so that help is quick."""

import difflib
import importlib

import click

from wilss import console

_COMMANDS = {
    "generate": "Make the masks of a step, or go on where it stopped.",
    "seal": "Close a store that was made in parts.",
    "tune": "Choose how masks are made, on a sample of the images.",
    "suggest": "Which images to correct next.",
    "revise": "A new store with what people said of the masks of another.",
    "bank": "A second pass: every image asks the masks of all others.",
    "info": "What a mask store holds.",
    "evaluate": "IoU of a store's masks against pixel labels.",
    "audit": "Find wrong tags, leaks, duplicates and odd masks.",
    "fuse": "A new store from kept scores, without a forward pass.",
    "review": "A page in the browser to judge and correct masks.",
    "sheet": "A contact sheet (PNG) of images, scores, attention and masks.",
    "verify": "Compare every byte of a store with its digests.",
    "export": "Masks in the forms that other tools read.",
    "supports": "Draw or check a few annotated images (shots).",
    "encoders": "Which encoders are taken, and whether a file of weights is right.",
    "manifest": "Write, check or lock a data_manifest.yaml.",
}


class _LazyGroup(click.Group):
    """Knows its commands by name and help line; loads a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"wilss_masks.commands.{name}").command
        console.add_common_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(_COMMANDS)}."
            ctx.fail(f"there is no command {args[0]!r}; {meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    epilog="Every option can be set by an environment variable, e.g. WILSS_GENERATE_WORKERS=8. "
    "Exit codes: 0 done, 1 error, 2 usage or manifest, 3 finished with failed images, 130 Ctrl-C.",
)
@console.version_option
def cli() -> None:
    """Dense masks from cheap supervision: image tags in, a mask store out.

    \b
    Example, on the built-in data:
      wilss-masks generate --step 1
      wilss-masks sheet masks/shapes-15-5/step-1.zarr
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, and exit."""
    console.run(cli, prog_name="wilss-masks", package="wilss_masks", env_prefix="WILSS", arguments=arguments)
