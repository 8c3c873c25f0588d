"""What decides what an encoder computes, as plain json: for a store's provenance, for resuming, and as a cache's key.

Nothing here imports torch, unless it takes a library's list of tags to know what is asked, nor builds a network, but
for what was noted of tokens before.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json
from wilss.models.encoders.clip.configs import clip_config, noted_config
from wilss.models.encoders.clip.families import clip_family_of
from wilss.models.encoders.clip.preprocessing import clip_preprocessing
from wilss.models.encoders.former import (
    APPLIED,
    LEFT_OUT_THEN,
    former_final_norm,
    former_numbers,
    way_to,
    without_statistics,
)
from wilss.models.encoders.tags import full_name
from wilss.models.encoders.vit.families import family_of, positions_of
from wilss.models.encoders.vit.preprocessing import vit_preprocessing
from wilss.models.encoders.weights import config_file, digest_of, random_seed, sha256_of

#: What is noted for a reader and decides nothing beside the digests of the weights and of what a CLIP's config says.
_NAMES = ("model", "pretrained", "revision", "family", "config")
_POSITIONS = (None, "dino", "size", "timm")


def identity_of(spec: EncoderSpec, *, tokens: bool = False) -> dict[str, Any]:
    """Everything that decides what the encoder computes.

    Keys: library, model, pretrained, revision; args, without mean and std; sha256 (weights), config (sha256 of the
    json, or None); model_cfg (of a CLIP, sha256); family; positions, mean and std as they are used.
    tokens: whether the last block's output is used, not its queries and keys alone; then also final_norm.
    """
    family = (clip_family_of(spec) if spec.library == "open_clip" else family_of(spec)).name
    noted = {
        **_weights_of(spec),
        **noted_config(spec),
        "args": _in_order(without_statistics(spec.args)),
        "family": family,
    }
    return {**noted, **_numbers_of(spec), **norm_of(tokens=tokens)}


def _in_order(value: Any) -> Any:
    """The same with its keys sorted: a manifest's own order means nothing, and would show in a store's bytes."""
    if isinstance(value, Mapping):
        return {key: _in_order(value[key]) for key in sorted(value, key=str)}
    return [*map(_in_order, value)] if isinstance(value, list | tuple) else value


def norm_of(*, tokens: bool) -> dict[str, str]:
    """What is noted of the final norm by those who use `tokens`."""
    return {"final_norm": APPLIED} if tokens else {}


def _weights_of(spec: EncoderSpec) -> dict[str, Any]:
    return {
        "library": spec.library,
        "model": spec.model,
        "pretrained": spec.pretrained,
        "revision": spec.revision,
        "args": dict(spec.args or {}),
        "sha256": digest_of(spec),
        "config": sha256_of(config) if (config := config_file(spec)) else None,
    }


def _numbers_of(spec: EncoderSpec) -> dict[str, Any]:
    """positions, mean and std of today; those of older versions are `former.former_numbers`."""
    is_clip = spec.library == "open_clip"
    mean, std = clip_preprocessing(spec, clip_config(spec)) if is_clip else vit_preprocessing(spec)
    return {
        "positions": "timm" if is_clip else positions_of(spec),
        "mean": [*map(float, mean)],
        "std": [*map(float, std)],
    }


def digest_of_encoder(spec: EncoderSpec, *, tokens: bool = False) -> str:
    """sha256 of all that decides what a frozen network computes, its weights' digest among it, and of nothing else."""
    noted = identity_of(spec, tokens=tokens)
    deciding = {key: value for key, value in noted.items() if key not in _NAMES}
    architecture = (spec.model or "").partition(".")[0] if spec.library == "timm" else ""  # else model_cfg says it
    return digest_of_json({**deciding, "architecture": architecture})


def digests_of_encoder(spec: EncoderSpec, *, tokens: bool = False) -> tuple[str, ...]:
    """The same, and the digests by which a network that computes the same was noted before."""
    now = _numbers_of(spec)
    is_as_before = not tokens or former_final_norm(spec) == APPLIED
    former = (digest for digest, numbers in _as_before(spec) if is_as_before and numbers == now)
    return digest_of_encoder(spec, tokens=tokens), *dict.fromkeys(former)


def way_to_former(spec: EncoderSpec, digest: str, *, tokens: bool = False) -> str:
    """Why the network with a digest by an older version is another today, or how to get it; "" for other digests."""
    now, then = _numbers_of(spec), dict(_as_before(spec)).get(digest)
    if then is None:
        return ""
    if tokens and former_final_norm(spec) != APPLIED:
        return LEFT_OUT_THEN
    way = way_to("vit", [key for key in then if then[key] != now[key]], then)
    return f"{way} in `encoders.vit` makes it the same again" if way else ""


def _as_before(spec: EncoderSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """The digest and the numbers of an older version, for every way in which a manifest could name these weights."""
    weights, names = _weights_of(spec), ("model", "pretrained", "args", "pos_interp")
    for other in _said_otherwise(spec):
        said = {name: getattr(other, name) for name in names}
        yield digest_of_json({**weights, **said}), former_numbers(other)


def _said_otherwise(spec: EncoderSpec) -> Iterator[EncoderSpec]:
    """The spec, and others of the same weights: with other positions or none, without statistics, otherwise named."""
    ways = itertools.product(_names_of(spec), (spec.args, without_statistics(spec.args)), _POSITIONS)
    for (model, pretrained), args, positions in ways:
        told = {"model": model, "pretrained": pretrained, "args": dict(args), "pos_interp": positions}
        yield spec.model_copy(update=told)


def _names_of(spec: EncoderSpec) -> list[tuple[str | None, str | None]]:
    """model and pretrained as they are, and otherwise: a tag in either or in neither."""
    names = [(spec.model, spec.pretrained)]
    if random_seed(spec) is None:
        names.append((spec.model, None))
    if spec.library == "timm" and (name := full_name(spec)):
        model, _, tag = name.partition(".")
        names += [(name, None), (model, None), *([(model, tag), (name, tag)] if tag else [])]
    return list(dict.fromkeys(names))
