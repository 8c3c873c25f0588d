"""timm's image towers of CLIPs by their own entry points, with so few layers that a test builds them in a moment.

They are registered with timm under names that begin as the real ones do, so that open_clip builds them by name.
"""

from functools import partial
from typing import Any

from timm.layers.hybrid_embed import HybridEmbed
from timm.models import is_model, model_entrypoint, register_model
from timm.models.vision_transformer_hybrid import ConvStem
from timm.models.vitamin import VitCfg, VitConvCfg
from torch import nn

_SMALL = {"img_size": 64, "embed_dim": 32, "depth": 3, "num_heads": 4}
_STAGES = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
_FAST = {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)}
_FAST5 = {"layers": (1, 1, 1, 1, 1), "embed_dims": (16, 32, 64, 64, 128)}


def _mci_stem(size: int) -> Any:
    stem = ConvStem(channels=(8, 8, 32), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU)
    return partial(HybridEmbed, backbone=stem, proj=False)


def _vitamin() -> VitCfg:
    conv = VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6)
    return VitCfg(embed_dim=(8, 16, 32), depths=(1, 1, 1), stem_width=8, conv_cfg=conv, head_type="1d")


#: Name here: timm's entry point, and what makes it small.
TOWERS: dict[str, tuple[str, Any]] = {
    "vit_base_patch16_siglip_tiny": ("vit_base_patch16_siglip_224", lambda: _SMALL),
    "vit_pe_core_tiny_patch16_tiny": ("vit_pe_core_tiny_patch16_384", lambda: _SMALL | {"ref_feat_shape": (4, 4)}),
    "eva02_base_patch16_clip_tiny": ("eva02_base_patch16_clip_224", lambda: _SMALL),
    "eva_giant_patch14_tiny": ("eva_giant_patch14_224", lambda: _SMALL | {"img_size": 56}),
    "vit_base_mci_tiny": ("vit_base_mci_224", lambda: _SMALL | {"embed_layer": _mci_stem(64)}),
    "vit_large_patch14_clip_tiny": ("vit_large_patch14_clip_224", lambda: _SMALL | {"img_size": 56}),
    "vit_medium_patch16_gap_tiny": ("vit_medium_patch16_gap_256", lambda: _SMALL),
    "vitamin_tiny": ("vitamin_small_224", lambda: _SMALL | {"embed_cfg": _vitamin()}),
    "convnext_tinier": ("convnext_tiny", lambda: _STAGES),
    "fastvit_mci0_tiny": ("fastvit_mci0", lambda: _FAST),
    "fastvit_mci3_tiny": ("fastvit_mci3", lambda: _FAST5),
}


def _build(name: str) -> Any:
    base, small = TOWERS[name]

    def build(pretrained: bool = False, **more: Any) -> Any:
        return model_entrypoint(base)(pretrained=False, **small() | more)

    build.__name__, build.__module__ = name, __name__
    return build


for _name in TOWERS:
    if not is_model(_name):
        register_model(_build(_name))
