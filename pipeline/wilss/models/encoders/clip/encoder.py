"""CLIP through open_clip: dense image features, and text features in the same space.

Images come as uint8 and are normalised here with the model's own mean and deviation; features go out as
float32 of unit length. An opened encoder holds nothing but its weights: equal batches give equal bytes.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wilss.data.images import normalise
from wilss.data.manifest import EncoderSpec
from wilss.equations.kernels import unit
from wilss.errors import EncoderError
from wilss.models.encoders.arithmetic import Precision, precision_context, precision_for
from wilss.models.encoders.clip.configs import DenseForm, check_tower, clip_config, clip_name, form_of
from wilss.models.encoders.clip.preprocessing import Preprocessing, check_activation, clip_preprocessing
from wilss.models.encoders.clip.timm_towers import timm_path, timm_tower
from wilss.models.encoders.clip.tokenizer_files import text_files, text_folder
from wilss.models.encoders.clip.tokenizers import Tokenizer, open_tokenizer, text_identity
from wilss.models.encoders.clip.towers import DensePath, TrunkPath, dense_path
from wilss.models.encoders.grids import check_images
from wilss.models.encoders.identity import identity_of
from wilss.models.encoders.multiples import input_multiple
from wilss.models.encoders.vit.trunks import State
from wilss.models.encoders.weights import (
    HUB,
    config_is_here,
    digest_of,
    load_strictly,
    published_clip,
    random_seed,
    weights_file,
)
from wilss.models.shapes_only import shapes_only, undrawn
from wilss.models.tensor_files import read_tensors

TEXT_BATCH = 80  # the OpenAI templates of one name: a class's text never shares a batch with another class's
#: In the place of a timm image tower while the rest of a CLIP is built.
_STAND_IN = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 8}
_NOT_BUILT = (TypeError, ValueError, AssertionError, RuntimeError, KeyError)
#: What checkpoints hold of older open_clip and transformers, and no network of today's has.
_LEFTOVER = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
    "text.transformer.embeddings.position_ids",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseClip:
    """An opened CLIP.

    patch: input sides must be multiples of it.  mean, std: of the three channels, pixels in [0, 1].
    digest: sha256 of the weights.  identity: all that decides what it computes, plain json.
    logit_scale: the learned factor of cosines, 100 for published models.
    """

    patch: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    identity: Mapping[str, Any]
    logit_scale: float
    form: DenseForm
    precision: Precision
    device: torch.device
    network: nn.Module = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    path: DensePath = field(repr=False)

    @torch.inference_mode()
    def features(self, images: Tensor, proxy: Tensor | None = None) -> Tensor:
        """Dense image features F (FMWISS Sec. 3.2).

        images: uint8 [B, 3, H, W] on the encoder's device, H and W multiples of `patch`.
        proxy: for the form `proxy` alone, another network's patches of the same images, [B, D', h', w'] on any grid.
        Returns float32 [B, D, h, w], unit length along D. Raises EncoderError for other input.
        """
        check_images(images, self.patch)
        pixels = normalise(images, self.mean, self.std)
        with precision_context(self.device, self.precision):
            dense = self.path(pixels, proxy) if isinstance(self.path, TrunkPath) else self.path(pixels)
        return unit(dense.float(), dim=1)

    @torch.inference_mode()
    def before_last(self, images: Tensor) -> State:
        """What the last block of a transformer is given, for `gradcam`. images: as for `features`."""
        check_images(images, self.patch)
        assert isinstance(self.path, TrunkPath)
        with precision_context(self.device, self.precision):
            return self.path.before_last(normalise(images, self.mean, self.std))

    @torch.inference_mode()
    def text(self, prompts: Sequence[str]) -> Tensor:
        """Text features of single prompts: float32 [K, D], unit length. Overlong prompts are cut."""
        batches = [list(prompts[i : i + TEXT_BATCH]) for i in range(0, len(prompts), TEXT_BATCH)]
        if not batches:
            raise EncoderError("there are no prompts to encode; give every class at least one name.")
        return torch.cat([self._text_batch(batch) for batch in batches])

    def _text_batch(self, prompts: list[str]) -> Tensor:
        tokens = self.tokenizer(prompts).to(self.device)
        with precision_context(self.device, self.precision):
            features = self.network.encode_text(tokens)  # type: ignore[operator]
        return unit(features.float())


def open_clip_encoder(
    spec: EncoderSpec,
    device: torch.device | str,
    *,
    form: DenseForm | Literal["auto"] = "auto",
    precision: Precision | None = None,
) -> DenseClip:
    """Opens the CLIP of `spec` on `device`, in eval mode.

    form: `auto` for the tower's default, or one of `configs.forms_of`, see `towers.dense_path` and
    `timm_towers.timm_path`.  precision: fp32, bf16, or None for bf16 on CUDA alone.
    Raises EncoderError for a model without such a dense path or of another activation than its weights were
    trained with, WeightsError for weights that are missing, wrong, damaged or not finite.
    """
    config = clip_config(spec)
    mean, std = _checked(spec, config)
    own_form, stride = form_of(spec, form), input_multiple(spec)
    text = config["model_cfg"]["text_cfg"]
    folder = text_folder(spec, text)
    tokenizer = open_tokenizer(text, folder, clip_name(spec))
    _require_tower(config["model_cfg"], own_form, stride, clip_name(spec))
    digest = digest_of(spec)  # weights are asked for and read when all else is right
    identity = identity_of(spec) | text_identity(spec)
    network = _network(spec, config["model_cfg"], folder)
    target = torch.device(device)
    return DenseClip(
        patch=stride,
        mean=mean,
        std=std,
        digest=digest,
        identity=identity,
        logit_scale=float(network.logit_scale.detach().exp()),  # type: ignore[operator]
        form=own_form,
        precision=precision_for(target, precision),
        device=target,
        network=network.to(target),
        tokenizer=tokenizer,
        path=_path(network, own_form, stride),
    )


def _path(network: Any, form: DenseForm, stride: int) -> DensePath:
    has_trunk = hasattr(network.visual, "trunk")
    return timm_path(network.visual, form, stride) if has_trunk else dense_path(network.visual, form)


def _require_tower(config: Mapping[str, Any], form: DenseForm, stride: int, name: str) -> None:
    """EncoderError for an image tower of timm that cannot be built or used; it is built without memory."""
    if not config["vision_cfg"].get("timm_model_name"):
        return
    try:
        with shapes_only():
            timm_path(timm_tower(config).eval(), form, stride)
    except _NOT_BUILT as error:
        raise EncoderError(_unbuilt(name, error)) from error


def _unbuilt(name: str, error: Exception) -> str:
    return f"open_clip cannot build {name} ({error}); fix its config."


def require_clip(spec: EncoderSpec) -> None:
    """Raise EncoderError for a model or weights that cannot be opened; no weights are read, and nothing is fetched.

    A local tokenizer is opened.
    """
    if not config_is_here(spec):
        return
    config = clip_config(spec)
    _checked(spec, config)
    _require_tower(config["model_cfg"], form_of(spec), input_multiple(spec), clip_name(spec))
    if spec.tokenizer is not None:
        text = config["model_cfg"]["text_cfg"]
        open_tokenizer(text, text_folder(spec, text), clip_name(spec))


def _checked(spec: EncoderSpec, config: Mapping[str, Any]) -> Preprocessing:
    """Mean and deviation of a CLIP that can be opened; EncoderError for any other, by its config alone."""
    check_tower(config["model_cfg"], clip_name(spec))
    check_activation(spec, config["model_cfg"])
    if spec.pos_interp is not None:
        raise EncoderError(
            f"{clip_name(spec)} resamples its positions as open_clip does; leave `pos_interp: {spec.pos_interp}` out."
        )
    if spec.file is None and random_seed(spec) is None and not (spec.model or "").startswith(HUB):
        published_clip(spec)
    return clip_preprocessing(spec, config)


def _network(spec: EncoderSpec, config: Mapping[str, Any], folder: Path | None) -> nn.Module:
    with text_files(folder) as place:
        network = _drawn(spec, config, place)
    if random_seed(spec) is None:
        path = weights_file(spec)
        load_strictly(network, _clip_tensors(read_tensors(path), network), path)
    return network.eval().requires_grad_(False)


def _drawn(spec: EncoderSpec, config: Mapping[str, Any], folder: Path | None) -> nn.Module:
    """By the spec's seed; without one its weights are a file's, and drawing them would take most of the time."""
    seed = random_seed(spec)
    if seed is None:
        with undrawn():
            return _build(spec, config, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(spec, config, folder)


def _build(spec: EncoderSpec, config: Mapping[str, Any], folder: Path | None) -> nn.Module:
    """folder: of a text tower of transformers, whose config.json lies there."""
    from open_clip.model import CLIP, CustomTextCLIP

    own = deepcopy(dict(config))
    if own["text_cfg"].get("hf_model_name"):
        own["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        own["custom_text"] = True
    kind = CustomTextCLIP if own.pop("custom_text", False) else CLIP
    try:
        if own["vision_cfg"].get("timm_model_name"):
            network: nn.Module = kind(**own | {"vision_cfg": _STAND_IN})
            torch.manual_seed(random_seed(spec) or 0)  # whatever the text took
            network.visual = timm_tower(own)
        else:
            network = kind(**own)
    except _NOT_BUILT as error:
        raise EncoderError(_unbuilt(clip_name(spec), error)) from error
    _assert_activation(network, bool(own.get("quick_gelu", False)), spec)
    return network.float()  # transformers builds in the type that a config names


def _assert_activation(network: nn.Module, quick: bool, spec: EncoderSpec) -> None:
    from open_clip.transformer import QuickGELU

    has_quick = any(isinstance(part, QuickGELU) for part in network.modules())
    if has_quick != quick:
        raise EncoderError(f"open_clip built {clip_name(spec)} {'with' if has_quick else 'without'} QuickGELU.")


def _clip_tensors(content: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """A checkpoint in the names of `network`: open_clip's, OpenAI's and Apple's own forms brought to today's."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = dict(content.get("state_dict", content))
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    tensors = dict(convert_state_dict(network, tensors))
    for leftover in _LEFTOVER:
        tensors.pop(leftover, None)
    if "positional_embedding" in tensors and not hasattr(network, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):
        wanted = getattr(network, name, None)
        if name in tensors and wanted is not None and tensors[name].numel() == wanted.numel():
            tensors[name] = tensors[name].reshape(wanted.shape)
    return tensors
