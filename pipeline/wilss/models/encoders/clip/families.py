"""The families of CLIPs that open_clip has: how each is recognised, and how wilss uses it.

`families` is the same of timm's vision transformers. Licences are those that timm's entries of the same weights name,
or the model's card on the hub where timm has none (NLLB-CLIP).
"""

import re
from dataclasses import dataclass
from typing import Literal

from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.configs import DenseForm

_MASKCLIP = "Zhou et al., ECCV 2022 (MaskCLIP)"
_EACH = (
    "each token alone through the whole pool, as public code for SigLIP does; the last block's values without the pool "
    "say nothing of classes (facebookresearch/perception_models, issue 117)"
)
_HEAD = "the model's own head, at each place instead of after the mean over all"


@dataclass(frozen=True, kw_only=True)
class ClipFamily:
    """One family.

    models, tags: match open_clip's names of models and of weights; "" for any.
    form: the dense features by default, see `towers` and `timm_towers`. form_source: who uses them so.
    pixels: mean and deviation of its tags. tokenizer: open_clip's own, or one of transformers (`wilss[text]`).
    licence: of the published weights; "" where it is the tag's. source: the paper.
    """

    name: str
    models: str
    form: DenseForm
    source: str
    tags: str = ""
    form_source: str = _MASKCLIP
    pixels: Literal["OpenAI's", "0.5 and 0.5", "0 and 1", "the tag's"] = "OpenAI's"
    tokenizer: Literal["open_clip", "transformers"] = "open_clip"
    licence: str = ""


CLIP_FAMILIES = (
    ClipFamily(
        name="SigLIP 2",
        models=r"^ViT-.*-SigLIP2",
        form="pool_each",
        form_source=_EACH,
        pixels="0.5 and 0.5",
        tokenizer="transformers",
        licence="Apache-2.0",
        source="Tschannen et al., arXiv:2502.14786",
    ),
    ClipFamily(
        name="SigLIP",
        models=r"^ViT-.*-SigLIP",
        form="pool_each",
        form_source=_EACH,
        pixels="0.5 and 0.5",
        tokenizer="transformers",
        licence="Apache-2.0",
        source="Zhai et al., ICCV 2023",
    ),
    ClipFamily(
        name="Perception Encoder, core",
        models=r"^PE-Core-",
        form="pool_each",
        form_source=_EACH,
        pixels="0.5 and 0.5",
        licence="Apache-2.0",
        source="Bolya et al., arXiv:2504.13181",
    ),
    ClipFamily(
        name="NLLB-CLIP on SigLIP",
        models=r"^nllb-clip-.*-siglip",
        form="pool_each",
        form_source=_EACH,
        pixels="0.5 and 0.5",
        tokenizer="transformers",
        licence="CC-BY-NC-4.0",
        source="Visheratin, arXiv:2309.01859",
    ),
    ClipFamily(
        name="EVA-CLIP",
        models=r"^EVA0[12]-",
        form="maskclip",
        licence="MIT",
        source="Sun et al., arXiv:2303.15389",
    ),
    ClipFamily(
        name="MobileCLIP, convolutions",
        models=r"^MobileCLIP2?-S",
        form="head_each",
        form_source=_HEAD,
        pixels="the tag's",
        licence="Apple AMLR",
        source="Vasu et al., CVPR 2024; Faghri et al., TMLR 2025",
    ),
    ClipFamily(
        name="MobileCLIP, transformers",
        models=r"^MobileCLIP2?-[BL]",
        form="maskclip",
        pixels="the tag's",
        licence="Apple AMLR",
        source="Vasu et al., CVPR 2024; Faghri et al., TMLR 2025",
    ),
    ClipFamily(
        name="ViTamin",
        models=r"^ViTamin-",
        form="maskclip",
        licence="MIT",
        source="Chen et al., CVPR 2024",
    ),
    ClipFamily(
        name="ConvNeXt-CLIP",
        models=r"^convnext_",
        form="head_each",
        form_source=_HEAD,
        source="Liu et al., CVPR 2022; open_clip",
    ),
    ClipFamily(
        name="MetaCLIP 2",
        models=r"-worldwide",
        form="maskclip",
        tokenizer="transformers",
        licence="CC-BY-NC-4.0",
        source="Chuang et al., arXiv:2507.22062",
    ),
    ClipFamily(
        name="CLIPA",
        models=r"-CLIPA",
        form="maskclip",
        pixels="the tag's",
        tokenizer="transformers",
        source="Li et al., NeurIPS 2023",
    ),
    ClipFamily(
        name="CLIP with a text tower of transformers",
        models=r"^(xlm-|roberta-|mt5-|nllb-)",
        form="maskclip",
        tokenizer="transformers",
        source="open_clip",
    ),
    ClipFamily(
        name="MetaCLIP",
        models=r"^ViT-",
        tags=r"^metaclip",
        form="maskclip",
        licence="CC-BY-NC-4.0",
        source="Xu et al., ICLR 2024",
    ),
    ClipFamily(
        name="DFN",
        models=r"^ViT-",
        tags=r"^dfn",
        form="maskclip",
        licence="Apple ASCL",
        source="Fang et al., ICLR 2024",
    ),
    ClipFamily(
        name="CLIP, ResNet",
        models=r"^RN\d",
        form="maskclip",
        source="Radford et al., ICML 2021",
    ),
    ClipFamily(
        name="CLIP, OpenCLIP",
        models=r"^(ViT-|vit_medium_patch16_gap)",
        form="maskclip",
        pixels="the tag's",
        source="Radford et al., ICML 2021; Cherti et al., CVPR 2023",
    ),
)
OWN_CLIP = ClipFamily(
    name="a CLIP of your own, by config", models="", form="maskclip", pixels="the tag's", source="its json"
)


def clip_family_of(spec: EncoderSpec) -> ClipFamily:
    """The family of a CLIP, by the names of its model and its weights."""
    name, tag = (spec.model or "", spec.pretrained or "") if not spec.config else ("", "")
    fits = (each for each in CLIP_FAMILIES if re.search(each.models, name) and re.search(each.tags, tag))
    return next(fits, OWN_CLIP)
