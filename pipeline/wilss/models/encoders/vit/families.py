"""The families of vision transformers that timm has: how each is recognised, its positions, its licence, its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.tags import cfgs_of, fetched_name, full_name
from wilss.models.tensor_files import listed

if TYPE_CHECKING:
    from wilss.models.encoders.grids import Resampling

#: Arguments that make a network of another form than any whose weights are published.
_FORM = ("embed_dim", "depth", "num_heads", "patch_size")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family.

    models: matches timm's names, with tags where only these tell it apart; "" where no name does.
    positions: how its own code resamples its position table (`grids.resample_positions`), NaFlex by itself; `none` has
        no table.
    prefix: what stands before the patches.
    licence: of the published weights; "" where it is the tag's.
    source: the paper, and the code that says how positions are resampled.
    """

    name: str
    models: str
    positions: str
    prefix: str
    licence: str
    source: str


FAMILIES = (
    Family(
        name="DINO",
        models=r"^vit_.*\.dino$",
        positions="dino",
        prefix="class",
        licence="Apache-2.0",
        source="Caron et al., ICCV 2021; facebookresearch/dino, interpolate_pos_encoding, which iBOT "
        "(Zhou et al., ICLR 2022) has, too; timm has no tag of its weights",
    ),
    Family(
        name="DINOv2 with registers",
        models=r"_reg4_dinov2",
        positions="timm",
        prefix="class, 4 registers",
        licence="Apache-2.0",
        source="Darcet et al., ICLR 2024; facebookresearch/dinov2, hub/backbones.py (antialias, offset 0)",
    ),
    Family(
        name="DINOv2",
        models=r"_dinov2",
        positions="dino",
        prefix="class",
        licence="Apache-2.0",
        source="Oquab et al., TMLR 2024; facebookresearch/dinov2, hub/backbones.py (no antialias, offset 0.1)",
    ),
    Family(
        name="EUPE",
        models=r"_dinov3.*\.eupe",
        positions="none",
        prefix="class, 4 registers",
        licence="FAIR Noncommercial Research",
        source="timm's model card of the tag eupe_lvd1689m",
    ),
    Family(
        name="DINOv3",
        models=r"^vit_.*_dinov3",
        positions="none",
        prefix="class, 4 registers",
        licence="DINOv3 License",
        source="Simeoni et al., arXiv:2508.10104",
    ),
    Family(
        name="LingBot-Vision",
        models=r"_lingbot",
        positions="none",
        prefix="class, 4 registers",
        licence="Apache-2.0",
        source="Fu et al., arXiv:2607.05247",
    ),
    Family(
        name="Sapiens2",
        models=r"_sapiens2",
        positions="none",
        prefix="class, registers",
        licence="Sapiens2 License",
        source="Khirodkar et al., arXiv:2604.21681",
    ),
    Family(
        name="Perception Encoder",
        models=r"^vit_pe_",
        positions="timm",
        prefix="class (none in some sizes)",
        licence="Apache-2.0",
        source="Bolya et al., arXiv:2504.13181",
    ),
    Family(
        name="EVA02, EVA",
        models=r"^eva(02)?_",
        positions="timm",
        prefix="class",
        licence="MIT",
        source="Fang et al., arXiv:2303.11331",
    ),
    Family(
        name="RoPE ViT",
        models=r"^vit_.*_rope_",
        positions="timm",
        prefix="class, or a register, by name",
        licence="",
        source="Heo et al., ECCV 2024",
    ),
    Family(
        name="MAE",
        models=r"^vit_.*\.mae$",
        positions="timm",
        prefix="class",
        licence="CC-BY-NC-4.0",
        source="He et al., CVPR 2022",
    ),
    Family(
        name="DeiT III",
        models=r"^deit3_",
        positions="timm",
        prefix="class",
        licence="Apache-2.0",
        source="Touvron et al., ECCV 2022",
    ),
    Family(
        name="DeiT",
        models=r"^deit_",
        positions="timm",
        prefix="class (and distillation)",
        licence="Apache-2.0",
        source="Touvron et al., ICML 2021",
    ),
    Family(
        name="AugReg",
        models=r"^vit_.*\.augreg",
        positions="timm",
        prefix="class",
        licence="Apache-2.0",
        source="Steiner et al., TMLR 2022",
    ),
    Family(
        name="SigLIP 2 NaFlex",
        models=r"^naflexvit_.*_siglip",
        positions="timm",
        prefix="none",
        licence="Apache-2.0",
        source="Tschannen et al., arXiv:2502.14786",
    ),
    Family(
        name="SigLIP, SigLIP 2",
        models=r"^vit_.*_siglip_",
        positions="timm",
        prefix="none",
        licence="Apache-2.0",
        source="Zhai et al., ICCV 2023; Tschannen et al., arXiv:2502.14786",
    ),
    Family(
        name="CLIP ViT",
        models=r"^vit_.*_clip_",
        positions="timm",
        prefix="class",
        licence="",
        source="Radford et al., ICML 2021; open_clip, resize_pos_embed",
    ),
    Family(
        name="TIPSv2",
        models=r"_tipsv2",
        positions="timm",
        prefix="class, 1 register",
        licence="Apache-2.0",
        source="Maninis et al., ICLR 2025; google-deepmind/tips (antialias, offset 0)",
    ),
    Family(
        name="AIMv2",
        models=r"^aimv2_",
        positions="timm",
        prefix="none",
        licence="Apple ASCL",
        source="Fini et al., CVPR 2025",
    ),
    Family(
        name="RADIO (NaFlex)",
        models=r"^naflexvit_.*_radio_",
        positions="timm",
        prefix="class and registers, by size",
        licence="NVIDIA Open Model License",
        source="Ranzinger et al., CVPR 2024",
    ),
    Family(
        name="RADIO",
        models=r"_radio_",
        positions="timm",
        prefix="class and registers, by size",
        licence="NVIDIA Open Model License",
        source="Ranzinger et al., CVPR 2024; Heinrich et al., CVPR 2025",
    ),
    Family(
        name="BEiT-3",
        models=r"^beit3_",
        positions="timm",
        prefix="class",
        licence="Apache-2.0",
        source="Wang et al., CVPR 2023",
    ),
)
OWN = Family(
    name="a network of your own, by args",
    models="",
    positions="dino",
    prefix="by args",
    licence="",
    source="as DINO's, see there",
)
OTHER_NAFLEX = Family(
    name="other NaFlex ViTs", models=r"^naflexvit_", positions="timm", prefix="by name", licence="", source="timm"
)
OTHER = Family(
    name="other ViTs of timm", models=r"", positions="timm", prefix="by name", licence="", source="timm, _pos_embed"
)


def family_of(spec: EncoderSpec) -> Family:
    """The family of a vision transformer, by its name and the tag of its weights. Raises EncoderError for two tags."""
    name = fetched_name(spec)
    known = next((family for family in (*FAMILIES, OTHER_NAFLEX) if re.search(family.models, name)), None)
    return known or (OWN if is_own(spec) else OTHER)


def is_own(spec: EncoderSpec) -> bool:
    """Whether it is of a form that nobody has published weights of: the built-in ones, or made by args."""
    built_in = (spec.file or "").startswith("builtin:")
    return built_in or not spec.model or ("." not in full_name(spec) and any(key in spec.args for key in _FORM))


def positions_of(spec: EncoderSpec) -> Resampling:
    """How the position table is resampled: as the spec says, else as the family's own code does.

    Raises EncoderError for a file of which nothing says it.
    """
    if spec.pos_interp is not None:
        return spec.pos_interp
    family = family_of(spec)
    if family is OTHER and spec.file and "." not in full_name(spec):
        raise EncoderError(_not_said(spec))
    return "dino" if family.positions == "dino" else "timm"


def _not_said(spec: EncoderSpec) -> str:
    tags = [tag for tag in cfgs_of(spec.model or "") if tag]
    statistics = "" if {"mean", "std"} <= set(spec.args) else " beside `args: {mean: [...], std: [...]}`"
    known = f" (one of {listed(tags, 8)})" if tags else ""
    return (
        f"{spec.file} does not say how its position table is to be resampled; name the weights of {spec.model} that it "
        f"is a copy of by `pretrained: TAG`{known}, or write `pos_interp: dino` (DINO and iBOT) or "
        f"`pos_interp: timm` (most others){statistics}."
    )
