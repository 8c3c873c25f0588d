"""Which mean and deviation a CLIP's pixels are given, and which activation its weights were trained with.

Both belong to the weights, and open_clip keeps them with the tag: its model configs hold neither, and a file alone
says nothing. A wrong mean or activation raises no error; every feature is merely worse.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip.configs import clip_name, open_clip_models
from wilss.models.encoders.weights import OPENAI_MEAN, OPENAI_STD, random_seed
from wilss.models.tensor_files import listed

log = logging.getLogger("wilss")


class Preprocessing(NamedTuple):
    """mean, std: of the three channels, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


OPENAI = Preprocessing(OPENAI_MEAN, OPENAI_STD)
_TAGS_SHOWN = 6


def clip_preprocessing(spec: EncoderSpec, config: Mapping[str, Any]) -> Preprocessing:
    """Mean and deviation of a CLIP: told in `args`, else of the tag, else of the json config, else of all its tags.

    config: as `clip_config` returns it. Untrained weights and the package's own take OpenAI's where nothing is said.
    Raises EncoderError where a file of weights comes without any of these, or the tag is not one of open_clip's.
    """
    said = told_preprocessing(spec) or _from(clip_tag(spec)) or _from(config.get("preprocess_cfg") or {})
    if said:
        return said
    common = None if spec.config else _common(spec.model or "")
    if random_seed(spec) is not None or _is_built_in(spec):
        return common or OPENAI
    if common is None:
        raise EncoderError(_unsaid(spec))
    say_once(
        f"{spec.file}: taken to be one of the published weights of {spec.model}, which all have mean "
        f"{list(common.mean)} and std {list(common.std)}; `pretrained:` with its tag says so."
    )
    return common


def told_preprocessing(spec: EncoderSpec) -> Preprocessing | None:
    """Mean and deviation that the manifest itself tells; EncoderError for one of them alone, or other arguments."""
    args = dict(spec.args or {})
    if unknown := sorted(set(args) - {"mean", "std"}):
        raise EncoderError(f"args of an open_clip encoder are mean and std, not {listed(unknown)}; leave it out.")
    return statistics_in(args)


def statistics_in(args: Mapping[str, Any]) -> Preprocessing | None:
    """`mean` and `std` of an encoder's `args`, None for neither; EncoderError where one is missing or no such thing."""
    mean, std = args.get("mean"), args.get("std")
    if mean is None and std is None:
        return None
    if not _are_three_numbers(mean) or not _are_three_numbers(std) or min(std) <= 0:
        raise EncoderError(
            "args: mean and std are three numbers each, for pixels in [0, 1], std above 0; write e.g. "
            "{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}."
        )
    return Preprocessing(tuple(map(float, mean)), tuple(map(float, std)))


def _are_three_numbers(value: Any) -> TypeGuard[Sequence[float]]:
    numbers = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3
    return numbers and all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)


def clip_tag(spec: EncoderSpec) -> dict[str, Any]:
    """open_clip's entry for these pretrained weights; empty where the spec names none.

    Raises EncoderError for a local file whose tag open_clip does not know.
    """
    if not spec.pretrained or random_seed(spec) is not None:
        return {}
    from open_clip.pretrained import get_pretrained_cfg

    entry: dict[str, Any] = get_pretrained_cfg(spec.model or "", spec.pretrained)
    if spec.file and not entry:
        raise EncoderError(
            f"open_clip has no weights {spec.pretrained!r} of {spec.model!r}{_tags_of(spec.model or '')}; "
            "`pretrained` beside `file` says which tag's mean and activation the file's weights have."
        )
    return entry


def check_activation(spec: EncoderSpec, config: Mapping[str, Any]) -> None:
    """EncoderError where the activation is not, or may not be, the one that the weights were trained with.

    config: open_clip's model_cfg. open_clip itself only warns, and of a file knows nothing. Where it does not say with
    which one weights were trained, the config's is taken, as open_clip does; where that is QuickGELU, a line says so.
    """
    entry = clip_tag(spec)
    if entry:
        entries = {str(spec.pretrained): entry}
    elif spec.file and not spec.config:
        entries = _entries(spec.model or "")
    else:
        return
    computed = bool(config.get("quick_gelu", False))
    fitting = [tag for tag, entry in entries.items() if _was_trained_with(entry, quick=computed)]
    if len(fitting) == len(entries):
        if computed and (silent := [tag for tag, entry in entries.items() if "quick_gelu" not in entry]):
            say_once(
                f"open_clip does not say with which activation the weights {listed(silent)} of {spec.model} were "
                "trained; it computes QuickGELU with them, as the model's config says, and so does wilss."
            )
        return
    if fitting:
        raise EncoderError(
            f"weights of {spec.model} were trained with GELU or QuickGELU, and {spec.file} does not say with which; "
            f"name its tag as `pretrained:`{_tags_of(spec.model or '')}."
        )
    which = f"the weights {spec.pretrained!r}" if entry else f"all published weights of {spec.model}"
    raise EncoderError(
        f"{which} were trained with {'GELU' if computed else 'QuickGELU'}, and {spec.model} computes the other; "
        f"{_other_model(spec.model or '', computed)}."
    )


def fitting_tags(model: str, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """open_clip's tags of a model: of weights trained with its activation, and of others. config: its model_cfg."""
    computed = bool(config.get("quick_gelu", False))
    entries = _entries(model)
    fitting = [tag for tag, entry in entries.items() if _was_trained_with(entry, quick=computed)]
    return fitting, [tag for tag in entries if tag not in fitting]


def _was_trained_with(entry: Mapping[str, Any], *, quick: bool) -> bool:
    """Whether weights were, as far as open_clip's entry says."""
    return bool(entry.get("quick_gelu", quick)) == quick


def _other_model(model: str, is_quick: bool) -> str:
    """What to use in the place of a model of the wrong activation."""
    if other := namesake(model):
        return f"use model: {other}"
    return f'copy its json, write "quick_gelu": {"false" if is_quick else "true"} there, and name it as `config:`'


def namesake(model: str) -> str | None:
    """open_clip's same model of the other activation, where it has one."""
    suffix = "-quickgelu"
    other = model.removesuffix(suffix) if model.endswith(suffix) else f"{model}{suffix}"
    return other if other in open_clip_models() else None


def _entries(model: str) -> dict[str, dict[str, Any]]:
    """open_clip's entries of a model by their tags."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    return {tag: get_pretrained_cfg(model, tag) for tag in list_pretrained_tags_by_model(model)}


def _common(model: str) -> Preprocessing | None:
    """What all published weights of a model agree on; None where they do not, or there are none."""
    found = {_from(entry) for entry in _entries(model).values()}
    return found.pop() if len(found) == 1 else None


def _from(entry: Mapping[str, Any]) -> Preprocessing | None:
    mean, std = entry.get("mean"), entry.get("std")
    return Preprocessing(tuple(mean), tuple(std)) if mean and std else None


def _is_built_in(spec: EncoderSpec) -> bool:
    return (spec.config or "").startswith("builtin:") or (spec.file or "").startswith("builtin:")


def _unsaid(spec: EncoderSpec) -> str:
    weights = spec.file or clip_name(spec)
    tag = f"their tag as `pretrained:`{_tags_of(spec.model or '')}, " if not spec.config else ""
    return (
        f"nothing says with which mean and std the weights {weights} were trained; name {tag}a config that has "
        f"preprocess_cfg, or write them: `args: {{mean: {list(OPENAI_MEAN)}, std: {list(OPENAI_STD)}}}` is OpenAI's, "
        "open_clip's default in training."
    )


def _tags_of(model: str) -> str:
    tags = list(_entries(model))
    more = f" and {len(tags) - _TAGS_SHOWN} more" if len(tags) > _TAGS_SHOWN else ""
    return f" ({', '.join(tags[:_TAGS_SHOWN])}{more})" if tags else ""


@lru_cache(maxsize=64)
def say_once(sentence: str) -> None:
    """A warning, once per process."""
    log.warning(sentence)
