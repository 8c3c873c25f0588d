#!/usr/bin/env bash
# Put two mask stores with different classes together, and the class that one of them lacks is everywhere.
#
# xarray 2026.9.0, numpy 2.4.6. bool has no value for "missing", so an outer join (concat, merge, align, reindex) makes
# bool masks float64 with NaN where a class was unknown; and NaN is true. Seen: two images whose masks are all empty,
# one from a store of cat and dog, one from a store of dog and owl: owl covers the first image and cat the second, by
# any(), astype(bool) and where(). fill_value=False keeps bool and is right.
# Why it matters: class-incremental data is a store a step, with other classes in each, joined to look at all
# masks at once. Sums and means are right, as they skip NaN, so counts of pixels do not show it.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check xarray==2026.9.0 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys

import numpy as np
import xarray as xr


def store(image: str, classes: list[str]) -> xr.Dataset:
    masks = (("image", "category", "y", "x"), np.zeros((1, len(classes), 4, 4), bool))
    return xr.Dataset({"mask": masks}, {"image": [image], "category": classes})


def covered(mask: xr.DataArray) -> dict[str, int]:
    """Pixels of each image and class that count as true."""
    ones = xr.where(mask.astype(bool), 1, 0).sum(("y", "x"))
    assert (mask.any(("y", "x")) == (ones > 0)).all()
    return {f"{i}/{c}": int(ones.sel(image=i, category=c)) for i in ones.image.values for c in ones.category.values}


stores = [store("first", ["cat", "dog"]), store("second", ["dog", "owl"])]
joined = xr.concat(stores, "image", join="outer").mask
filled = xr.concat(stores, "image", join="outer", fill_value=False).mask
print(f"joined: {joined.dtype}, pixels {covered(joined)}, by sum() {int(joined.sum())}")
print(f"joined with fill_value=False: {filled.dtype}, pixels {sum(covered(filled).values())}")
print(f"reindexed: {stores[0].reindex(category=['cat', 'dog', 'owl']).mask.dtype}")

wrong = {name: pixels for name, pixels in covered(joined).items() if pixels}
expected = {"first/owl": 16, "second/cat": 16}
same = str(joined.dtype) == "float64" and wrong == expected and int(joined.sum()) == 0
same = same and str(filled.dtype) == "bool" and sum(covered(filled).values()) == 0
sys.exit(0 if same else f"changed: expected float64 and {expected}, bool and nothing")
PY
