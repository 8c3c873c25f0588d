"""`wilss-masks encoders list|check`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from wilss.console import is_quiet, manifest_option
from wilss.disk import data_path

if TYPE_CHECKING:
    from wilss.data.manifest import EncoderSpec
    from wilss.models.encoders.known import Job, KnownFamily, KnownModel

    from ..inspect.encoders import Look

_NOT_RIGHT = 1
#: Models of which a network is built to say whether it is taken; more than these are only named.
_MOST = 60
_ON_ITS_PAGE = "licence on its page of the hub"


@click.group(epilog="\b\nExample:\n  wilss-masks encoders list dinov3")
def command() -> None:
    """Which encoders are taken, what is missing to take one, and whether a file of weights is right."""


@command.command(
    name="list",
    epilog="""\b
Examples:
  wilss-masks encoders list
  wilss-masks encoders list dinov3
  wilss-masks encoders list siglip2 --for what""",
)
@click.argument("word", required=False)
@click.option("--for", "job", type=click.Choice(["what", "where"]), help="What an encoder is for.  [default: both]")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def list_(word: str | None, job: "Job | None", as_json: bool) -> None:
    """List the families that are taken; with WORD the models of that name, and what is missing to take one.

    `what` is for `encoders.clip` (open_clip; TIPSv2 of timm), `where` for `encoders.vit` (timm). Nothing is fetched.
    """
    from dataclasses import asdict

    from wilss.models.encoders.known import closest_model, families, known_models

    jobs: tuple[Job, ...] = (job,) if job else ("what", "where")
    if word is None:
        known = [family for each in jobs for family in families(each)]
        click.echo(json.dumps([asdict(family) for family in known], indent=2) if as_json else _families_told(known))
        return
    models, more = known_models(word, jobs, most=_MOST)
    click.echo(json.dumps([asdict(model) for model in models], indent=2) if as_json else _models_told(models))
    if more:
        click.echo(f"... and {more} more; a longer word finds fewer.", err=True)
    if not models:
        near = closest_model(word, jobs)
        raise click.UsageError(f"neither open_clip nor timm has a model with {word!r} in its name or tags{near}.")


def _families_told(families: "list[KnownFamily]") -> str:
    rows = [("for", "family", "models", "such as", "dense form", "tokenizer, or prefix", "licence of the weights")]
    rows += [
        (each.job, each.name, str(each.models), each.such_as, each.form, each.text or each.prefix,
         each.licence or "the tag's")
        for each in families
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "`wilss-masks encoders list WORD` says what is missing to take single models."])


def _models_told(models: "list[KnownModel]") -> str:
    return "\n".join(line for model in models for line in _model_told(model))


def _model_told(model: "KnownModel") -> list[str]:
    where = "encoders.clip" if model.job == "what" else "encoders.vit"
    head = f"{model.name} ({model.job}: {where})"
    if model.refusal:
        return [f"{head}: not taken", f"  {model.refusal}"]
    licence = model.weights[0].licence or _ON_ITS_PAGE if model.weights else model.licence
    family = [model.family, licence] if len(model.weights) <= 1 else ["by its weights"]
    facts = [*family, *([f"form {model.form}"] if model.form else [])]
    return [f"{head}: {', '.join(facts)}", *(f"  {line}" for line in (*_weights_told(model), *model.missing))]


def _weights_told(model: "KnownModel") -> list[str]:
    """Which of its weights are of which family and licence, where they differ."""
    weights = model.weights if len(model.weights) > 1 else ()
    return [f"{each.family}, {each.licence or _ON_ITS_PAGE}: {', '.join(each.tags)}" for each in weights]


@command.command(
    epilog="""\b
Examples:
  wilss-masks encoders check                                   # both of data_manifest.yaml
  wilss-masks encoders check vit --manifest voc.yaml
  wilss-masks encoders check vit_small_patch16_dinov3 --file dinov3.pth --pretrained lvd1689m
  wilss-masks encoders check vit_base_patch14_reg1_tipsv2 --text tips_v2_oss_b14_text.npz --tokenizer tokenizer.model"""
)
@click.argument("name", required=False)
@manifest_option
@click.option("--library", type=click.Choice(["open_clip", "timm"]), help="Of NAME.  [default: whichever knows it]")
@click.option("--pretrained", metavar="TAG", help="The published weights; beside --file, those that it is a copy of.")
@click.option("--file", metavar="PATH|URL", help="Weights of your own.")
@click.option("--config", metavar="PATH", help="open_clip's json, for a CLIP of your own.")
@click.option("--tokenizer", metavar="PATH", help="A local tokenizer, for a CLIP whose tokenizer is one of the hub.")
@click.option("--text", metavar="PATH", help="TIPSv2's text tower, which makes a CLIP of it; with --tokenizer.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
def check(name: str | None, manifest_path: Path, as_json: bool, **given: str | None) -> None:
    """Open an encoder, show it a drawing, and say what it is.

    NAME is a model of open_clip or timm, or `clip` or `vit` for one of the manifest's; both of them by default. Weights
    that are not finite, of another network or never trained are told. Exit code 1 where something is not right.
    """
    from ..inspect.encoders import look_at

    told: dict[str, Any] = {}
    for called, job, spec in _asked(name, manifest_path, given):
        look = look_at(spec, job)
        told[called] = {"job": look.job, **look.facts, "doubts": list(look.doubts), "warnings": list(look.warnings)}
        if not as_json and not is_quiet():
            click.echo("\n".join(_lines(called, look)))
        for doubt in look.doubts:
            click.echo(f"Error: {called}: {doubt}", err=True)
        for warning in look.warnings:
            click.echo(f"Warning: {called}: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    if any(facts["doubts"] for facts in told.values()):
        sys.exit(_NOT_RIGHT)


def _asked(
    name: str | None, manifest_path: Path, given: Mapping[str, str | None]
) -> "list[tuple[str, Any, EncoderSpec]]":
    """What is to be looked at: its name in messages, its job, and the network."""
    from wilss.data.manifest import EncoderSpec, load_manifest

    if name in (None, "clip", "vit") and not given["config"]:
        if used := [f"--{option}" for option, value in given.items() if value]:
            raise click.UsageError(f"{used[0]} is for a model by its NAME; the manifest says it of clip and vit.")
        encoders = load_manifest(manifest_path).encoders
        both = [("encoders.clip", "what", encoders.clip), ("encoders.vit", "where", encoders.vit)]
        return [one for one in both if name is None or one[0].endswith(name)]
    chosen: Any = given["library"] or ("open_clip" if given["config"] else _library_of(str(name)))
    paths: Any = {option: _absolute(given[option]) for option in ("file", "config", "tokenizer", "text")}
    spec = EncoderSpec(library=chosen, model=name, pretrained=given["pretrained"], **paths)
    job = "what" if given["text"] or chosen == "open_clip" else "where"
    return [(name or str(given["config"]), job, spec)]


def _absolute(path: str | None) -> str | None:
    return path if path is None or path.startswith("builtin:") else str(data_path(path).expanduser().absolute())


def _library_of(name: str) -> Literal["open_clip", "timm"]:
    """Whichever library has a model of this name. Raises EncoderError where neither does."""
    from wilss.models.encoders.known import library_of

    return library_of(name)


def _lines(called: str, look: "Look") -> list[str]:
    width = max(len(key) for key in look.facts)
    shown = {key: f"{value:,}" if isinstance(value, int) else value for key, value in look.facts.items()}
    return [f"{called} ({look.job})", *(f"  {key:<{width}}  {value}" for key, value in shown.items())]
