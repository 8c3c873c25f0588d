"""Which encoders open_clip and timm have, which of them are taken, and what is missing to take one.

A model is asked by its name alone: its network is built without memory, and nothing is fetched.
"""

import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wilss.data.manifest import EncoderSpec
from wilss.data.taxonomy import closest
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.clip.configs import check_tower, clip_config, form_of, open_clip_models
from wilss.models.encoders.clip.encoder import require_clip
from wilss.models.encoders.clip.families import ClipFamily, clip_family_of
from wilss.models.encoders.clip.preprocessing import fitting_tags, namesake
from wilss.models.encoders.clip.tips_files import HOW, is_tips
from wilss.models.encoders.clip.tokenizer_files import missing_of_text
from wilss.models.encoders.hub import cached_file
from wilss.models.encoders.licences import KnownWeights, by_licence, family_of_tag
from wilss.models.encoders.tags import cfgs_of
from wilss.models.encoders.vit.encoder import require_vit
from wilss.models.encoders.vit.families import FAMILIES, OTHER, Family, family_of
from wilss.models.encoders.weights import CLIP_FILES, TIMM_FILES
from wilss.models.tensor_files import listed

Job = Literal["what", "where"]
Library = Literal["open_clip", "timm"]
LIBRARIES: tuple[Library, ...] = ("open_clip", "timm")
_TAGS_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class KnownFamily:
    """A family in one job.

    models: how many of them. such_as: one of them, with a tag of its own. licence: "" where it is the tag's.
    form: CLIP's dense form. text: whose tokenizer a CLIP has. prefix: what a vision transformer has before its patches.
    """

    job: Job
    name: str
    models: int
    such_as: str
    licence: str
    form: str = ""
    text: str = ""
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """One model in one job.

    form: CLIP's dense form by default. tags: its published weights. weights: the same by family and licence.
    missing: sentences about what is not here yet.
    refusal: why it is not taken, "" where it is.
    """

    name: str
    job: Job
    family: str
    licence: str
    form: str = ""
    tags: tuple[str, ...] = ()
    weights: tuple[KnownWeights, ...] = ()
    missing: tuple[str, ...] = ()
    refusal: str = ""


def library_of(name: str) -> Library:
    """The library that has a model of this name, with or without a tag; of both the one whose model is taken.

    Raises EncoderError for none, or for both.
    """
    having = [library for library in LIBRARIES if name.partition(".")[0] in _models_of(library)]
    if not having:
        names = [each for library in LIBRARIES for each in _models_of(library)]
        raise EncoderError(f"neither open_clip nor timm has a model {name!r}{closest(name, names, or_all=False)}.")
    if len(having) == 1 or "." in name:  # a tag in the name is timm's
        return having[-1]
    taken = [library for library in having if not _refusal(name, "what" if library == "open_clip" else "where")]
    if len(taken) == 2:
        raise EncoderError(f"both open_clip and timm have a model {name}; say which with --library.")
    return (taken or having)[0]


def closest_model(word: str, jobs: Sequence[Job]) -> str:
    """The words "; did you mean ..." of the closest name of a model, or nothing."""
    return closest(word, dict.fromkeys(name for job in jobs for name in _names(job)), or_all=False)


def families(job: Job) -> list[KnownFamily]:
    """The families that are taken."""
    groups: dict[Family | ClipFamily, list[str]] = {}
    for name in filter(_is_taken_clip, _names(job)) if job == "what" else _published():
        for family in _families_of(name, job):
            groups.setdefault(family, []).append(name)
    named = {family: models for family, models in groups.items() if job == "what" or family in FAMILIES}
    known = [_known_family(family, models, job) for family, models in named.items()]
    return sorted(known, key=lambda family: family.name.lower())


def _known_family(family: Family | ClipFamily, models: Sequence[str], job: Job) -> KnownFamily:
    if isinstance(family, ClipFamily):
        own = {"form": str(family.form), "text": str(family.tokenizer)}
    elif job == "what":  # TIPSv2
        own = {"form": str(form_of(_spec(models[0], job))), "text": "files beside it"}
    else:
        own = {"prefix": family.prefix}
    such_as = _such_as(family, models, job)
    return KnownFamily(job=job, name=family.name, models=len(models), such_as=such_as, licence=family.licence, **own)


def _such_as(family: Family | ClipFamily, models: Sequence[str], job: Job) -> str:
    """The first that has weights of this family, with their tag."""
    tagged = ((name, tag) for name in models if "." not in name for tag in _tags(name, job))
    first = next(
        (f"{name}.{tag}" for name, tag in tagged if family_of_tag(name, tag, _library(name, job)) == family), models[0]
    )
    return first if job == "where" or is_tips(first) else first.replace(".", ", ", 1)


def _published() -> Sequence[str]:
    """timm's models with the tags of their weights, by which some families are told."""
    from timm.models import list_models

    names: list[str] = list_models(pretrained=True)
    return names


def known_models(word: str, jobs: Sequence[Job], *, most: int) -> tuple[list[KnownModel], int]:
    """The models whose name or tags contain `word`, the first `most` of them, and how many more there are.

    Those that are taken come first, as far as their family says it before they are built.
    """
    found = [(name, job) for job in jobs for name in _names(job) if _holds(word, name, job)]
    found.sort(key=lambda model: _families_of(*model) == [OTHER])
    models = [_known(name, job) for name, job in found[:most]]
    return sorted(models, key=lambda model: bool(model.refusal)), max(0, len(found) - most)


def _holds(word: str, name: str, job: Job) -> bool:
    return word.lower() in name.lower() or any(word.lower() in f"{name}.{tag}".lower() for tag in _tags(name, job))


def _names(job: Job) -> Sequence[str]:
    if job == "where":
        return _models_of("timm")
    return [*_models_of("open_clip"), *filter(is_tips, _models_of("timm"))]


def _models_of(library: Library) -> Sequence[str]:
    if library == "open_clip":
        return open_clip_models()
    from timm.models import list_models

    names: list[str] = list_models()
    return names


def _library(name: str, job: Job) -> Library:
    """The library that a model is opened with in a job."""
    return "open_clip" if job == "what" and not is_tips(name) else "timm"


def _known(name: str, job: Job) -> KnownModel:
    refusal = _refusal(name, job)
    family, licence = family_and_licence(name, job)
    return KnownModel(
        name=name, job=job, family=family, licence=licence, tags=_tags(name, job), refusal=refusal,
        form="" if refusal or job == "where" else form_of(_spec(name, job)),
        weights=by_licence(name, _tags(name, job), _library(name, job)),
        missing=() if refusal else tuple(_missing(name, job)),
    )  # fmt: skip


def _spec(name: str, job: Job) -> EncoderSpec:
    return EncoderSpec(library=_library(name, job), model=name, pretrained="random")


@functools.cache  # timm copies all that it says of a model each time, and there are a thousand
def _tags(name: str, job: Job) -> tuple[str, ...]:
    """Of the weights that the model can be opened with."""
    if _library(name, job) == "open_clip":
        return tuple(_clip_tags(name)[0])
    return tuple(tag for tag, entry in cfgs_of(name).items() if tag and entry.has_weights)


def _clip_tags(name: str) -> tuple[list[str], list[str]]:
    """Those of weights with the model's activation, and of others."""
    return fitting_tags(name, clip_config(_spec(name, "what"))["model_cfg"])


def family_and_licence(name: str, job: Job) -> tuple[str, str]:
    """Name and licence; of a model without a tag those of all its tags."""
    found = _families_of(name, job)
    licences = dict.fromkeys(family.licence or "the tag's" for family in found)
    return " or ".join(family.name for family in found), " or ".join(licences)


def _families_of(name: str, job: Job) -> list[Family | ClipFamily]:
    """The families of a model, with or without a tag, or of its tags."""
    if _library(name, job) == "open_clip":
        specs = [EncoderSpec(library="open_clip", model=name, pretrained=tag) for tag in _tags(name, job) or ("",)]
        return list(dict.fromkeys(map(clip_family_of, specs)))
    names = [name] if "." in name else [f"{name}.{tag}" for tag in _tags(name, job)] or [name]
    return list(dict.fromkeys(family_of(EncoderSpec(library="timm", model=each)) for each in names))


def _refusal(name: str, job: Job) -> str:
    try:
        (require_clip if _library(name, job) == "open_clip" else require_vit)(_spec(name, job))
    except (EncoderError, WeightsError) as error:
        return str(error)
    return ""


def _is_taken_clip(name: str) -> bool:
    if is_tips(name):
        return True
    try:
        check_tower(clip_config(_spec(name, "what"))["model_cfg"], name)
    except EncoderError:
        return False
    return True


def _missing(name: str, job: Job) -> Iterator[str]:
    if job == "what" and is_tips(name):
        yield f"text tower and tokenizer: local files; {HOW}"
    elif job == "what":
        yield from _missing_of_text(clip_config(_spec(name, job))["model_cfg"]["text_cfg"])
    others = _clip_tags(name)[1] if _library(name, job) == "open_clip" else []
    if others:
        yield f"weights trained with the other activation, under {namesake(name)}: {listed(others, _TAGS_SHOWN)}"
    tags = _tags(name, job)
    here = [tag for tag in tags if _is_here(name, tag, job)]
    if not tags and not others:
        yield "weights: none are published by the library; name yours with `file:`"
    elif here:
        yield f"weights in the cache: {', '.join(here)}; of the hub: {listed(tags, _TAGS_SHOWN)}"
    elif tags:
        yield f"weights: not in the cache; of the hub {listed(tags, _TAGS_SHOWN)}, or `file:` beside `pretrained: TAG`"


def _missing_of_text(text: Mapping[str, Any]) -> Iterator[str]:
    repository = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if not repository:
        return
    if importlib.util.find_spec("transformers") is None:
        yield "package: transformers; run `pip install 'wilss[text]'`"
    if missing := missing_of_text(text):
        yield f"tokenizer: {repository} of the hub is not in the cache ({missing[0]}); or `tokenizer: FOLDER`"


def _is_here(name: str, tag: str, job: Job) -> bool:
    """Whether the file of these weights is in the hub's cache on this machine."""
    if _library(name, job) == "open_clip":
        from open_clip.pretrained import get_pretrained_cfg

        repository, _, file = str(get_pretrained_cfg(name, tag).get("hf_hub") or "").rpartition("/")
        names: Sequence[str] = (file,) if file else CLIP_FILES
    else:
        entry = cfgs_of(name)[tag]
        repository, names = entry.hf_hub_id or "", (entry.hf_hub_filename,) if entry.hf_hub_filename else TIMM_FILES
    return bool(repository) and any(cached_file(repository, file) for file in names)
