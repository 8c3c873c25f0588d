"""What a store says that it was made with, against what is asked for: also of stores that said less."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.wilss.models.encoders.test_identity import noted_before, timm
from tests.wilss_masks.stores import make_store
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Encoders, EncoderSpec
from wilss.models.encoders.identity import identity_of
from wilss_masks.make.made_with import differences_from, told_by_image

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
        'models.vit.positions: "timm" asked for, "dino" in the store (as in every store of an older wilss; '
        "`pos_interp: dino` in encoders.vit keeps it)"
    )


def test_mean_and_deviation_are_told_in_one_phrase_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    vit = timm("vit_base_patch16_siglip_224", file=str(tmp_path / "w.pth"), pretrained="webli", pos_interp="dino")
    lines = differing(vit, before(vit))
    way = "`args: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}`, added to args that are there, in encoders"
    assert [line.partition(":")[0] for line in lines] == ["models.vit.mean", "models.vit.std"]
    assert all(way in line for line in lines)
    told = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert differing(vit.model_copy(update={"args": told}), before(vit)) == []


def test_a_tag_is_a_name_of_weights_too(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    file = str(tmp_path / "w.pth")
    bare = EncoderSpec(library="timm", model="vit_small_patch16_224", file=file)
    assert differing(bare.model_copy(update={"model": "vit_small_patch16_224.dino"}), before(bare)) == []
    assert differing(bare.model_copy(update={"pretrained": "dino"}), before(bare)) == []
    (line, *_) = differing(bare.model_copy(update={"model": "vit_tiny_patch16_224.augreg_in21k"}), before(bare))
    assert line.startswith("models.vit.model")


def test_tokens_that_were_not_under_the_final_norm_are_not_gone_on_with() -> None:
    """PANet alone uses them; fmwiss uses queries and keys."""
    vit = timm("beit3_base_patch16_224", args={"embed_dim": 64, "depth": 2, "num_heads": 2}, pos_interp="dino")
    assert differing(vit, before(vit)) == []
    store: Any = SimpleNamespace(attributes={"source": "panet", "models": {"vit": noted_before(vit)}})
    wanted: dict[str, Any] = {"source": "panet", "models": {"vit": identity_of(vit, tokens=True)}}
    assert differences_from(store, wanted, Encoders(vit=vit)) == [
        'models.vit.final_norm: "applied" asked for, "left out" in the store (tokens of this network were not under '
        "its final norm before, and are now)"
    ]
    store.attributes["models"]["vit"] = noted_before(DINO)
    wanted["models"]["vit"] = identity_of(DINO, tokens=True)
    assert differences_from(store, wanted, Encoders(vit=DINO)) == []


def test_a_store_that_notes_its_numbers_is_compared_by_them() -> None:
    now = {"clip": identity_of(CLIP), "vit": identity_of(MAE)}
    assert differing(MAE, now) == []
    (line,) = differing(MAE.model_copy(update={"pos_interp": "dino"}), now)
    assert line == 'models.vit.positions: "dino" asked for, "timm" in the store'


def test_another_network_is_told_as_such() -> None:
    assert differing(MAE, before(DINO))[0].startswith('models.vit.model: "vit_base_patch16_224.mae" asked for')


def test_other_words_are_said_to_be_words() -> None:
    """A digest says nothing to who has written other prompts."""
    found: Any = SimpleNamespace(attributes={"source": "sam3", "prompts_sha256": "b" * 8})
    (line,) = differences_from(found, {"source": "sam3", "prompts_sha256": "a" * 8}, Encoders(clip=CLIP, vit=DINO))
    assert line == (
        'prompts_sha256: "aaaaaaaa" asked for, "bbbbbbbb" in the store (the classes\' names and prompts, background '
        "words and templates: other words are other masks)"
    )


def test_names_of_weights_are_not_compared_where_the_weights_are_the_same() -> None:
    models = {"clip": identity_of(CLIP), "vit": {**identity_of(DINO), "pretrained": None, "revision": "abc"}}
    assert differing(DINO, models) == []
    (line, *_) = differing(DINO, {**models, "vit": {**models["vit"], "sha256": "0" * 64}})
    assert line.startswith("models.vit.pretrained")


def test_a_store_whose_clip_was_of_the_family_clip_whatever_it_was_goes_on() -> None:
    now = {"clip": identity_of(CLIP), "vit": identity_of(DINO)}
    assert now["clip"]["family"] == "CLIP, OpenCLIP"
    assert differing(DINO, {"clip": now["clip"] | {"family": "CLIP"}, "vit": now["vit"]}) == []


def test_images_and_tags_that_changed_are_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr")
    tags = [
        tuple(identity for identity, has in zip(store.category_ids, row, strict=True) if has)
        for row in store.vector("tags").tolist()
    ]
    names, other = list(store.image_ids), store.category_ids[0]

    def told(names: list[str], tags: list[tuple[int, ...]]) -> str:
        records = [ImageRecord(image_id=name, path=tmp_path, tags=own) for name, own in zip(names, tags, strict=True)]
        lines = ["limit: 3 asked for, null in the store", 'records_sha256: "a" asked for, "b" in the store']
        limit, line = told_by_image(lines, store, records)
        assert limit == lines[0]
        return line.removeprefix("images and tags: ")

    untagged = [() if other in own else (*own, other) for own in tags]
    assert told(names, [*tags[:1], untagged[1], *tags[2:]]) == f"other tags of 1 image ({names[1]})"
    assert told([*names[1:], "new"], [*tags[1:], ()]) == (
        f"1 image (new) not in the store; 1 image ({names[0]}) in the store alone"
    )
    assert told(names[::-1], tags[::-1]) == "their order"
    assert told(names, tags) == "tags of classes of other steps"
    assert told([], []).startswith(f"{len(names)} images ({names[0]}, ")


def test_a_store_without_networks_needs_none() -> None:
    store: Any = SimpleNamespace(attributes={"models": {}})
    assert differences_from(store, {"models": {}}, Encoders()) == []


def test_a_store_of_regions_is_another_where_the_library_is_another() -> None:
    def told(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
        store: Any = SimpleNamespace(attributes=found)
        return differences_from(store, wanted, Encoders(clip=CLIP, vit=DINO))

    old, new = {"regions_library": "scikit-image 0.25.0"}, {"regions_library": "scikit-image 0.26.0"}
    (line,) = told(old, new)
    assert line.startswith("regions_library: ")
    assert told(new, new) == []
    assert told({}, new) == []  # a store of before does not say
