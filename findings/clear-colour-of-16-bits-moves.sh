#!/usr/bin/env bash
# The colour that a PNG of 16 bits calls transparent stays opaque, and another colour is transparent in its place.
#
# Pillow 13.0.0. A PNG without alpha may name one colour as transparent (tRNS), in the bits of its channels. Of RGB
# with 16 bits Pillow keeps the upper 8 of every pixel and all 16 of this colour, of which `convert("RGBA")` compares
# the lower 8. Seen: of the colours 300, 11308 and 40000 the first is named, and the second comes out clear. Of 16-bit
# grey no pixel is clear. With 8 bits both are right.
# Why it matters: pixels without data, around a tile or a part, are marked so; they become black objects, and holes
# appear in what is there.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 || exit 2

venv/bin/python - <<'PY'
import io
import struct
import sys
import zlib

import PIL
from PIL import Image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def opacity(values: list[int], bits: int, channels: int) -> list[int]:
    """The alpha of a row of grey pixels, of which the first is the one that is called transparent."""
    form = "B" if bits == 8 else "H"
    row = b"\0" + b"".join(struct.pack(f">{channels}{form}", *[value] * channels) for value in values)
    header = struct.pack(">IIBBBBB", len(values), 1, bits, 2 if channels == 3 else 0, 0, 0, 0)
    clear = struct.pack(f">{channels}H", *[values[0]] * channels)
    head = chunk(b"IHDR", header) + chunk(b"tRNS", clear)
    chunks = head + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    picture = Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunks)).convert("RGBA")
    return [picture.getpixel((column, 0))[3] for column in range(len(values))]


DEEP, PLAIN = [300, 44 * 257, 40000], [1, 44, 156]
seen = {
    "RGB of 16 bits": opacity(DEEP, 16, 3),
    "grey of 16 bits": opacity(DEEP, 16, 1),
    "RGB of 8 bits": opacity(PLAIN, 8, 3),
    "grey of 8 bits": opacity(PLAIN, 8, 1),
}
print(f"Pillow {PIL.__version__}; the first of three colours is called transparent, 0 is clear and 255 opaque")
for name, alpha in seen.items():
    print(f"{name}: {alpha}")
right = [0, 255, 255]
sys.exit(0 if list(seen.values()) == [[255, 0, 255], [255] * 3, right, right] else "changed")
PY
