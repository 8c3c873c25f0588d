"""The dense paths of open_clip's timm image towers: a feature per place in the space of the text.

Transformers (EVA02-CLIP, MobileCLIP-B, ViTamin) as `towers` does it: each token alone in the last block. Where an
attention pool makes the pooled vector (SigLIP, PE-Core), every token goes alone through that pool: over a single token
its attention returns that token's value. Convolutions (ConvNeXt, FastViT): the head at each place instead of after the
mean over all.

A tower is built so that it takes any input size; its weights keep their names and shapes.
"""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from wilss.errors import EncoderError
from wilss.models.encoders.clip.configs import DenseForm, has_convolutions
from wilss.models.encoders.clip.mixing import mixing_of
from wilss.models.encoders.clip.pooling import timm_pooled
from wilss.models.encoders.clip.towers import DensePath, TrunkPath
from wilss.models.encoders.vit.trunks import State, TimmTrunk, trunk_of
from wilss.models.shapes_only import shapes_only
from wilss.models.tensor_files import misfits, told


def timm_tower(config: Mapping[str, Any]) -> nn.Module:
    """open_clip's TimmModel of a model config, untrained, with a trunk that takes any input size.

    Raises EncoderError, TypeError, RuntimeError or ValueError for a config that timm cannot build.
    """
    import timm
    from open_clip.model import CLIPVisionCfg
    from open_clip.timm_model import TimmModel

    vision = CLIPVisionCfg(**config["vision_cfg"])
    with shapes_only():
        tower = TimmModel(
            vision.timm_model_name,
            config["embed_dim"],
            image_size=vision.image_size,
            pool=vision.timm_pool,
            proj=vision.timm_proj,
            proj_bias=vision.timm_proj_bias,
        )
    arguments: dict[str, Any] = {"global_pool": vision.timm_pool} if vision.timm_pool else {}
    if not has_convolutions(config["vision_cfg"]):
        arguments["dynamic_img_size"] = True
    trunk = timm.create_model(vision.timm_model_name, num_classes=tower.trunk.num_classes, **arguments)
    if faults := misfits(tower.trunk.state_dict(), trunk.state_dict()):
        raise EncoderError(f"{vision.timm_model_name} has other weights at other input sizes: {told(faults)}.")
    tower.trunk = trunk
    head = tower.head.to_empty(device=next(trunk.parameters()).device)
    for part in head.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    return cast(nn.Module, tower)


def timm_path(visual: nn.Module, form: DenseForm, stride: int) -> DensePath:
    """The function from normalised pixels [B, 3, H, W] to features [B, D, h, w], not yet of unit length.

    maskclip, value, neighbour, proxy: as for `towers.dense_path`; in front of an attention pool, each token then goes
    through it alone.
    pool_each: the whole last block, and each token alone through the attention pool.
    head_each: the head of a convolutional network at each place.

    visual: what `timm_tower` returns, in eval mode.  stride: pixels per place to a side, as a plan has it.
    Raises EncoderError for a tower that cannot be taken apart, or of another stride.
    """
    network: Any = cast(Any, visual).trunk
    if form == "head_each":
        _require_stride(network, network.feature_info[-1]["reduction"], stride)
        return lambda pixels: _convolutional(visual, pixels)
    trunk = trunk_of(network, name="open_clip's image tower")
    _require_stride(network, trunk.patch, stride)

    def head(state: State, proxy: Tensor | None = None) -> Tensor:
        """[B, D, h, w]."""
        return _of_transformer(visual, trunk, state, form, proxy)

    return TrunkPath(trunk=trunk, head=head, pooled=timm_pooled(network, cast(Any, visual).head))


def _require_stride(network: nn.Module, found: int, stride: int) -> None:
    if found != stride:
        raise EncoderError(f"timm's {type(network).__name__} has a place for {found} pixels, and wilss knows {stride}.")


def _of_transformer(visual: Any, trunk: TimmTrunk, state: State, form: DenseForm, proxy: Tensor | None) -> Tensor:
    """What the last block is given to features [B, D, h, w]."""
    tokens = trunk.after(state) if form == "pool_each" else tokens_of(trunk, state, form, proxy)
    patches = _pooled_alone(visual.trunk, tokens[:, trunk.prefix :])
    features = visual.head(visual.trunk.head(patches))
    return cast(Tensor, features.transpose(1, 2).unflatten(2, state.grid))


def tokens_of(trunk: TimmTrunk, state: State, form: DenseForm, proxy: Tensor | None) -> Tensor:
    """The last block's tokens [B, L, D] by a form other than those of whole blocks, under the final norm."""
    if form == "neighbour" or form == "proxy":
        return trunk.attended(state, mixing_of(form, state, trunk.prefix, proxy))
    return trunk.alone(state, "value" if form == "value" else "maskclip")


def _pooled_alone(trunk: Any, patches: Tensor) -> Tensor:
    """Every token through the attention pool by itself, where there is one. patches and the result: [B, N, C]."""
    if trunk.attn_pool is None:
        return patches
    pooled = trunk.attn_pool(patches.reshape(-1, 1, patches.shape[-1]))
    return cast(Tensor, trunk.fc_norm(pooled)).reshape(*patches.shape[:2], -1)


def _convolutional(visual: Any, pixels: Tensor) -> Tensor:
    """[B, 3, H, W] to [B, D, h, w]. A head that norms after its mean over places norms each place."""
    places = visual.trunk.forward_features(pixels)
    head = visual.trunk.head
    places = getattr(head, "norm", nn.Identity())(places).permute(0, 2, 3, 1)
    places = head.fc(getattr(head, "pre_logits", nn.Identity())(places))
    return cast(Tensor, visual.head(places)).permute(0, 3, 1, 2)
