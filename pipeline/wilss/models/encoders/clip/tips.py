"""TIPSv2 as a CLIP: dense image features by timm's network, text features by TIPS' own tower.

By google-deepmind/tips, pytorch/text_encoder.py: word vectors times sqrt(D) plus sines and cosines, pre-norm blocks
with ReLU that look past the padding, a final norm, and the mean of what is not padding. There is no projection: images
and texts meet at the width of both towers. Patches are compared as in pytorch/TIPS_zeroshot_segmentation.ipynb: the
last block with values in the place of attention, and the final norm; that is the form `maskclip`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.arithmetic import Precision
from wilss.models.encoders.clip.configs import DenseForm, form_of
from wilss.models.encoders.clip.encoder import DenseClip
from wilss.models.encoders.clip.pooling import timm_pooled
from wilss.models.encoders.clip.timm_towers import tokens_of
from wilss.models.encoders.clip.tips_files import (
    LENGTH,
    PADDING,
    open_words,
    require_tips,
    text_file,
    tips_identity,
    words_file,
)
from wilss.models.encoders.clip.tokenizers import Tokenizer
from wilss.models.encoders.clip.towers import TrunkPath
from wilss.models.encoders.vit.encoder import SeedViT, open_vit
from wilss.models.encoders.vit.trunks import State, TimmTrunk
from wilss.models.encoders.weights import load_strictly
from wilss.models.shapes_only import shapes_only
from wilss.models.tensor_files import read_tensors

_PREFIX = "text_encoder."  # where vision and text lie in one file
_LONGEST_WAVE = 10_000.0


class TipsText(nn.Module):
    """The text tower, by the names of its published weights. words, width, hidden: rows, D, and D of the MLP."""

    def __init__(self, *, words: int, width: int, hidden: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        blocks = nn.ModuleList(_Block(width, hidden, heads) for _ in range(layers))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_final = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: int64 [K, L], 0 behind the end of a text. Returns [K, D], not of unit length."""
        is_padding = ids == PADDING
        x = self.token_embedding(ids) * math.sqrt(self.token_embedding.embedding_dim)
        x = x + sinusoids(ids.shape[1], x.shape[-1]).to(x.device)
        for block in cast(nn.ModuleList, self.transformer["resblocks"]):
            x = block(x, is_padding)
        x = self.ln_final(x).masked_fill(is_padding[..., None], 0)
        return cast(Tensor, x.sum(dim=1) / (~is_padding).sum(dim=1, keepdim=True))


class _Block(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, hidden), "c_proj": nn.Linear(hidden, width)})

    def forward(self, x: Tensor, is_padding: Tensor) -> Tensor:
        """x: [K, L, D]; is_padding: bool [K, L]."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, key_padding_mask=is_padding, need_weights=False)[0]
        return cast(Tensor, x + self.mlp["c_proj"](F.relu(self.mlp["c_fc"](self.ln_2(x)))))


def sinusoids(length: int, width: int) -> Tensor:
    """Sines, then cosines, of positions 0, 1, ..., at waves from 1 to 10000: float32 [length, width]."""
    half = width // 2
    waves = torch.exp(torch.arange(half) * (-math.log(_LONGEST_WAVE) / max(half - 1, 1)))
    angles = torch.arange(length)[:, None] * waves
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


class _Towers(nn.Module):
    def __init__(self, visual: nn.Module, text: TipsText) -> None:
        super().__init__()
        self.visual, self.text = visual, text

    def encode_text(self, ids: Tensor) -> Tensor:
        """As open_clip's networks have it."""
        return cast(Tensor, self.text(ids))


def open_tips(
    spec: EncoderSpec,
    device: torch.device | str,
    *,
    form: DenseForm | Literal["auto"] = "auto",
    precision: Precision | None = None,
) -> DenseClip:
    """Opens TIPSv2 of timm with its text side on `device`, in eval mode; see `encoder.open_clip_encoder`.

    Raises EncoderError for another model or without its text side, WeightsError for files that are missing or wrong.
    """
    require_tips(spec)
    own_form, identity = form_of(spec, form), tips_identity(spec)
    vit = open_vit(spec, device, precision=precision)
    text, scale = _text(text_file(spec), heads=cast(Any, vit.network).blocks[-1].attn.num_heads)
    _require_one_width(text, vit, text_file(spec))
    return DenseClip(
        patch=vit.patch,
        mean=vit.mean,
        std=vit.std,
        digest=vit.digest,
        identity={**vit.identity, **identity},
        logit_scale=scale,
        form=own_form,
        precision=vit.precision,
        device=vit.device,
        network=_Towers(vit.network, text.to(vit.device)).eval(),
        tokenizer=_tokenizer(words_file(spec), text.token_embedding.num_embeddings),
        path=_path(cast(TimmTrunk, vit.trunk), own_form),
    )


def _path(trunk: TimmTrunk, form: DenseForm) -> TrunkPath:
    def head(state: State, proxy: Tensor | None = None) -> Tensor:
        """[B, D, h, w]."""
        patches = tokens_of(trunk, state, form, proxy)[:, trunk.prefix :]
        return patches.transpose(1, 2).reshape(len(patches), -1, *state.grid)

    return TrunkPath(trunk=trunk, head=head, pooled=timm_pooled(trunk.network, nn.Identity()))


# -- the text side ------------------------------------------------------------------------------------------


def check_text_side(spec: EncoderSpec) -> None:
    """Open text tower and tokenizer alone: no weights of the hub need be here. Raises what `open_tips` does."""
    require_tips(spec)
    tower, _ = _text(text_file(spec), heads=1)
    open_words(words_file(spec), tower.token_embedding.num_embeddings)


def _text(path: Path, heads: int) -> tuple[TipsText, float]:
    """The tower of a file, and 1 / its temperature. heads: as many as those of the vision transformer."""
    content = read_tensors(path)
    tensors = {name.removeprefix(_PREFIX): value for name, value in _of_text(content).items()}
    shapes = _shapes(tensors, path)
    if shapes["width"] % heads:
        raise WeightsError(
            f"{path} has texts of {shapes['width']} values, which the {heads} heads of the image tower do not divide; "
            "name the text tower of the same size."
        )
    scale = _scale(tensors.pop("temperature", None), path)
    with shapes_only():
        tower = TipsText(**shapes, heads=heads)
    load_strictly(tower.to_empty(device="cpu"), tensors, path)
    return tower.requires_grad_(False), scale


def _require_one_width(text: TipsText, vit: SeedViT, path: Path) -> None:
    width = text.token_embedding.embedding_dim
    if width != vit.width:
        raise WeightsError(
            f"{path} has texts of {width} values, and the image tower patches of {vit.width}; name the text tower of "
            "the same size."
        )


def _of_text(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the text tower; all of a file that holds nothing else."""
    tensors: dict[str, Any] = dict(content.get("state_dict", content))
    own = {name: value for name, value in tensors.items() if name.startswith((_PREFIX, "temperature"))}
    return own if any(name.startswith(_PREFIX) for name in own) else tensors


def _scale(temperature: Any, path: Path) -> float:
    if not isinstance(temperature, Tensor) or temperature.numel() != 1 or not 0 < float(temperature) < math.inf:
        raise WeightsError(f"{path} has no temperature above 0, by which cosines are divided; name TIPS' text file.")
    return 1 / float(temperature)


def _shapes(tensors: Mapping[str, Any], path: Path) -> dict[str, int]:
    """words, width, hidden and layers of a text tower, by its tensors."""
    words, hidden = tensors.get("token_embedding.weight"), tensors.get("transformer.resblocks.0.mlp.c_fc.weight")
    if not (isinstance(words, Tensor) and isinstance(hidden, Tensor) and words.ndim == hidden.ndim == 2):
        raise WeightsError(f"{path} is not the text tower of TIPS; name its file, such as tips_v2_oss_b14_text.npz.")
    blocks = {name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}
    return {"words": len(words), "width": words.shape[1], "hidden": len(hidden), "layers": len(blocks)}


def _tokenizer(path: Path, rows: int) -> Tokenizer:
    words = open_words(path, rows)

    def tokens(prompts: list[str]) -> Tensor:
        """int64 [K, LENGTH]: lower case as ASCII has it, neither begin nor end, filled up with 0."""
        ids = torch.full((len(prompts), LENGTH), PADDING)
        for row, prompt in zip(ids, prompts, strict=True):
            found = words.encode(prompt.encode().lower().decode())[:LENGTH]
            row[: len(found)] = torch.tensor(found, dtype=torch.long)
            if not bool((row != PADDING).any()):
                raise EncoderError(f"the tokenizer {path} makes nothing of {prompt!r}; give the class another prompt.")
        return ids

    return tokens
