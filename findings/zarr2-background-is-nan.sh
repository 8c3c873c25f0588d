#!/usr/bin/env bash
# Background (0) becomes NaN when xarray opens a label map that zarr wrote in format 2, and labels become floats.
#
# xarray 2026.9.0, zarr 3.1.6. zarr's fill value of an array is 0 by default, what a chunk holds that was never written;
# in format 2 xarray takes it for the value that marks missing data. Seen: a uint8 map 0 1 2 255 is float32 NaN 1 2 255,
# and a bool mask True False is an object array True NaN, in which NaN counts as true: a mask of 1 pixel of 4 has 4
# after astype(bool). In format 3 both are read as they were written.
# Why it matters: label maps written by zarr 2, or by zarr 3 for older readers, are format 2; the background is lost to
# any count, and masks cover whole images. Write with fill_value=None, or open with mask_and_scale=False. Known:
# pydata/xarray issues 5475, 4930.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check xarray==2026.9.0 zarr==3.1.6 || exit 2

venv/bin/python - <<'PY'
import sys

import numpy as np
import xarray as xr
import zarr

MAPS = {"label": np.array([0, 1, 2, 255], np.uint8), "mask": np.array([True, False, False, False])}


def read_back(zarr_format: int) -> dict[str, tuple[str, str]]:
    store, path = {}, f"format-{zarr_format}.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in MAPS.items():
        names = {"dimension_names": ["x"]} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": ["x"]}}
        group.create_array(name, data=values, **names)
    dataset = xr.open_zarr(path, consolidated=False)
    for name in MAPS:
        store[name] = (str(dataset[name].dtype), " ".join(map(str, dataset[name].values.tolist())))
    store["pixels of the mask"] = int(dataset.mask.astype(bool).sum())
    return store


expected = {
    2: {"label": ("float32", "nan 1.0 2.0 255.0"), "mask": ("object", "True nan nan nan"), "pixels of the mask": 4},
    3: {"label": ("uint8", "0 1 2 255"), "mask": ("bool", "True False False False"), "pixels of the mask": 1},
}
seen = {zarr_format: read_back(zarr_format) for zarr_format in expected}
for zarr_format, what in seen.items():
    print(f"format {zarr_format}: {what}")
sys.exit(0 if seen == expected else f"changed: expected {expected}")
PY
