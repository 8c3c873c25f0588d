"""Files of a few bytes that claim gigabytes, and a process with little memory that is given them.

`main` is that process: it makes each, reads it as wilss does, and writes what came of it as JSON.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import resource
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

#: The process may take this much more than it has once everything is imported.
ROOM = 512 << 20
CLAIMED = 8 << 30
BLOCK = 128 << 10


def frame(size: int, *, says: int | None) -> bytes:
    """A zstd frame of zeros, 4 bytes for each 128 KiB. says: the size in its header, None for a header without one."""
    head = b"\x28\xb5\x2f\xfd" + (b"\x00\x58" if says is None else b"\xe0" + struct.pack("<Q", says))
    lengths = [BLOCK] * (size // BLOCK) + ([size % BLOCK] if size % BLOCK else [])
    blocks = [
        struct.pack("<I", (length << 3) | 2 | (place == len(lengths) - 1))[:3] + b"\0"
        for place, length in enumerate(lengths)
    ]
    return head + b"".join(blocks)


#: Less than the room that there is: what is not refused is read, and seen by what it took.
GIANT = frame(300 << 20, says=300 << 20)
ENDLESS = frame(300 << 20, says=None)


# -- stores and banks ---------------------------------------------------------------------------------------


def with_plane(shard: Path, slots: int, plane: bytes, length: int | None = None) -> None:
    """Put a plane in the place of the first one of a shard file, with an index that fits it."""
    data = shard.read_bytes()
    body, table = data[: -16 * slots - 4], np.frombuffer(data[-16 * slots - 4 : -4], "<u8").reshape(slots, 2).copy()
    place = int(np.flatnonzero(table[:, 0] != 2**64 - 1)[0])
    table[place] = len(body), len(plane) if length is None else length
    index = table.tobytes()
    shard.write_bytes(body + plane + index + google_crc32c.value(index).to_bytes(4, "little"))


def in_metadata(store: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the root says of an array; readers ask nothing else."""
    root = json.loads((store / "zarr.json").read_text())
    change(root["consolidated_metadata"]["metadata"][name])
    (store / "zarr.json").write_text(json.dumps(root))


def canvas(store: Path) -> None:
    def grow(said: dict[str, Any]) -> None:
        said["shape"][2:] = [1 << 20, 1 << 20]
        said["chunk_grid"]["configuration"]["chunk_shape"][2:] = [1 << 20, 1 << 20]
        said["codecs"][0]["configuration"]["chunk_shape"][2:] = [1 << 20, 1 << 20]

    in_metadata(store, "mask", grow)


def images_without_end(store: Path) -> None:
    for name in json.loads((store / "zarr.json").read_text())["consolidated_metadata"]["metadata"]:
        if name not in ("category", "category_id", "shard_digest"):
            in_metadata(store, name, lambda said: said["shape"].__setitem__(0, 1 << 40))


def long_vector(store: Path) -> None:
    in_metadata(store, "status", lambda said: said["shape"].__setitem__(0, 1 << 36))


def wide_type(store: Path) -> None:
    kind = {"name": "fixed_length_utf32", "configuration": {"length_bytes": CLAIMED}}
    in_metadata(store, "status", lambda said: said.update(data_type=kind, fill_value=""))


def other_codec(store: Path) -> None:
    in_metadata(
        store, "status", lambda said: said["codecs"].__setitem__(1, {"name": "gzip", "configuration": {"level": 5}})
    )
    (store / "status/c/0").write_bytes(b"".join(gzipped_zeros()))


def large_images(store: Path) -> None:
    values = np.full(7, 2**31 - 1, "<i4")
    for name in ("height", "width"):
        (store / name / "c/0").write_bytes(Zstd().encode(values))


def nested(file: Path) -> None:
    file.write_text('{"attributes": ' + "[" * 200_000 + "]" * 200_000 + "}")


def read_store(path: Path) -> None:
    from wilss.store import MaskStore

    store = MaskStore.open(path, allow_partial=True)
    for name in ("image", "height", "width", "status", "error", "tags", "confidence", "area", "shard_digest"):
        store.vector(name)
    for name in store.image_ids:
        store.read(name)


def read_bank(path: Path) -> None:
    from wilss_train.memory import MemoryBank

    bank = MemoryBank.open(path)
    for info in bank.infos:
        bank.read(info.index)


def shard_of(store: Path, array: str = "mask") -> tuple[Path, int]:
    """The first shard file of an array, and the slots of its index: the size of the category axis, or 1, each image."""
    said = json.loads((store / "zarr.json").read_text())["consolidated_metadata"]["metadata"][array]
    per_shard = said["chunk_grid"]["configuration"]["chunk_shape"]
    per_image = per_shard[1] if said["dimension_names"][1] == "category" else 1
    return min(file for file in (store / array / "c").rglob("*") if file.is_file()), per_shard[0] * per_image


#: What is done to a store, and what is said of it then.
STORES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "plane": (
        lambda store: with_plane(*shard_of(store), GIANT),
        r"a plane would become 314572800 bytes instead of 256",
    ),
    "plane that does not say": (lambda store: with_plane(*shard_of(store), ENDLESS), r"does not say how large its"),
    "plane of a long shard": (
        lambda store: with_plane(*shard_of(store), b"", length=CLAIMED),
        r"beyond the end of its",
    ),
    "vector": (
        lambda store: (store / "status/c/0").write_bytes(GIANT),
        r"the array 'status' cannot be read \(a chunk would become 314572800 bytes\)",
    ),
    "vector that does not say": (lambda store: (store / "status/c/0").write_bytes(ENDLESS), r"does not say how large"),
    "names": (lambda store: (store / "image/c/0").write_bytes(GIANT), r"its texts would become 314572800 bytes"),
    "canvas": (canvas, r"planes of \(1048576, 1048576\) an image .* more than there can be"),
    "images without end": (images_without_end, r"."),
    "long vector": (long_vector, r"'status' (is not as wilss writes it|has the shape)"),
    "wide type": (wide_type, r"."),
    "other codec": (other_codec, r"'status' (is not as wilss writes it|has the shape)"),
    "large images": (large_images, r"it has values from 2147483647 to 2147483647"),
    "nested metadata": (lambda store: nested(store / "zarr.json"), r"is not a readable mask store"),
}
BANKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "crop": (lambda bank: with_plane(*shard_of(bank, "image"), GIANT), r"a plane would become 314572800 bytes instead"),
    "crop that does not say": (lambda bank: with_plane(*shard_of(bank, "image"), ENDLESS), r"does not say how large"),
    "mask of a crop": (
        lambda bank: with_plane(*shard_of(bank), GIANT),
        r"a plane would become 314572800 bytes instead",
    ),
    "vector": (
        lambda bank: (bank / "area/c/0").write_bytes(GIANT),
        r"a chunk would become 314572800 bytes",
    ),
    "many crops": (
        lambda bank: in_metadata(bank, "area", lambda said: said["shape"].__setitem__(0, 1 << 36)),
        r"says that it holds 68719476736 things",
    ),
    "large boxes": (
        lambda bank: (bank / "box/c/0/0").write_bytes(Zstd().encode(boxes_without_end(bank))),
        r"image has shape and shard \(\(40, 8, 8, 3\), 32\), not \(\(40, 1048576, 1048576, 3\), 32\)",
    ),
    "nested metadata": (lambda bank: nested(bank / "zarr.json"), r"cannot be read"),
}


def boxes_without_end(bank: Path) -> Any:
    said = json.loads((bank / "zarr.json").read_text())["consolidated_metadata"]["metadata"]["box"]
    return np.full(said["chunk_grid"]["configuration"]["chunk_shape"], (0, 0, 1 << 20, 1 << 20), "<i4")


# -- images -------------------------------------------------------------------------------------------------


def png(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (4, 4), depth: int = 8) -> bytes:
    head = struct.pack(">IIBBBBB", size[1], size[0], depth, 0, 0, 0, 0)
    whole = [(b"IHDR", head), *chunks, (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in whole]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp() -> bytes:
    """An extended WebP of 2**15 x 2**15 pixels by its header; its decoder takes memory for two such canvases."""
    from PIL import Image

    small = io.BytesIO()
    Image.new("RGB", (16, 16)).save(small, "WEBP", lossless=True)
    side = struct.pack("<I", (1 << 15) - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + side + side + small.getvalue()[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg() -> bytes:
    from PIL import Image

    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "JPEG")
    data = bytearray(small.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def tiff(*tags: tuple[int, int], size: tuple[int, int] = (16, 16)) -> bytes:
    """A compressed TIFF of one strip or tile with these whole numbers as tags beside what every TIFF has."""
    content = zlib.compress(bytes(1 << 10))
    known = {256: size[1], 257: size[0], 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 279: len(content), **dict(tags)}
    known[273 if 322 not in known else 324] = 8
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, known[tag]) for tag in sorted(known))
    directory = struct.pack("<H", len(known)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory


def bmp() -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 65_000, 65_000, 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + head + bytes(1024) + b"\xff\x01" * 100


def gzipped_zeros() -> Iterator[bytes]:
    """Many zeros, a megabyte at a time."""
    packer = zlib.compressobj(1, wbits=31)
    for _ in range(200):
        yield packer.compress(bytes(1 << 20))
    yield packer.flush()


@functools.cache
def packed(size: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "png": (lambda: png((b"IDAT", b""), size=(9_000, 9_000)), r"is 9000 x 9000 pixels, more than 64 million"),
    "png with text": (lambda: png((b"zTXt", b"k\0\0" + packed(200 << 20)), (b"IDAT", b"")), r"data too large for"),
    "png with a profile": (lambda: png((b"iCCP", b"k\0\0" + packed(200 << 20)), (b"IDAT", b"")), r"data too large for"),
    "webp": (webp, r"is damaged \(.*exceeds limit|more than 64 million|needs more memory than there is"),
    "jpeg": (jpeg, r"is 65000 x 65000 pixels, more than 64 million"),
    "tiff": (lambda: tiff(size=(9_000, 9_000)), r"is 9000 x 9000 pixels, more than 64 million"),
    "tiff with large tiles": (lambda: tiff((322, 65_536), (323, 32_768)), r"tiles of more than 64 million pixels"),
    "bmp": (bmp, r"is 65000 x 65000 pixels, more than 64 million"),
}


# -- weights, arrays and lists ------------------------------------------------------------------------------


def compressed_weights(path: Path) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(1 << 20)}, buffer)
    with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for part in stored.infolist():
            small.writestr(part.filename, stored.read(part))


def view_of_one_number(path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(1).expand(1 << 20, 1 << 20), "bias": torch.zeros(2)}, path)


class _Bytes:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (CLAIMED,)


def bytes_without_end(path: Path) -> None:
    import torch

    torch.save({"weight": _Bytes()}, path)


def read_backbone(path: Path) -> None:
    from torch import nn

    from wilss.models.networks.weights import load_backbone

    network = nn.Module()
    network.backbone = nn.Linear(2, 2)
    load_backbone(network, path)


def npz_of_zeros(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("weight.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 26,)})
        for _ in range(1 << 8):
            file.write(bytes(1 << 20))


def npz_of_a_header(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, archive.open("weight.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (CLAIMED // 4,)})


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (CLAIMED // 8,)})


def read_array(path: Path) -> None:
    from wilss.data.layouts.lists import load_array

    load_array(path)


def draw(segmentation: Any) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from wilss.data.layouts.coco_json import CocoLabel, CocoShape

        shape = CocoShape(identity=1, crowd=False, annotation=1, segmentation=json.dumps(segmentation))
        CocoLabel(path=path, image_id="a", height=10, width=10, shapes=(shape,)).read()

    return read


def read_annotation(path: Path) -> None:
    from wilss.data.layouts.xml import read_annotations
    from wilss.errors import ImageError

    _, problems = read_annotations(path.parent, [path.stem], difficult=True)
    if problems:
        raise ImageError(problems[path.stem])


def laughs(path: Path) -> None:
    lines = ['<!ENTITY l0 "' + "ha" * 500 + '">']
    lines += [f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 8)]
    path.write_text(
        f"<!DOCTYPE annotation [{''.join(lines)}]><annotation><object><name>&l7;</name></object></annotation>"
    )


def without_content(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(CLAIMED)


def merged_aliases(path: Path) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    path.write_text("\n".join(lines) + "\n")


def read_manifest(path: Path) -> None:
    from wilss.data.manifest import load_manifest

    load_manifest(path)


def nested_header(path: Path) -> None:
    header = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def read_checkpoint(path: Path) -> None:
    from wilss.models.networks.checkpoint import read_info

    read_info(path)


def read_encoder_config(path: Path) -> None:
    from wilss.models.encoders.weights import read_config

    read_config(path)


ZIGZAG = [[place for row in range(3000) for place in ((-1) ** row * 1e6, float(row))]]
FILES: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], None], str]] = {
    "weights, compressed": ("w.pt", compressed_weights, read_backbone, r"is compressed, which torch.save never does"),
    "weights, a view": ("w.pt", view_of_one_number, read_backbone, r"weight is \[1048576, 1048576\], the network has"),
    "weights, bytes": ("w.pt", bytes_without_end, read_backbone, r"asks for more memory than there is"),
    "weights, an npz of zeros": (
        "w.npz",
        npz_of_zeros,
        read_backbone,
        r"would become \d+ bytes, which weights",
    ),
    "weights, an npz's header": ("w.npz", npz_of_a_header, read_backbone, r"promises \d+ bytes, and 0 are there"),
    "array": ("a.npy", array, read_array, r"its header promises 8589934592 bytes, and 0 are there"),
    "outline": ("c.json", lambda path: None, draw(ZIGZAG), r"its outline is longer than that of anything in an image"),
    "run length": (
        "c.json",
        lambda path: None,
        draw({"size": [10, 10], "counts": "o" * 500_000}),
        r"one of its run lengths has no end",
    ),
    "entities": ("a.xml", laughs, read_annotation, r"declares a document type"),
    "aliases": (
        "data_manifest.yaml",
        merged_aliases,
        read_manifest,
        r"stands for too many values; write fewer aliases",
    ),
    "large manifest": ("data_manifest.yaml", without_content, read_manifest, r"is larger than 1 MiB"),
    "nested header": ("model.safetensors", nested_header, read_checkpoint, r"is damaged: its header cannot be read"),
    "nested config": ("clip.json", nested, read_encoder_config, r"is not a readable json config"),
}


# -- the process with little memory -------------------------------------------------------------------------


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    from wilss.data.images import read_image, read_palette_label, read_size

    for kind, spoilers, read in (("store", STORES, read_store), ("bank", BANKS, read_bank)):
        for name, (spoil, _) in spoilers.items():
            path = folder / f"{kind}.zarr"
            with _copy(folder / f"whole-{kind}.zarr", path):
                spoil(path)
                yield f"{kind}: {name}", lambda read=read, path=path: read(path)  # type: ignore[misc]
    for name, (make, _) in IMAGES.items():
        path = folder / "image.bin"
        path.write_bytes(make())
        for look in (read_size, read_image, read_palette_label):
            yield f"{look.__name__}: {name}", lambda look=look, path=path: look(path)  # type: ignore[misc]
    for name, (file, spoil, read_one, _) in FILES.items():
        path = folder / file
        spoil(path)
        yield name, lambda read=read_one, path=path: read(path)  # type: ignore[misc]


@contextlib.contextmanager
def _copy(whole: Path, path: Path) -> Iterator[None]:
    shutil.copytree(whole, path)
    try:
        yield
    finally:
        shutil.rmtree(path)


def tried(read: Callable[[], None]) -> dict[str, Any]:
    """What came of it: the error's kind and sentence, and by how many bytes the peak of resident memory rose."""
    from wilss.errors import WilssError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read()
        found = {"kind": "none", "said": "it was read"}
    except WilssError as error:
        found = {"kind": "refused", "said": str(error)}
    except BaseException as error:
        found = {"kind": type(error).__name__, "said": str(error)[:300]}
    return {**found, "grew": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10}


def main(folder: Path) -> None:
    import torch

    for name in (
        "wilss.models.encoders.weights",
        "wilss.data.manifest",
        "wilss.models.networks.weights",
        "wilss_train.memory",
    ):
        importlib.import_module(name)
    torch.set_num_threads(1)
    read_store(folder / "whole-store.zarr")  # all that is imported late is there, and the whole ones can be read
    read_bank(folder / "whole-bank.zarr")
    has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (has + ROOM, has + ROOM))
    found = {name: tried(read) for name, read in cases(folder)}
    (folder / "found.json").write_text(json.dumps(found))
