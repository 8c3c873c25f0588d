"""`manifest init`: a first manifest for a folder of data, with comments, that loads as it is."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wilss.data.protocol import PRESETS
from wilss.data.taxonomy import COCO, VOC, closest
from wilss.disk import absolute, is_folder, seen_from, write_output
from wilss.errors import ManifestError
from wilss.models.devices import has_bf16

from ..sources.presets import PRESETS as PARAMETERS
from ..sources.presets import RECOMMENDED
from ..sources.prompts import prompt_names
from .folder_survey import survey_folder
from .naming import ValueNames
from .survey import Survey, survey
from .text import flow, scalar
from .train_block import is_for_cpu, train_block

#: What the steps are where nothing says it.
GUESSED_STEPS = "the first three quarters come with labels, the rest with tags only."
#: How a line begins in which a manifest says what could not be known of its data.
DOUBT = "# doubtful: "

_TEXT = """\
# {title}: which images, tags, labels and classes; written by `wilss-masks manifest init`.
# `wilss-masks manifest check` opens every image and counts the classes; run it after each change here.
schema_version: 1
name: {name}
title: {title}
path: {path}          # relative to this file; ${{NAME:-default}} is read from the environment
layout: {layout}{meaning}

# Ids are the values in the label files: 0 is background, 255 (void) needs no name.{names_note}
# `prompts` are what the text encoder is asked instead of the name: {{name: disk, prompts: [disk, round plate]}}
names:
{names}

# {splits_note}
splits: {{{splits}}}
tags: {{{tags}}}           # voc-main | voc-xml | masks | csv | npy | coco | folders

# {steps_note}
{steps}
setting: {setting}       # overlap: every image with a new class; disjoint: none that holds a later one

encoders:
  clip: {{library: open_clip, model: ViT-B-16-quickgelu, pretrained: openai}}
        # or a file of yours, beside the tag that it is a copy of: {{..., pretrained: openai, file: clip.safetensors}}
  vit: {{library: timm, model: vit_small_patch16_224.dino}}
        # or a file of yours: {{library: timm, model: vit_small_patch16_224.dino, file: vit.safetensors, sha256: ...}}

# How masks are made from tags: what did best over several kinds of pictures. `wilss-masks tune --step N` finds what
# does best on yours; `masks: {{preset: paper}}` stands for the paper's own parameters.{precision_note}
masks:
  fmwiss: {{{masks}}}
"""

_PRECISION_NOTE = """
# `precision`: this processor computes faster in bf16, with nearly the same masks; one without instructions for it takes
# many times as long, and wants fp32."""

_SPLIT_NOTES = {
    "voc": "Names of lists in ImageSets/Segmentation, or paths to txt lists or npy index arrays.",
    "coco": "Names such as train2017, or {images: FOLDER, annotations: FILE}.",
    "folder": "`all`, a folder, a list (NAME.txt), paths to txt lists, or {images: FOLDER, labels: FOLDER}.",
}


@dataclass(frozen=True, kw_only=True)
class _Steps:
    text: str
    note: str


def init_manifest(
    layout: str,
    root: Path,
    out: Path,
    *,
    protocol: str | None = None,
    setting: str = "overlap",
    device: str = "auto",
    table: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The text of a manifest at `out` for the data in `root`; its `train` section is for `device`.

    table: of a folder's table of tags what its content does not tell, as in `tags` of a manifest.

    Raises ManifestError if there is no data of that layout, ParameterError for an unknown device.
    """
    contents = _survey(layout, root, protocol, table)
    steps = _steps(contents, protocol)
    precision = {"precision": "bf16"} if is_for_cpu(device) and has_bf16("cpu") else {}
    masks = {**PARAMETERS[RECOMMENDED]["fmwiss"], **precision}
    title = root.resolve().name or "data"
    text = _TEXT.format(
        name=_slug(title) + (f"-{protocol}" if protocol else ""),
        title=scalar(title),
        path=scalar(seen_from(root, out.absolute().parent)),
        layout=_layout(layout, contents),
        names="\n".join(f"  {i}: {_named(name)}" for i, name in enumerate(contents.class_names)),
        meaning=_meaning(contents.named),
        names_note="".join(f"\n{DOUBT}{doubt}" for doubt in (contents.named.doubts if contents.named else ())),
        splits=", ".join(f"{split}: {flow(value)}" for split, value in contents.splits.items()),
        splits_note=_SPLIT_NOTES[layout],
        tags=_tags(contents, root, out),
        steps=steps.text,
        steps_note=steps.note,
        setting=setting,
        masks=", ".join(f"{name}: {value}" for name, value in masks.items()),
        precision_note=_PRECISION_NOTE if precision else "",
    )
    return text + train_block(device)


def _survey(layout: str, root: Path, protocol: str | None, table: Mapping[str, Any]) -> Survey:
    """What the data folder holds. Raises ManifestError where there is none, or the protocol is not for its classes."""
    if not is_folder(root):
        raise ManifestError(f"{root} is not a folder; name the one that holds the data.")
    if protocol is not None and protocol not in PRESETS:
        raise ManifestError(f"there is no protocol {protocol!r}{closest(protocol, PRESETS)}.")
    is_voc = protocol is not None and protocol != "coco-voc"
    contents = survey_folder(root, table) if layout == "folder" else survey(layout, root, is_voc=is_voc)
    _require_fit(protocol, contents, root)
    return contents


def _require_fit(protocol: str | None, contents: Survey, root: Path) -> None:
    wanted, have = sum(map(len, PRESETS.get(protocol or "", ()))), len(contents.class_names) - 1
    if protocol is not None and wanted != have:
        raise ManifestError(
            f"--protocol {protocol} is for {wanted} classes, and {root} has {have}; leave it out, and write the "
            "classes of each step into the manifest."
        )


def require_free(out: Path, *, overwrite: bool) -> None:
    """ManifestError where a file is at `out` that may not be replaced."""
    if not overwrite and (out.exists() or out.is_symlink()):
        raise ManifestError(f"{out} exists; pass --force to replace it, or --out for another place.")


def save_manifest(text: str, out: Path, *, overwrite: bool = False) -> None:
    """Write a manifest; an existing file is kept unless `overwrite`. Raises ManifestError, StoreError."""
    require_free(out, overwrite=overwrite)
    write_output(out, text.encode("utf-8"))


def _layout(layout: str, contents: Survey) -> str:
    """The layout, and what must be said beside it: where its folders are not the usual ones, what crowds are."""
    lines = [layout]
    if contents.images:
        lines.append(f"images: {scalar(contents.images)}")
    if contents.labels:
        lines.append(f"labels: {scalar(contents.labels)}")
    if contents.class_names == COCO.class_names:
        lines.append("crowd: void          # COCO's own annotations with iscrowd 1 are crowds; mask: masks")
    return "\n".join(lines)


def _tags(contents: Survey, root: Path, out: Path) -> str:
    """A table beside the data's folder is named as seen from the manifest."""
    file = {"file": contents.tag_file} if contents.tag_file else {}
    if contents.tag_file and contents.tag_file.startswith("../"):
        file = {"file": seen_from(absolute(root.absolute(), contents.tag_file), out.absolute().parent)}
    keys: dict[str, str | Sequence[str]] = {"from": contents.tags, **file, **contents.tag_keys}
    return ", ".join(f"{key}: {flow(value)}" for key, value in keys.items())


def doubts_of(text: str) -> list[str]:
    """What a written manifest says to be doubtful in it."""
    return [line.removeprefix(DOUBT) for line in text.splitlines() if line.startswith(DOUBT)]


def _meaning(named: ValueNames | None) -> str:
    """The keys that say what values and colours of label files are, where they are not the ids of `names`."""
    if named is None:
        return ""
    values = ", ".join(f"{value}: {scalar(name)}" for value, name in sorted(named.values.items()))
    colors = ", ".join(f"{scalar(name)}: {json.dumps(list(colour))}" for name, colour in named.colors.items())
    lines = [
        f"values: {{{values}}}          # what single values of the label files are, over the ids of `names`",
        f"void: {json.dumps(list(named.void))}          # values that are void, beside 255",
        f"colors: {{{colors}}}",
    ]
    parts = (named.values, named.void, named.colors)
    return "".join(f"\n{line}" for line, part in zip(lines, parts, strict=True) if part)


def _steps(contents: Survey, protocol: str | None) -> _Steps:
    count = len(contents.class_names) - 1
    if protocol is None and contents.has_labels and contents.class_names == VOC.class_names:
        protocol = "15-5"
    if protocol is not None:
        note = f"The protocol's classes per step; or write them out under `steps`. Known: {', '.join(PRESETS)}."
        return _Steps(text=f"protocol: {protocol}", note=note)
    if not contents.has_labels or count == 1:
        kind = "pixel" if contents.has_labels else "tags"
        text = f"steps:\n  - {{classes: {_ids(1, count)}, supervision: {kind}}}"
        return _Steps(text=text, note="Classes by step; supervision: pixel (label files) or tags.")
    base = max(1, (3 * count) // 4)
    text = (
        f"steps:\n  - {{classes: {_ids(1, base)}, supervision: pixel}}\n  - "
        f"{{classes: {_ids(base + 1, count)}, supervision: tags}}"
    )
    return _Steps(text=text, note=f"A guess: {GUESSED_STEPS}")


def _ids(first: int, last: int) -> str:
    return f"[{', '.join(map(str, range(first, last + 1)))}]"


def _named(name: str) -> str:
    prompts = prompt_names(name) if name in VOC.class_names or name in COCO.class_names else (name,)
    if prompts == (name,):
        return scalar(name)
    return f"{{name: {scalar(name)}, prompts: [{', '.join(map(scalar, prompts))}]}}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.casefold()).strip("-._") or "data"
