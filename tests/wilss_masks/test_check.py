"""What `manifest check` finds before a run is begun: all faults at once, in every section."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.wilss.data import data_on_disk as disk
from tests.wilss_masks.stores import make_store
from wilss.data.manifest import load_manifest
from wilss.errors import WeightsError
from wilss_masks.cli import cli
from wilss_masks.commands.manifest import _table, command
from wilss_masks.manifest_tools.check import CheckReport, Counts, check_manifest

IMAGES = {"a": (1,), "b": (2, 3), "c": (3,), "d": (1, 2)}
BUILT_IN: dict[str, dict[str, Any]] = {
    "clip": {"library": "open_clip", "config": "builtin:clip.json", "file": "builtin:clip.safetensors"},
    "vit": {
        "library": "timm",
        "model": "vit_tiny_patch16_224",
        "file": "builtin:vit.safetensors",
        "args": {"img_size": 96, "patch_size": 8, "embed_dim": 192, "depth": 3, "num_heads": 3},
    },
}


def checked(folder: Path, *, how: dict[str, Any] | None = None, **changes: Any) -> CheckReport:
    disk.voc(folder / "data", IMAGES)
    return check_manifest(load_manifest(disk.manifest(folder, **changes)), **(how or {}))


def told(report: CheckReport, words: str) -> list[str]:
    """Faults without the file that they name, of which `words` are a part."""
    return [fault.partition(".yaml")[2].lstrip(":, ") for fault in report.faults if words in fault]


def test_images_that_are_trained_on_and_judged_on_are_told_for_every_split(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": (1,), "c": (3,)}, split="val")
    report = checked(tmp_path, splits={"train": "train", "val": "val"}, how={"labels": False})
    (told,) = [warning for warning in report.warnings if "trained on as well" in warning]
    assert "2 images (a, c) of the split 'val' are" in told


def test_every_misspelt_or_impossible_parameter_of_masks(tmp_path: Path) -> None:
    masks = {
        "fmwis": {"draws": 4},
        "fmwiss": {"drawss": 4, "threshold": 1.5, "keep": "mas", "preset": "papr"},
        "panet": {"alpha": -1},
        "annotation": {"x": 1},
    }
    assert told(checked(tmp_path, masks=masks), "masks") == [
        "masks: there is no source 'fmwis'; did you mean 'fmwiss'.",
        "masks.fmwiss: there is no parameter 'drawss'; did you mean draws?",
        "masks.fmwiss: threshold is 1.5; it must be between 0 and 1.",
        "masks.fmwiss: keep is 'mas'; choose one of mass, locations, std.",
        "masks.panet: alpha is -1.0; it must be above 0.",
        "masks.annotation: the source 'annotation' has no parameter 'x'; leave it out.",
    ]
    assert "no preset 'papr'; did you mean 'paper'" in str(
        checked(tmp_path, masks={"fmwiss": {"preset": "papr"}}).faults
    )
    assert "no preset ['paper']" in str(checked(tmp_path, masks={"fmwiss": {"preset": ["paper"]}}).faults)
    assert "no preset ''" in str(checked(tmp_path, masks={"fmwiss": {"preset": ""}}).faults)
    assert checked(tmp_path, masks={"fmwiss": {"preset": "paper", "draws": 2}}).faults == ()


def test_every_misspelt_or_impossible_parameter_of_train(tmp_path: Path) -> None:
    train = {"epoch": 3, "crop": 0, "base": {"lrr": 1, "lr": -1}, "weak": 3, "fmwis": {}, "panet": {"wieghts": "x"}}
    assert told(checked(tmp_path, train=train), "train") == [
        "train: crop is 0; it must be at least 1.",
        "train: there is no parameter 'epoch'; did you mean 'epochs'.",
        "train: there is no parameter 'fmwis'; did you mean 'fmwiss'.",
        "train.base: lr is -1.0; it must be above 0.",
        "train.base: there is no parameter 'lrr'; did you mean 'lr'.",
        "train.weak must be a mapping of parameters.",
        "train.panet: there is no parameter 'wieghts'; did you mean 'weights'.",
    ]
    assert (
        checked(tmp_path, train={"epochs": 3, "base": {"crop": 64, "loss_stride": 4}, "panet": {"lr": 1}}).faults == ()
    )


def test_a_backbone_and_weights_that_do_not_fit(tmp_path: Path) -> None:
    train = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 8]}}
    how = {"weights": True, "labels": False}
    reports = [
        checked(tmp_path, how=how, encoders=BUILT_IN, train={**train, **more})
        for more in ({"backbone": "resnet1O1"}, {"backbone_weights": "none.pth"}, {})
    ]
    assert "timm has no model 'resnet1O1'; did you mean resnet101" in str(reports[0].faults)
    assert "train.backbone_weights: " in str(reports[1].faults)
    assert "none.pth" in str(reports[1].faults)
    assert reports[2].faults == ()


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("clip", {"file": "builtin:vit.safetensors"}, r"does not fit the network"),
        ("clip", {"config": None, "file": None, "model": "ViT-B-16x"}, r"open_clip has no model 'ViT-B-16x'"),
        ("clip", {"config": None, "file": None, "model": "ViT-B-16", "pretrained": "opnai"}, r"no weights 'opnai'"),
        ("vit", {"model": "vit_smal_patch16_224"}, r"timm has no model"),
        ("vit", {"file": "nothing.safetensors"}, r"nothing\.safetensors"),
    ],
)
def test_encoders_that_cannot_be_opened(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    encoder = {key: value for key, value in {**BUILT_IN[name], **changes}.items() if value is not None}
    report = checked(tmp_path, how={"weights": True}, encoders={**BUILT_IN, name: encoder})
    (fault,) = report.faults
    assert f"encoders.{name}: " in fault
    assert words.replace("\\", "") in fault


def test_what_is_not_here_is_a_fault_offline_and_else_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    clip = {"library": "open_clip", "model": "ViT-B-16-SigLIP2", "pretrained": "random:1"}
    how, encoders = {"weights": True}, {"clip": clip, "vit": {"library": "timm", "model": "vit_small_patch16_224.dino"}}
    text, vit = checked(tmp_path, how=how, encoders=encoders).faults
    assert "encoders.clip: offline, and the tokenizer of timm/ViT-B-16-SigLIP2 (" in text
    assert "encoders.vit: offline, and the weights of timm/vit_small_patch16_224.dino (model.safetensors)" in vit
    assert all("`manifest check --source cam`" in fault and "--no-weights" in fault for fault in (text, vit))
    assert checked(tmp_path, how={**how, "source": "cam"}, encoders=encoders).faults == ()
    (only_vit,) = checked(tmp_path, how={**how, "source": "panet"}, encoders=encoders).faults
    assert "encoders.vit: offline" in only_vit
    assert "--source" not in only_vit
    for values, opened in (
        ({}, ["vit"]),
        ({"encoder": "clip"}, ["clip"]),
        ({"encoder": "clip", "groups": "vit"}, ["clip", "vit"]),
    ):
        found = checked(tmp_path, how={**how, "source": "insid3"}, encoders=encoders, masks={"insid3": values}).faults
        assert [fault.split("encoders.")[1].split(":")[0] for fault in found] == opened
    for source in ("panet", "insid3"):
        of_backbone = {"masks": {source: {"backbone": "resnet18", "weights": ""}}}
        assert not checked(tmp_path, how={**how, "source": source}, encoders=encoders, **of_backbone).faults
        misspelt = checked(tmp_path, how=how, encoders=encoders, masks={source: {"backbone": "resnet1O1"}}).faults
        assert any(f"masks.{source}: " in fault and "resnet1O1" in fault for fault in misspelt)
    monkeypatch.setattr("wilss.models.encoders.to_fetch.require_connection", lambda *of: None)
    report = checked(tmp_path, how=how, encoders=encoders)
    assert report.faults == ()
    assert [sentence for sentence in report.warnings if "will be fetched" in sentence] == [
        "not here, will be fetched at first use: the tokenizer of timm/ViT-B-16-SigLIP2 (tokenizer_config.json).",
        "not here, will be fetched at first use: the weights of timm/vit_small_patch16_224.dino (model.safetensors).",
    ]


def test_an_error_of_the_one_network_of_both_jobs_is_told_once(tmp_path: Path) -> None:
    encoders = {"clip": {**BUILT_IN["clip"], "file": "builtin:vit.safetensors"}, "vit": "same"}
    (fault,) = checked(tmp_path, how={"weights": True}, encoders=encoders).faults
    assert "encoders.clip: " in fault


def test_a_dense_form_that_the_image_tower_does_not_have(tmp_path: Path) -> None:
    masks = {"fmwiss": {"form": "pool_each"}}
    (fault,) = checked(tmp_path, how={"weights": True}, encoders=BUILT_IN, masks=masks).faults
    assert (
        "encoders.clip: builtin:clip.json has no dense form 'pool_each'; use maskclip, value, neighbour, proxy or auto."
        in fault
    )
    masks["fmwiss"]["form"] = "pool"
    (fault,) = checked(tmp_path, how={"weights": True}, encoders=BUILT_IN, masks=masks).faults
    assert "form is 'pool'; choose one of auto, maskclip, value, pool_each, head_each, neighbour, proxy." in fault


def test_more_attention_blocks_than_the_network_has(tmp_path: Path) -> None:
    masks = {"fmwiss": {"attention_blocks": 9}}
    (fault,) = checked(tmp_path, how={"weights": True}, encoders=BUILT_IN, masks=masks).faults
    assert "encoders.vit: the vision transformer has 3 blocks, not 9; ask for 1 to 3 of them." in fault


def test_a_list_that_is_missing_stops_its_split_alone(tmp_path: Path) -> None:
    report = checked(tmp_path, splits={"train": "train", "val": "none"})
    assert len(report.faults) == 1
    assert "the list 'none' is not there" in report.faults[0]
    assert [counts.part for counts in report.counts] == ["step 0", "step 1"]


def test_only_decoding_finds_an_image_that_was_cut_short(tmp_path: Path) -> None:
    file = disk.manifest(tmp_path)
    disk.voc(tmp_path / "data", IMAGES)
    whole = (tmp_path / "data/JPEGImages/a.jpg").read_bytes()
    (tmp_path / "data/JPEGImages/a.jpg").write_bytes(whole[:-60])
    assert check_manifest(load_manifest(file)).findings == ()
    (finding,) = check_manifest(load_manifest(file), images=True).findings
    assert (finding.image_id, "is damaged" in finding.sentence) == ("a", True)


def test_tags_and_labels_that_say_different_things(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    disk.label(tmp_path / "data/SegmentationClass/a.png", (2,))
    report = check_manifest(load_manifest(disk.manifest(tmp_path)))
    assert "step 0: 'dog' is in the labels of 1 image (a) without a tag of it; the label decides." in report.warnings
    assert "step 0: 'cat' is tagged and not labelled in 1 image (a); the label decides." in report.warnings


def test_weights_of_cam_are_opened_and_the_store_of_bank_is_looked_at(tmp_path: Path) -> None:
    """As the trainer's backbone is; a section that names none leaves that to `--set`."""

    def faults(how: dict[str, Any] | None = None, **masks: Any) -> list[str]:
        return told(checked(tmp_path, how={"weights": True, **(how or {})}, encoders=BUILT_IN, masks=masks), "masks.")

    small = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 8]}}
    assert faults(cam={"epochs": 1}) == []
    assert faults(cam={**small, "weights": ""}) == []
    (fault,) = faults(cam={**small, "weights": "mine.safetensors"})
    assert fault.startswith("masks.cam: ")
    assert "mine.safetensors could not be read" in fault
    assert "named by --set weights=" in fault
    assert faults({"weights": False}, cam={**small, "weights": "mine.safetensors"}) == []
    (fault,) = faults(cam={**small, "weights": "builtin:backbone.safetensors"})
    assert "backbone.safetensors does not fit the backbone resnet18" in fault
    (fault,) = faults(cam={"backbone": "resnet1888"})
    assert "resnet1888" in fault
    (fault,) = faults(cam={"backbone": "resnet18", "weights": "timm"})
    assert "offline" in fault
    assert "set weights to a local copy" in fault
    assert "--set weights=FILE" in fault
    (fault,) = faults(bank={"store": "first.zarr"})
    assert fault.startswith("masks.bank: ")
    assert "first.zarr" in fault
    make_store(tmp_path / "first.zarr")
    (fault,) = faults(bank={"store": "first.zarr"})
    assert "holds masks of pottedplant, sheep, tvmonitor, which are not the classes of step 1" in fault


def test_a_dry_run_by_cam_asks_for_its_weights(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": [1], "b": [2]})
    steps = [{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}]
    small = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 8]}}
    file = disk.manifest(tmp_path, steps=steps, masks={"cam": small})
    words = ["generate", "--step", "0", "--source", "cam", "--dry-run", "--manifest", str(file)]
    ended = CliRunner().invoke(cli, words)
    assert ended.exit_code == 0, ended.output
    ended = CliRunner().invoke(cli, [*words, "--set", "weights=mine.safetensors"])
    assert isinstance(ended.exception, WeightsError)
    assert "mine.safetensors could not be read" in str(ended.exception)
    assert not (tmp_path / "masks").exists()


def test_the_command_names_all_faults_and_ends_with_2(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    (tmp_path / "data/JPEGImages/a.jpg").unlink()
    file = disk.manifest(tmp_path, masks={"fmwis": {}, "panett": {}})
    ended = CliRunner().invoke(command, ["check", "--manifest", str(file), "--no-weights"], obj={})
    assert ended.exit_code == 2
    assert "step 0, a: " in ended.stdout
    assert ended.stderr.count("Error: ") == 2


def test_the_table_of_many_classes_of_a_judged_split_shows_what_is_amiss() -> None:
    names = [f"class {identity}" for identity in range(1, 26)]
    rows = [(identity, name, 2 + identity % 3, 2 + identity % 3) for identity, name in enumerate(names, 1)]
    rows[3], rows[5], rows[7] = (4, "class 4", 0, 0), (6, "class 6", 3, 1), (8, "class 8", 0, 7)
    val = Counts(part="val", supervision="", images=40, classes=tuple(rows))
    assert _table(val) == [
        "val: 40 images",
        "   id  class     tagged  labelled",
        "    4  class 4        0         0",
        "    6  class 6        3         1",
        "  23 other classes: labelled in 2 to 7 images each; all of them with --json",
        "",
    ]
    unread = tuple((identity, name, tagged, None) for identity, name, tagged, _ in rows)
    *_, others, _ = _table(replace(val, classes=unread))
    assert others == "  23 other classes: tagged in 2 to 4 images each; all of them with --json"
    good = tuple((identity, name, 1, 1) for identity, name, *_ in rows)
    only = _table(replace(val, classes=good))
    assert only == ["val: 40 images", "  25 other classes: labelled in 1 image each; all of them with --json", ""]
    assert len(_table(replace(val, supervision="pixel"))) == len(_table(replace(val, classes=val.classes[:20]))) + 5


def test_a_source_that_there_is_not_is_refused(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    words = ["manifest", "check", "--manifest", str(disk.manifest(tmp_path)), "--source"]
    result = CliRunner().invoke(cli, [*words, "cams"])
    assert "there is no source 'cams'; did you mean 'cam'" in str(result.exception)
    assert CliRunner().invoke(cli, [*words, "cam"]).exit_code == 0


def test_supports_are_opened_and_counted_and_what_stops_masks_of_them_is_a_fault(tmp_path: Path) -> None:
    steps = [{"classes": [1, 2]}, {"classes": [3], "supervision": "shots"}]
    good = {"image": "c", "class": "horse", "box": [2, 3, 9, 10]}
    report = checked(tmp_path, steps=steps, supports={1: [good]})
    assert report.faults == ()
    assert [counts.supports for counts in report.counts] == [None, {"horse": 1}]
    assert _table(report.counts[1])[1:3] == [
        "   id  class   tagged  labelled  supports",
        "    3  horse        2         2         1",
    ]
    outside = {**good, "image": "b", "box": [2, 3, 90, 10]}
    report = checked(tmp_path, steps=steps, supports={1: [good, outside]})
    assert [counts.supports for counts in report.counts] == [None, {"horse": 1}]
    (fault,) = report.faults
    assert "reaches the pixel (89, 9), but the image is 16 pixels wide" in fault
    report = checked(tmp_path, steps=steps, supports={1: [{**good, "image": "z"}]})
    assert report.counts[1].supports == {"horse": 0}
    (fault,) = report.faults
    assert "'z' is no image of step 1's list" in fault


def test_a_step_of_shots_without_supports_says_where_they_are_looked_at(tmp_path: Path) -> None:
    steps = [{"classes": [1, 2]}, {"classes": [3], "supervision": "shots"}]
    told = "step 1: {}/data_manifest.yaml names no supports; add `supports: {{1: FOLDER}}`, or give them to `generate`"
    report = checked(tmp_path, steps=steps)
    assert any(warning.startswith(told.format(tmp_path)) for warning in report.warnings)
    assert report.faults == ()
    missing = checked(tmp_path, steps=steps, supports={1: "nowhere"})
    assert missing.counts[1].supports == {"horse": 0}
    assert "nowhere is not there; correct the path, or draw supports there" in str(missing.faults)
    assert "names no supports" not in str(missing.warnings)
    named = checked(tmp_path, steps=steps, masks={"panet": {"supports": "elsewhere"}})
    assert "names no supports" not in str(named.warnings)


def test_an_image_without_a_label_is_at_fault_in_the_step_of_tags_alone(tmp_path: Path) -> None:
    """Where labels are the tags, a step of pixel labels has it as unlabelled, whichever step is looked at first."""
    for number, name in enumerate("abc"):
        disk.image(tmp_path / f"data/{name}.jpg", seed=number)
    disk.label(tmp_path / "data/labels/a.png", [1, 3])
    for supervisions, of_tags in ((("pixel", "tags"), "step 1"), (("tags", "pixel"), "step 0")):
        steps = [{"classes": c, "supervision": kind} for c, kind in zip(([1, 2], [3]), supervisions, strict=True)]
        file = disk.manifest(tmp_path, layout="folder", tags="masks", splits={"train": ""}, steps=steps)
        report = check_manifest(load_manifest(file), weights=False)
        assert [(one.part, one.image_id) for one in report.findings] == [(of_tags, "b"), (of_tags, "c")]
        assert any("2 images (b, c) have no pixel labels" in warning for warning in report.warnings)
