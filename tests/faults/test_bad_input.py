"""Bad images, labels, lists and weights: one sentence with the file and the fix, and the rest is made."""

import binascii
import os
import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.drills import forms
from tests.faults.cli import (
    BROKEN,
    ENCODERS,
    IMAGES,
    VIT,
    Outcome,
    content,
    data_set,
    failures,
    full_after,
    generate,
    listing,
    masks,
    wilss_masks,
)
from tests.wilss.data import data_on_disk as disk

Spoil = Callable[[Path], object]
STEP_OF = {"standin": 1, "fmwiss": 1, "annotation": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The masks of an unbroken run, by source."""
    root = data_set(tmp_path_factory.mktemp("whole"))
    for source, step in STEP_OF.items():
        assert generate(root, source=source, step=step, out=f"out/{source}.zarr").code == 0
    return {source: masks(root / f"out/{source}.zarr") for source in STEP_OF}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return data_set(tmp_path / "with spaces and \u00fcml\u00e4ut")


def image_of(root: Path, name: str = BROKEN) -> Path:
    return root / f"data/JPEGImages/{name}.jpg"


def label_of(root: Path, name: str = BROKEN) -> Path:
    return root / f"data/SegmentationClass/{name}.png"


def list_of(root: Path) -> Path:
    return root / "data/ImageSets/Segmentation/train.txt"


def in_list(root: Path, *lines: str) -> None:
    """Put these lines in the place of the broken image's."""
    kept = [line for name in IMAGES for line in ([name] if name != BROKEN else lines)]
    disk.text(list_of(root), *kept)


def tags(root: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    path = root / f"data/ImageSets/Main/{name}_train.txt"
    disk.text(path, *change(path.read_text().splitlines()))


def bomb(path: Path, side: int = 50_000) -> None:
    """A PNG whose header says side x side pixels; Pillow would take 7.5 GB for it."""
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", binascii.crc32(data[12:29]))
    path.write_bytes(data)


def replaced_by(what: str) -> Spoil:
    def spoil(root: Path) -> None:
        path = image_of(root)
        path.unlink()
        {
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "loop": lambda: path.symlink_to(path),
            "nothing": lambda: path.symlink_to(root / "nowhere.jpg"),
            "gif": lambda: Image.new("L", (8, 8)).save(path, format="GIF"),
            "text": lambda: path.write_text("<html>404 Not Found</html>"),
            "empty": path.touch,
            "bomb": lambda: bomb(path),
        }[what]()

    return spoil


def cut(path_of: Callable[[Path], Path], share: float) -> Spoil:
    def spoil(root: Path) -> None:
        path = path_of(root)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return spoil


def relabelled(make: Callable[[Path, Any], Any]) -> Spoil:
    def spoil(root: Path) -> None:
        make(label_of(root), np.array(Image.open(label_of(root))))

    return spoil


def _save(pixels: Any, path: Path, **options: Any) -> None:
    Image.fromarray(pixels).save(path, **options)


def untagged(root: Path) -> None:
    for name in disk.CLASSES[1:]:
        tags(root, name, lambda rows: [row for row in rows if BROKEN not in row])


# name, source, how to break it, words of the sentence
IMAGE_FAULTS: list[tuple[str, str, Spoil, str]] = [
    (
        "cut in half",
        "standin",
        cut(image_of, 0.5),
        r"im2\.jpg is damaged \(.*\); copy it again, or leave it out",
    ),
    ("cut in half, networks", "fmwiss", cut(image_of, 0.5), r"im2\.jpg is damaged \(.*\); copy it again"),
    ("cut in its header", "standin", cut(image_of, 0.02), r"im2\.jpg is damaged \(.*\); copy it again"),
    ("empty", "standin", replaced_by("empty"), r"im2\.jpg is empty; copy it again"),
    ("text", "standin", replaced_by("text"), r"im2\.jpg is a web page and not an image; download"),
    ("gif", "standin", replaced_by("gif"), r"im2\.jpg is a GIF file, not a JPEG, PNG, TIFF, WebP or BMP image; save"),
    ("folder", "standin", replaced_by("folder"), r"im2.* copy it there, or (leave it out|take it off the list)"),
    ("pipe", "standin", replaced_by("pipe"), r"im2\.jpg is no plain file, not an image; check the list"),
    ("link loop", "standin", replaced_by("loop"), r"im2\.jpg is a link that leads back to itself; replace it"),
    ("dangling link", "standin", replaced_by("nothing"), r"im2\.jpg is not there; copy it there"),
    ("bomb", "standin", replaced_by("bomb"), r"im2\.jpg is 50000 x 50000 pixels, more than 64 million; scale it down"),
    ("missing", "standin", lambda root: image_of(root).unlink(), r"im2 is named in .*train\.txt, but is not there"),
    (
        "no tags",
        "standin",
        lambda root: ([tags(root, c, lambda rows: [r for r in rows if BROKEN not in r]) for c in disk.CLASSES[1:]]),
        r"im2\.jpg has no tags \(from voc-main\); add them, or leave the image out of the list",
    ),
    ("label cut", "annotation", cut(label_of, 0.7), r"im2\.png is damaged \(.*\)"),
    (
        "label of another size",
        "annotation",
        relabelled(lambda path, pixels: _save(pixels[:-1], path)),
        r"the labels of im2 are 12 x 11 pixels, the image .*im2\.jpg is 12 x 12; they must be equal",
    ),
    (
        "label of another class",
        "annotation",
        relabelled(lambda path, pixels: _save(np.where(pixels == 3, np.uint8(77), pixels), path)),
        r"im2\.png holds the label 77, which is no class of the manifest; name it in `names`",
    ),
    (
        "label in colour",
        "annotation",
        relabelled(lambda path, pixels: _save(np.stack([pixels, pixels, 0 * pixels], 2), path)),
        r"im2\.png holds colours \(RGB\), not class ids; say which colour is which class beside `layout`",
    ),
    (
        "label as JPEG",
        "annotation",
        relabelled(lambda path, pixels: _save(pixels, path, format="JPEG")),
        r"im2\.png is a JPEG, in which class ids may not be exact; save labels as PNG",
    ),
]


@pytest.mark.parametrize(
    ("source", "spoil", "words"), [row[1:] for row in IMAGE_FAULTS], ids=[r[0] for r in IMAGE_FAULTS]
)
def test_one_bad_image_fails_alone(
    root: Path, whole: dict[str, dict[str, Any]], source: str, spoil: Spoil, words: str
) -> None:
    spoil(root)
    before = listing(root)
    made = generate(root, source=source, step=STEP_OF[source])
    assert_fails_alone(root, made, whole[source], words)
    assert listing(root) == before


def assert_fails_alone(root: Path, made: Outcome, unbroken: dict[str, Any], words: str, name: str = BROKEN) -> None:
    store = root / "out/s.zarr"
    assert made.code == 3, made.said
    assert "Traceback" not in made.said
    assert list(failures(store)) == [name]
    assert re.search(words, failures(store)[name]), failures(store)[name]
    assert re.search(f"^Failed: {re.escape(name)}: .*{words}", made.err, re.MULTILINE), made.err
    assert "\n" not in failures(store)[name]
    found = masks(store)
    assert sorted(found) == [image for image in IMAGES if image != BROKEN]
    for image, planes in found.items():
        assert (planes == unbroken[image]).all(), image


def test_a_bomb_takes_no_memory(root: Path) -> None:
    replaced_by("bomb")(root)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(image_of(root))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert generate(root).code == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; the image would take 7,500,000


@pytest.mark.parametrize(
    ("line", "words"),
    forms(
        [
            ("~root/x", r"'~root/x', which is an absolute path"),
            ("..\\..\\x", r"which leads out of the data folder"),
        ],
        short=[
            ("../../etc/passwd", r"'\.\./\.\./etc/passwd', which leads out of the data folder; name files inside"),
            ("/etc/passwd", r"'/etc/passwd', which is an absolute path"),
            ("a\x1b[31mred", r"which holds control characters"),
        ],
    ),
)
def test_an_id_that_leaves_the_data_fails_alone(
    root: Path, whole: dict[str, dict[str, Any]], line: str, words: str
) -> None:
    in_list(root, line)
    before = listing(root)
    made = generate(root)
    name = line.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert_fails_alone(root, made, whole["standin"], words, name)
    assert "\x1b" not in made.said
    assert listing(root) == before


def test_a_tag_of_no_class_fails_alone(root: Path, whole: dict[str, dict[str, Any]]) -> None:
    rows = [f"{name},{'cat' if i % 2 == 0 else 'dog'};horse" for i, name in enumerate(IMAGES)]
    rows[2] = f"{BROKEN},cat;horze"
    disk.text(root / "tags.csv", *rows)
    disk.manifest(root, tags={"from": "csv", "file": "tags.csv"})
    made = generate(root, step=0)
    assert made.code == 3
    assert "im2.jpg is tagged 'horze', which is no class of pets; did you mean 'horse'; correct the tag" in made.err


# -- what is unusual, but fine ------------------------------------------------------------------------------


def cmyk(root: Path) -> None:
    Image.open(image_of(root)).convert("CMYK").save(image_of(root))


def sixteen_bits(root: Path) -> None:
    deep = (np.arange(144, dtype=np.uint16) * 400).reshape(12, 12)
    Image.fromarray(deep).save(image_of(root), format="PNG")


def of_size(height: int, width: int) -> Spoil:
    def spoil(root: Path) -> None:
        disk.image(image_of(root), (height, width))
        disk.label(label_of(root), [1], (height, width))

    return spoil


def turned(root: Path) -> None:
    """Stored as 4 x 24, upright 24 x 4, as its label is."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((4, 24, 3), np.uint8)
    Image.fromarray(pixels).save(image_of(root), exif=exif)
    disk.label(label_of(root), [1], (24, 4))


@pytest.mark.parametrize(
    ("spoil", "size"),
    [
        (cmyk, (12, 12)),
        (sixteen_bits, (12, 12)),
        (of_size(1, 1), (1, 1)),
        (of_size(40, 12000), (40, 12000)),
        (of_size(12000, 40), (12000, 40)),
        (turned, (24, 4)),
    ],
    ids=["cmyk", "16 bits", "1x1", "12000x40", "40x12000", "exif"],
)
@pytest.mark.parametrize("source", forms(["fmwiss"], short=["annotation"]))
def test_unusual_images_are_made(
    root: Path, whole: dict[str, dict[str, Any]], source: str, spoil: Spoil, size: tuple[int, int]
) -> None:
    spoil(root)
    made = generate(root, source=source, step=STEP_OF[source])
    assert made.code == 0, made.said
    assert "Traceback" not in made.said
    found = masks(root / "out/s.zarr")
    assert found[BROKEN].shape[1:] == size
    if source == "annotation":
        assert found[BROKEN][0, :, 0].all(), "the label's column must stand where the upright image has it"
    for image in set(IMAGES) - {BROKEN}:
        assert (found[image] == whole[source][image]).all()


def test_a_long_and_a_high_image_do_not_blow_up_every_mask(root: Path) -> None:
    of_size(40, 12000)(root)
    disk.image(image_of(root, "im4"), (12000, 40))
    made = generate(root)
    assert made.code == 3
    assert list(failures(root / "out/s.zarr")) == ["im4"]
    assert "im4.jpg is 40 x 12000 pixels, which with the other images asks for masks of 12000 x 12000" in made.err
    assert "scale it down" in made.err


@pytest.mark.parametrize(
    ("encoding", "end"), forms([("utf-8", "\r\n"), ("utf-8-sig", "\n")], short=[("utf-16", "\r\n"), ("utf-8", "\r")])
)
def test_lists_of_other_systems_are_read(root: Path, whole: dict[str, dict[str, Any]], encoding: str, end: str) -> None:
    disk.text(list_of(root), *IMAGES, encoding="utf-8", end="\n")
    list_of(root).write_bytes(end.join([*IMAGES, ""]).encode(encoding))
    assert generate(root).code == 0
    found = masks(root / "out/s.zarr")
    assert list(found) == list(IMAGES)
    assert all((found[image] == whole["standin"][image]).all() for image in IMAGES)


def test_an_image_named_twice_is_used_once(root: Path) -> None:
    in_list(root, BROKEN, "im0", BROKEN)
    made = generate(root)
    assert made.code == 0
    assert re.search(
        r"Warning: .*train\.txt names 2 images \(im0, im2\) more than once; each is used once", made.err
    ), made.err
    assert list(masks(root / "out/s.zarr")) == list(IMAGES)


def test_an_image_of_no_class_is_told_and_left_out(root: Path) -> None:
    for name in disk.CLASSES[1:]:
        tags(root, name, lambda rows: [re.sub(rf"^({BROKEN}) .*", r"\1 -1", row) for row in rows])
    made = generate(root)
    assert made.code == 0
    assert re.search(
        r"Warning: .*no class and so no step for 1 image \(im2\) of 'train'; tag them, take them off the list, or",
        made.err,
    )
    assert BROKEN not in masks(root / "out/s.zarr")


def test_a_file_that_may_not_be_read(
    root: Path, whole: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, permissions stop nobody: the error is made here."""

    stat = os.stat

    def forbidden(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if str(path) == str(image_of(root)):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr("os.stat", forbidden)
    made = generate(root)
    monkeypatch.undo()
    assert_fails_alone(root, made, whole["standin"], r"im2\.jpg may not be read; change its permissions")


# -- mending ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "spoil"),
    [
        pytest.param("fmwiss", cut(image_of, 0.5), id="fmwiss-pixels"),
        pytest.param("standin", replaced_by("empty"), id="standin-header"),
        pytest.param("fmwiss", replaced_by("empty"), id="fmwiss-header", marks=pytest.mark.wide),
        pytest.param("standin", cut(image_of, 0.5), id="standin-pixels", marks=pytest.mark.wide),
    ],
)
def test_a_fixed_image_gives_the_bytes_of_a_run_that_never_met_it_broken(
    root: Path, tmp_path: Path, source: str, spoil: Spoil
) -> None:
    good = image_of(root).read_bytes()
    assert generate(root, "--keep", "scores", source=source, out="out/unbroken.zarr").code == 0
    spoil(root)
    assert generate(root, "--keep", "scores", source=source).code == 3
    assert content(root / "out/s.zarr") != content(root / "out/unbroken.zarr")
    image_of(root).write_bytes(good)
    still = generate(root, source=source)
    assert still.code == 3, "nothing is tried again unasked"
    assert "run the same command with --retry-failed" in still.out
    fixed = generate(root, "--retry-failed", source=source)
    assert fixed.code == 0, fixed.said
    assert content(root / "out/s.zarr") == content(root / "out/unbroken.zarr")
    assert wilss_masks("verify", root / "out/s.zarr").code == 0


def interrupted(root: Path) -> None:
    """A run that stops after its first shard."""
    with full_after(1):
        assert generate(root).code == 1


def test_an_image_that_breaks_between_kill_and_resume_fails_alone(root: Path) -> None:
    interrupted(root)
    image_of(root, "im4").write_bytes(b"")
    made = generate(root)
    assert made.code == 3, made.said
    assert list(failures(root / "out/s.zarr")) == ["im4"]
    assert generate(root, out="out/fresh.zarr").code == 3
    assert content(root / "out/s.zarr") == content(root / "out/fresh.zarr")


def test_an_image_that_is_fixed_between_kill_and_resume_is_made(root: Path) -> None:
    good = image_of(root, "im4").read_bytes()
    image_of(root, "im4").write_bytes(b"")
    interrupted(root)
    image_of(root, "im4").write_bytes(good)
    made = generate(root)
    assert made.code == 0, made.said
    assert generate(root, out="out/fresh.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/fresh.zarr")


def test_an_image_that_is_made_already_and_is_gone_is_named(root: Path) -> None:
    interrupted(root)
    image_of(root, "im1").unlink()
    made = generate(root)
    assert made.code == 1
    assert "im1" in made.err
    assert "copy it there" in made.err
    assert "or make the store again with --overwrite" in made.err


# -- lists and data that are of no use at all ---------------------------------------------------------------


def latin(root: Path) -> None:
    list_of(root).write_bytes("im0\nim\xe9\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (latin, r"train\.txt is not UTF-8 text .*iconv -f latin1 -t utf-8"),
        (lambda root: list_of(root).write_bytes(b""), r"train\.txt names no image; write one per line"),
        (lambda root: list_of(root).write_bytes(b"\x89PNG\0\0"), r"train\.txt is (not UTF-8 text|a binary file)"),
        (lambda root: list_of(root).unlink(), r"the list 'train' is not there \(looked for .*\); copy it there"),
        (lambda root: (root / "data").rename(root / "moved"), r"the data folder .*data is not there; copy or link"),
        (
            lambda root: (root / "data/ImageSets/Main/horse_train.txt").unlink(),
            r"horse_train\.txt is not there, .*copy VOC's ImageSets/Main there",
        ),
        (
            lambda root: disk.text(root / "data/ImageSets/Main/horse_train.txt", "im0 yes"),
            r"horse_train\.txt has the line 'im0 yes'; write an image id and 1, 0 or -1",
        ),
    ],
    ids=["latin-1", "empty", "binary", "missing", "no data", "no tags", "odd tags"],
)
def test_a_list_of_no_use_is_refused_before_anything_is_written(root: Path, spoil: Spoil, words: str) -> None:
    spoil(root)
    before = listing(root)
    made = generate(root)
    assert made.code == 2, made.said
    assert re.search(words, made.err), made.err
    assert "Traceback" not in made.said
    assert len(made.err.strip().splitlines()) == 1
    assert not (root / "out").exists()
    assert listing(root) == before


def test_no_image_that_can_be_used(root: Path) -> None:
    for name in IMAGES:
        image_of(root, name).write_bytes(b"")
    made = generate(root)
    assert made.code == 1
    assert re.search(r"none of the 7 images of step 1 can be used: .*im0\.jpg is empty", made.err)
    assert not (root / "out/s.zarr").exists()


# -- weights ------------------------------------------------------------------------------------------------


class Malicious:
    """Pickled weights that make a folder when they are loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def vit_tensors(**changes: Any) -> dict[str, Any]:
    import timm

    return dict(timm.create_model("vit_tiny_patch16_224", num_classes=0, **{**VIT, **changes}).state_dict())


def safetensors(path: Path, tensors: dict[str, Any]) -> bytes:
    from safetensors.torch import save_file

    save_file(tensors, path)
    return path.read_bytes()


def with_nan(path: Path) -> None:
    tensors = vit_tensors()
    tensors["blocks.1.norm1.weight"][3] = float("nan")
    safetensors(path, tensors)


def pickled(path: Path) -> None:
    import torch

    torch.save({"model": Malicious(path.with_name("it_ran"))}, path)


WEIGHT_FAULTS: list[tuple[str, str, Spoil, str]] = [
    ("shape", "vit.safetensors", lambda p: safetensors(p, vit_tensors(embed_dim=24)),
     r"does not fit the network: .* of another shape"),
    ("nan", "vit.safetensors", with_nan, r"has NaN or infinite values in blocks\.1\.norm1\.weight; fetch the"),
    ("cut", "vit.safetensors", lambda p: p.write_bytes(safetensors(p, vit_tensors())[:5000]),
     r"is no whole safetensors file \(.*\); fetch it again"),
    ("empty", "vit.safetensors", Path.touch, r"is no whole safetensors file"),
    ("pickle", "vit.pt", pickled, r"holds objects that could run code, which are never loaded"),
    ("text", "vit.pt", lambda p: p.write_text("<html>"), r"is a web page or XML, not weights; fetch"),
    ("missing", "vit.safetensors", lambda p: None, r"vit\.safetensors (is not there|does not exist|could not be)"),
    ("ending", "vit.exe", lambda p: p.write_text("x"), r"convert it to \.safetensors"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "spoil", "words"), [r[1:] for r in WEIGHT_FAULTS], ids=[r[0] for r in WEIGHT_FAULTS])
def test_weights_of_no_use_are_refused(root: Path, file: str, spoil: Spoil, words: str) -> None:
    spoil(root / file)
    with_weights(root, file)
    made = generate(root, source="fmwiss")
    assert made.code == 1, made.said
    assert str(root / file) in made.err
    assert re.search(words, made.err), made.err
    assert "Traceback" not in made.said
    assert len(made.err.strip().splitlines()) <= 2
    assert not (root / "it_ran").exists()


def test_weights_of_no_use_block_nothing(root: Path) -> None:
    with_nan(root / "vit.safetensors")
    with_weights(root, "vit.safetensors")
    assert generate(root, source="fmwiss").code == 1
    safetensors(root / "good.safetensors", vit_tensors())
    with_weights(root, "good.safetensors")
    again = generate(root, source="fmwiss")
    assert again.code == 0, f"an empty store of the failed run must not be in the way: {again.err}"


def with_weights(root: Path, file: str) -> None:
    vit = {"library": "timm", "model": "vit_tiny_patch16_224", "args": VIT, "file": file}
    disk.manifest(root, encoders={**ENCODERS, "vit": vit}, masks={"fmwiss": {"templates": "plain"}})


def test_weights_of_another_digest_are_refused_naming_both(root: Path) -> None:
    import hashlib

    found = hashlib.sha256(safetensors(root / "vit.safetensors", vit_tensors())).hexdigest()
    vit = {"library": "timm", "model": "vit_tiny_patch16_224", "args": VIT, "file": "vit.safetensors"}
    disk.manifest(root, encoders={**ENCODERS, "vit": {**vit, "sha256": "0" * 64}})
    made = generate(root, source="fmwiss")
    assert made.code == 1
    assert f"vit.safetensors has sha256 {found}, but" in made.err
    assert "0" * 64 in made.err
    assert not (root / "out").exists()
