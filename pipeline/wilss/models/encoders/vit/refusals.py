"""Why a network of timm's cannot be taken apart at its last block, as a sentence without its first word."""

from collections.abc import Iterator
from typing import Any

from torch import nn

NETWORKS = ("VisionTransformer", "VisionTransformerDistilled", "Eva", "NaFlexVit")
BLOCKS = {
    "Block": ("Attention", "AttentionRope"),
    "ResPostBlock": ("Attention", "AttentionRope"),
    "ParallelScalingBlock": ("NoneType",),
    "EvaBlock": ("EvaAttention", "AttentionRope"),
    "EvaBlockPostNorm": ("EvaAttention", "AttentionRope"),
}
EMBEDDINGS = ("PatchEmbed", "HybridEmbed", "NoneType")  # NaFlexVit has its own
_KNOWN = {
    "Cait": "mixes the heads of its attention (talking heads)",
    "ConVit": "gates its attention by positions",
    "CrossVit": "has two branches with patches of two sizes",
    "TNT": "has a transformer inside each patch",
    "Xcit": "attends over channels, not over places",
}
_WEIGHTINGS = ("SplitAttn", "SelectiveKernelAttn", "SpatialAttn", "ChannelAttn", "LightSpatialAttn", "LightChannelAttn")
INSTEAD = "take one such as vit_small_patch16_224.dino or vit_small_patch16_dinov3.lvd1689m"


def why_not(network: nn.Module) -> str | None:
    """None for a network that `trunks` takes."""
    if (channels := getattr(network, "in_chans", 3)) != 3:
        return f"takes images of {channels} channels, and images are read as RGB; leave `in_chans` out"
    reason = next(_reasons(network), None)
    if reason is None:
        return None
    return f"{reason}, and wilss needs the queries and keys of a plain last block; {INSTEAD}"


def _reasons(network: Any) -> Iterator[str]:
    kind = _kind(network)
    if kind in NETWORKS:
        reason = _why_not_its_parts(network)
        yield from () if reason is None else (reason,)
        return
    if kind in _KNOWN:
        yield _KNOWN[kind]
    if not any(map(_attends, network.modules())):
        yield "has no self-attention"
    if _is_hierarchical(network):
        yield "is hierarchical (its grid shrinks from stage to stage)"
    if any("rel_pos" in name or "relative_position" in name for name in _names(network)):
        yield "has a relative position bias"
    yield f"is of another kind ({kind})"


def _why_not_its_parts(network: Any) -> str | None:
    if not len(network.blocks):
        return "has no blocks"
    if (embedding := _kind(getattr(network, "patch_embed", None))) not in EMBEDDINGS:
        return f"makes its patches by {embedding}"
    last = network.blocks[-1]
    if _kind(last) in ("ParallelThingsBlock", "DiffParallelScalingBlock") or "Diff" in _kind(getattr(last, "attn", 0)):
        return "has several attentions in one block"
    if _kind(getattr(last, "attn", None)) not in BLOCKS.get(_kind(last), ()):
        return f"has a last block of another kind ({_kind(last)})"
    return None


def _attends(part: nn.Module) -> bool:
    """Whether it is attention of places to places, not a weighting of channels, kernels or single places."""
    kind = _kind(part)
    return not kind.startswith(_WEIGHTINGS) and any(word in kind.lower() for word in ("attention", "attn", "mhsa"))


def _is_hierarchical(network: Any) -> bool:
    stages = getattr(network, "feature_info", None)
    return isinstance(stages, list) and len({stage.get("reduction") for stage in stages}) > 1


def _names(network: Any) -> Iterator[str]:
    yield from (name for name, _ in network.named_parameters())
    yield from (name for name, _ in network.named_buffers())


def _kind(part: object) -> str:
    return type(part).__name__
