"""INSID3's source against the slow twin, from supports to masks, with a tiny untrained ViT."""

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

from tests.references import insid3 as slow
from tests.wilss.models.encoders.tiny import vit_spec
from tests.wilss_masks.sources.shots import ROWS, SIZES, features, manifest_in, proposed, task
from wilss.data.manifest import Encoders, Manifest
from wilss.data.supports.maps import FOREGROUND
from wilss.equations import insid3
from wilss.errors import ManifestError, ParameterError
from wilss.store import Status
from wilss_masks.sources import Insid3Source

BACKBONE = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 12]}, "stride": 8, "maps": 2}
VALUES = {"vit_size": 0, "longest": 64, "tau": 0.2, "least": 0.01, "debias": 0.1}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("insid3")
    return manifest_in(root)


def source(manifest: Manifest, **values: Any) -> Insid3Source:
    return Insid3Source.from_manifest(manifest, 0, {**VALUES, **values})


def expected_scores(made: Insid3Source, manifest: Manifest, name: str) -> Any:
    """By loops, of both classes, [2, L]; each support votes with the patches that something is known of."""
    prepared, params = made.prepare("cpu"), made.params
    basis = prepared.basis.astype(float)  # type: ignore[union-attr]
    query = features(made, manifest, name)
    flat = query.reshape(len(query), -1)
    plain = np.stack([slow.unit(column) for column in flat.T], axis=1)
    clean = np.stack([slow.unit(column - basis @ (basis.T @ column)) for column in plain.T], axis=1)
    groups = slow.clusters(plain, params.tau)
    places = [slow.nearest(clean, one.features.astype(float)) for one in prepared.shown]
    seen = [one.labels[at] for one, at in zip(prepared.shown, places, strict=True)]
    near = [np.sum(clean * one.features[:, at], axis=0) for one, at in zip(prepared.shown, places, strict=True)]
    won = np.array(seen)[np.argmax(near, axis=0), np.arange(flat.shape[1])]
    maps = np.zeros((2, flat.shape[1]))
    for position in range(2):
        own = [row for row, one in enumerate(prepared.shown) if position in one.classes]
        inside = [prepared.shown[row].labels == 1 + position for row in own]
        prototype = slow.prototype_of([prepared.shown[row].features for row in own], inside)
        cosines = prototype @ clean
        backward = [won == 1 + position] if params.rivals else [seen[row] == 1 + position for row in own]
        found = np.array(slow.candidates(cosines > 0, backward))
        for group, score in zip(groups, slow.cluster_scores(cosines, found, plain, groups), strict=True):
            maps[position, list(group)] = score
    return maps


@pytest.mark.parametrize("rivals", ["true", "false"])
def test_masks_equal_those_of_the_slow_twin(manifest: Manifest, rivals: str) -> None:
    made = source(manifest, rivals=rivals)
    maps = expected_scores(made, manifest, "d")
    (content,) = proposed(made, task(manifest))
    grid = made.grids(*SIZES["d"]).score
    assert grid is not None
    for position in (0, 1):
        soft = content.planes["score"][position]
        np.testing.assert_allclose(soft, maps[position].clip(0, 1).reshape(grid), atol=2e-3)
        assert content.area[position] == content.planes["mask"][position].sum()
    labels = np.where(maps.max(axis=0) > made.params.least, 1 + maps.argmax(axis=0), 0).reshape(grid)
    each = torch.from_numpy(np.stack([labels == label for label in range(3)])).float()
    pixels = torch.nn.functional.interpolate(each[None], SIZES["d"], mode="bilinear")[0].argmax(dim=0).numpy()
    for position in (0, 1):
        assert (content.planes["mask"][position] == (pixels == 1 + position)).mean() > 0.99
    assert content.status is Status.DONE


@pytest.mark.parametrize("values", [{}, {"surest": "no"}, {"rivals": "false"}, {"debias": 0}, {"features": "keys"}])
def test_masks_of_an_image_never_overlap(manifest: Manifest, values: dict[str, Any]) -> None:
    (content,) = proposed(source(manifest, **values), task(manifest))
    assert not (content.planes["mask"][0] & content.planes["mask"][1]).any()


def test_unknown_patches_of_a_scribble_have_no_vote(manifest: Manifest) -> None:
    (one,) = [shown for shown in source(manifest).prepare("cpu").shown if shown.classes == (0, 1)]
    rows, columns = source(manifest).grids(*SIZES["b"]).score or (0, 0)
    assert one.features.shape[1] == len(one.labels) <= rows * columns
    assert set(one.labels.tolist()) == {0, 1, 2}


def test_where_objects_may_be_missing_no_cluster_counts_in_full(manifest: Manifest) -> None:
    assert source(manifest).params.is_there
    assert not source(manifest, tags="false").params.is_there
    assert source(manifest, tags="false", surest="yes").params.is_there
    steps = tuple(replace(step, supervision="shots") for step in manifest.steps)
    by_shots = replace(manifest, steps=steps)
    assert not source(by_shots).uses_tags
    assert not source(by_shots).params.is_there


def test_a_prepared_source_carries_patches_and_no_pictures(manifest: Manifest) -> None:
    made = source(manifest).prepare("cpu")
    assert made.prepare("cpu") is made
    assert made.supports is None
    assert made.prototypes is not None
    assert made.prototypes.shape == (2, 32)
    again = pickle.loads(pickle.dumps(made))
    assert again == made == source(manifest), "the digest of the supports stands for them"
    assert again.identity() == source(manifest).identity()


def test_clusters_of_another_encoder(manifest: Manifest) -> None:
    other = replace(manifest, encoders=Encoders(clip=vit_spec(), vit=manifest.encoders.vit))
    made = source(other, encoder="clip", groups="vit", features="keys")
    assert [name for name, _ in made.encoders] == ["clip", "vit"]
    assert set(made.identity()["models"]) == {"clip", "vit"}
    (content,) = proposed(made, task(other))
    assert content.planes["score"][0].shape == made.grids(*SIZES["d"]).score


def test_a_backbone_takes_the_place_of_an_encoder(manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
    made = source(manifest, **BACKBONE)
    prepared = pickle.loads(pickle.dumps(made.prepare("cpu")))
    assert "the backbone resnet18 has random weights" in caplog.text
    assert prepared == made
    assert prepared.prototypes.shape == (2, 8 + 12)
    assert (made.encoders, made.to_fetch(), made.params.opens) == ((), (), ())
    assert made.grids(40, 32).score == (5, 4)
    noted, plain = made.identity(), source(manifest).identity()
    assert (set(noted["models"]), noted["models"]["backbone"]["maps"]) == ({"backbone"}, 2)
    assert set(plain["parameters"]) - set(noted["parameters"]) == {"encoder", "features"}
    assert not set(plain["parameters"]) & set(BACKBONE), "stores of before still know their parameters"
    maps = expected_scores(made, manifest, "d")
    (content,) = proposed(made, task(manifest))
    for position in (0, 1):
        expected = maps[position].clip(0, 1).reshape(made.grids(*SIZES["d"]).score or ())
        np.testing.assert_allclose(content.planes["score"][position], expected, atol=2e-3)


def test_clusters_of_the_vit_beside_a_backbone(manifest: Manifest) -> None:
    made = source(manifest, **BACKBONE, groups="vit")
    assert [name for name, _ in made.encoders] == ["vit"]
    assert made.params.opens == ("vit",)
    assert set(made.identity()["models"]) == {"backbone", "vit"}
    (content,) = proposed(made, task(manifest))
    assert content.planes["score"][0].shape == made.grids(*SIZES["d"]).score


@pytest.mark.parametrize(("name", "value"), [("encoder", "clip"), ("features", "keys")])
def test_what_a_backbone_has_not_is_refused(manifest: Manifest, name: str, value: str) -> None:
    with pytest.raises(ParameterError, match=rf"{name} is '{value}'; it must be '\w+', its default, beside a backbone"):
        source(manifest, **BACKBONE, **{name: value})


def test_a_whole_mask_is_kept(manifest: Manifest, tmp_path: Path) -> None:
    mask = np.zeros(SIZES["d"], np.uint8)
    mask[4:20, 8:30] = 1
    (tmp_path / "sup").mkdir()
    Image.fromarray(mask).save(tmp_path / "sup/d.png")
    (tmp_path / "sup/supports.yaml").write_text(
        yaml.safe_dump([*ROWS, {"image": "d", "class": "cat", "kind": "mask", "file": "d.png"}])
    )
    made = source(manifest, supports=str(tmp_path / "sup"))
    (content,) = proposed(made, task(manifest))
    assert made.own_masks == ("d",)
    assert (content.planes["mask"][0] == (mask == FOREGROUND)).all()
    assert content.confidence[0] == 1


def test_batch_mates_do_not_change_an_image(manifest: Manifest) -> None:
    made = source(manifest)
    twice = proposed(made, task(manifest), task(manifest))
    (alone,) = proposed(made, task(manifest))
    difference = twice[1].planes["score"][0].astype(float) - alone.planes["score"][0].astype(float)
    assert np.abs(difference).max() < 2e-3


def test_identity_names_all_that_masks_depend_on_and_no_place(manifest: Manifest, tmp_path: Path) -> None:
    plain = source(manifest).identity()
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(yaml.safe_dump(ROWS))
    assert source(manifest, supports=str(elsewhere)).identity() == plain
    for more in ({"tau": 0.3}, {"least": 0.1}, {"debias": 0}, {"shots": 1}, {"surest": "no"}):
        assert source(manifest, **more).identity() != plain
    assert str(tmp_path) not in json.dumps(plain)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tua": 0.5}, "did you mean tau"),
        ({"tau": 1}, "above -1 and below 1"),
        ({"debias": 1}, "debias"),
        ({"encoder": "sam"}, "choose one of vit, clip"),
        ({"surest": "maybe"}, "choose one of auto, yes, no"),
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


def test_a_width_of_debiasing_is_a_share_of_the_features(manifest: Manifest) -> None:
    assert source(manifest, debias=0.25).prepare("cpu").basis.shape == (32, 8)  # type: ignore[union-attr]
    assert source(manifest, debias=0).prepare("cpu").basis.shape == (32, 0)  # type: ignore[union-attr]
    assert insid3.positional_basis(torch.ones(3, 2, 2), 1).shape == (3, 1)
