"""Which files are images that are read, and what the others are, by their first bytes."""

#: Bytes from a file's start that `what_it_is` looks at.
HEAD = 64

READ = "JPEG, PNG, TIFF, WebP or BMP"

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "GIF"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"FUJIFILMCCD-RAW", "raw Fujifilm"),
    (b"IIRO", "raw Olympus"),
    (b"IIU\x00", "raw Panasonic"),
    (b"\x93NUMPY", "NumPy"),
    (b"\x89HDF", "HDF5"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
)
_BOXES = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF", b"crx ": "raw Canon"}
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a pointer of Git LFS and not the image; run `git lfs pull`"),
    (b"<!doctype html", "is a web page and not an image; download the image itself"),
    (b"<html", "is a web page and not an image; download the image itself"),
    (b"<svg", "is a drawing (SVG); save it as PNG"),
)


def what_it_is(head: bytes) -> str:
    """What a file is that is no image of a kind that is read, as a clause with its fix. head: its first bytes."""
    if not head:
        return "is empty; copy it again, or leave it out"
    text = next((said for start, said in _TEXTS if head.lower().startswith(start)), None)
    if text is not None:
        return text
    name = next((name for start, name in _OTHERS if head.startswith(start)), None)
    if name is None and head[4:8] == b"ftyp":
        name = _BOXES.get(head[8:12], "film")
    if name is None:
        return f"is not a {READ} image; copy it again, or leave it out"
    return f"is a {name} file, not a {READ} image; save it as PNG or JPEG, or leave it out"
