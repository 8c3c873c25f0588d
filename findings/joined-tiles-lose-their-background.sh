#!/usr/bin/env bash
# Where two tiles of labels overlap, the joined map has class 0 only if both tiles say so, whichever should win.
#
# rasterio 1.4.4, rioxarray 0.19.0, numpy 2.4.6. rasterio.merge.merge, and with it rioxarray's merge_arrays, takes 0 for
# "nothing here yet" where neither the files nor the call name a nodata value, as is usual with rasters of labels. Seen,
# two tiles of 8 x 8 that overlap by half, the first of them background (0) there, the second class 2: by method "first",
# which is the default, the whole overlap is class 2, and so it is by "min", though 0 is the smaller. "last" does as it
# says, and with nodata=255, in the call or in both files, all methods do.
# Why it matters: predictions for large pictures are made in tiles that overlap, and joined like this. A false alarm of
# either tile stays, the tile that was put first because the place lies nearer to its centre is not asked, and the IoU of
# the map is not that of its tiles. Of nodata the documentation says that it is by default the first file's.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
    rasterio==1.4.4 rioxarray==0.19.0 xarray==2026.9.0 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys

import numpy as np
import rasterio
import rioxarray
from rasterio.merge import merge
from rasterio.transform import from_origin
from rioxarray.merge import merge_arrays

SIDE, LEFT, RIGHT = 8, 0, 2  # the classes that the two tiles have in their overlap
OVERLAP = np.s_[:, SIDE // 2 : SIDE]


def write(file: str, column: int, label: int, nodata: int | None) -> str:
    shape = {"width": SIDE, "height": SIDE, "count": 1, "dtype": "uint8", "nodata": nodata}
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000 + column, 4_500_000, 1, 1)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as raster:
        raster.write(np.full((SIDE, SIDE), label, np.uint8), 1)
    return file


def overlap(files: list[str], **how: object) -> list[int]:
    """The classes of the overlap of two tiles when they are joined."""
    return np.unique(merge(files, **how)[0][0][OVERLAP]).tolist()


plain = [write("left.tif", 0, LEFT, None), write("right.tif", SIDE // 2, RIGHT, None)]
told = [write("left-255.tif", 0, LEFT, 255), write("right-255.tif", SIDE // 2, RIGHT, 255)]
opened = merge_arrays([rioxarray.open_rasterio(file) for file in plain])
seen = {
    "first": overlap(plain),
    "min": overlap(plain, method="min"),
    "last, background last": overlap(plain[::-1], method="last"),
    "rioxarray": np.unique(opened.values[0][OVERLAP]).tolist(),
    "first, nodata=255": overlap(plain, nodata=255),
    "min, nodata=255": overlap(plain, method="min", nodata=255),
    "first, nodata 255 in the files": overlap(told),
}
for what, labels in seen.items():
    print(f"{what}: classes {labels} in the overlap")
expected = [[RIGHT], [RIGHT], [LEFT], [RIGHT], [LEFT], [LEFT], [LEFT]]
sys.exit(0 if list(seen.values()) == expected else f"changed: expected {expected}")
PY
