"""What kept features are of: which networks, at which input. Only those of the same are taken in their place."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wilss.data.manifest import EncoderSpec
from wilss.errors import ParameterError
from wilss.params import differences, shortened
from wilss.store import MaskStore

if TYPE_CHECKING:
    from ..fmwiss import FmwissSource

#: The attribute of a store that says what its features are of.
FEATURES_KEY = "features"


def require_keepable(source: "FmwissSource") -> None:
    """Raise ParameterError for parameters whose masks no kept features could give."""
    rest = "or leave --keep features and --features-from out."
    if source.params.score == "gradcam":
        raise ParameterError(
            "score: gradcam takes the gradient of CLIP's last block, which is not among kept features; take score: "
            f"text, {rest}"
        )
    if source.params.clip_attention:
        raise ParameterError(
            f"clip_attention: the blocks of CLIP are not among kept features; set clip_attention: false, {rest}"
        )


def identity_of_features(source: "FmwissSource") -> dict[str, Any]:
    """By encoder all that decides its features of an image, as JSON values, and which parts of the ViT there are."""
    params = source.params
    common: dict[str, Any] = {"longest": params.longest, "precision": params.precision}
    vit = vit_features(source.vit, size=params.vit_size, **common)
    window = {"window": params.window, "window_stride": params.window_stride}
    clip = clip_features(source.clip, form=source.form, size=params.clip_size, **window, **common)
    if source.form == "proxy":
        clip = {**clip, "proxy": dict(vit)}
    return {"clip": clip, "vit": {**vit, "parts": list(source.parts), "blocks": params.attention_blocks}}


def clip_features(spec: EncoderSpec, **used: Any) -> dict[str, Any]:
    """What decides the dense features of a CLIP. used: form, size, longest, precision, windows."""
    from wilss.models.encoders.identity import digest_of_encoder

    return {"digest": digest_of_encoder(spec), "window": 0, "window_stride": 0, **used}


def vit_features(spec: EncoderSpec, **used: Any) -> dict[str, Any]:
    """What decides the blocks of a ViT. used: size, longest, precision; parts beside queries and keys, and blocks."""
    from wilss.models.encoders.identity import digest_of_encoder

    return {"digest": digest_of_encoder(spec), **used}


def differences_of_features(asked: Mapping[str, Any], models: Mapping[str, Any], store: MaskStore) -> list[str]:
    """Lines that say how the features of a store are others than those that are asked for; none where they serve.

    asked: by encoder, as `identity_of_features` says it; models: the identity of these. More parts and blocks than are
    asked for do no harm.
    """
    kept, noted = store.attributes.get(FEATURES_KEY), store.attributes.get("models")
    if not isinstance(kept, Mapping) or not store.layout.features:
        return ["features: asked for, none in the store (it was not made with --keep features)"]
    lines = []
    for name, mine in ((name, dict(of_one)) for name, of_one in asked.items()):
        found = kept.get(name)
        theirs = dict(found) if isinstance(found, Mapping) else {}
        lines += _of_parts(name, mine, theirs)
        if mine.get("digest") != theirs.get("digest"):
            of_store = noted.get(name) if isinstance(noted, Mapping) else None
            lines += _of_networks(name, models[name], of_store if isinstance(of_store, Mapping) else {})
        theirs["digest"] = mine["digest"]
        lines += list(_lines(name, mine, theirs))
    return lines


def _of_networks(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return list(_lines(name, mine, theirs)) or [f"{name}: another network asked for than in the store"]


def _of_parts(name: str, mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Also takes what is compared here out of both."""
    parts, blocks = mine.pop("parts", []), mine.pop("blocks", 1)
    kept, count = theirs.pop("parts", []), theirs.pop("blocks", 1)
    lacking = [part for part in parts if part not in kept]
    lines = [f"{name}: {', '.join(lacking)} of its last block asked for, not in the store"] if lacking else []
    return lines + ([f"{name}: {blocks} last blocks asked for, {count} in the store"] if blocks > count else [])


def _lines(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for key, value, other in differences(mine, theirs):
        ours, of_store = shortened(value, other, 80)
        yield f"{name}.{key}: {ours} asked for, {of_store} in the store"
