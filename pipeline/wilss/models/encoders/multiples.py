"""What an encoder's input sides must be multiples of, without building it: a plan needs only that.

Nothing here imports torch. What cannot be used is refused here already, so that no plan is made with it.
"""

import re
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip.configs import VIT_PATCH, check_tower, clip_config, clip_name, clip_stride

_STEM_STRIDE = 32


def input_multiple(spec: EncoderSpec) -> int:
    """The patch (ViT) or stride (ResNet) of the encoder, in pixels: height and width must be multiples of it.

    Raises EncoderError for a model that is not known or cannot be used, WeightsError for a config that cannot be read.
    """
    return _clip_multiple(spec) if spec.library == "open_clip" else _vit_multiple(spec)


def _clip_multiple(spec: EncoderSpec) -> int:
    config = clip_config(spec)["model_cfg"]
    check_tower(config, clip_name(spec))
    return _square(clip_stride(config), spec)


def _vit_multiple(spec: EncoderSpec) -> int:
    patch = dict(spec.args or {}).get("patch_size")
    if patch is not None:
        return _square(patch, spec)
    name = spec.model or ""
    if re.search(r"_resnet\d+d_\d|_r_s16_p8_", name):  # a convolution stem; others are named by their stride
        return _STEM_STRIDE
    named = re.search(r"patch(\d+)", name) or re.search(r"_s(\d+)_", name)
    return int(named.group(1)) if named else VIT_PATCH


def _square(patch: Any, spec: EncoderSpec) -> int:
    sides = set(patch) if isinstance(patch, (list, tuple)) else {patch}
    if len(sides) != 1:
        raise EncoderError(f"{_called(spec)} has patches of {patch} pixels; wilss needs square ones.")
    return int(sides.pop())


def _called(spec: EncoderSpec) -> str:
    return str(spec.config or spec.model or spec.library)
