"""What a store says that it was made with, against what is asked for: also of stores that said less."""

from types import SimpleNamespace
from typing import Any

from tests.wilss.models.encoders.test_identity import noted_before, timm
from wilss.data.manifest import Encoders, EncoderSpec
from wilss.models.encoders.identity import identity_of
from wilss_masks.make.made_with import differences_from

CLIP = EncoderSpec(library="open_clip", model="ViT-B-32", pretrained="random:1")
DINO, MAE = timm("vit_small_patch16_224.dino"), timm("vit_base_patch16_224.mae")


def differing(vit: EncoderSpec, models: dict[str, Any], **asked: Any) -> list[str]:
    """Sentences about a store with these `models`, for a run with this vit."""
    store: Any = SimpleNamespace(attributes={"source": "fmwiss", "models": models})
    wanted = {"source": "fmwiss", "models": {"clip": identity_of(CLIP), "vit": identity_of(vit)}, **asked}
    return differences_from(store, wanted, Encoders(clip=CLIP, vit=vit))


def before(vit: EncoderSpec) -> dict[str, Any]:
    return {"clip": noted_before(CLIP), "vit": noted_before(vit)}


def test_a_store_of_before_is_resumed_where_the_numbers_are_the_same() -> None:
    assert differing(DINO, before(DINO)) == []
    assert differing(MAE.model_copy(update={"pos_interp": "dino"}), before(MAE)) == []


def test_it_is_refused_where_they_are_not_and_told_how_to_keep_them() -> None:
    (line,) = differing(MAE, before(MAE))
    assert line == (
        'models.vit.positions: "timm" asked for, "dino" in the store (as every store of before; `pos_interp: dino` in '
        "encoders.vit keeps it)"
    )


def test_a_store_that_notes_its_numbers_is_compared_by_them() -> None:
    now = {"clip": identity_of(CLIP), "vit": identity_of(MAE)}
    assert differing(MAE, now) == []
    (line,) = differing(MAE.model_copy(update={"pos_interp": "dino"}), now)
    assert line == 'models.vit.positions: "dino" asked for, "timm" in the store'


def test_another_network_is_told_as_such() -> None:
    assert differing(MAE, before(DINO))[0].startswith('models.vit.model: "vit_base_patch16_224.mae" asked for')


def test_names_of_weights_are_not_compared_where_the_weights_are_the_same() -> None:
    models = {"clip": identity_of(CLIP), "vit": {**identity_of(DINO), "pretrained": None, "revision": "abc"}}
    assert differing(DINO, models) == []
    (line, *_) = differing(DINO, {**models, "vit": {**models["vit"], "sha256": "0" * 64}})
    assert line.startswith("models.vit.pretrained")


def test_a_store_without_networks_needs_none() -> None:
    store: Any = SimpleNamespace(attributes={"models": {}})
    assert differences_from(store, {"models": {}}, Encoders()) == []
