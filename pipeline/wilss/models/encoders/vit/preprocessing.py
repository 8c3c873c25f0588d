"""The mean and deviation by which a vision transformer's images are normalised: the model's, never a guess."""

from typing import Any

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip.preprocessing import Preprocessing, say_once, statistics_in
from wilss.models.encoders.tags import cfgs_of, full_name, pretrained_cfg
from wilss.models.encoders.vit.families import FAMILIES, family_of, is_own, positions_of
from wilss.models.encoders.weights import random_seed
from wilss.models.tensor_files import listed

IMAGENET = Preprocessing(IMAGENET_MEAN, IMAGENET_STD)


def vit_preprocessing(spec: EncoderSpec) -> Preprocessing:
    """Mean and deviation of a vision transformer of timm's.

    The args' own; else those of the weights that the model's tag or `pretrained` names; else, for a file, those on
    which all published weights of its family agree. ImageNet's for untrained networks and for those of one's own
    form, the built-in ones among them.
    Raises EncoderError for a file of which nothing says it.
    """
    if (told := statistics_in(spec.args)) is not None:
        return told
    if random_seed(spec) is not None:
        return IMAGENET
    if spec.file and "." not in full_name(spec):
        return _of_untagged_file(spec)
    entry = pretrained_cfg(spec)
    return _statistics(entry) if entry else IMAGENET


def _of_untagged_file(spec: EncoderSpec) -> Preprocessing:
    if str(spec.file).startswith("builtin:"):
        return IMAGENET
    published = {tag: _statistics(cfg) for tag, cfg in cfgs_of(spec.model or "").items()}
    if family_of(spec) in FAMILIES and len(set(published.values())) == 1:
        return next(iter(published.values()))
    positions_of(spec)  # where nothing says that either, one sentence asks for both
    if is_own(spec):
        say_once(f"{spec.file}: normalised by ImageNet's mean; write `args: {{mean: [...], std: [...]}}` for another.")
        return IMAGENET
    tags = f" (one of {listed(published, 8)})" if published else ""
    raise EncoderError(
        f"{spec.file} does not say with which mean and deviation {spec.model} was trained; name the weights that it is "
        f"a copy of by `pretrained: TAG`{tags}, or write `args: {{mean: [...], std: [...]}}`."
    )


def _statistics(cfg: Any) -> Preprocessing:
    return Preprocessing(tuple(cfg.mean), tuple(cfg.std))
