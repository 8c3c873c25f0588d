"""How wilss used an encoder before its stores noted that (0.2.0 and earlier); these rules never change.

A store notes under `models` how positions are resampled and with which mean and deviation pixels are normalised. One
that does not was made by the rules here, and can be resumed where those of today give the same.
"""

from collections.abc import Collection, Mapping
from typing import Any

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.configs import clip_config, noted_config
from wilss.models.encoders.tags import pretrained_cfg
from wilss.models.encoders.weights import OPENAI_MEAN, OPENAI_STD, random_seed

#: Of the final norm of tokens; why one that was left out is no more.
APPLIED, LEFT_OUT = "applied", "left out"
LEFT_OUT_THEN = "tokens of this network were not under its final norm before, and are now"


def as_noted_now(noted: Mapping[str, Any], spec: EncoderSpec, *, tokens: bool = False) -> dict[str, Any]:
    """What a store notes of an encoder, completed by what a store of an older version leaves out.

    spec: the network that is asked for now; where it is another than the store's, that shows in what both note.
    tokens: whether its final norm is asked for, too.
    """
    noted = {**noted_config(spec), **noted}  # open_clip's, of which nothing was noted
    if "positions" in noted:  # from then on the norm was applied
        return {**({"final_norm": APPLIED} if tokens else {}), **noted}
    args: dict[str, Any] = noted.get("args") or {}
    written = spec.model_copy(update={"args": args, "pos_interp": noted.get("pos_interp")})
    norm = {"final_norm": former_final_norm(spec)} if tokens else {}
    return {**former_numbers(written), **norm, **noted, "args": without_statistics(args)}


def without_statistics(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an encoder but for its mean and std, which are noted by themselves."""
    return {key: value for key, value in args.items() if key not in ("mean", "std")}


def former_numbers(spec: EncoderSpec) -> dict[str, Any]:
    """positions, mean and std by the rules of older versions."""
    is_clip = spec.library == "open_clip"
    mean, std = _clip_statistics(spec) if is_clip else _vit_statistics(spec)
    positions = "timm" if is_clip else spec.pos_interp or _vit_positions(spec)
    return {"positions": positions, "mean": list(mean), "std": list(std)}


def former_final_norm(spec: EncoderSpec) -> str:
    """Whether tokens were under the network's final norm: not where that comes after pooling. Builds the network."""
    if spec.library == "open_clip":
        return APPLIED
    from wilss.models.encoders.vit.networks import build_network
    from wilss.models.encoders.vit.trunks import norms_after_pooling
    from wilss.models.shapes_only import shapes_only

    with shapes_only():
        return LEFT_OUT if norms_after_pooling(build_network(spec)) else APPLIED


def way_to(encoder: str, keys: Collection[str], then: Mapping[str, Any]) -> str:
    """What to write in `encoders` of a manifest to have these former numbers again; "" where nothing does."""
    ways = [f"`pos_interp: {then['positions']}`"] if "positions" in keys and encoder == "vit" else []
    if {"mean", "std"} & set(keys):
        ways.append(f"`args: {{mean: {then['mean']}, std: {then['std']}}}`, added to args that are there,")
    return " and ".join(ways)


def _vit_positions(spec: EncoderSpec) -> str:
    return "timm" if "dinov2" in (spec.model or "") else "dino"


def _vit_statistics(spec: EncoderSpec) -> tuple[Any, Any]:
    """The args' own, else those of the tag in the model's name, or of timm's default tag, else ImageNet's."""
    named = spec.model and ("." in spec.model or not spec.file) and random_seed(spec) is None
    entry = pretrained_cfg(spec.model_copy(update={"pretrained": None})) if named else None
    mean = spec.args.get("mean") or (entry.mean if entry else IMAGENET_MEAN)
    return mean, spec.args.get("std") or (entry.std if entry else IMAGENET_STD)


def _clip_statistics(spec: EncoderSpec) -> tuple[Any, Any]:
    """The json config's, else those of a tag (a file had none), else OpenAI's."""
    values = {"mean": OPENAI_MEAN, "std": OPENAI_STD}
    for source in (_clip_tag(spec), clip_config(spec).get("preprocess_cfg") or {}):
        values |= {key: source[key] for key in values if source.get(key) is not None}
    return values["mean"], values["std"]


def _clip_tag(spec: EncoderSpec) -> Mapping[str, Any]:
    if spec.file or not spec.pretrained or random_seed(spec) is not None:
        return {}
    from open_clip.pretrained import get_pretrained_cfg

    entry: Mapping[str, Any] = get_pretrained_cfg(spec.model or "", spec.pretrained)
    return entry
