"""Self-supervised vision transformers through timm: queries and keys of the last block, for the seeds' rows.

M. Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021 (DINO);
J. Zhou et al., "iBOT: Image BERT Pre-Training with Online Tokenizer", ICLR 2022.

The N x N attention map of the last block is never formed: a caller gathers the seeds' rows and passes them to
`wilss.equations.fmwiss.seed_attention`. The blocks before the last run as timm runs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wilss.data.images import normalise
from wilss.data.manifest import EncoderSpec
from wilss.equations.fmwiss import Affinity
from wilss.errors import EncoderError
from wilss.models.encoders.arithmetic import Precision, precision_context, precision_for
from wilss.models.encoders.clip.configs import clip_config, clip_name, has_convolutions
from wilss.models.encoders.clip.encoder import DenseClip, open_clip_encoder, require_clip
from wilss.models.encoders.clip.towers import TrunkPath
from wilss.models.encoders.grids import Resampling, check_images
from wilss.models.encoders.identity import identity_of
from wilss.models.encoders.multiples import input_multiple
from wilss.models.encoders.tags import full_name, require_activation
from wilss.models.encoders.vit.attention import Part
from wilss.models.encoders.vit.checkpoints import fitting_tensors
from wilss.models.encoders.vit.families import positions_of
from wilss.models.encoders.vit.networks import build_network
from wilss.models.encoders.vit.preprocessing import vit_preprocessing
from wilss.models.encoders.vit.trunks import State, Trunk, refuse_more_blocks, trunk_of
from wilss.models.encoders.weights import config_is_here, digest_of, load_strictly, random_seed, weights_file
from wilss.models.shapes_only import filled_by_its_file, shapes_only, undrawn
from wilss.models.tensor_files import read_tensors

PatchFeatures = Literal["tokens", "keys"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LastBlock:
    """Queries and keys of the last block, or one before it, as its attention compares them (after qk norm, unscaled).

    queries, keys: float32 [B, n, L, d]; L counts the prefix tokens (class, registers), which come first.
    prefix: how many they are.  grid: (h, w), L = prefix + h * w.
    values: what the attention mixes, float32 [B, n, L, d].  outputs: what it makes of them, heads joined, before the
    block's projection, float32 [B, L, n d] (what RADSeg compares).  tokens: of the last block alone, its output under
    the final norm, float32 [B, L, D].  None: not asked for.
    """

    queries: Tensor
    keys: Tensor
    prefix: int
    grid: tuple[int, int]
    values: Tensor | None = None
    outputs: Tensor | None = None
    tokens: Tensor | None = None

    def patch_tokens(self) -> Tensor | None:
        """The tokens of the patches as they lie in the image, [B, D, h, w]."""
        if self.tokens is None:
            return None
        return self.tokens[:, self.prefix :].transpose(1, 2).reshape(len(self.tokens), -1, *self.grid)


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
    trunk: Trunk = field(repr=False)

    @property
    def network(self) -> nn.Module:
        """timm's, or the image tower of a CLIP, on `device`."""
        return self.trunk.network

    @property
    def width(self) -> int:
        """Values of a token."""
        network: Any = self.network
        return int(network.embed_dim if hasattr(network, "embed_dim") else network.transformer.width)

    @property
    def depth(self) -> int:
        """How many blocks there are."""
        return len(self.trunk.blocks)

    @torch.inference_mode()
    def last_block(self, images: Tensor) -> LastBlock:
        """Queries and keys of the last block.

        images: uint8 [B, 3, H, W] on the encoder's device, H and W multiples of `patch`.
        Raises EncoderError for other input.
        """
        return self.last_blocks(images, 1)[0]

    @torch.inference_mode()
    def last_blocks(self, images: Tensor, count: int, parts: Sequence[Part] = ()) -> tuple[LastBlock, ...]:
        """The `count` last blocks, first to last.

        images: as for `last_block`. parts: what is told beside queries and keys. Raises EncoderError for more blocks
        than there are.
        """
        grid = check_images(images, self.patch)
        with precision_context(self.device, self.precision):
            states = self.trunk.before(normalise(images, self.mean, self.std), grid, count)
            return blocks_of(self.trunk, states, parts)

    @torch.inference_mode()
    def features(self, images: Tensor, kind: PatchFeatures = "tokens") -> Tensor:
        """A vector per patch: the last block's output after the final norm (`tokens`), or its keys (`keys`).

        The final norm is the network's own, also where that pools before it; RADIO has none.
        images: as for `last_block`. The heads' keys stand one after the other. Returns float32 [B, D, h, w].
        """
        with precision_context(self.device, self.precision):
            return self._features(self._before_last(images), kind)

    @torch.inference_mode()
    def features_and_block(self, images: Tensor, kind: PatchFeatures = "tokens") -> tuple[Tensor, LastBlock]:
        """`features` and `last_block` of the same images, by one pass. images: as for `last_block`."""
        with precision_context(self.device, self.precision):
            state = self._before_last(images)
            return self._features(state, kind), block_of(self.trunk, state)

    def _features(self, state: State, kind: PatchFeatures) -> Tensor:
        if kind == "keys":
            found = block_of(self.trunk, state).keys.transpose(1, 2).flatten(2)
        else:
            found = self.trunk.after(state).float()
        return found[:, self.trunk.prefix :].transpose(1, 2).reshape(len(found), -1, *state.grid)

    def _before_last(self, images: Tensor) -> State:
        grid = check_images(images, self.patch)
        return self.trunk.before_last(normalise(images, self.mean, self.std), grid)


def blocks_of(trunk: Trunk, states: Sequence[State], parts: Sequence[Part] = ()) -> tuple[LastBlock, ...]:
    """Blocks from what they are given, with those `parts` of them that are asked for."""
    return tuple(block_of(trunk, state, parts) for state in states)


def block_of(trunk: Trunk, state: State, parts: Sequence[Part] = ()) -> LastBlock:
    """Queries and keys of a block from what it is given, and those `parts` of it that are asked for."""
    found = trunk.attention(state, parts)
    return LastBlock(
        queries=found.queries.float(),
        keys=found.keys.float(),
        prefix=trunk.prefix,
        grid=state.grid,
        values=None if found.values is None else found.values.float(),
        outputs=None if found.outputs is None else found.outputs.float(),
        tokens=trunk.after(state).float() if "tokens" in parts and state.place == -1 else None,
    )


def seed_rows(block: LastBlock, image: int, points: Tensor, affinity: Affinity) -> Tensor:
    """The seeds' rows of one image, for `seed_attention`: their queries (`qk`) or their keys (`kk`).

    points: int64 [..., S, 2], row and column on `block.grid`. Returns float32 [..., n, S, d].
    """
    rows = (block.keys if affinity == "kk" else block.queries)[image]
    token = block.prefix + points[..., 0] * block.grid[1] + points[..., 1]
    return rows[:, token.to(rows.device, non_blocking=True)].movedim(0, -3)


# -- opening ------------------------------------------------------------------------------------------------


def open_vit(spec: EncoderSpec, device: torch.device | str, *, precision: Precision | None = None) -> SeedViT:
    """Opens the vision transformer of `spec`, or the image tower of its CLIP, on `device`, in eval mode.

    precision: fp32, bf16, or None for bf16 on CUDA alone. `args` of the spec go to timm; its `mean` and
    `std`, if given, replace those of the model's tag, or ImageNet's where a local file has no tag.
    Raises EncoderError for a network whose last block has no queries and keys of the plain form,
    WeightsError for weights that are missing, wrong, damaged or not finite.
    """
    if spec.library == "open_clip":
        return vit_of(open_clip_encoder(spec, device, precision=precision))
    target, trunk = torch.device(device), _opened(spec)
    mean, std = vit_preprocessing(spec)
    digest, identity = digest_of(spec), identity_of(spec)  # before anything is read
    if random_seed(spec) is None:
        _load(trunk.network, spec)
    trunk.network.to(target)
    return SeedViT(
        patch=trunk.patch,
        mean=mean,
        std=std,
        digest=digest,
        identity=identity,
        pos_interp=positions_of(spec),
        precision=precision_for(target, precision),
        device=target,
        trunk=trunk,
    )


def vit_of(clip: DenseClip) -> SeedViT:
    """The image tower of an opened CLIP as a vision transformer; both are one network.

    Raises EncoderError for a tower that is no transformer.
    """
    if not isinstance(clip.path, TrunkPath):
        raise EncoderError(_no_transformer(str(clip.identity["model"] or "the CLIP")))
    return SeedViT(
        patch=clip.patch,
        mean=clip.mean,
        std=clip.std,
        digest=clip.digest,
        identity=clip.identity,
        pos_interp=clip.identity["positions"],
        precision=clip.precision,
        device=clip.device,
        trunk=clip.path.trunk,
    )


def _no_transformer(name: str) -> str:
    return (
        f"{name} has a convolutional image tower, which has no queries and keys to say where; name a vision "
        "transformer as `encoders.vit`."
    )


def _opened(spec: EncoderSpec) -> Trunk:
    """What `_built` builds; but weights that a file will hold all of are not drawn first, which takes seconds."""
    if random_seed(spec) is None:
        with shapes_only():
            network = build_network(spec)
        if filled_by_its_file(network):
            return _trunk(network.to_empty(device="cpu"), spec)
        with undrawn():
            return _built(spec)
    return _built(spec)


def _built(spec: EncoderSpec) -> Trunk:
    """With random weights, by the spec's seed where it has one. Raises EncoderError for what cannot be used."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed(spec) or 0)
        return _trunk(build_network(spec), spec)


def _trunk(network: nn.Module, spec: EncoderSpec) -> Trunk:
    network = network.eval().requires_grad_(False)
    trunk = trunk_of(network, how=positions_of(spec), name=full_name(spec) or "the vision transformer")
    _require_patch(trunk, spec)
    require_activation(spec)
    vit_preprocessing(spec)
    return trunk


def _load(network: nn.Module, spec: EncoderSpec) -> None:
    path = weights_file(spec)
    load_strictly(network, fitting_tensors(network, read_tensors(path), spec.model or "", path), path)


def require_vit(spec: EncoderSpec) -> None:
    """Raise EncoderError for a network that cannot be built, or `open_vit` not use; no weights are read or fetched."""
    if spec.library == "open_clip":
        require_clip(spec)
        _require_transformer(spec)
        return
    with shapes_only():
        _built(spec)


def require_blocks(spec: EncoderSpec, count: int) -> None:
    """Raise EncoderError for a transformer of fewer blocks than `count`; no weights are read or fetched.

    A CLIP whose config does not say how many there are passes: it is told when it is opened.
    """
    if count == 1:
        return
    if spec.library == "timm":
        with shapes_only():
            refuse_more_blocks(count, len(_built(spec).blocks))
    elif config_is_here(spec):
        layers = clip_config(spec)["model_cfg"]["vision_cfg"].get("layers")
        if isinstance(layers, int):
            refuse_more_blocks(count, layers)


def _require_transformer(spec: EncoderSpec) -> None:
    vision = clip_config(spec)["model_cfg"]["vision_cfg"] if config_is_here(spec) else {}
    if vision and has_convolutions(vision):
        raise EncoderError(_no_transformer(clip_name(spec)))


def _require_patch(trunk: Trunk, spec: EncoderSpec) -> None:
    if trunk.patch != input_multiple(spec):
        raise EncoderError(
            f"{spec.model} has patches of {trunk.patch} pixels; write args: {{patch_size: {trunk.patch}}}."
        )
