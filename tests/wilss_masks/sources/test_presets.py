"""Sets of parameters by name: the paper's are what every parameter was from the first."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.built_in import built_in_manifest
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.manifest.sections import section_faults
from wilss.errors import ManifestError, ParameterError
from wilss_masks.manifest_tools import init
from wilss_masks.manifest_tools.init import init_manifest
from wilss_masks.sources import FmwissSource
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.sources.presets import PRESETS, RECOMMENDED, params_of

#: FMWISS as it was before there were presets; stores say so in their attributes.
PAPER = {
    "threshold": 0.5, "keep": "mass", "keep_amount": 0.7, "fusion": "union", "form": "maskclip", "seeds": 9, "draws": 1,
    "background": "softmax", "affinity": "qk", "clip_size": 448, "vit_size": 448, "longest": 1024,
    "templates": "openai", "precision": "auto",
}  # fmt: skip


def loaded(folder: Path, masks: Any) -> Manifest:
    content = {**built_in_manifest(), "masks": masks}
    (folder / "data_manifest.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_manifest(folder)


def parameters(manifest: Manifest, **values: Any) -> dict[str, Any]:
    return dict(FmwissSource.from_manifest(manifest, 1, values).identity()["parameters"])


def test_a_place_in_the_manifest_may_be_a_url(tmp_path: Path) -> None:
    places = {word: f"{tmp_path}/{word}" for word in ("a.json", "b/../a.json")}
    for word, place in {**places, "/a.json": "/a.json", "s3://b/a.json": "s3://b/a.json"}.items():
        manifest = loaded(tmp_path, {"fmwiss": {"regions": "file", "regions_file": word}})
        assert params_of(FmwissParams(), manifest, "fmwiss", where="--set").regions_file == place


@pytest.mark.parametrize(
    ("masks", "values"),
    [
        ({}, {}),
        ({"preset": "paper"}, {}),
        ({"fmwiss": {"draws": 5, "threshold": 0.9}}, {"preset": "paper"}),
        ({"preset": "recommended", "fmwiss": {"draws": 3}}, {"preset": "paper"}),
        ({"preset": "recommended", "fmwiss": {"preset": "paper"}}, {}),
    ],
)
def test_the_papers_parameters_are_those_of_before(tmp_path: Path, masks: Any, values: dict[str, Any]) -> None:
    """To the letter of what a store's attributes say, so that stores of before are resumed."""
    assert parameters(loaded(tmp_path, masks), **values) == PAPER


def test_a_manifest_begins_with_its_preset_and_goes_on_from_there(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, {"preset": "recommended", "fmwiss": {"draws": 7}})
    assert parameters(manifest) == {**PAPER, **PRESETS[RECOMMENDED]["fmwiss"], "draws": 7}
    assert parameters(manifest, preset="recommended", seeds=3)["draws"] == PAPER["draws"]
    assert parameters(manifest, preset="paper", seeds="3") == {**PAPER, "seeds": 3}


def test_confidences_are_what_they_were_by_the_paper_and_sureness_where_stages_decide(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, {})
    identities = [FmwissSource.from_manifest(manifest, 1, {"preset": name}).identity() for name in PRESETS]
    assert [one.get("confidence_of") for one in identities] == [None, "sureness"]


def test_a_new_manifest_has_the_recommended_parameters_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "has_bf16", lambda device: False)  # else the precision stands beside them
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"")
    (tmp_path / "photos/tags.csv").write_text("a.jpg,cat\n", encoding="utf-8")
    text = init_manifest("folder", tmp_path / "photos", tmp_path / "data_manifest.yaml")
    assert yaml.safe_load(text)["masks"] == {"fmwiss": PRESETS[RECOMMENDED]["fmwiss"]}
    (tmp_path / "data_manifest.yaml").write_text(text, encoding="utf-8")
    source = FmwissSource.from_manifest(load_manifest(tmp_path), 0)
    assert source.params == FmwissSource.from_manifest(load_manifest(tmp_path), 0, {"preset": RECOMMENDED}).params


def test_a_preset_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"--set: there is no preset 'papr'; did you mean 'paper'"):
        parameters(loaded(tmp_path, {}), preset="papr")
    with pytest.raises(ParameterError, match=r"data_manifest.yaml: masks.fmwiss: there is no preset 'best'"):
        parameters(loaded(tmp_path, {"preset": "best"}))
    said = list(section_faults(loaded(tmp_path, {"preset": "papr"}), weights=False))
    assert [one for one in said if "masks" in one] == [
        f"{tmp_path}/data_manifest.yaml: masks.preset: there is no preset 'papr'; did you mean 'paper'."
    ]
    with pytest.raises(ManifestError, match=r"masks.fmwiss"):
        loaded(tmp_path, {"fmwiss": "paper"})


def test_words_are_the_manifests_the_packages_or_both(tmp_path: Path) -> None:
    manifest = loaded(tmp_path, {})
    own, package, both = (
        FmwissSource.from_manifest(manifest, 1, {"words": words}) for words in ("own", "package", "both")
    )
    assert own.background_words == manifest.background_prompts
    assert "sky" in package.background_words
    assert "tree" not in package.background_words, "a class is not its own background"
    assert both.background_words == (*own.background_words, *package.background_words)
    assert package.identity()["parameters"]["words"] == "package"


def test_one_network_is_not_asked_twice_where(tmp_path: Path) -> None:
    manifest, content = loaded(tmp_path, {}), built_in_manifest()
    content["encoders"]["vit"] = "same"
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    one = load_manifest(tmp_path / "one.yaml")
    with pytest.raises(ParameterError, match="clip and vit are one network here"):
        FmwissSource.from_manifest(one, 1, {"clip_attention": True})
    assert FmwissSource.from_manifest(manifest, 1, {"clip_attention": True}).params.clip_attention


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"regions_file": "a.json"}, "regions_file=a.json changes nothing without regions=file; say that as well"),
        ({"regions_model": "sam2", "regions": "slic"}, "regions_model=sam2 .* regions=sam2 or eomt or sam3;"),
        ({"regions_score": "0.5"}, "regions_score=0.5 .* without regions=file or sam2"),
        ({"regions": "slic", "regions_points": 8}, "regions_points=8 .* without regions=sam2;"),
        ({"region_size": 100}, "region_size=100 .* without regions=felzenszwalb or slic;"),
        ({"boundaries": "guided", "pamr_dilations": "1,2"}, "pamr_dilations=1,2 .* without boundaries=pamr;"),
        ({"boundaries": "pamr", "guided_eps": "0.1"}, "guided_eps=0.1 .* without boundaries=guided;"),
        ({"stage_size": 256}, "stage_size=256 .* without regions or boundaries;"),
        ({"patches_alike": 0.5}, "patches_alike=0.5 .* without regions=patches;"),
        ({"scope_alike": 0.5, "regions": "slic"}, "scope_alike=0.5 .* without scope=regions;"),
    ],
)
def test_what_would_change_nothing_is_refused(tmp_path: Path, values: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=f"^--set: {said}"):
        parameters(loaded(tmp_path, {}), **values)
    manifest = loaded(tmp_path, {"fmwiss": values})
    with pytest.raises(ParameterError, match=f"masks.fmwiss: {said.partition('=')[0]}=.* changes nothing"):
        parameters(manifest)
    (fault,) = section_faults(manifest, weights=False)
    assert "changes nothing without" in fault


def test_what_changes_nothing_stays_where_nobody_has_set_it_or_a_command_gives_it_an_effect(tmp_path: Path) -> None:
    """A preset's values, those at their defaults, a file that the manifest names, a stage that a command turns off."""
    recommended = loaded(tmp_path, {"preset": "recommended"})
    assert parameters(recommended, boundaries="pamr")["guided_radius"] == 24
    assert "boundaries" not in parameters(recommended, boundaries="none", region_size=50)
    manifest = loaded(tmp_path, {"fmwiss": {"region_size": 100}})
    assert parameters(manifest, regions="slic")["region_size"] == 100
    with pytest.raises(ParameterError, match=r"masks.fmwiss: region_size=100 changes nothing"):
        parameters(manifest, boundaries="pamr")
    manifest = loaded(tmp_path, {"fmwiss": {"boundaries": "pamr", "pamr_rounds": 3}})
    assert parameters(manifest, boundaries="none")["pamr_rounds"] == 3
