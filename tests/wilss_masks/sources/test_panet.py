"""PANet's source against the slow twin, from supports to masks, with a tiny untrained ViT; and what must not matter."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.references import panet as slow
from tests.wilss_masks.sources.shots import ROWS, SIZES, features, features_of, manifest_in, proposed, task
from wilss.data.manifest import Manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND, UNKNOWN
from wilss.errors import CheckpointError, ManifestError, ParameterError
from wilss.models.networks.debiasing import positional_basis_of
from wilss.store import ImageContent, Status
from wilss_masks.sources import PanetSource
from wilss_masks.sources.prototypes import background_of

VALUES = {"vit_size": 0, "longest": 64}
#: A convolutional network in the place of the ViT.
BACKBONE = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 12]}, "stride": 8, "maps": 2}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("panet")
    (root / "sup").mkdir()
    (root / "sup" / "supports.yaml").write_text(yaml.safe_dump(ROWS))
    return manifest_in(root)


def source(manifest: Manifest, **values: Any) -> PanetSource:
    return PanetSource.from_manifest(manifest, 0, {**VALUES, **values})


@pytest.mark.few(3)
@pytest.mark.parametrize("values", [{}, {"alpha": 5.0, "features": "keys"}, {"bias": -0.8}, BACKBONE])
@pytest.mark.parametrize("categories", [(0, 1), (1,)])
def test_masks_equal_those_of_the_slow_twin(
    manifest: Manifest, values: dict[str, Any], categories: tuple[int, ...]
) -> None:
    made = source(manifest, **values)
    assert made.supports is not None
    shots = made.supports.supports
    assert [(one.spec.image_id, one.spec.class_id) for one in shots] == [("a", 1), ("b", 1), ("b", 2), ("c", 2)]
    pooled = features_of(made, manifest, [one.spec.image_id for one in shots])
    vectors = slow.prototypes(pooled, [one.map for one in shots], [one.spec.class_id for one in shots], 2)
    both = background_of([shots[1].map, shots[2].map])
    outside = [shots[0].map == BACKGROUND, both, shots[3].map == BACKGROUND]
    vectors[0] = slow.prototype([pooled[0], pooled[1], pooled[3]], outside)
    prototypes = made.prepare("cpu").prototypes
    assert prototypes is not None
    np.testing.assert_allclose(prototypes, vectors, atol=1e-4)

    one = task(manifest, "d", categories)
    (content,) = proposed(made, one)
    rows = [0, *(1 + position for position in categories)]
    maps = slow.scores(features(made, manifest, "d"), np.asarray(vectors)[rows], made.params.alpha)
    maps[0] += made.params.bias
    soft = slow.probabilities(maps)
    pixels = slow.upsampled(maps, one.height, one.width)
    labels, sure = slow.label_map(pixels), slow.probabilities(pixels)
    margin = np.sort(pixels, axis=0)
    clear = margin[-1] - margin[-2] > 1e-3
    for place, position in enumerate(categories, start=1):
        np.testing.assert_allclose(content.planes["score"][position], soft[place], atol=1e-3)
        mask = content.planes["mask"][position]
        assert (mask == (labels == place))[clear].all()
        assert clear.mean() > 0.9
        assert content.area[position] == mask.sum()
        if mask.any():
            assert content.confidence[position] == pytest.approx(sure[place][mask].mean(), abs=1e-3)
    assert content.status is Status.DONE


def test_masks_of_an_image_never_overlap(manifest: Manifest) -> None:
    (content,) = proposed(source(manifest), task(manifest))
    assert not (content.planes["mask"][0] & content.planes["mask"][1]).any()


def test_a_prepared_source_carries_prototypes_and_no_pictures(manifest: Manifest) -> None:
    made = source(manifest).prepare("cpu")
    assert made.prepare("cpu") is made
    assert made.supports is None
    assert made.prototypes is not None
    assert made.prototypes.shape == (3, 32)
    again = pickle.loads(pickle.dumps(made))
    assert again == made == source(manifest), "the digest of the supports stands for them"
    assert again.identity() == source(manifest).identity()


def test_batch_mates_do_not_change_an_image(manifest: Manifest) -> None:
    made = source(manifest)
    twice = proposed(made, task(manifest), task(manifest, categories=(1,)))
    (alone,) = proposed(made, task(manifest))
    for position in (0, 1):
        difference = twice[0].planes["score"][position].astype(float) - alone.planes["score"][position].astype(float)
        assert np.abs(difference).max() < 2e-3


def test_the_background_is_what_no_map_of_the_image_calls_foreground() -> None:
    first = np.array([[FOREGROUND, BACKGROUND, BACKGROUND, UNKNOWN]], np.uint8)
    second = np.array([[BACKGROUND, FOREGROUND, UNKNOWN, UNKNOWN]], np.uint8)
    assert background_of([first, second]).tolist() == [[False, False, True, False]]


def test_grids_are_those_of_the_features(manifest: Manifest) -> None:
    for made in (source(manifest), source(manifest, vit_size=32)):
        for name, size in SIZES.items():
            assert made.grids(*size).score == features(made, manifest, name).shape[1:]


def test_identity_names_all_that_masks_depend_on_and_no_place(manifest: Manifest, tmp_path: Path) -> None:
    plain = source(manifest).identity()
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(yaml.safe_dump(ROWS))
    assert source(manifest, supports=str(elsewhere)).identity() == plain
    elsewhere.write_text(yaml.safe_dump([*ROWS[:3], {**ROWS[3], "box": [9, 10, 30, 30]}]))
    assert source(manifest, supports=str(elsewhere)).identity() != plain
    assert source(manifest, alpha=10).identity() != plain
    assert source(manifest, bias=1).identity() != plain
    assert source(manifest, shots=1).identity() != plain
    assert str(tmp_path) not in json.dumps(plain)
    assert plain["models"]["vit"]["final_norm"] == "applied"
    assert "final_norm" not in source(manifest, features="keys").identity()["models"]["vit"]


def test_positions_are_taken_from_frozen_features(manifest: Manifest) -> None:
    plain, made = source(manifest), source(manifest, debias=0.25)
    basis = positional_basis_of(plain.encoder.open("cpu"), 0.25).double().numpy()
    assert basis.shape == (32, 8)
    wanted = features(plain, manifest, "d")
    wanted = wanted - np.einsum("dr,rhw->dhw", basis, np.einsum("dr,dhw->rhw", basis, wanted))
    np.testing.assert_allclose(features(made, manifest, "d"), wanted, atol=1e-4)
    assert made.identity() != plain.identity()
    assert len(proposed(made, task(manifest))) == 1


def test_tags_are_a_parameter_and_what_shots_go_without(manifest: Manifest) -> None:
    assert source(manifest).uses_tags
    assert not source(manifest, tags="false").uses_tags
    steps = tuple(replace(step, supervision="shots") for step in manifest.steps)
    by_shots = replace(manifest, steps=steps)
    assert not source(by_shots).uses_tags
    assert source(by_shots, tags="true").uses_tags


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alfa": 20}, "did you mean alpha"),
        ({"alpha": 0}, "must be above 0"),
        ({"alpha": "hot"}, "must be a number"),
        ({"shots": -1}, "0 \\(all there are\\) or more"),
        ({"vit_size": 7}, "0 \\(the image's own\\) or from 16"),
        ({"features": "values"}, "choose one of tokens, keys"),
        ({"tags": "maybe"}, "must be true or false"),
    ],
)
def test_wrong_parameters_are_refused_in_a_sentence(manifest: Manifest, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        source(manifest, **values)


def test_supports_are_refused_before_anything_runs(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="fewer than the 3 shots"):
        source(manifest, shots=3)
    with pytest.raises(ManifestError, match="is not there"):
        source(manifest, supports=str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match=r"none is not there|none.*is not there"):
        source(manifest, embedding=str(tmp_path / "none"))


def test_an_embedding_takes_the_place_of_the_frozen_features(manifest: Manifest, tmp_path: Path) -> None:
    path = projection(manifest, tmp_path)
    made = source(manifest, embedding=str(path))
    (content,) = proposed(made, task(manifest))
    assert made.prepare("cpu").prototypes.shape == (3, 5)  # type: ignore[union-attr]
    assert content.planes["score"][0].shape == made.grids(*SIZES["d"]).score
    assert set(made.identity()["models"]) == {"vit", "embedding"}
    assert made.identity() != source(manifest).identity()
    with pytest.raises(ParameterError, match="was trained on features as they are"):
        source(manifest, embedding=str(path), debias=0.2)
    path.write_bytes(projection(manifest, tmp_path / "other", seed=1).read_bytes())
    with pytest.raises(CheckpointError, match="has changed since this run began"):
        made.open("cpu", 1)


def test_a_backbone_takes_the_place_of_the_frozen_vit(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = source(manifest, **BACKBONE)
    prepared = pickle.loads(pickle.dumps(made.prepare("cpu")))
    assert "the backbone resnet18 has random weights" in caplog.text
    assert prepared == made
    assert prepared.prototypes.shape == (3, 8 + 12)
    assert made.encoders == ()
    assert made.to_fetch() == ()
    assert made.grids(40, 32).score == (5, 4)
    noted = made.identity()
    assert (set(noted["models"]), noted["models"]["backbone"]["maps"]) == ({"backbone"}, 2)
    assert noted["parameters"] == {
        name: value for name, value in source(manifest).identity()["parameters"].items() if name != "features"
    }
    assert len({json.dumps(source(manifest, **BACKBONE, **more).identity()) for more in ({}, {"alpha": 2})}) == 2
    plain, debiased = (proposed(source(manifest, **BACKBONE, debias=share), task(manifest))[0] for share in (0, 0.2))
    assert not np.array_equal(plain.planes["score"][0], debiased.planes["score"][0])
    with pytest.raises(ParameterError, match="backbone is 'resnet18'; it must be left out beside an embedding"):
        source(manifest, **BACKBONE, embedding=str(tmp_path))
    with pytest.raises(ParameterError, match="features is 'keys'; it must be left out beside a backbone, whose maps"):
        source(manifest, **BACKBONE, features="keys")


def projection(manifest: Manifest, folder: Path, seed: int = 0) -> Path:
    """An untrained projection's checkpoint."""
    from wilss.models.encoders.identity import digest_of_encoder
    from wilss.models.networks.checkpoint import write_model
    from wilss.models.networks.embedding import build_embedding
    from wilss.models.networks.embedding_spec import EmbeddingSpec

    vit = manifest.encoders.vit
    spec = EmbeddingSpec(kind="projection", size=0, width=5, in_width=32, encoder=digest_of_encoder(vit, tokens=True))
    facts = {"method": "panet", "step": 0, "mean": [0.5] * 3, "std": [0.25] * 3, "params": {}, "seed": 0}
    origin = {"iterations": 0, "parent_digest": None, "store_digest": None, "manifest_name": "", "manifest_digest": ""}
    folder.mkdir(exist_ok=True)
    weights = build_embedding(spec, seed=seed).state_dict()
    path = folder / "model.safetensors"
    write_model(path, weights, spec=spec, protocol=manifest.protocol, facts={**facts, **origin})
    return path


def test_torch_is_left_with_the_callers_random_state(manifest: Manifest) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    proposed(source(manifest), task(manifest))
    assert (torch.get_rng_state() == before).all()


def test_an_image_with_a_drawn_mask_keeps_it(manifest: Manifest, tmp_path: Path) -> None:
    drawn = np.zeros(SIZES["a"], np.uint8)
    drawn[5:20, 6:25], drawn[20:23, 6:25] = FOREGROUND, UNKNOWN
    Image.fromarray(drawn).save(tmp_path / "a.png")
    rows = [{"image": "a", "class": "cat", "kind": "mask", "file": "a.png"}, *ROWS[1:]]
    (tmp_path / "supports.yaml").write_text(yaml.safe_dump(rows))
    given = {"supports": str(tmp_path)}
    one = task(manifest, "a")
    (kept,) = proposed(source(manifest, **given), one)
    (guessed,) = proposed(source(manifest, **given, keep_masks=False), one)
    unknown = drawn == UNKNOWN
    mine = made_of(kept)
    np.testing.assert_array_equal(mine[~unknown], drawn[~unknown] == FOREGROUND)
    np.testing.assert_array_equal(mine[unknown], made_of(guessed)[unknown])
    assert not np.array_equal(mine, made_of(guessed))
    assert (kept.confidence[0], kept.area[0]) == (1.0, int(mine.sum()))
    assert not (kept.planes["mask"][0] & kept.planes["mask"][1]).any()


def made_of(content: ImageContent) -> Any:
    return content.planes["mask"][0]
