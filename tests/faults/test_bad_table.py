"""Bad input of every kind under every command, a row each: what is spoilt, what meets it, and what is then said.

Two tables. REFUSED: the command ends at once with one sentence that names the file and the fix. ALONE: one image (or
its label, tag or name) cannot be used; it is named, and all that is made of the others is what an unbroken run makes.
Either way nothing that was read is changed, and nothing is left behind in the place of the output.

Other tables, which these rows do not repeat: images, lists and weights under `generate` in test_bad_input.py; words and
manifests under `generate` in test_cli.py; stores, checkpoints and disks under `wilss-train` in test_train_bad_input.py;
shots in test_supports.py; words of embeddings in test_panet_kills.py; any bytes at all in test_fuzz.py, whose finds are
marked here.
"""

import functools
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.faults.cli import ENCODERS, FMWISS, Outcome, listing, masks
from tests.faults.train_cli import IMAGES, TRAIN, walk
from tests.wilss.data import data_on_disk as disk
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss_masks.cli import main as masks_main
from wilss_train import cli as train_cli

Spoil = Callable[[Path], object]
BROKEN = "im02"
PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "wilss-masks": masks_main,
    "wilss-train": train_cli.train,
    "wilss-eval": train_cli.evaluate,
    "wilss-predict": train_cli.predict,
    "wilss-memory": train_cli.memory,
}
OF_DEVICE = ("generate", "wilss-train", "wilss-eval", "wilss-predict")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never changed: images with labels and tags, stores of both steps, one with score maps, and a run of step 0."""
    root = tmp_path_factory.mktemp("table") / "with spaces and \u00fcml\u00e4ut"
    root.mkdir()
    train = {**TRAIN, "base": {"epochs": 1}, "epochs": 1, "fmwiss": {"warmup_epochs": 0}}
    masks_of = {"fmwiss": FMWISS, "panet": {"vit_size": 32}}
    walk(root, encoders=ENCODERS, masks=masks_of, background_prompts=["wall"], train=train)
    shutil.copy(Path(__file__).with_name("cli.py"), root / "some.txt")
    (root / "clip.json").write_text(json.dumps(CLIP))
    rows = [{"image": name, "class": "horse", "box": [20, 12, 27, 28]} for name in IMAGES[:3]]
    (root / "supports.yaml").write_text(yaml.safe_dump(rows))
    shapes = {f"{name}.jpg": [disk.box(1, 1, 5, 5, 10 * n)] for n, name in enumerate("abc", start=1)}
    disk.coco(root / "coco", "train", shapes, disk.CLASSES[1:])
    coco = {**_said(root), "path": "./coco", "layout": "coco", "splits": {"train": "train"}}
    (root / "coco.yaml").write_text(yaml.safe_dump(coco, sort_keys=False))
    (root / "list.txt").write_text("\n".join(f"data/JPEGImages/{name}.jpg" for name in IMAGES[:4]))
    for made in ("generate --step 1 --source fmwiss --keep scores --out kept.zarr", "wilss-memory info base"):
        assert call(root, made).code == 0
    return root


@pytest.fixture(scope="module")
def copy(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(whole, tmp_path_factory.mktemp("copy") / whole.name, symlinks=True)


@pytest.fixture
def root(whole: Path, copy: Path) -> Iterator[Path]:
    """A copy to spoil. What was changed in it is put right afterwards: a copy for each row would take as long as it."""
    yield copy
    mend(copy, whole)


def mend(copy: Path, whole: Path) -> None:
    """Make the folder `copy` again what `whole` is."""
    found, wanted = listing(copy, but="nothing"), _unspoilt(whole)
    for name, state in found.items():
        path = copy / name
        if wanted.get(name) == state or (is_folder(path) and is_folder(whole / name)):
            continue
        if is_folder(path):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in wanted:  # folders come before what is in them
        if not os.path.lexists(copy / name):
            if is_folder(whole / name):
                (copy / name).mkdir()
            else:
                shutil.copy2(whole / name, copy / name, follow_symlinks=False)


@functools.cache
def _unspoilt(whole: Path) -> dict[str, tuple[int, int]]:
    return listing(whole, but="nothing")


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


@pytest.fixture(scope="module")
def unbroken(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The root after a command that met nothing bad, by the words of the command."""
    done: dict[str, Path] = {}

    def ran(words: str) -> Path:
        if words not in done:
            done[words] = shutil.copytree(whole, tmp_path_factory.mktemp("unbroken") / whole.name, symlinks=True)
            made = call(done[words], words)
            assert made.code == 0, made.said
        return done[words]

    return ran


def call(root: Path, words: str) -> Outcome:
    """A command in this process and in the folder `root`; without a program's name it is one of wilss-masks."""
    given = words.split()
    program = given.pop(0) if given[0] in PROGRAMS else "wilss-masks"
    if {program, given[0]} & set(OF_DEVICE):
        given += ["--device", "cpu"]
    out, err, code, before = io.StringIO(), io.StringIO(), None, Path.cwd()
    os.chdir(root)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            PROGRAMS[program](given)
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(before)
    return Outcome(int(code or 0), out.getvalue(), err.getvalue())


# -- how things are spoilt ----------------------------------------------------------------------------------


def _said(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "data_manifest.yaml").read_text())
    return found


def image(how: Callable[[Path], object], name: str = BROKEN) -> Spoil:
    return lambda root: how(root / f"data/JPEGImages/{name}.jpg")


def label(how: Callable[[Path], object], name: str = BROKEN) -> Spoil:
    return lambda root: how(root / f"data/SegmentationClass/{name}.png")


def file(name: str, how: Callable[[Path], object]) -> Spoil:
    return lambda root: how(root / name)


def holds(content: bytes | str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(share: float = 1.0, less: int = 0) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share) - less])


def flip(at: float) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(len(data) * at)] ^= 0x55
        path.write_bytes(data)

    return spoil


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Remove what is there, and make something of another kind."""

    def spoil(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        make(path)

    return spoil


FOLDER, PIPE, NOTHING = instead(Path.mkdir), instead(os.mkfifo), instead(lambda path: None)
LOOP, DEVICE = instead(lambda path: path.symlink_to(path)), instead(lambda path: path.symlink_to("/dev/zero"))


def saved(make: Callable[[Any], Any], **options: Any) -> Callable[[Path], object]:
    """The picture made into another one."""

    def spoil(path: Path) -> None:
        with Image.open(path) as opened:
            picture = make(opened.convert("RGB") if path.suffix == ".jpg" else np.array(opened))
        path.unlink()
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)

    return spoil


def both(*spoils: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: [spoil(path) for spoil in spoils]


def listed(line: str) -> Spoil:
    """A line more in the list of step 1, at its end."""

    def spoil(root: Path) -> None:
        path = root / "data/ImageSets/Segmentation/train.txt"
        path.write_text(path.read_text() + line)

    return spoil


LIST = "data/ImageSets/Segmentation/train.txt"


def manifest(**changes: Any) -> Spoil:
    return lambda root: (root / "data_manifest.yaml").write_text(
        yaml.safe_dump({**_said(root), **changes}, sort_keys=False)
    )


def in_train(**changes: Any) -> Spoil:
    return lambda root: manifest(train={**_said(root)["train"], **changes})(root)


def line(text: str) -> Spoil:
    return file("data_manifest.yaml", lambda path: path.write_text(f"{path.read_text()}\n{text}\n"))


def in_json(name: str, change: Callable[[Any], object]) -> Spoil:
    def spoil(root: Path) -> None:
        said = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps(change(said) or said))

    return spoil


def attribute(store: str, **changes: Any) -> Spoil:
    """Other attributes of a store; None removes one."""

    def change(said: Any) -> None:
        said["attributes"].update(changes)
        for name in [name for name, value in changes.items() if value is None]:
            del said["attributes"][name]

    return in_json(f"{store}/zarr.json", change)


def of_array(store: str, name: str, change: Callable[[Any], object]) -> Spoil:
    return in_json(f"{store}/zarr.json", lambda said: change(said["consolidated_metadata"]["metadata"][name]) and None)


def grown(said: Any) -> None:
    """The root of a store, which now says that it has 10**8 images, in every array that is as long."""
    arrays = said["consolidated_metadata"]["metadata"]
    size = arrays["mask"]["chunk_grid"]["configuration"]["chunk_shape"][0]
    for array in arrays.values():
        lengths = {"image": 10**8, "shard": -(-(10**8) // size)}
        array["shape"][0] = lengths.get(array["dimension_names"][0], array["shape"][0])


def vector(store: str, name: str, values: Any) -> Spoil:
    """Other values in one of a store's small arrays, written as zarr writes them."""

    def spoil(root: Path) -> None:
        import zarr

        array: Any = zarr.open_array(root / store / name, mode="r+")
        array[...] = values

    return spoil


def swapped(one: str, other: str) -> Spoil:
    def spoil(root: Path) -> None:
        first, second = (root / one).read_bytes(), (root / other).read_bytes()
        (root / one).write_bytes(second)
        (root / other).write_bytes(first)

    return spoil


def header(length: int, text: bytes = b"{}") -> Callable[[Path], object]:
    return holds(length.to_bytes(8, "little") + text)


def rewritten(change: Callable[[dict[str, Any], dict[str, Any]], object], redigest: bool = True) -> Spoil:
    """The checkpoint with other weights or another header, and the digest that belongs to it."""

    def spoil(root: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import save_file

        from wilss.models.tensor_files import digest_of_tensors

        path = root / "base" / MODEL_FILE
        with safe_open(path, framework="pt") as opened:
            said = json.loads(opened.metadata()["wilss"])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
        change(weights, said)
        said["weights_sha256"] = digest_of_tensors(weights) if redigest else said["weights_sha256"]
        save_file(weights, path, {"wilss": json.dumps(said)})

    return spoil


def pickled_array(path: Path) -> None:
    np.save(path, np.array([{"im00": 1}], dtype=object), allow_pickle=True)


def promising_array(path: Path) -> None:
    """A header that promises 10**12 rows, and no rows."""
    np.save(path, np.zeros((2, 3), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"(2, 3), }" + b" " * 12, b"(1000000000000, 3), }"))


def promising_texts(path: Path) -> None:
    """A chunk of texts that says that it has 2**31 - 1 of them."""
    from numcodecs.zstd import Zstd

    path.write_bytes(Zstd().encode(b"\xff\xff\xff\x7f" + Zstd().decode(path.read_bytes())[4:]))


def tags_from(kind: str, name: str, make: Callable[[Path], object]) -> Spoil:
    return lambda root: (manifest(tags={"from": kind, "file": name})(root), make(root / name))


def xml(**files: str) -> Spoil:
    """Tags from XML: a horse on every image, but for what is given."""

    def spoil(root: Path) -> None:
        manifest(tags="voc-xml")(root)
        for name in IMAGES:
            text = "<annotation><object><name>horse</name></object></annotation>"
            disk.text(root / f"data/Annotations/{name}.xml", files.get(name, text))

    return spoil


def annotations(change: Callable[[Any], object]) -> Spoil:
    return in_json("coco/annotations/instances_train.json", change)


def supports(text: str) -> Spoil:
    return file("supports.yaml", holds(text))


# -- what is refused ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """code: of the exit. parts: of the one sentence; the file, and the fix."""

    kind: str
    what: str
    spoil: Spoil
    words: str
    code: int
    parts: tuple[str, ...]


CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "pool_type": "avg"},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
GENERATE = "generate --step 1 --out out/s.zarr --source fmwiss"
LABELS = "generate --step 0 --out out/s.zarr --source annotation"
SHOTS = "generate --step 1 --out out/s.zarr --source panet --supports supports.yaml"
TRAINS = "wilss-train --masks masks/step-1.zarr --from base --out out/run --split none"
EVAL = "wilss-eval base --json out/scores.json"
PREDICT = "wilss-predict base data/JPEGImages --out out/labels --no-overlays"
M = "data_manifest.yaml"
DEEP = "[" * 100_000 + "]" * 100_000
EVIL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'

REFUSED: list[Row] = [
    # lists
    Row("list", "NUL bytes", file(LIST, holds(b"im00\0im01\n")), LABELS, 2, (LIST, "name a text file")),
    Row("list", "UTF-16 without a mark", file(LIST, holds("im00\nim01".encode("utf-16-le"))), LABELS, 2, (LIST,
        "is a")),
    Row("list", "a folder", file(LIST, FOLDER), LABELS, 2, ("'train' is not there", "copy it there")),
    Row("list", "a pipe", file(LIST, PIPE), "manifest check", 2, ("'train' is not there", "copy it there")),
    Row("list", "a link to itself", file(LIST, LOOP), GENERATE, 2, ("'train' is not there", "copy it there")),
    Row("list", "empty, under eval", file("data/ImageSets/Segmentation/val.txt", holds("")), EVAL, 2,
        ("val.txt names no image", "write one per line")),
    Row("list", "of predict: UTF-16", file("list.txt", holds("a.jpg".encode("utf-16"))),
        "wilss-predict base --list list.txt --out out", 2, ("list.txt is not UTF-8", "write one path per line")),
    Row("list", "of predict: NUL", file("list.txt", holds(b"a\0.jpg\n")),
        "wilss-predict base --list list.txt --out out", 2, ("list.txt", "write one path per line")),
    Row("list", "of predict: a folder", file("list.txt", FOLDER),
        "wilss-predict base --list list.txt --out out", 2, ("list.txt cannot be read", "give the path of a text file")),
    Row("list", "of predict: empty", file("list.txt", holds("\n \n")),
        "wilss-predict base --list list.txt --out out", 2, ("list.txt names no image", "write one path per line")),
    Row("list", "of labelled images: gone", file("list.txt", NOTHING),
        "wilss-train --masks masks/step-0.zarr --method pseudoseg --labelled list.txt --out out/run --split none", 2,
        ("list.txt", "not there")),
    # tags
    Row("tags", "npy with objects", tags_from("npy", "tags.npy", pickled_array), LABELS, 2,
        ("tags.npy holds pickled objects", "save it as plain numbers")),
    Row("tags", "npy that promises 10**12 rows", tags_from("npy", "tags.npy", promising_array), "manifest check", 2,
        ("tags.npy is no whole npy file", "copy it again")),
    Row("tags", "npy with half a header", tags_from("npy", "tags.npy", holds(b"\x93NUMPY\x01\0\x0e\0{'descr': (   \n")),
        LABELS, 2, ("tags.npy is no whole npy file", "copy it again")),  # fuzz: tokenize.TokenError
    Row("tags", "npy of the wrong width", tags_from("npy", "tags.npy", lambda p: np.save(p, np.zeros((14, 9)))),
        LABELS, 2,
        ("tags.npy is float64 of shape (14, 9)", "it needs a row per image")),
    Row("tags", "csv with a field without end", tags_from("csv", "tags.csv", holds('im00,"' + "x" * 200_000)), LABELS,
        2,
        ("tags.csv is not a table", "fix that line")),
    Row("tags", "csv with short rows", tags_from("csv", "tags.csv", holds("id,cat,dog\nim00,1\n")), LABELS, 2,
        ("tags.csv, row 2 has 2 cells", "every row needs all")),
    Row("tags", "coco json with a list for an id", tags_from("coco", "tags.json", holds(json.dumps(
        {"images": [{"id": 1, "file_name": "im00.jpg"}], "categories": [{"id": 1, "name": "cat"}],
         "annotations": [{"image_id": [1], "category_id": 1}]}))), LABELS, 2,
        ("tags.json: its annotation 0", "fix it")),  # fuzz: TypeError
    # manifests
    Row("manifest", "a pipe", file(M, PIPE), "manifest check", 2, (M, "is no plain file")),
    Row("manifest", "endless", file(M, DEVICE), LABELS, 2, (M, "is no plain file")),
    Row("manifest", "a folder", file(M, FOLDER), "sheet kept.zarr --out out/s.png", 2, (M, "pass --manifest")),
    Row("manifest", "comments alone", file(M, holds("# nothing\n")), "evaluate kept.zarr --json out/s.json", 2,
        (M, "is empty", "manifest init")),
    Row("manifest", "Latin-1", file(M, holds("name: caf\xe9\n".encode("latin-1"))), "manifest lock", 2,
        (M, "is not plain YAML", "fix that line")),
    Row("manifest", "a tab", line("steps:\n\t- 1"), TRAINS, 2, (M, "is not plain YAML", "fix that line")),
    Row("manifest", "refers to itself", line("title: &a [*a]"), EVAL, 2, (M, "refers to itself", "write it out")),
    Row("manifest", "nested too deeply", file(M, holds(DEEP)), LABELS, 2, (M, "nested too deeply", "write it flat")),
    Row("manifest", "two documents", line("---\nname: b"), LABELS, 2, (M, "is not plain YAML")),
    Row("manifest", "a date for a name", line("title: 2024-02-30"), LABELS, 2, (M, "is not plain YAML", "fix")),
    Row("manifest", "a year for a name", manifest(title=2024), LABELS, 2, (M, "title", "put it in quotes")),
    Row("manifest", "merged keys", line("licenses:\n  <<: [1]"), LABELS, 2, (M, "fix that line")),
    Row("manifest", "a number of 5,000 digits", line("title: " + "9" * 5000), LABELS, 2, (M, "shorten it")),
    Row("manifest", "a NUL in a path", line('labels: "a\\0b"'), LABELS, 2,
        (M, "labels: holds a character", "write it again")),  # fuzz: ValueError
    Row("manifest", "half a character", line('images: "a\\uD800"'), "manifest check", 2, (M, "images",
        "write it again")),
    Row("manifest", "a name of 5,000 letters for a list", manifest(splits={"train": "a" * 5000}), LABELS, 2,
        (M, "has 5000 characters", "shorten it")),
    Row("manifest", "a name of 300 letters for a list", manifest(splits={"train": "a" * 300}), LABELS, 2,
        (M, "is not there", "correct `splits`")),
    Row("manifest", "a name of 300 letters for the data", manifest(path="a" * 300), LABELS, 2,
        (M, "cannot be opened", "check its links")),
    Row("manifest", "300 names", manifest(names={0: "background"} | {i: f"n{i}" for i in range(1, 300)}), LABELS, 2,
        (M, "names", "name 1 to")),
    Row("manifest", "ids with a gap", manifest(names={0: "background", 5: "cat"}), LABELS, 2, (M, "number them 0, 1")),
    Row("manifest", "a key that is no text", line("5: 6"), LABELS, 2, (M, "5")),
    Row("manifest", "no number for a rate", in_train(lr=float("nan")), TRAINS, 2, (M, "lr is nan", "above 0")),
    Row("manifest", "infinite", in_train(epochs=float("inf")), TRAINS, 2, (M, "epochs must be a whole number")),
    Row("manifest", "too large for a number", in_train(lr=10**400), TRAINS, 2, (M, "lr must be a number")),
    Row("manifest", "negative", in_train(weight_decay=-1), TRAINS, 2, (M, "weight_decay is -1.0", "0 or more")),
    Row("manifest", "a table for a number", in_train(crop={"a": 1}), TRAINS, 2, (M, "crop must be a whole number")),
    Row("manifest", "a word for a section", manifest(train="quick"), TRAINS, 2, (M, "train")),
    # prompts
    Row("prompts", "none", manifest(names={0: "background", 1: {"name": "cat", "prompts": []}},
        steps=[{"classes": [1]}]), GENERATE, 2,
        (M, "names.1.prompts")),
    Row("prompts", "a blank one", manifest(names={0: "background", 1: {"name": "cat", "prompts": [" "]}},
        steps=[{"classes": [1]}]), GENERATE, 2,
        (M, "holds an empty prompt", "remove it")),
    Row("prompts", "a blank background", manifest(background_prompts=[""]), GENERATE, 2,
        (M, "background_prompts.0", "remove it")),
    Row("prompts", "numbers", manifest(background_prompts=[1]), GENERATE, 2, (M, "put it in quotes")),
    # lock files
    Row("lock", "a folder", file("data_manifest.lock.yaml", Path.mkdir), LABELS, 2, ("lock.yaml", "check the path")),
    Row("lock", "a pipe", file("data_manifest.lock.yaml", os.mkfifo), LABELS, 2, ("lock.yaml", "no plain file")),
    Row("lock", "a list", file("data_manifest.lock.yaml", holds("[1, 2]")), EVAL, 2,
        ("lock.yaml is no lock file", "remove it and lock again")),
    Row("lock", "of another version", file("data_manifest.lock.yaml", holds("{lock_version: 9, manifest: x}")), LABELS,
        2,
        ("lock.yaml is no lock file", "remove it and lock again")),
    # supports
    Row("supports", "a table", supports("a: 1"), SHOTS, 2, ("supports.yaml: is no list of supports", "write e.g.")),
    Row("supports", "an unknown key", supports("- {image: im00, clas: horse}"), SHOTS, 2,
        ("supports.yaml", "'clas' is not a key here; did you mean 'class'")),
    Row("supports", "a box of three", supports("- {image: im00, class: horse, box: [1, 2, 3]}"), SHOTS, 2,
        ("supports.yaml, line 1", "0.box")),
    Row("supports", "a box of fractions", supports("- {image: im00, class: horse, box: [0.5, 2, 3, 4]}"), SHOTS, 2,
        ("supports.yaml, line 1", "0.box.0", "fractional")),
    Row("supports", "a box beyond any number", supports(f"- {{image: im00, class: horse, box: [0, 0, 1, {10**30}]}}"),
        SHOTS, 2, ("supports.yaml, line 1", "reaches the pixel")),
    Row("supports", "the same twice", supports("- {image: im00, class: horse}\n- {image: im00, class: 3}"), SHOTS, 2,
        ("supports.yaml", "is the same image and class", "keep one")),
    Row("supports", "a map that is a pipe", lambda root: (os.mkfifo(root / "map.png"), supports(
        "- {image: im00, class: horse, kind: mask, file: map.png}")(root)), SHOTS, 1, ("map.png", "check the list")),
    Row("supports", "a pipe", file("supports.yaml", PIPE), SHOTS, 2, ("supports.yaml", "no plain file")),
    # weights
    Row("weights", "a header of 2**60 bytes", lambda root: (header(2**60)(root / "w.safetensors"), manifest(
        encoders={**ENCODERS, "vit": {"library": "timm", "model": "vit_tiny_patch16_224.augreg_in21k",
        "file": "w.safetensors"}})(root)),
        GENERATE, 1, ("w.safetensors", "fetch it again")),
    Row("weights", "a header nested too deeply", lambda root: (
        header(len(DEEP), DEEP.encode())(root / "w.safetensors"), in_train(backbone_weights="w.safetensors")(root)),
        "wilss-train --masks masks/step-0.zarr --out out/run --split none", 1, ("w.safetensors", "fetch it again")),
    Row("weights", "a .pt with its first byte changed", lambda root: (torch.save({"a": torch.ones(1)}, root / "w.pt"),
        flip(0)(root / "w.pt"), in_train(backbone_weights="w.pt")(root)),
        "wilss-train --masks masks/step-0.zarr --out out/run --split none", 1, ("w.pt", "save its state dict")),
        # fuzz: IndexError
    Row("weights", "a CLIP's description cut short", file("clip.json", cut(0.5)), GENERATE, 1, ("clip.json", "json")),
    Row("weights", "a CLIP's description that is a list", file("clip.json", holds("[1]")), GENERATE, 1, ("clip.json",)),
    # stores
    Row("store", "a file", file("kept.zarr", instead(holds("zarr"))), "info kept.zarr", 1, ("kept.zarr",)),
    Row("store", "its zarr.json a folder", file("kept.zarr/zarr.json", FOLDER), "info kept.zarr", 1, ("kept.zarr",)),
    Row("store", "its zarr.json a pipe", file("kept.zarr/zarr.json", PIPE), "verify kept.zarr", 1,
        ("kept.zarr", "zarr.json is no file", "fetch another copy")),
    Row("store", "2**31 texts in a chunk", file("kept.zarr/shard_digest/c/0", promising_texts), "info kept.zarr", 1,
        ("kept.zarr", "'shard_digest'", "says what is damaged")),  # fuzz: 16 GB for the list of them
    Row("store", "an array removed", lambda root: (shutil.rmtree(root / "kept.zarr/status"), in_json(
        "kept.zarr/zarr.json", lambda said: said["consolidated_metadata"]["metadata"].pop("status") and None)(root)),
        "export voc kept.zarr out/voc", 1, ("kept.zarr", "'status'", "verify")),
    Row("store", "of another type", of_array("kept.zarr", "area", lambda said: said.update(data_type="complex128")),
        "info kept.zarr", 1, ("kept.zarr", "fetch another copy")),
    Row("store", "of another shape", of_array("kept.zarr", "tags", lambda said: said.update(shape=[14, 3])),
        "evaluate kept.zarr", 1, ("kept.zarr", "'tags'", "make it again")),
    Row("store", "10**8 images", in_json("kept.zarr/zarr.json", grown), "info kept.zarr", 1,
        ("kept.zarr says that it holds 100000000", "make it again")),  # fuzz: 800 MB for the names alone
    Row("store", "10**8 images in one array", of_array("kept.zarr", "error", lambda said: said.update(shape=[10**8])),
        "verify kept.zarr", 1, ("kept.zarr", "'error' has the shape (100000000,)", "make it again")),
    Row("store", "a status that there is not", vector("kept.zarr", "status", 77), "export coco kept.zarr out/m.json", 1,
        ("kept.zarr", "'status' cannot be read", "verify")),  # fuzz: ValueError
    Row("store", "images larger than its masks", vector("kept.zarr", "height", 10**9),
        "sheet kept.zarr --out out/s.png",
        1, ("kept.zarr", "'height' cannot be read", "verify")),
    Row("store", "a class beyond 254", vector("kept.zarr", "category_id", 300), "evaluate kept.zarr", 1,
        ("kept.zarr", "'category_id' cannot be read", "verify")),
    Row("store", "Zarr v2", file("kept.zarr/zarr.json", instead(lambda path: path.with_name(".zgroup").write_text(
        '{"zarr_format": 2}'))), "info kept.zarr", 1, ("kept.zarr",)),
    Row("store", "a newer format", attribute("kept.zarr", format_version=99), "fuse kept.zarr --out out/f.zarr", 1,
        ("kept.zarr has format_version 99", "upgrade wilss")),
    Row("store", "another kind of group", attribute("kept.zarr", format="other"), "verify kept.zarr", 1,
        ("kept.zarr is a zarr group but not a mask store", "pass the step-N.zarr folder")),
    Row("store", "no word of its step", attribute("kept.zarr", step=None), "evaluate kept.zarr", 1, ("kept.zarr",
        "does not say of which step")),
    Row("store", "no word of its step, under train", attribute("masks/step-1.zarr", step=None), TRAINS, 1,
        ("step-1.zarr", "step")),
    Row("store", "a word for its step", attribute("kept.zarr", step="one"), "evaluate kept.zarr", 1, ("kept.zarr",
        "step")),
    Row("store", "a word for its parameters", attribute("kept.zarr", parameters="x"), "fuse kept.zarr --out out/f.zarr",
        1, ("kept.zarr", "parameters")),
    Row("store", "a parameter that there is not", attribute("kept.zarr", parameters={"fusion": "maybe"}),
        "fuse kept.zarr --out out/f.zarr", 2, ("kept.zarr", "fusion is 'maybe'", "choose one of")),
    Row("store", "swapped shards", swapped("masks/step-1.zarr/mask/c/0/0/0/0", "masks/step-1.zarr/mask/c/1/0/0/0"),
        TRAINS, 1, ("step-1.zarr is damaged: shard 0", "--overwrite")),
    # checkpoints
    Row("checkpoint", "empty", file(f"base/{MODEL_FILE}", holds("")), PREDICT, 1, (MODEL_FILE, "pass the")),
    Row("checkpoint", "a header of 2**60 bytes", file(f"base/{MODEL_FILE}", header(2**60)), EVAL, 1,
        (MODEL_FILE, "is no safetensors file", "pass the")),
    Row("checkpoint", "a header nested too deeply", file(f"base/{MODEL_FILE}", header(len(DEEP), DEEP.encode())), EVAL,
        1,
        (MODEL_FILE, "is damaged", "copy it again")),
    Row("checkpoint", "a pipe", file(f"base/{MODEL_FILE}", PIPE), PREDICT, 1, (MODEL_FILE, "no plain file")),
    Row("checkpoint", "a folder", file(f"base/{MODEL_FILE}", FOLDER), PREDICT, 1, (MODEL_FILE, "fix")),
    Row("checkpoint", "values that are no numbers", rewritten(lambda w, _: w["classifier.weight"].fill_(float("nan"))),
        PREDICT, 1, (MODEL_FILE, "not finite", "train again")),
    Row("checkpoint", "a tensor missing", rewritten(lambda w, _: w.pop("classifier.bias")), EVAL, 1,
        (MODEL_FILE, "does not fit", "classifier.bias", "another version")),
    Row("checkpoint", "a tensor of another shape", rewritten(lambda w, _: w.update({"classifier.bias": torch.ones(9)})),
        PREDICT, 1, (MODEL_FILE, "does not fit", "classifier.bias", "another version")),
    Row("checkpoint", "a changed weight", rewritten(lambda w, _: w["classifier.bias"].add_(1), redigest=False),
        PREDICT, 1,
        (MODEL_FILE, "do not match their digest", "copy it again")),
    Row("checkpoint", "a network of any size", rewritten(lambda _, said: said["spec"].update(head_width=10**7)),
        PREDICT, 1,
        (MODEL_FILE, "does not fit", "another version")),
    Row("checkpoint", "a network that cannot be", rewritten(lambda _, said: said["spec"].update(args={"channels": []})),
        PREDICT, 1, (MODEL_FILE, "cannot be built", "copy it again")),  # fuzz: IndexError
    Row("checkpoint", "newer", rewritten(lambda _, said: said.update(format_version=99)), EVAL, 1,
        (MODEL_FILE, "has format_version 99", "upgrade wilss")),
    Row("checkpoint", "a step that there is not", rewritten(lambda _, said: said.update(step=9)), EVAL, 1,
        (MODEL_FILE, "step")),
    Row("checkpoint", "no word of its method", rewritten(lambda _, said: said.pop("method")), TRAINS, 1,
        (MODEL_FILE, "is damaged", "copy it again")),
    # memory banks
    Row("memory", "of other classes", lambda root: in_json("base/memory.zarr/zarr.json",
        lambda said: said["attributes"][
        "taxonomy"].update(class_names=["background", "x", "y", "z"]))(root), TRAINS, 1, ("memory.zarr",)),
    Row("memory", "a shard missing", file("base/memory.zarr/image/c/0/0/0/0", NOTHING), "wilss-memory info base", 1,
        ("memory.zarr does not match its digest", "copy the bank again")),
    Row("memory", "a shard cut short", file("base/memory.zarr/mask/c/0/0/0", cut(0.5)),
        "wilss-memory sheet base --out out/m.png", 1, ("memory.zarr", "cannot be read", "copy the bank again")),
    Row("memory", "a newer format", attribute("base/memory.zarr", format_version=99), "wilss-memory info base", 1,
        ("memory.zarr has format_version 99", "upgrade wilss")),
    Row("memory", "attributes that are a list", in_json("base/memory.zarr/zarr.json",
        lambda s: s.update(attributes=[1])),
        "wilss-memory info base", 1, ("memory.zarr", "copy the bank again")),
    Row("memory", "its zarr.json a pipe", file("base/memory.zarr/zarr.json", PIPE), "wilss-memory info base", 1,
        ("memory.zarr is not there or no memory bank", "wilss-train")),
    Row("memory", "a mask store in its place", lambda root: None, "wilss-memory info kept.zarr", 1,
        ("kept.zarr is no memory bank", "pass the memory.zarr of a run")),
    # runs and their states
    Row("run", "what it was started with is gone", file("base/run.json", holds("{")),
        "wilss-train --masks masks/step-0.zarr --out base --split none", 1, ("run.json cannot be read", "--overwrite")),
    Row("run", "no state is whole", lambda root: (file("base/done.json", NOTHING)(root), file(f"base/{MODEL_FILE}",
        NOTHING)(
        root), [(path / "state.json").write_text("[") for path in root.glob("base/state/step-*")]),
        "wilss-train --masks masks/step-0.zarr --out base --split none --threads 1 --resume", 1,
        ("no saved state is whole", "--overwrite")),
    # scheduler files
    Row("scheduler", "half a json", file("s.json", holds('{"address": ')), f"{LABELS} --scheduler-file s.json", 1,
        ("s.json is not a scheduler file", "start `dask scheduler")),
    Row("scheduler", "a list", file("s.json", holds("[]")), f"{LABELS} --scheduler-file s.json", 1,
        ("s.json is not a scheduler file", "start `dask scheduler")),
    Row("scheduler", "a number", file("s.json", holds('{"address": 5}')), f"{LABELS} --scheduler-file s.json", 1,
        ("'5' is no address of a scheduler", "write e.g.")),
    Row("scheduler", "a folder", file("s.json", Path.mkdir), f"{LABELS} --scheduler-file s.json", 1,
        ("s.json is not a scheduler file", "start `dask scheduler")),
    Row("scheduler", "nested too deeply", file("s.json", holds(DEEP)), f"{LABELS} --scheduler-file s.json", 1,
        ("s.json is not a scheduler file", "start `dask scheduler")),
    Row("scheduler", "somebody else's", file("s.json", holds('{"address": "tcp://10.1.2.3:8786"}')),
        f"{LABELS} --scheduler-file s.json", 1, ("is neither on this machine nor tls://",
        "start the scheduler with TLS")),
    # COCO
    Row("coco", "cut short", file("coco/annotations/instances_train.json", cut(0.7)),
        "manifest check --manifest coco.yaml",
        2, ("instances_train.json is no whole json file", "copy it again")),
    Row("coco", "a table for the images", annotations(lambda said: said.update(images={})),
        "manifest check --manifest coco.yaml", 2, ("instances_train.json has no list 'images'", "name a COCO")),
    Row("coco", "an image without a name", annotations(lambda said: said["images"][0].pop("file_name") and None),
        "manifest check --manifest coco.yaml", 2, ("instances_train.json has an entry of 'images'", "fix it")),
    Row("coco", "other categories", annotations(lambda said: [c.update(name="x") for c in said["categories"]] and None),
        "manifest check --manifest coco.yaml", 2, ("instances_train.json", "correct `names`")),
    Row("coco", "a word for a box",
        annotations(lambda said: said["annotations"][1].update(segmentation=[], bbox="box")),
        "manifest check --manifest coco.yaml", 2, ("instances_train.json: its annotation 1", "fix it")),
    Row("coco", "a box beyond any number",
        annotations(lambda said: said["annotations"][1].update(segmentation=[], bbox=[10**400, 0, 1, 1])),
        "manifest check --manifest coco.yaml", 2,
        ("instances_train.json: its annotation 1", "fix it")),  # fuzz: OverflowError
    Row("coco", "nested too deeply", file("coco/annotations/instances_train.json", holds(DEEP)),
        "manifest init coco --layout coco --out out.yaml", 2, ("instances_train.json",)),
    Row("coco", "no json at all", file("coco/annotations/instances_train.json", holds("<html>")),
        "manifest init coco --layout coco --out out.yaml", 2, ("instances_train.json",)),
    Row("data", "a file for a folder", file("x", holds("")), "manifest init x --out out.yaml", 2,
        ("x is not a folder", "name the one that holds the data")),
]  # fmt: skip


@pytest.mark.timeout(20)  # a pipe that is waited on would hang for ever
@pytest.mark.parametrize("row", REFUSED, ids=[f"{row.kind}: {row.what}" for row in REFUSED])
def test_refused(root: Path, row: Row) -> None:
    row.spoil(root)
    before = listing(root)
    made = call(root, row.words)
    assert made.code == row.code, made.said
    assert made.said.count("Error: ") == 1, made.said
    assert "Traceback" not in made.said
    assert "should not happen" not in made.said
    assert len(made.said) < 2000, "a sentence"
    sentence = made.err[made.err.index("Error: ") :]
    assert all(part in sentence for part in row.parts), sentence
    assert listing(root) == before, "what was read stays as it was"
    left = [path for path in (root / "out").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert row.kind == "weights" or not left, "weights are met by a run that has begun: it is begun anew"


# -- what fails alone ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alone:
    """parts: of the sentence that names the one that failed; the file, and the fix. name: which one it is."""

    kind: str
    what: str
    spoil: Spoil
    words: str
    parts: tuple[str, ...]
    name: str = BROKEN


CHECK = "manifest check"
JUDGE = "evaluate kept.zarr --json out/scores.json"
JPG, PNG = f"{BROKEN}.jpg", f"{BROKEN}.png"
RGB = saved(lambda pixels: np.stack([pixels, pixels, 0 * pixels], 2))
SMALL = saved(lambda pixels: pixels[1:])
STRANGE = saved(lambda pixels: np.where(pixels == 3, np.uint8(77), pixels))
DEEPER = saved(lambda pixels: pixels.astype(np.uint16) + 300)

ALONE: list[Alone] = [
    # images
    Alone("image", "without its last 60 bytes", image(cut(less=60)), GENERATE, (JPG, "is damaged", "copy it again")),
    Alone("image", "a progressive JPEG cut short", image(both(saved(lambda p: p, progressive=True), cut(0.6))),
        GENERATE,
          (JPG, "is damaged", "copy it again")),
    Alone("image", "a PNG with a changed byte", image(both(saved(lambda p: p, format="PNG"), flip(0.5))), PREDICT,
          (JPG, "is damaged", "copy it again")),
    Alone("image", "a WebP cut short", image(both(saved(lambda p: p, format="WEBP"), cut(0.5))), PREDICT,
          (JPG, "is damaged", "copy it again")),
    Alone("image", "a GIF", image(saved(lambda p: p, format="GIF")), GENERATE, (JPG, "is a GIF file", "save it as")),
    Alone("image", "a JPEG's first bytes alone", image(holds(b"\xff\xd8\xff")), CHECK, (JPG, "is damaged",
        "copy it again")),
    Alone("image", "empty", image(holds(b"")), PREDICT, (JPG, "is empty", "copy it again")),
    Alone("image", "a pipe, under predict", image(PIPE), PREDICT, (JPG, "is no plain file", "check the list")),
    Alone("image", "a pipe, under train", image(PIPE), TRAINS, (JPG, "is no plain file", "check the list")),
    Alone("image", "a pipe, under eval", image(PIPE, "val0"), EVAL, ("val0.jpg", "is no plain file", "check the list"),
          "val0"),
    Alone("image", "a pipe, under check", image(PIPE), CHECK, (JPG, "is no plain file", "check the list")),
    Alone("image", "a device", image(DEVICE), GENERATE, (JPG, "is no plain file", "check the list")),
    Alone("image", "a link to itself", image(LOOP), CHECK, (JPG, "leads back to itself", "replace it")),
    # pixel labels
    Alone("label", "in colours", label(RGB), JUDGE, (PNG, "holds colours (RGB)", "which colour is which class")),
    Alone("label", "of another size", label(SMALL), LABELS, (JPG, "must be equal", "export one of them again")),
    Alone("label", "of another size, under eval", label(SMALL, "val0"), EVAL, ("val0.jpg", "must be equal"), "val0"),
    Alone("label", "of no class", label(STRANGE), CHECK, (PNG, "holds the label 77", "name it in `names`")),
    Alone("label", "of 16 bits", label(DEEPER), LABELS, (PNG, "holds the label", "ids are 0 to 254")),
    Alone("label", "cut short", label(cut(0.7), "val0"), EVAL, ("val0.png", "is damaged", "copy it again"), "val0"),
    Alone("label", "a pipe", label(PIPE), JUDGE, (PNG, "is no plain file", "check the list")),
    Alone("label", "a JPEG", label(saved(lambda p: p, format="JPEG")), CHECK, (PNG, "is a JPEG, in which",
        "save labels as PNG")),
    # lists
    Alone("list", "a name of 10 MB", listed("\n" + "a" * 10_000_000), LABELS, ("train.txt", "is longer than any path"),
          "a" * 200 + "..."),
    Alone("list", "a folder", listed("\nsub"), CHECK, ("sub", "is not there", "take it off the list"), "sub"),
    Alone("list", "a name over two lines", listed("\na\u2028b"), CHECK, ("train.txt", "control characters"),
          "a\N{REPLACEMENT CHARACTER}b"),
    # tags
    Alone("tags", "an XML with an entity", xml(im02=EVIL), GENERATE, ("im02.xml", "declares a document type", "fix")),
    Alone("tags", "an XML cut short", xml(im02="<annotation><object>"), GENERATE, ("im02.xml", "fix or remove it")),
    Alone("tags", "an XML nested too deeply", xml(im02="<a>" * 300_000), CHECK, ("im02.xml", "fix or remove it")),
    # COCO
    Alone("coco", "run lengths that do not add up", annotations(lambda said: said["annotations"][1].update(
        segmentation={"size": [12, 16], "counts": [5]})), "manifest check --manifest coco.yaml",
        ("instances_train.json: annotation 2 of b", "fix or remove it"), "b"),
    Alone("coco", "a corner beyond any image", annotations(lambda said: said["annotations"][1].update(
        segmentation=[[0, 0, 1e300, 0, 1, 1]])), "manifest check --manifest coco.yaml",
        ("instances_train.json: annotation 2 of b", "fix or remove it"), "b"),
    Alone("coco", "a size beyond any image", annotations(lambda said: said["images"][1].update(height=10**12)),
        "manifest check --manifest coco.yaml", ("instances_train.json", "correct it"), "b"),
    # supports
    Alone("supports", "a map of another size", lambda root: (disk.label(root / "map.png", [1], (5, 5)), supports(
        "- {image: im00, class: horse}\n- {image: im02, class: horse, kind: mask, file: map.png}")(root)),
        "supports check supports.yaml --step 1 --out out/s.png", ("map.png", "export one of them again"),
        "supports.yaml"),
    Alone("supports", "a map of other values", lambda root: (disk.label(root / "map.png", [7], (32, 40)), supports(
        "- {image: im00, class: horse}\n- {image: im02, class: horse, kind: mask, file: map.png}")(root)),
        "supports check supports.yaml --step 1 --out out/s.png", ("map.png", "holds the value 7"), "supports.yaml"),
]  # fmt: skip


@pytest.mark.timeout(30)
@pytest.mark.parametrize("row", ALONE, ids=[f"{row.kind}: {row.what}" for row in ALONE])
def test_alone(root: Path, unbroken: Callable[[str], Path], row: Alone) -> None:
    row.spoil(root)
    before = listing(root)
    made = call(root, row.words)
    assert made.code == 3, made.said
    assert "Error: " not in made.said
    assert "Traceback" not in made.said
    assert len(made.said) < 3000, "sentences"
    failed = [line for line in made.said.splitlines() if row.name in line and ": " in line]
    assert len(set(failed)) == 1, made.said
    assert all(part in failed[0] for part in row.parts), failed
    assert listing(root) == before, "what was read stays as it was"
    if row.kind not in ("coco", "supports"):
        assert made.said.count("Failed: ") == (0 if row.words == CHECK else 1)
        assert_others(root, unbroken(row.words if row.kind != "tags" else GENERATE), row)


def assert_others(root: Path, unbroken: Path, row: Alone) -> None:
    """All that the command makes of the others is what an unbroken run makes."""
    if row.words in (GENERATE, LABELS):
        found, wanted = masks(root / "out/s.zarr"), masks(unbroken / "out/s.zarr")
        assert set(wanted) - set(found) <= {BROKEN}
        assert all((found[name] == wanted[name]).all() for name in found)
        assert row.name not in found
    if row.words == PREDICT:
        found, wanted = ({path.name: path.read_bytes() for path in (place / "out/labels").iterdir()} for place in
                         (root, unbroken))  # fmt: skip
        assert found == {name: content for name, content in wanted.items() if not name.startswith(BROKEN)}
    if row.words in (EVAL, JUDGE):
        assert (root / "out/scores.json").exists()
    if row.words == TRAINS:
        assert (root / "out/run/done.json").exists()
