"""timm's networks as a manifest names them, without their weights."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.tags import require_known
from wilss.models.tensor_files import listed, loading_args


def build_network(spec: EncoderSpec) -> nn.Module:
    """With random weights, for images of any size where timm has that. Raises EncoderError for what it cannot build."""
    args = {key: value for key, value in dict(spec.args or {}).items() if key not in ("mean", "std")}
    if names := loading_args(args):
        raise EncoderError(f"args {listed(names)} of {spec.model} would load a file; name it as `file:`.")
    if ":" in (spec.model or ""):  # hf-hub: and local-dir: read a config from wherever they say
        raise EncoderError(f"{spec.model} is no model of timm's own; {_own_name(spec)}")
    try:
        return _created(spec, args | {"num_classes": 0})
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise EncoderError(
            f"timm cannot build {spec.model or 'a VisionTransformer'} ({error}); fix its model or args."
        ) from error


def _own_name(spec: EncoderSpec) -> str:
    """What to write instead of `hf-hub:timm/NAME`."""
    from timm.models import is_model

    name = (spec.model or "").rpartition("/")[2]
    if is_model(name):
        return f"write `model: {name}`, which fetches the same weights."
    return "name one, and its weights as `file:`."


def _created(spec: EncoderSpec, args: Mapping[str, Any]) -> nn.Module:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    any_size = {**args, "dynamic_img_size": True}
    if not spec.model:
        return VisionTransformer(**any_size)
    require_known(spec.model)
    try:
        return timm.create_model(spec.model, pretrained=False, **any_size)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
    return timm.create_model(spec.model, pretrained=False, **args)  # NaFlex takes any size; the rest is refused
