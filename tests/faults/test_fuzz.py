"""Files that hypothesis spoils: each is read as it was meant, or refused by a WilssError; nothing else is ever raised.

A target is a file, a way to spoil it and what is then asked of it, at the level of the library; the last test spoils
some of them under the command line. `make test` shows each target a few dozen files, always the same ones; the long
form shows thousands, others on every day. Every example is held to little memory and must come to an end: a shape of
10**12 must be refused from its number alone.
"""

import contextlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.faults.cli import data_set, generate, wilss_masks
from tests.faults.spoiling import JUNK, Draw, spoil_bytes, spoil_lines, spoil_tree
from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.memory.drawn import TAXONOMY
from wilss.data.images import read_image, read_palette_label, read_size
from wilss.data.layouts.records import read_label_of
from wilss.data.manifest import Manifest, load_manifest, write_lock
from wilss.data.manifest.lock import LockedWeights, list_digests
from wilss.data.protocol import StepProtocol
from wilss.data.supports.reading import problems_of, read_supports
from wilss.errors import WilssError
from wilss.models.networks.checkpoint import load_segmenter, read_info, read_weights, spec_of, write_model
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.tensor_files import read_tensors
from wilss.store import MaskStore, Status
from wilss_masks.commands.info import _facts
from wilss_masks.inspect.kept_scores import KeptReader, fusion_of
from wilss_train.memory import Instance, InstanceInfo, MemoryBank
from wilss_train.memory.writing import write_bank
from wilss_train.run.states import TrainingState, latest_state, save_state

_STUCK_SECONDS = 30.0  # of the processor's time
_MIB = 400
_COMMON: dict[str, Any] = {
    "database": None,
    "deadline": None,  # the clock is read around what is asked, not around the drawing
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),  # the draws are told as they are; a slow example shrinks for hours
}
QUICK = settings(max_examples=2, derandomize=True, **_COMMON)
LONG = settings(max_examples=3000, **_COMMON)

Spoil = Callable[[Draw, Path], None]
Use = Callable[[Path], object]
Whole = dict[str, bytes]


@contextlib.contextmanager
def within_bounds() -> Iterator[None]:
    """What is done inside ends and takes little memory; what would take the machine's is stopped at 2 GiB."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    mapped, limits = int(Path("/proc/self/statm").read_text().split()[0]), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped * resource.getpagesize() + (2 << 30), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - started < _STUCK_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < _MIB


@dataclass(frozen=True, kw_only=True)
class Target:
    """make: writes what is whole into a folder. spoil: from the whole files to those that are other now. use: what is
    asked of the folder, anything but a WilssError is a fault.
    """

    make: Callable[[Path], object]
    spoil: Callable[[Draw, Whole], Whole]
    use: Use


def told(ask: Callable[..., Any], *given: Any) -> Any:
    """What `ask` says, or None where it refuses in a sentence."""
    try:
        return ask(*given)
    except WilssError as error:
        if len(str(error)) < 20 or "Traceback" in str(error):
            pytest.fail(f"no sentence: {error!r}")
        return None


# -- how a file is spoilt -----------------------------------------------------------------------------------


def one_of(*names: str, how: Callable[[Draw, bytes], bytes] = spoil_bytes) -> Callable[[Draw, Whole], Whole]:
    """One of the files whose names have one of these words."""

    def spoil(draw: Draw, whole: Whole) -> Whole:
        name = draw(st.sampled_from(sorted(file for file in whole if any(word in file for word in names))))
        return {name: how(draw, whole[name])}

    return spoil


def as_yaml(draw: Draw, content: bytes) -> bytes:
    """Values replaced, then written as YAML again."""
    spoilt = spoil_tree(draw, yaml.safe_load(content), JUNK)
    return yaml.safe_dump(spoilt, sort_keys=False).encode("utf-8", "surrogatepass")


def as_json(draw: Draw, content: bytes) -> bytes:
    return json.dumps(spoil_tree(draw, json.loads(content))).encode()


def recompressed(draw: Draw, content: bytes) -> bytes:
    """What a chunk holds, spoilt and compressed again, so that the codec has nothing to say."""
    from numcodecs.zstd import Zstd

    return bytes(Zstd(level=3).encode(spoil_bytes(draw, bytes(Zstd().decode(content)))))


def reindexed(draw: Draw, content: bytes) -> bytes:
    """A shard whose index says other offsets and lengths, with the right checksum."""
    import google_crc32c

    number = draw(st.sampled_from([0, 1, 7, len(content), 2**31, 2**40, 2**63, 2**64 - 2, 2**64 - 1]))
    at = len(content) - 4 - 8 * draw(st.integers(1, max(1, min(12, (len(content) - 4) // 8))))
    table = content[max(at, 0) : -4]
    spoilt = number.to_bytes(8, "little") + table[8:]
    whole: bytes = content[: max(at, 0)] + spoilt
    size = draw(st.sampled_from([len(spoilt), 16 * 9]))
    return whole + int(google_crc32c.value(whole[-size:])).to_bytes(4, "little")


def with_header(draw: Draw, content: bytes) -> bytes:
    """A safetensors file with another header, and the length that belongs to it."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if draw(st.booleans()) and "__metadata__" in header:
        said = {key: json.loads(value) for key, value in header["__metadata__"].items()}
        spoilt = spoil_tree(draw, said)
        plain = spoilt if isinstance(spoilt, dict) else {"wilss": spoilt}
        header["__metadata__"] = {str(key): json.dumps(value) for key, value in plain.items()}
    else:
        header = spoil_tree(draw, header)
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + content[8 + length :]


def some_root(draw: Draw, whole: Whole) -> Whole:
    """The metadata of a group as JSON values; without the consolidated ones, that of one of its arrays."""
    if draw(st.booleans()):
        return {"s.zarr/zarr.json": as_json(draw, whole["s.zarr/zarr.json"])}
    root = json.loads(whole["s.zarr/zarr.json"])
    del root["consolidated_metadata"]
    arrays = sorted(name for name in whole if name.count("/") == 2 and name.endswith("zarr.json"))
    name = draw(st.sampled_from(arrays))
    return {"s.zarr/zarr.json": json.dumps(root).encode(), name: as_json(draw, whole[name])}


def some_array(draw: Draw, whole: Whole) -> Whole:
    """The metadata of one array, where the group keeps them."""
    root = json.loads(whole["s.zarr/zarr.json"])
    arrays = root["consolidated_metadata"]["metadata"]
    name = draw(st.sampled_from(sorted(arrays)))
    arrays[name] = spoil_tree(draw, arrays[name])
    return {"s.zarr/zarr.json": json.dumps(root).encode()}


def some_shape(draw: Draw, whole: Whole) -> Whole:
    """Another shape, the same for one array or for all; with or without chunks to go with it."""
    root = json.loads(whole["s.zarr/zarr.json"])
    arrays = root["consolidated_metadata"]["metadata"]
    axis, size = draw(st.integers(0, 3)), draw(st.sampled_from([0, 1, 2, 10**5, 10**8, 10**9, 10**12, 2**62, -1]))
    names = draw(st.sampled_from([sorted(arrays), [draw(st.sampled_from(sorted(arrays)))]]))
    chunks_too = draw(st.booleans())
    for name in names:
        shape = arrays[name]["shape"]
        if axis < len(shape):
            shape[axis] = size
            if chunks_too:
                arrays[name]["chunk_grid"]["configuration"]["chunk_shape"][axis] = size
    return {"s.zarr/zarr.json": json.dumps(root).encode()}


def some_values(draw: Draw, whole: Whole) -> Whole:
    """Vectors whose chunks hold other values, well compressed."""
    vectors = sorted(name for name in whole if "/c/" in name and not any(f"{soft}/" in name for soft in _SHARDED))
    names = draw(st.lists(st.sampled_from(vectors), min_size=1, max_size=2, unique=True))
    return {name: recompressed(draw, whole[name]) for name in names}


def some_shard(draw: Draw, whole: Whole) -> Whole:
    shards = sorted(name for name in whole if "/c/" in name and any(f"{soft}/" in name for soft in _SHARDED))
    name = draw(st.sampled_from(shards))
    how = draw(st.sampled_from([spoil_bytes, reindexed, lambda draw, _: whole[draw(st.sampled_from(shards))]]))
    return {name: how(draw, whole[name])}


#: Arrays in shards, which are no zstd frames themselves.
_SHARDED = ("s.zarr/mask", "void", "score", "attention", "seeds", "s.zarr/image/c/0/0")


# -- what is made -------------------------------------------------------------------------------------------


def make_voc(folder: Path) -> None:
    data_set(
        folder,
        splits={"train": "train", "val": {"list": "train"}},
        tags={"from": "voc-main", "ignore": ["bird"]},
        names={0: "background", 1: "cat", 2: {"name": "dog", "prompts": ["dog", "puppy"]}, 3: "horse"},
        train={"epochs": 2, "lr": 0.1, "rates": [6, 12], "base": {"epochs": 3}, "fmwiss": {"alpha": 0.5}},
        evaluation={"val": [{"split": "val"}]},
        licenses=[{"name": "none"}],
        supports={1: [{"image": "im0", "class": "horse", "box": [1, 1, 8, 8]}]},
    )


def make_csv(folder: Path) -> None:
    data_set(folder, tags={"from": "csv", "file": "tags.csv"})
    disk.text(folder / "tags.csv", "image,tags", *(f"im{i},horse;{'cat' if i % 2 else 'dog'}" for i in range(7)))


def make_columns(folder: Path) -> None:
    data_set(folder, tags={"from": "csv", "file": "tags.csv"})
    disk.text(folder / "tags.csv", "image,cat,dog,horse", *(f"im{i},{i % 2},{1 - i % 2},1" for i in range(7)))


def make_npy(folder: Path) -> None:
    data_set(folder, tags={"from": "npy", "file": "tags.npy"}, splits={"train": "some.npy"})
    np.save(folder / "tags.npy", np.tile(np.array([[0, 1, 1]], np.uint8), (7, 1)))
    np.save(folder / "some.npy", np.array([0, 2, 3]))
    shutil.copy(folder / "data/ImageSets/Segmentation/train.txt", folder / "data/ImageSets/Segmentation/train_aug.txt")


def make_xml(folder: Path) -> None:
    data_set(folder, tags="voc-xml")
    one = "<annotation><object><name>horse</name><difficult>0</difficult></object></annotation>"
    for i in range(7):
        disk.text(folder / f"data/Annotations/im{i}.xml", one)


def make_coco(folder: Path) -> None:
    rle = {"size": list(disk.SIZE), "counts": [10, 20, 162]}
    shapes = {
        "a.jpg": [disk.box(1, 1, 5, 5, 10), disk.box(3, 3, 4, 4, 30)],
        "b.jpg": [disk.box(1, 1, 5, 5, 20), {"category_id": 30, "area": 20, "segmentation": rle, "iscrowd": 1}],
        "c.jpg": [{"category_id": 10, "area": 20, "segmentation": {"size": list(disk.SIZE), "counts": ":d0R4"}}],
    }
    disk.coco(folder / "data", "train", shapes, disk.CLASSES[1:])
    # of published ones a check would say, beside the fault looked for, that they have to be fetched
    untrained = {
        "clip": {"library": "open_clip", "model": "ViT-B-32", "pretrained": "random"},
        "vit": {"library": "timm", "model": "vit_tiny_patch16_224", "pretrained": "random"},
    }
    disk.manifest(folder, layout="coco", splits={"train": "train"}, encoders=untrained)


def make_tagged_by_coco(folder: Path) -> None:
    make_coco(folder)
    data_set(folder / "voc", tags={"from": "coco", "file": "../data/annotations/instances_train.json"})


def make_supports(folder: Path) -> None:
    data_set(folder)
    disk.label(folder / "map.png", [1, 0, 255], (12, 16))
    rows = [
        {"image": "im0", "class": "horse", "box": [1, 1, 8, 8]},
        {"image": "im1", "class": 3, "kind": "scribble", "points": [[1, 1], [5, 5]], "background": [[9, 9]]},
        {"image": "im2", "class": "horse"},
        {"image": "im3", "class": "horse", "kind": "mask", "file": "map.png"},
        {"image": "im4", "class": "horse", "boxes": [[0, 0, 3, 3], [4, 4, 9, 9]]},
    ]
    (folder / "supports.yaml").write_text(yaml.safe_dump(rows, sort_keys=False))


def make_lock(folder: Path) -> None:
    data_set(folder)
    manifest = load_manifest(folder)
    weights = {"clip": LockedWeights(encoder=manifest.encoders.clip.title, sha256="0" * 64)}
    write_lock(manifest, lists=list_digests(manifest), weights=weights)


def make_store(folder: Path) -> None:
    data_set(folder)
    assert generate(folder, "--keep", "scores", source="fmwiss", out="s.zarr").code == 0


def make_label_store(folder: Path) -> None:
    data_set(folder)
    assert generate(folder, source="annotation", step=0, out="s.zarr").code == 0


def make_bank(folder: Path) -> None:
    rng = np.random.default_rng(0)
    made = [
        Instance(
            index=i, category_id=1 + i % 3, image_id=f"image {i}", box=(1, 2, 5 + i % 3, 9), area=5, step=0,
            weak=bool(i % 2), confidence=0.5, image=rng.integers(0, 256, (4 + i % 3, 7, 3)).astype(np.uint8),
            mask=np.eye(4 + i % 3, 7, dtype=bool),
        )
        for i in range(6)
    ]  # fmt: skip
    names = InstanceInfo.__dataclass_fields__
    infos = [InstanceInfo(**{name: getattr(one, name) for name in names}) for one in made]
    write_bank(folder / "s.zarr", {"step": 0, "seed": 1}, infos, made, TAXONOMY)


PROTOCOL = StepProtocol(name="2-2", taxonomy=TAXONOMY, steps=((1, 2), (4, 3)))


def make_checkpoint(folder: Path) -> None:
    spec = SegmenterSpec(backbone="resnet18", args={"channels": [4, 4, 4, 4]}, head_width=4, num_channels=3)
    facts = {
        "method": "fmwiss", "step": 0, "mean": [0.5] * 3, "std": [0.2] * 3, "params": {"epochs": 2}, "seed": 0,
        "iterations": 3, "parent_digest": None, "store_digest": "0" * 64, "manifest_name": "pets",
        "manifest_digest": "",
    }  # fmt: skip
    weights = build(spec, seed=0).state_dict()
    write_model(folder / "model.safetensors", weights, spec=spec, protocol=PROTOCOL, facts=facts)


def make_states(folder: Path) -> None:
    for step in (3, 6):
        networks = {"student.weight": torch.arange(6.0).reshape(2, 3), "student.bias": torch.zeros(2)}
        state = TrainingState(step=step, networks=networks, optimiser={"state": {0: torch.ones(2)}, "lr": 0.1})
        save_state(folder / "state", state)


def make_weights(folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.zeros(3, dtype=torch.float16)}
    save_file(tensors, folder / "a.safetensors")
    torch.save({"model": tensors}, folder / "b.pt")


def make_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "a.jpg", exif=exif)
    Image.fromarray(pixels).save(folder / "b.jpg", progressive=True)
    Image.fromarray(pixels).convert("CMYK").save(folder / "c.jpg")
    Image.fromarray(pixels).convert("RGBA").save(folder / "d.webp")
    Image.fromarray(pixels).save(folder / "e.webp", save_all=True, append_images=[Image.fromarray(255 - pixels)])
    Image.fromarray(pixels).quantize(8).save(folder / "f.png", transparency=2)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / "g.png")
    Image.fromarray(pixels[..., 0] % 4).save(folder / "h.png")


# -- what is asked ------------------------------------------------------------------------------------------


def ask_manifest(folder: Path) -> None:
    from wilss_masks.sources import SOURCES
    from wilss_train.params import from_manifest

    manifest: Manifest | None = told(load_manifest, folder / "data_manifest.yaml")
    if manifest is None:
        return
    for step in range(manifest.protocol.num_steps):
        chosen = told(manifest.records, step)
        told(manifest.images, step)
        told(from_manifest_of, from_manifest, manifest, step)
        for source in SOURCES.values():
            told(source.from_manifest, manifest, step)
        told(read_supports, manifest, step)
        for record in chosen.records if chosen else ():
            told(read_label_of, record)
    told(manifest.evaluation)
    told(lambda: manifest.digest)


def from_manifest_of(read: Callable[..., Any], manifest: Manifest, step: int) -> None:
    read(manifest.train, step=step, where=str(manifest.path))


def ask_supports(folder: Path) -> None:
    manifest = load_manifest(folder)
    for every in (True, False):
        found = told(partial(read_supports, manifest, 1, folder / "supports.yaml", every=every))
        if found is not None:
            list(problems_of(found))
            told(lambda found=found: found.usable().shots(1).digest)


def ask_store(folder: Path) -> None:
    for partly in (True, False):
        store: MaskStore | None = told(partial(MaskStore.open, folder / "s.zarr", allow_partial=partly))
        if store is not None:
            told(lambda store=store: list(store.verify()))
            told(_facts, store)
            told(lambda store=store: [store.digest, store.category_names])
            count = told(lambda store=store: len(store.image_ids)) or 0
            for row in range(min(count, 9)):
                told(store.read, row)
                told(store.read, row, [0])
    if store is not None and told(fusion_of, store) is not None:
        reader = KeptReader(store)
        told(lambda: [reader.read(int(row)) for row in np.flatnonzero(store.vector("status") == Status.DONE)])


def ask_bank(folder: Path) -> None:
    from wilss_train.commands.memory import _facts, _told
    from wilss_train.memory.sheet import draw_sheet

    bank: MemoryBank | None = told(MemoryBank.open, folder / "s.zarr")
    if bank is not None:
        told(bank.verify)
        told(lambda: _told(_facts(bank)))
        told(bank.require_taxonomy, TAXONOMY)
        told(lambda: draw_sheet(bank, count=2, cell=72))
        for index in range(min(told(lambda: len(bank)) or 0, 9)):
            told(bank.read, index)


def ask_checkpoint(folder: Path) -> None:
    info = told(read_info, folder / "model.safetensors")
    if info is not None:
        told(lambda: (info.seen, info.channel_names))
        told(spec_of, info, SegmenterSpec)
        told(read_weights, info)
        told(load_segmenter, info)


def ask_weights(folder: Path) -> None:
    told(read_tensors, folder / "a.safetensors")
    told(read_tensors, folder / "b.pt")


def ask_pictures(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        size, image, label = (told(read, path) for read in (read_size, read_image, read_palette_label))
        assert image is None or image.shape[:2] == size, path
        assert label is None or label.ndim == 2


MAIN = "ImageSets/Main/"
TARGETS: dict[str, Target] = {
    "manifest values": Target(make=make_voc, spoil=one_of("data_manifest.yaml", how=as_yaml), use=ask_manifest),
    "manifest text": Target(make=make_voc, spoil=one_of("data_manifest.yaml"), use=ask_manifest),
    "coco manifest": Target(make=make_coco, spoil=one_of("data_manifest.yaml", how=as_yaml), use=ask_manifest),
    "list": Target(make=make_voc, spoil=one_of("Segmentation/train.txt", how=spoil_lines), use=ask_manifest),
    "flags": Target(make=make_voc, spoil=one_of(MAIN, how=spoil_lines), use=ask_manifest),
    "tags": Target(make=make_csv, spoil=one_of("tags.csv", how=spoil_lines), use=ask_manifest),
    "columns": Target(make=make_columns, spoil=one_of("tags.csv", how=spoil_lines), use=ask_manifest),
    "npy": Target(make=make_npy, spoil=one_of(".npy"), use=ask_manifest),
    "xml": Target(make=make_xml, spoil=one_of(".xml"), use=ask_manifest),
    "coco values": Target(make=make_coco, spoil=one_of("instances_", how=as_json), use=ask_manifest),
    "coco text": Target(make=make_coco, spoil=one_of("instances_"), use=ask_manifest),
    "coco tags": Target(
        make=make_tagged_by_coco, spoil=one_of("instances_", how=as_json), use=lambda f: ask_manifest(f / "voc")
    ),
    "supports values": Target(make=make_supports, spoil=one_of("supports.yaml", how=as_yaml), use=ask_supports),
    "supports text": Target(make=make_supports, spoil=one_of("supports.yaml"), use=ask_supports),
    "support map": Target(make=make_supports, spoil=one_of("map.png"), use=ask_supports),
    "lock values": Target(make=make_lock, spoil=one_of(".lock.yaml", how=as_yaml), use=ask_manifest),
    "lock text": Target(make=make_lock, spoil=one_of(".lock.yaml"), use=ask_manifest),
    "store metadata": Target(make=make_store, spoil=some_root, use=ask_store),
    "store text": Target(make=make_store, spoil=one_of("zarr.json"), use=ask_store),
    "store arrays": Target(make=make_store, spoil=some_array, use=ask_store),
    "store shapes": Target(make=make_label_store, spoil=some_shape, use=ask_store),
    "store values": Target(make=make_label_store, spoil=some_values, use=ask_store),
    "store chunks": Target(make=make_store, spoil=one_of("/c/"), use=ask_store),
    "store shards": Target(make=make_label_store, spoil=some_shard, use=ask_store),
    "bank metadata": Target(make=make_bank, spoil=some_root, use=ask_bank),
    "bank shapes": Target(make=make_bank, spoil=some_shape, use=ask_bank),
    "bank values": Target(make=make_bank, spoil=some_values, use=ask_bank),
    "bank text": Target(make=make_bank, spoil=one_of("zarr.json", "/c/"), use=ask_bank),
    "checkpoint header": Target(make=make_checkpoint, spoil=one_of("model", how=with_header), use=ask_checkpoint),
    "checkpoint bytes": Target(make=make_checkpoint, spoil=one_of("model"), use=ask_checkpoint),
    "state": Target(make=make_states, spoil=one_of("state/"), use=lambda f: told(latest_state, f / "state")),
    "state facts": Target(
        make=make_states, spoil=one_of("state.json", how=as_json), use=lambda f: told(latest_state, f / "state")
    ),
    "weights": Target(make=make_weights, spoil=one_of("a.safetensors", "b.pt"), use=ask_weights),
    "weights header": Target(make=make_weights, spoil=one_of("a.safetensors", how=with_header), use=ask_weights),
    "pictures": Target(make=make_pictures, spoil=one_of("."), use=ask_pictures),
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Whole]]:
    """The whole files of a target, made when they are first wanted."""
    made: dict[Any, tuple[Path, Whole]] = {}

    def whole(name: str) -> tuple[Path, Whole]:
        make = TARGETS[name].make
        if make not in made:
            folder = tmp_path_factory.mktemp("fuzz")
            make(folder)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            made[make] = folder, {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        return made[make]

    return whole


@pytest.mark.parametrize("name", TARGETS)
def test_a_little(wholes: Callable[[str], tuple[Path, Whole]], name: str) -> None:
    fuzz(*wholes(name), TARGETS[name], QUICK)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TARGETS)
def test_at_length(wholes: Callable[[str], tuple[Path, Whole]], name: str) -> None:
    fuzz(*wholes(name), TARGETS[name], LONG)


def fuzz(folder: Path, whole: Whole, target: Target, how: settings) -> None:
    """Spoil, ask, restore; in the end no file may be left that was not there."""
    target.use(folder)  # whole files, and what is imported at first use, are not timed

    @how
    @given(st.data())
    def example(data: st.DataObject) -> None:
        spoilt = target.spoil(data.draw, whole)
        try:
            for name, content in spoilt.items():
                (folder / name).write_bytes(content)
            with within_bounds():
                target.use(folder)
        finally:
            for name in spoilt:
                (folder / name).write_bytes(whole[name])

    example()
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == set(whole), "files were left behind or removed"


# -- through the command line -------------------------------------------------------------------------------

#: By target, what is called with the spoilt file; the words are those of wilss-masks.
COMMANDS: dict[str, tuple[str, ...]] = {
    "manifest values": ("manifest check --no-labels", "generate --step 0 --source annotation --dry-run"),
    "manifest text": ("manifest check --no-labels",),
    "list": ("generate --step 1 --source fmwiss --dry-run",),
    "coco values": ("manifest check",),
    "supports values": ("supports check supports.yaml --step 1 --out sheet.png",),
    "lock values": ("manifest check --no-labels",),
    "store metadata": ("info s.zarr", "verify s.zarr", "evaluate s.zarr", "export coco s.zarr m.json"),
    "store values": ("info s.zarr --json", "export voc s.zarr voc", "sheet s.zarr --count 2 --out sheet.png"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line(
    wholes: Callable[[str], tuple[Path, Whole]], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exit code of ours, at most one error but of `manifest check`, and it is one that somebody foresaw."""
    folder = shutil.copytree(wholes(name)[0], tmp_path / "data")
    monkeypatch.chdir(folder)
    target, whole = TARGETS[name], wholes(name)[1]

    @settings(QUICK, max_examples=3)
    @given(st.data())
    def example(data: st.DataObject) -> None:
        spoilt = target.spoil(data.draw, whole)
        for file, content in spoilt.items():
            (folder / file).write_bytes(content)
        for words in COMMANDS[name]:
            made = wilss_masks(*words.split())
            assert made.code in (0, 1, 2, 3), made.said
            errors = made.err.count("Error: ")
            is_verdict = (
                "damaged" in made.out or "not complete" in made.out
            )  # of `verify`, which is no error of its own
            assert (errors > 0) == (made.code == 2 or (made.code == 1 and not is_verdict))
            assert errors <= 1 or words.startswith("manifest check"), made.said  # which names all faults there are
            assert "Traceback" not in made.said
            assert "should not happen" not in made.said, made.said
        for file in spoilt:
            (folder / file).write_bytes(whole[file])

    example()
