"""The table of CLIP families against open_clip's own lists and configs: every model, every tag."""

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError
from wilss.models.encoders.clip.configs import check_tower, clip_config, clip_stride, form_of, forms_of
from wilss.models.encoders.clip.families import CLIP_FAMILIES, OWN_CLIP, ClipFamily, clip_family_of
from wilss.models.encoders.clip.timm_towers import timm_path, timm_tower
from wilss.models.encoders.weights import OPENAI_MEAN
from wilss.models.shapes_only import shapes_only

#: What open_clip has and wilss does not take, each refused with the reason (test_timm_towers, test_clip).
REFUSED = {
    "coca_ViT-B-32", "coca_ViT-L-14", "coca_base", "coca_roberta-ViT-B-32", "swin_base_patch4_window7_224",
    "vit_relpos_medium_patch16_cls_224",
}  # fmt: skip
MEANS = {"OpenAI's": OPENAI_MEAN, "0.5 and 0.5": (0.5, 0.5, 0.5), "0 and 1": (0.0, 0.0, 0.0)}


def spec(model: str, tag: str = "random") -> EncoderSpec:
    return EncoderSpec(library="open_clip", model=model, pretrained=tag)


def taken() -> list[str]:
    return [model for model in open_clip.list_models() if model not in REFUSED]


def test_every_other_model_of_open_clip_is_taken_and_of_a_family_that_says_how() -> None:
    for model in open_clip.list_models():
        config = clip_config(spec(model))["model_cfg"]
        if model in REFUSED:
            with pytest.raises(EncoderError):
                check_tower(config, model)
            continue
        check_tower(config, model)
        family = clip_family_of(spec(model))
        text = config["text_cfg"]
        by_transformers = bool(text.get("hf_tokenizer_name") or text.get("hf_model_name"))
        assert family in CLIP_FAMILIES, model
        assert family.form == form_of(spec(model)), model
        assert (family.tokenizer == "transformers") == by_transformers, model


def test_mean_and_licence_of_a_family_are_those_of_its_tags() -> None:
    seen = set()
    for model in taken():
        for tag in list_pretrained_tags_by_model(model):
            family = clip_family_of(spec(model, tag))
            seen.add(family.name)
            if family.pixels != "the tag's":
                assert tuple(get_pretrained_cfg(model, tag)["mean"]) == MEANS[family.pixels], (model, tag)
    assert seen == {family.name for family in CLIP_FAMILIES}


@pytest.mark.parametrize(
    ("model", "tag", "name", "licence"),
    [
        ("ViT-B-16-quickgelu", "openai", "CLIP, OpenCLIP", ""),
        ("ViT-B-16-quickgelu", "metaclip_fullcc", "MetaCLIP", "CC-BY-NC-4.0"),
        ("ViT-H-14-worldwide-quickgelu", "metaclip2_worldwide", "MetaCLIP 2", "CC-BY-NC-4.0"),
        ("ViT-H-14-quickgelu", "dfn5b", "DFN", "Apple ASCL"),
        ("MobileCLIP2-S4", "dfndr2b", "MobileCLIP, convolutions", "Apple AMLR"),
        ("ViT-B-16-SigLIP2", "webli", "SigLIP 2", "Apache-2.0"),
    ],
)
def test_licences_that_differ(model: str, tag: str, name: str, licence: str) -> None:
    family = clip_family_of(spec(model, tag))
    assert (family.name, family.licence) == (name, licence)


def test_a_config_of_ones_own_is_of_no_family() -> None:
    own: ClipFamily = clip_family_of(EncoderSpec(library="open_clip", config="clip.json", model="ViT-B-16"))
    assert own is OWN_CLIP


@pytest.mark.long
def test_every_timm_tower_of_open_clip_is_built_and_has_the_stride_that_a_plan_takes() -> None:
    """On no device: names, shapes and strides, without the numbers."""
    for model in taken():
        config = clip_config(spec(model))["model_cfg"]
        if config["vision_cfg"].get("timm_model_name"):
            with shapes_only():
                timm_path(timm_tower(config).eval(), forms_of(config)[0], clip_stride(config))
