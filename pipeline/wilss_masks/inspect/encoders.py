"""Whether an encoder does what it is for: opened, and shown a drawing.

Weights that are damaged, of another network or never trained raise no error by themselves. Their attention is then the
same everywhere, or that of every patch; their features say the same of everything.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from wilss.data.images import normalise, patch_grid_size, resize_uint8
from wilss.data.manifest import EncoderSpec
from wilss.data.shapes import draw
from wilss.errors import counted
from wilss.models.encoders.weights import random_seed, resolve, weights_file

from .untrained import is_initial, norms_are_initial

if TYPE_CHECKING:
    from wilss.models.encoders.clip.encoder import DenseClip
    from wilss.models.encoders.vit.encoder import LastBlock, SeedViT

Job = Literal["what", "where"]

#: Sides of the smoke picture in pixels, about; not square, and no encoder's own.
_SHORTER, _LONGEST = 224, 320
#: Patches whose attention is looked at.
_ROWS = 64
#: Of the built-in ViT's attention 0.63 and 0.61 are seen, of untrained ones of timm's 0.02 to 0.03 and 0.004 to 0.016.
_FLAT, _ALIKE, _CONSTANT = 0.1, 0.05, 1e-3


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found of an encoder in one of its jobs.

    facts: what it is, by name, in words or numbers. doubts: sentences about what cannot be right. warnings: about what
    may be right, and is seldom.
    """

    job: Job
    facts: Mapping[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def look_at(spec: EncoderSpec, job: Job) -> Look:
    """Open an encoder on the CPU, show it a drawing and say what it is.

    Raises EncoderError and WeightsError for one that cannot be opened, and for a file that is damaged or another's.
    """
    if spec.file:
        resolve(spec.file)  # first: of a file that is not there nobody need say what it is a copy of
    if job == "what":
        from wilss.models.encoders.clip.configs import form_of
        from wilss.models.encoders.clip.opening import open_what

        clip = open_what(spec, "cpu", form=form_of(spec), precision="fp32")
        return _with_facts(look_at_clip(clip), spec, clip)
    from wilss.models.encoders.vit.encoder import open_vit

    vit = open_vit(spec, "cpu", precision="fp32")
    return _with_facts(look_at_vit(vit), spec, vit)


def _with_facts(look: Look, spec: EncoderSpec, opened: "DenseClip | SeedViT") -> Look:
    is_random = random_seed(spec) is not None
    facts = {
        "network": spec.title,
        "family": opened.identity["family"],
        "weights": "random, of an untrained network" if is_random else str(weights_file(spec)),
        **({"text tower": spec.text} if spec.text and look.job == "what" else {}),
        "sha256": opened.digest,
        "parameters": sum(parameter.numel() for parameter in opened.network.parameters()),
        "patch": opened.patch,
        "mean": [round(value, 4) for value in opened.mean],
        "std": [round(value, 4) for value in opened.std],
        "positions": _positions(spec, opened),
    }
    told = replace(look, facts={**facts, **look.facts})
    return replace(told, doubts=(), warnings=()) if is_random else told


def _positions(spec: EncoderSpec, opened: "DenseClip | SeedViT") -> str:
    from wilss.models.encoders.clip.configs import clip_config, has_convolutions
    from wilss.models.encoders.vit.families import family_of

    if spec.library == "open_clip" and has_convolutions(clip_config(spec)["model_cfg"]["vision_cfg"]):
        return "none are used, of convolutions"
    is_rotated = spec.library == "timm" and family_of(spec).positions == "none"
    return "by rotation, no table" if is_rotated else f"table, resampled as {opened.identity['positions']} does"


def look_at_vit(vit: "SeedViT") -> Look:
    """Its last attention and its patch features on a drawing."""
    images = _picture(vit.patch)
    block = vit.last_block(images)
    spread, apart = attention_spread(block)
    variety = variety_of(vit.features(images))
    doubts = [
        *_not_finite(spread + apart + variety),
        *_constant(variety, "patch features"),
        *_odd_attention(spread, apart),
        *_initial_norms(vit.network, "network"),
    ]
    facts = {
        "prefix": f"{counted(block.prefix, 'token')} before the patches",
        "attention": f"{block.keys.shape[1]} heads, {spread:.2f} from even, patches {apart:.2f} apart",
        "features": f"{vit.width} a patch, variety {variety:.3f}",
    }
    return Look(job="where", facts=facts, doubts=tuple(doubts))


def look_at_clip(clip: "DenseClip") -> Look:
    """Its dense features on a drawing, and its text features of two names."""
    features = clip.features(_picture(clip.patch))
    variety, text = variety_of(features), clip.text(["a red fish", "a wooden house"])
    same = float(text[0] @ text[1])
    doubts = [*_not_finite(variety + same), *_constant(variety, "dense features")]
    if same > 1 - _CONSTANT:
        doubts.append("two different names have the same text feature; are these the weights of its text tower?")
    doubts += _never_trained(clip)
    facts = {
        "form": clip.form,
        "features": f"{features.shape[1]} a patch, variety {variety:.3f}",
        "text": f"two names {1 - same:.3f} apart, logit scale {clip.logit_scale:.1f}",
    }
    return Look(job="what", facts=facts, doubts=tuple(doubts), warnings=() if doubts else tuple(_of_attention(clip)))


def _never_trained(clip: "DenseClip") -> list[str]:
    """Of a CLIP, tower by tower, since a file may hold one that is trained beside one that is not."""
    network: Any = clip.network
    texts = nn.ModuleList(part for name, part in network.named_children() if name != "visual")
    doubts = [*_initial_norms(network.visual, "image tower"), *_initial_norms(texts, "text tower")]
    if hasattr(network, "logit_scale") and is_initial(clip.logit_scale):  # TIPS' is of a file of its own
        doubts.append(
            f"its logit scale is {clip.logit_scale:.4f}, where training begins; name a file of trained weights."
        )
    return doubts


def _initial_norms(network: nn.Module, called: str) -> list[str]:
    if not norms_are_initial(network):
        return []
    return [f"all norms of its {called} are 1 and 0, as before training; name a file of trained weights."]


def _of_attention(clip: "DenseClip") -> Iterator[str]:
    """Of an image tower whose features do not rest on its last attention: hardly ever so in one that is trained."""
    from wilss.models.encoders.clip.towers import TrunkPath
    from wilss.models.encoders.vit.encoder import block_of

    if not isinstance(clip.path, TrunkPath):
        return
    with torch.inference_mode():
        pixels = normalise(_picture(clip.patch).to(clip.device), clip.mean, clip.std)
        block = block_of(clip.path.trunk, clip.path.before_last(pixels))
    yield from _odd_attention(*attention_spread(block))


def _odd_attention(spread: float, apart: float) -> list[str]:
    if spread < _FLAT:
        return [f"its attention is flat ({spread:.3f} from even, trained ones are above 0.3); are these its weights?"]
    if apart < _ALIKE:
        return [f"all patches attend to the same places ({apart:.3f} apart); are these its weights?"]
    return []


def _not_finite(value: float) -> list[str]:
    return [] if math.isfinite(value) else ["it gives values that are not finite; fetch the file again."]


def _constant(variety: float, what: str) -> list[str]:
    return [f"its {what} are the same everywhere; are these its weights?"] if variety < _CONSTANT else []


def attention_spread(block: "LastBlock") -> tuple[float, float]:
    """How far attention is from flat, and how far rows are from each other; 0 (not at all) to 1.

    Both are total variation distances of the rows of patches over the patches: from the uniform distribution, and from
    the mean of all rows; means over the heads and over some dozens of rows of the first image.
    """
    from wilss.equations.kernels import attention_rows

    patches = block.grid[0] * block.grid[1]
    rows = torch.linspace(0, patches - 1, min(_ROWS, patches)).long() + block.prefix
    attention = attention_rows(block.queries[0][:, rows], block.keys[0])[..., block.prefix :]
    attention = attention / attention.sum(dim=-1, keepdim=True)
    flat, mean = attention.new_full((), 1 / patches), attention.mean(dim=1, keepdim=True)
    return _apart(attention, flat), _apart(attention, mean)


def _apart(rows: Tensor, others: Tensor) -> float:
    return float((rows - others).abs().sum(dim=-1).mean() / 2)


def variety_of(features: Tensor) -> float:
    """1 - the mean cosine of all pairs of patches of the first image, 0 where all are the same.

    features: [B, D, h, w].
    """
    from wilss.equations.kernels import unit

    mean = unit(features[0].flatten(1).float(), dim=0).mean(dim=1)
    return float(1 - mean @ mean)


def _picture(patch: int) -> Tensor:
    """A drawing, uint8 [1, 3, H, W]."""
    image = torch.from_numpy(draw(0, 0).image).permute(2, 0, 1)
    height, width = patch_grid_size(_SHORTER, _LONGEST, shorter=None, longest=_LONGEST, patch=patch)
    return resize_uint8(image, (height, width))[None]
