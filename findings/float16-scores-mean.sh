#!/usr/bin/env bash
# xarray's mean of float16 score maps is 0.0131, infinite, or with dask 0 or NaN, where numpy's is 0.5.
#
# xarray 2026.9.0, dask 2026.8.0, numpy 2.4.6. numpy's mean adds float16 up in float32. xarray leaves missing values out
# and adds up in float16: the running sum of 0.5 stands still at 1024, where one more 0.5 is lost to rounding, and a sum
# beyond 65504 is inf. dask counts the values in float16 as well, and divides by inf. Seen, 400 images x 14 x 14 patches
# x 3 classes, every score 0.5: the mean per class is 0.0131 without a warning, the mean of all inf; in chunks of 32
# images the mean of all is NaN, and skipna=False, which is right without dask, gives 0 per class.
# Why it matters: patch-grid scores and attention are often float16, NaN where there is none, and thresholds go by
# a class's mean score. Say .astype("float32") first. Known for numpy's nanmean: numpy/numpy issue 23075.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
    xarray==2026.9.0 'dask[array]==2026.8.0' numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys
import warnings

import numpy as np
import xarray as xr

scores = xr.DataArray(np.full((400, 14, 14, 3), 0.5, np.float16), dims=("image", "y", "x", "category"))
axes = ("image", "y", "x")
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    per_class = scores.mean(axes)
seen = {
    "xarray, per class": [round(float(value), 4) for value in per_class],
    "warnings at that": len(warned),
    "numpy, per class": [float(value) for value in scores.values.mean((0, 1, 2))],
    "xarray without skipna, per class": [float(value) for value in scores.mean(axes, skipna=False)],
    "xarray after astype, per class": [float(value) for value in scores.astype("float32").mean(axes)],
}
chunked = scores.chunk(image=32)
with warnings.catch_warnings(action="ignore"):
    seen["xarray, of all"] = str(float(scores.mean()))
    seen["dask, of all"] = str(float(chunked.mean()))
seen["dask without skipna, per class"] = [float(value) for value in chunked.mean(axes, skipna=False)]
seen["dask after astype, per class"] = [float(value) for value in chunked.astype("float32").mean(axes)]
for what, value in seen.items():
    print(f"{what}: {value}")
right = [0.5] * 3
expected = [[0.0131] * 3, 0, right, right, right, "inf", "nan", [0.0] * 3, right]
sys.exit(0 if list(seen.values()) == expected else f"changed: expected {expected}")
PY
