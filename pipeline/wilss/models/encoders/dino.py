"""Self-supervised vision transformers through timm: queries and keys of the last block, for the seeds' rows.

M. Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021 (DINO);
J. Zhou et al., "iBOT: Image BERT Pre-Training with Online Tokenizer", ICLR 2022.

The N x N attention map of the last block is never formed: a caller gathers the seeds' rows and passes them to
`wilss.equations.fmwiss.seed_attention`. The blocks before the last run as timm runs them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise
from wilss.data.manifest import EncoderSpec
from wilss.equations.fmwiss import Affinity
from wilss.errors import EncoderError
from wilss.models.encoders.arithmetic import Precision, precision_context, precision_for
from wilss.models.encoders.grids import Resampling, check_images, resample_positions
from wilss.models.encoders.multiples import input_multiple
from wilss.models.encoders.tags import full_name, pretrained_cfg
from wilss.models.encoders.weights import digest_of, identity_of, load_strictly, random_seed, weights_file
from wilss.models.tensor_files import listed, loading_args, read_tensors

PatchFeatures = Literal["tokens", "keys"]

NESTED = ("teacher", "state_dict", "model", "student")  # where checkpoints keep their network, best first
PREFIXES = ("module.", "teacher.", "student.", "backbone.", "_orig_mod.")
UNUSED = ("head.", "masked_embed", "mask_token", "last_layer.", "projector.")


@dataclass(frozen=True, kw_only=True, eq=False)
class LastBlock:
    """Queries and keys of the last block, as its attention compares them (after qk norm, before scaling).

    queries, keys: float32 [B, n, L, d]; L counts the prefix tokens (class, registers), which come first.
    prefix: how many they are.  grid: (h, w), L = prefix + h * w.
    """

    queries: Tensor
    keys: Tensor
    prefix: int
    grid: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class SeedViT:
    """An opened vision transformer. The fields are those of `clip.DenseClip` of the same names."""

    patch: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    identity: Mapping[str, Any]
    pos_interp: Resampling
    precision: Precision
    device: torch.device
    network: nn.Module = field(repr=False)
    positions: Callable[[tuple[int, int]], Tensor] = field(repr=False)

    @torch.inference_mode()
    def last_block(self, images: Tensor) -> LastBlock:
        """Queries and keys of the last block.

        images: uint8 [B, 3, H, W] on the encoder's device, H and W multiples of `patch`.
        Raises EncoderError for other input.
        """
        grid = check_images(images, self.patch)
        network: Any = self.network
        with precision_context(self.device, self.precision):
            queries, keys = _queries_and_keys(network.blocks[-1], self._before_last(images, grid))
        return LastBlock(queries=queries.float(), keys=keys.float(), prefix=network.num_prefix_tokens, grid=grid)

    @torch.inference_mode()
    def features(self, images: Tensor, kind: PatchFeatures = "tokens") -> Tensor:
        """A vector per patch: the last block's output after the final norm (`tokens`), or its keys (`keys`).

        images: as for `last_block`. The heads' keys stand one after the other. Returns float32 [B, D, h, w].
        """
        if kind == "keys":
            block = self.last_block(images)
            found, prefix, grid = block.keys.transpose(1, 2).flatten(2), block.prefix, block.grid
        else:
            grid = check_images(images, self.patch)
            network: Any = self.network
            with precision_context(self.device, self.precision):
                found = network.norm(network.blocks[-1](self._before_last(images, grid))).float()
            prefix = network.num_prefix_tokens
        return found[:, prefix:].transpose(1, 2).reshape(len(images), -1, *grid)

    def _before_last(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """The tokens [B, L, D] that the last block is given."""
        network: Any = self.network
        x = _tokens(network, normalise(images, self.mean, self.std), self.positions(grid))
        for block in network.blocks[:-1]:
            x = block(x)
        return x


def seed_rows(block: LastBlock, image: int, points: Tensor, affinity: Affinity) -> Tensor:
    """The seeds' rows of one image, for `seed_attention`: their queries (`qk`) or their keys (`kk`).

    points: int64 [..., S, 2], row and column on `block.grid`. Returns float32 [..., n, S, d].
    """
    rows = (block.keys if affinity == "kk" else block.queries)[image]
    token = block.prefix + points[..., 0] * block.grid[1] + points[..., 1]
    return rows[:, token.to(rows.device)].movedim(0, -3)


def _tokens(network: Any, pixels: Tensor, positions: Tensor) -> Tensor:
    """Normalised pixels to the first block's tokens [B, L, D]: prefix, then patches in raster order."""
    x = network.patch_embed(pixels).flatten(1, 2)
    prefix = [token.expand(len(x), -1, -1) for token in (network.cls_token, network.reg_token) if token is not None]
    if network.no_embed_class:
        x = torch.cat([*prefix, x + positions], dim=1)
    else:
        x = torch.cat([*prefix, x], dim=1) + positions
    return cast(Tensor, network.norm_pre(x))


def _queries_and_keys(block: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, L, D] to two of [B, n, L, d]. The values are not computed."""
    attention = block.attn
    split = 2 * attention.num_heads * attention.head_dim
    bias = attention.qkv.bias
    both = F.linear(block.norm1(x), attention.qkv.weight[:split], None if bias is None else bias[:split])
    queries, keys = both.reshape(*both.shape[:2], 2, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    return attention.q_norm(queries), attention.k_norm(keys)


# -- opening ------------------------------------------------------------------------------------------------


def open_vit(spec: EncoderSpec, device: torch.device | str, *, precision: Precision | None = None) -> SeedViT:
    """Opens the vision transformer of `spec` on `device`, in eval mode.

    precision: fp32, bf16, or None for bf16 on CUDA alone. `args` of the spec go to timm; its `mean` and
    `std`, if given, replace those of the model's tag, or ImageNet's where a local file has no tag.
    Raises EncoderError for a network whose last block has no queries and keys of the plain form,
    WeightsError for weights that are missing, wrong, damaged or not finite.
    """
    target, how = torch.device(device), _resampling(spec)
    digest, identity = digest_of(spec), identity_of(spec)  # before anything is built or read
    network = _network(spec)
    mean, std = _mean_and_std(spec)
    return SeedViT(
        patch=_patch(network, spec),
        mean=mean,
        std=std,
        digest=digest,
        identity=identity,
        pos_interp=how,
        precision=precision_for(target, precision),
        device=target,
        network=network.to(target),
        positions=_positions(network, how),
    )


def _positions(network: Any, how: Resampling) -> Callable[[tuple[int, int]], Tensor]:
    prefix = 0 if network.no_embed_class else network.num_prefix_tokens

    @lru_cache(maxsize=32)
    def positions(grid: tuple[int, int]) -> Tensor:
        """[prefix + h * w, width]; a zero of no dimension where the network has no table."""
        if network.pos_embed is None:
            return torch.zeros((), device=network.patch_embed.proj.weight.device)
        old = tuple(network.patch_embed.grid_size)
        return resample_positions(network.pos_embed[0], old, grid, prefix=prefix, how=how)

    return positions


def _resampling(spec: EncoderSpec) -> Resampling:
    """The spec's choice; else DINO's own way, but timm's for DINOv2, which was published with it."""
    return spec.pos_interp or ("timm" if "dinov2" in (spec.model or "") else "dino")


def _mean_and_std(spec: EncoderSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The args' own, else those of the model's tag, else ImageNet's (DINO's and iBOT's).

    A model name without a tag stands for timm's default weights, whose mean says nothing about a local file.
    """
    args = dict(spec.args or {})
    named = ("." in full_name(spec) or not spec.file) and random_seed(spec) is None
    entry = pretrained_cfg(spec) if named else None
    mean = args.get("mean") or (entry.mean if entry else IMAGENET_MEAN)
    std = args.get("std") or (entry.std if entry else IMAGENET_STD)
    return tuple(mean), tuple(std)


def _network(spec: EncoderSpec) -> nn.Module:
    seed = random_seed(spec)
    path = weights_file(spec) if seed is None else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        network = _build(spec)
    _check_plain(network, spec)
    if path:
        load_strictly(network, teacher_tensors(read_tensors(path)), path)
    return network.eval().requires_grad_(False)


def require_vit(spec: EncoderSpec) -> None:
    """Raise EncoderError for a network that timm cannot build, or `open_vit` not take apart; reads no weights."""
    with torch.device("meta"):
        _check_plain(_build(spec), spec)


def _build(spec: EncoderSpec) -> nn.Module:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    args = {key: value for key, value in dict(spec.args or {}).items() if key not in ("mean", "std")}
    if names := loading_args(args):
        raise EncoderError(f"args {listed(names)} of {spec.model} would load a file; name it as `file:`.")
    if ":" in (spec.model or ""):  # hf-hub: and local-dir: read a config from wherever they say
        raise EncoderError(f"{spec.model} is no model of timm's own; name one, and its weights as `file:`.")
    args |= {"num_classes": 0, "dynamic_img_size": True}
    try:
        if not spec.model:
            return VisionTransformer(**args)
        return timm.create_model(spec.model, pretrained=False, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise EncoderError(
            f"timm cannot build {spec.model or 'a VisionTransformer'} ({error}); fix its model or args."
        ) from error


def _check_plain(network: Any, spec: EncoderSpec) -> None:
    """EncoderError unless every part has the plain form that this module takes apart by hand."""
    from timm.layers.attention import Attention
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import Block, VisionTransformer

    plain = type(network) is VisionTransformer and type(network.patch_embed) is PatchEmbed
    last = network.blocks[-1] if plain else None
    if last is None or type(last) is not Block or type(last.attn) is not Attention:
        raise EncoderError(
            f"{spec.model} is a {type(network).__name__} whose attention wilss cannot take apart (DINOv3 "
            "and EVA rotate theirs); use a plain vision transformer such as vit_small_patch16_224.dino."
        )


def _patch(network: Any, spec: EncoderSpec) -> int:
    height, width = network.patch_embed.patch_size
    if height != width:
        raise EncoderError(f"the vision transformer has patches of {height} x {width} pixels; wilss needs square ones.")
    if height != input_multiple(spec):
        raise EncoderError(f"{spec.model} has patches of {height} pixels; write args: {{patch_size: {height}}}.")
    return int(height)


def teacher_tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone's tensors in a DINO or iBOT checkpoint, in timm's names.

    The teacher is taken where a checkpoint holds both; prefixes of wrappers, the projection head and iBOT's
    `masked_embed` are dropped. A plain state dict passes through.
    """
    nested = next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)
    if nested:
        return teacher_tensors(content[nested])
    if any(name.startswith("teacher.") for name in content):
        content = {name: value for name, value in content.items() if name.startswith("teacher.")}
    stripped = {_stripped(name): value for name, value in content.items()}
    return {name: value for name, value in stripped.items() if not name.startswith(UNUSED)}


def _stripped(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name
