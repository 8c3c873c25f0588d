"""`wilss-memory info|sheet`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import DataPlace, aligned, finish, is_quiet, require_png
from wilss.disk import UrlPath, write_output
from wilss.errors import counted

if TYPE_CHECKING:
    from ..memory import InstanceInfo, MemoryBank

_bank_argument = click.argument("bank", type=DataPlace())


@click.group(epilog="\b\nExample:\n  wilss-memory info runs/shapes-15-5/step-1/memory.zarr")
def command() -> None:
    """The memory bank of a run: what it holds, and how that looks.

    BANK is memory.zarr or the folder of the run that it lies in, also in a bucket.
    """


@command.command(
    short_help="What a bank holds, per class.", epilog="\b\nExample:\n  wilss-memory info runs/shapes-15-5/step-1"
)
@_bank_argument
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def info(bank: Path, as_json: bool) -> None:
    """Instances per class, and what the bank was made with; every byte is held against the bank's digest."""
    opened = _opened(bank)
    opened.verify()
    facts = _facts(opened)
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))
        return
    click.echo("\n".join(_told(facts)))


@command.command(
    short_help="A contact sheet (PNG) of its instances.",
    epilog="\b\nExample:\n  wilss-memory sheet runs/shapes-15-5/step-1 --out memory.png",
)
@_bank_argument
@click.option("--out", type=click.Path(path_type=Path), help="The PNG to write.  [default: beside the bank]")
@click.option("--count", type=click.IntRange(1, 100), default=12, show_default=True, help="Instances per class.")
@click.option("--cell", type=click.IntRange(72, 512), default=96, show_default=True,
              help="Side of an instance's square in pixels.")  # fmt: skip
def sheet(bank: Path, out: Path | None, count: int, cell: int) -> None:
    """A contact sheet (PNG): a row per class, its first instances cut out; weak ones are framed."""
    from wilss.drawing import encoded

    from ..memory.sheet import draw_sheet, shown_instances

    target = None if out is None else require_png(out)
    opened = _opened(bank)
    target = target or _beside(opened.path).with_suffix(".png")
    drawn = draw_sheet(opened, count=count, cell=cell)
    write_output(target, encoded(drawn.picture))
    if not is_quiet():
        shown = shown_instances(opened, count) - len(drawn.failed)
        click.echo(f"{target}: {shown} of {counted(len(opened), 'instance')}")
    finish(drawn.failed, "copy the bank again, or train its step again.")


def _opened(path: Path) -> "MemoryBank":
    from ..memory import MemoryBank

    inside = path / "memory.zarr"
    return MemoryBank.open(inside if inside.exists() else path)


def _beside(bank: Path) -> Path:
    """What is written beside a bank is written into this folder where the bank lies in a bucket."""
    return Path(bank.name) if isinstance(bank, UrlPath) else bank


def _facts(bank: "MemoryBank") -> dict[str, Any]:
    made_with = {key: value for key, value in bank.attributes.items() if key not in ("taxonomy", "digest")}
    return {
        "bank": str(bank.path),
        "digest": bank.digest,
        "instances": len(bank),
        "bytes": sum(size for _, size in bank.folder.files()),
        "classes": {
            bank.taxonomy.name_of(identity): _of_class(identity, bank.instances(identity))
            for identity in bank.category_ids
        },
        "made_with": made_with,
    }


def _of_class(identity: int, infos: "tuple[InstanceInfo, ...]") -> dict[str, Any]:
    confident = [info.confidence for info in infos if info.confidence == info.confidence]
    return {
        "id": identity,
        "count": len(infos),
        "weak": sum(info.weak for info in infos),
        "steps": sorted({info.step for info in infos}),
        "mean_area": sum(info.area for info in infos) / len(infos),
        "mean_confidence": sum(confident) / len(confident) if confident else None,
    }


def _told(facts: dict[str, Any]) -> list[str]:
    rows = [
        (
            name,
            str(of["id"]),
            str(of["count"]),
            str(of["weak"]),
            ",".join(map(str, of["steps"])),
            f"{of['mean_area']:.0f}",
            "-" if of["mean_confidence"] is None else f"{of['mean_confidence']:.2f}",
        )
        for name, of in facts["classes"].items()
    ]
    table = aligned([("class", "id", "count", "weak", "step", "mean area", "confidence"), *rows], {1})
    count = f"{counted(facts['instances'], 'instance')} of {counted(len(rows), 'class', 'classes')}"
    size = f"{count}, {facts['bytes'] / 1e6:.1f} MB"
    made_with = [f"{key}: {_plain(value)}" for key, value in facts["made_with"].items()]
    return [f"{facts['bank']}: {size}", f"digest: {facts['digest']} (the files match)", *made_with, "", *table]


def _plain(value: Any) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)
