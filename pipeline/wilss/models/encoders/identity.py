"""What decides what an encoder computes, as plain json: for a store's provenance, for resuming, and as a cache's key.

Nothing here builds a network or imports torch, unless it takes a library's list of tags to know what is asked.
"""

from collections.abc import Iterator
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json
from wilss.models.encoders.clip_configs import clip_config, noted_config
from wilss.models.encoders.families import family_of, positions_of
from wilss.models.encoders.former import former_numbers, way_to, without_statistics
from wilss.models.encoders.preprocessing import clip_preprocessing
from wilss.models.encoders.vit_preprocessing import vit_preprocessing
from wilss.models.encoders.weights import config_file, digest_of, sha256_of


def identity_of(spec: EncoderSpec) -> dict[str, Any]:
    """Everything that decides what the encoder computes.

    Keys: library, model, pretrained, revision; args, without mean and std; sha256 (weights), config (sha256 of the
    json, or None); model_cfg (of a CLIP, sha256); family; positions, mean and std as they are used.
    """
    args = without_statistics(spec.args)
    family = "CLIP" if spec.library == "open_clip" else family_of(spec).name
    return {**_weights_of(spec), **noted_config(spec), "args": args, "family": family, **_numbers_of(spec)}


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
    """positions, mean and std, as `former.former_numbers` has them of before."""
    is_clip = spec.library == "open_clip"
    mean, std = clip_preprocessing(spec, clip_config(spec)) if is_clip else vit_preprocessing(spec)
    return {"positions": "timm" if is_clip else positions_of(spec), "mean": list(mean), "std": list(std)}


def digest_of_encoder(spec: EncoderSpec) -> str:
    """sha256 of all that decides what a frozen network computes, its weights' digest among it.

    Where it computes what it did before its positions, mean and deviation were noted, it is the digest of then.
    """
    return digests_of_encoder(spec)[0]


def digests_of_encoder(spec: EncoderSpec) -> tuple[str, ...]:
    """The same, and the digests by which a network that computes the same was noted before."""
    if former_numbers(spec) != _numbers_of(spec):
        return (digest_of_json(identity_of(spec)),)
    return tuple(_former_digest(written) for written in _said_otherwise(spec))


def _former_digest(spec: EncoderSpec) -> str:
    return digest_of_json({**_weights_of(spec), "pos_interp": spec.pos_interp})


def _said_otherwise(spec: EncoderSpec) -> Iterator[EncoderSpec]:
    """The spec, and others by which it was the same network before: positions named or not, weights named or not."""
    yield spec
    numbers = former_numbers(spec)
    for name in (None, numbers["positions"]):
        for other in _with_names(spec.model_copy(update={"pos_interp": name})):
            if former_numbers(other) == numbers:
                yield other


def _with_names(spec: EncoderSpec) -> tuple[EncoderSpec, ...]:
    """As it is, and a file also without the name of the weights that it is a copy of."""
    return (spec, spec.model_copy(update={"pretrained": None})) if spec.file else (spec,)


def way_to_former(spec: EncoderSpec, digest: str) -> str:
    """What to write in `encoders.vit` so that it is the network of this digest; "" where nothing would help."""
    if digest not in map(_former_digest, _with_names(spec)):
        return ""
    then, now = former_numbers(spec), _numbers_of(spec)
    return " and ".join(way_to("vit", key, then[key]) for key in then if then[key] != now[key])
