"""The manifest's text: what is understood, and how every mistake is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import load_manifest
from wilss.data.protocol import PRESETS
from wilss.data.taxonomy import COCO, VOC
from wilss.errors import ManifestError

ROOT = Path(__file__).parents[4]


def test_defaults(tmp_path: Path) -> None:
    manifest = load_manifest(disk.manifest(tmp_path))
    assert manifest.taxonomy.class_names == disk.CLASSES
    assert manifest.protocol.steps == ((1, 2), (3,))
    assert (manifest.protocol.name, manifest.protocol.setting) == ("2-1", "overlap")
    assert (manifest.supervision(0), manifest.supervision(1)) == ("pixel", "tags")
    assert manifest.prompts == {1: ("cat",), 2: ("dog",), 3: ("horse",)}
    assert manifest.written_prompts == frozenset()
    assert manifest.background_prompts is None
    assert manifest.masks == {}
    assert manifest.encoders.clip.model == "ViT-B-16-quickgelu"
    assert manifest.encoders.vit.library == "timm"
    assert manifest.data["main"].tags.kind == "voc-main"


def test_everything_written_out(tmp_path: Path) -> None:
    manifest = load_manifest(
        disk.manifest(
            tmp_path,
            title="Pets of ours",
            licenses=[{"name": "CC0", "path": "LICENSE"}],
            names={0: "background", 1: {"name": "cat", "prompts": ["cat", "kitten"]}, 2: "dog", 3: "horse"},
            steps=[{"classes": ["cat", 2], "supervision": "tags"}, {"classes": ["Horse"], "supervision": "pixel"}],
            setting="disjoint",
            masks={"fmwiss": {"affinity": "kk", "seeds": 4}},
            background_prompts=["grass", "sky"],
            encoders={
                "clip": {
                    "library": "open_clip",
                    "config": "builtin:c.json",
                    "file": "w/clip.safetensors",
                    "sha256": "A" * 64,
                },
                "vit": {
                    "library": "timm",
                    "model": "vit_tiny_patch16_224",
                    "args": {"depth": 4},
                    "pretrained": "random",
                },
            },
        )
    )
    assert manifest.title == "Pets of ours"
    assert manifest.prompts[1] == ("cat", "kitten")
    assert manifest.written_prompts == {1}
    assert manifest.protocol.steps == ((1, 2), (3,))
    assert manifest.protocol.setting == "disjoint"
    assert [manifest.supervision(t) for t in (0, 1)] == ["tags", "pixel"]
    assert manifest.masks["fmwiss"]["seeds"] == 4
    assert manifest.background_prompts == ("grass", "sky")
    assert manifest.encoders.clip.config == "builtin:c.json"
    assert manifest.encoders.clip.file == str(tmp_path / "w/clip.safetensors")
    assert manifest.encoders.clip.sha256 == "a" * 64
    assert manifest.encoders.vit.args == {"depth": 4}


def test_vit_may_be_the_network_of_clip(tmp_path: Path) -> None:
    clip = {"library": "open_clip", "model": "ViT-B-32", "file": "w.pt", "pretrained": "openai", "sha256": "A" * 64}
    same = load_manifest(disk.manifest(tmp_path, encoders={"clip": clip, "vit": "same"})).encoders
    assert same.vit == same.clip
    assert same.is_one
    written = load_manifest(disk.manifest(tmp_path, encoders={"clip": clip, "vit": clip})).encoders
    assert written.is_one
    other = load_manifest(disk.manifest(tmp_path, encoders={"clip": clip, "vit": {**clip, "model": "ViT-B-16"}}))
    assert not other.encoders.is_one


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_protocol_by_its_name(tmp_path: Path, name: str) -> None:
    names = "coco" if name == "coco-voc" else "voc"
    manifest = load_manifest(disk.manifest(tmp_path, names=names, steps=None, protocol=name, setting="disjoint"))
    assert manifest.protocol.steps == PRESETS[name]
    assert manifest.protocol.name == name
    assert manifest.taxonomy is (COCO if name == "coco-voc" else VOC)
    assert [manifest.supervision(t) for t in range(2)] == ["pixel", "tags"]


def test_a_protocol_whose_steps_name_their_data(tmp_path: Path) -> None:
    steps = [{"data": "other", "split": "extra"}, {"supervision": "pixel"}]
    manifest = load_manifest(
        disk.manifest(
            tmp_path,
            names="voc",
            protocol="15-5",
            steps=steps,
            data={"other": {"path": "elsewhere", "splits": {"extra": "extra"}}},
        )
    )
    assert [(s.data, s.split, s.supervision) for s in manifest.steps] == [
        ("other", "extra", "pixel"),
        ("main", "train", "pixel"),
    ]


def test_the_environment_fills_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = disk.manifest(tmp_path, path="${PETS_ROOT:-fallback}/x")
    monkeypatch.delenv("PETS_ROOT", raising=False)
    assert load_manifest(file).data["main"].root == tmp_path / "fallback/x"
    monkeypatch.setenv("PETS_ROOT", "/elsewhere")
    assert load_manifest(file).data["main"].root == Path("/elsewhere/x")
    disk.manifest(tmp_path, path="${PETS_ROOT_UNSET}/x")
    with pytest.raises(ManifestError, match="path: the variable PETS_ROOT_UNSET is not set; set it"):
        load_manifest(file)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"spilts": {}}, r"spilts: 'spilts' is not a key here; did you mean 'splits'"),
    "unknown key inside": (
        {"encoders": {"vit": {"library": "timm", "modle": "x"}}},
        r"encoders\.vit\.modle: 'modle' is not a key here; did you mean 'model'",
    ),
    "unknown key in a step": ({"steps": [{"clases": [1]}]}, r"steps\.0\.clases: .*did you mean 'classes'"),
    "unknown key in tags": (
        {"tags": {"form": "csv"}},
        r"tags\.form: 'form' is not a key here; did you mean 'from'",
    ),
    "name": ({"name": "My Data"}, r"name: is 'My Data'; a manifest's name is made of a-z"),
    "sha256": (
        {"encoders": {"vit": {"library": "timm", "model": "x", "sha256": "12"}}},
        r"encoders\.vit\.sha256: is '12'; a sha256 is 64",
    ),
    "version": ({"schema_version": 2}, r"schema_version: is 2; it must be 1"),
    "layout": ({"layout": "vok"}, r"layout: is 'vok'; it must be 'voc', 'coco' or 'folder'"),
    "tags kind": ({"tags": "vocmain"}, r"tags\.from: is 'vocmain'; it must be 'voc-main'"),
    "yaml's no": ({"names": ["background", "yes", False]}, r"names\.2: "),
    "unknown class id": ({"steps": [{"classes": [1, 9]}]}, r"steps\.0\.classes\.1: class 9 is not among .*1 to 3"),
    "unknown class name": ({"steps": [{"classes": ["hrose"]}]}, r"steps\.0\.classes\.0: .*did you mean 'horse'"),
    "a class at 0": (
        {"names": {0: "road", 1: "cat", 2: "dog", 3: "horse"}},
        r"names\.0: is 'road', but id 0 is background",
    ),
    "background as a class": ({"steps": [{"classes": [0]}]}, r"steps\.0\.classes\.0: class 0"),
    "a class twice": (
        {"steps": [{"classes": [1, 2]}, {"classes": [3, 1]}]},
        r"steps\.1\.classes\.1: class 1 stands in steps\.0\.classes\.0 already",
    ),
    "no class": ({"steps": [{"supervision": "tags"}]}, r"steps\.0: has no `classes`"),
    "a class of no kind": ({"steps": [{"classes": [True]}]}, r"steps\.0\.classes\.0: True is neither"),
    "neither steps nor protocol": ({"steps": None}, "neither `steps` nor `protocol`"),
    "protocol and classes": ({"protocol": "15-5", "names": "voc"}, r"steps: lists classes, and so does"),
    "protocol for others": ({"protocol": "15-5", "steps": None}, r"protocol: .*20 classes, but pets has 3"),
    "unknown protocol": ({"protocol": "15-55", "steps": None, "names": "voc"}, r"did you mean '15-5'"),
    "number of steps": (
        {"protocol": "15-5", "names": "voc", "steps": [{}, {}, {}]},
        r"steps: has 3 entries.* 2 steps",
    ),
    "a gap in names": ({"names": {0: "background", 2: "dog"}}, r"names: has no id 1"),
    "a name twice": ({"names": ["background", "cat", "cat"]}, r"names: .*'cat' twice"),
    "unknown names": ({"names": "vok"}, r"names: 'vok' is no known set of names; did you mean 'voc'"),
    "no data": ({"path": None}, "names no data; add `path"),
    "unknown data": ({"steps": [{"classes": [1], "data": "coko"}]}, r"steps\.0\.data: there is no data set 'coko'"),
    "unknown split": (
        {"steps": [{"classes": [1], "split": "trian"}]},
        r"steps\.0\.split: main has no split 'trian'; did you mean 'train'",
    ),
    "evaluation's data": (
        {"evaluation": {"val": ["cooc"]}},
        r"evaluation\.val\.0\.data: there is no data set 'cooc'",
    ),
    "evaluation's split": (
        {"evaluation": {"val": [{"split": "v"}]}},
        r"evaluation\.val\.0\.split: main has no split 'v'",
    ),
    "weights twice": (
        {"encoders": {"vit": {"library": "timm", "model": "x", "file": "f", "pretrained": "random:1"}}},
        r"encoders\.vit: names weights twice, by `pretrained: random:1` and by `file`",
    ),
    "no network": ({"encoders": {"vit": {"library": "timm", "file": "f"}}}, r"encoders\.vit: names no network"),
    "vit same in a mapping": (
        {"encoders": {"vit": {"library": "timm", "model": "same"}}},
        r"encoders\.vit: names the model 'same'; write `vit: same` for the network of clip",
    ),
    "vit misspelt": ({"encoders": {"vit": "sane"}}, r"encoders\.vit: is 'sane'; write `same` for the network of clip"),
    "wrong library": (
        {"encoders": {"clip": {"library": "timm", "model": "x"}}},
        r"encoders\.clip\.library: is 'timm', whose networks have no text side; name that of TIPSv2 by `text: FILE`",
    ),
    "a text side that is there": (
        {"encoders": {"clip": {"library": "open_clip", "model": "x", "text": "t.npz"}}},
        r"encoders\.clip\.text: is for TIPSv2 of timm",
    ),
    "a text side of vit": (
        {"encoders": {"vit": {"library": "timm", "model": "x", "text": "t.npz"}}},
        r"encoders\.vit\.text: is for clip; leave it out, or write `vit: same`",
    ),
    "drawn into another layout": (
        {"layout": "folder", "generate": {"with": "shapes", "train": 1}},
        r"layout: must be voc",
    ),
    "drawn by another": (
        {"generate": {"with": "shops", "train": 1}},
        r"generate\.with: is 'shops'; it must be 'shapes'",
    ),
    "an empty prompt": (
        {"names": ["background", {"name": "cat", "prompts": [" "]}], "steps": [{"classes": [1]}]},
        r"names\.1\.prompts: holds an empty prompt",
    ),
    "coco tags without a file": ({"tags": "coco"}, r"tags: tags from coco need `file"),
    "a data set called main": ({"data": {"main": {"path": "x"}}}, r"data\.main: 'main' is the data at the top"),
    "data without a path": ({"data": {"more": {"layout": "voc"}}}, r"data\.more\.path: this key is missing"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_mistake_is_told_with_file_key_and_mend(tmp_path: Path, name: str) -> None:
    changes, told = WRONG[name]
    file = disk.manifest(tmp_path, **changes)
    with pytest.raises(ManifestError, match=told) as caught:
        load_manifest(file)
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).rstrip().endswith(".")


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    file = disk.text(
        tmp_path / "m.yaml",
        "schema_version: 1", "name: pets", "path: data", "names: [background, cat]", "steps:", "  - classes: [1]",
        "  - classes:", "      - 1",
    )  # fmt: skip
    with pytest.raises(ManifestError, match=r"m\.yaml, line 8, steps\.1\.classes\.0: "):
        load_manifest(file)


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = disk.manifest(tmp_path, layout="x", setting="y")
    with pytest.raises(ManifestError) as caught:
        load_manifest(file)
    assert len(str(caught.value).splitlines()) == 2


YAML_FAULTS = {
    "empty": (b"", "is empty"),
    "only a comment": (b"# nothing\n", "is empty"),
    "a list": (b"- 1\n", "is no mapping"),
    "unclosed": (b"a: [1, 2\nb: 3\n", "is not plain YAML"),
    "tab": (b"a:\n\t- 1\n", "line 2"),
    "python object": (b"a: !!python/object/apply:os.system ['true']\n", "is not plain YAML"),
    "two documents": (b"a: 1\n---\nb: 2\n", "is not plain YAML"),
    "key twice": (b"a: 1\nb:\n  c: 1\n  c: 2\n", r"b\.c: stands there twice"),
    "latin-1": ("title: k\xe4se\n".encode("latin-1"), "is not plain YAML"),
    "binary": (b"\x00\x01\x02", "is not plain YAML"),
    "loop": (b"a: &a [*a]\n", "refers to itself"),
    "unhashable key": (b"{[1]: 2}\n", "is not plain YAML"),
    "too long": (b"a: '" + b"x" * (1 << 20) + b"'\n", "larger than 1 MiB"),
    "too deep": (b"[" * 20000, "nested too deeply"),
    "a bad date": (b"a: 2024-99-99\n", "is not plain YAML"),
}


@pytest.mark.parametrize("name", sorted(YAML_FAULTS))
def test_a_file_that_is_no_plain_yaml_is_one_sentence(tmp_path: Path, name: str) -> None:
    content, told = YAML_FAULTS[name]
    (tmp_path / "m.yaml").write_bytes(content)
    with pytest.raises(ManifestError, match=told) as caught:
        load_manifest(tmp_path / "m.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_an_alias_bomb_is_refused_before_it_is_written_out(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    disk.text(tmp_path / "m.yaml", *lines)
    with pytest.raises(ManifestError, match="too many values"):
        load_manifest(tmp_path / "m.yaml")


def test_an_honest_alias_is_fine(tmp_path: Path) -> None:
    file = disk.manifest(tmp_path, steps=None)
    with file.open("a") as more:
        more.write("steps:\n- &base {classes: [1], supervision: tags}\n- {<<: *base, classes: [2]}\n")
    assert load_manifest(file).protocol.steps == ((1,), (2,))


def test_a_manifest_that_is_not_there_or_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is not there; pass --manifest"):
        load_manifest(tmp_path / "none.yaml")
    with pytest.raises(ManifestError, match="is not there"):
        load_manifest(tmp_path)
    disk.manifest(tmp_path)
    assert load_manifest(tmp_path).path == tmp_path / "data_manifest.yaml"


def test_a_manifest_that_links_to_itself_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / "a.yaml")


SHIPPED = sorted([ROOT / "data_manifest.yaml", *ROOT.glob("workflows/*/data_manifest.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_the_manifests_that_we_ship_load(path: Path) -> None:
    manifest = load_manifest(path, check_lock=False)
    assert manifest.protocol.num_steps >= 2
    assert "val" in {split for spec in manifest.data.values() for split in spec.splits}
    assert yaml.safe_load(path.read_text())["title"] == manifest.title


def test_the_shipped_voc_manifests_are_the_fields_protocols() -> None:
    voc = load_manifest(ROOT / "workflows/voc-15-5/data_manifest.yaml")
    assert (voc.taxonomy, voc.protocol.name) == (VOC, "15-5")
    assert voc.prompts[VOC.class_names.index("pottedplant")] == ("potted plant",)
    both = load_manifest(ROOT / "workflows/coco-voc/data_manifest.yaml")
    assert (both.taxonomy, both.protocol.setting) == (COCO, "disjoint")
    assert [(step.data, step.supervision) for step in both.steps] == [("coco", "pixel"), ("voc", "tags")]
    assert both.parts["val"] == (("coco", "val"), ("voc", "val"))


def test_the_built_in_manifest_names_the_classes_that_are_drawn() -> None:
    from wilss.data.shapes import CLASS_NAMES

    manifest = load_manifest(ROOT / "data_manifest.yaml", check_lock=False)
    assert manifest.taxonomy.class_names == CLASS_NAMES
