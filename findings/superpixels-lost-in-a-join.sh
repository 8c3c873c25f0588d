#!/usr/bin/env bash
# skimage's join of superpixels and a label map merges parts that lie apart, and of a map with void it loses the superpixels.
#
# scikit-image 0.26.0, numpy 2.4.6. join_segmentations gives each pair of labels a number of its own by multiplying the
# first by the largest of the second plus one, in the number type of the maps; in uint8 that wraps around at 256. Seen,
# 100 superpixels and a square of class 15 on background, which make 120 parts: as int64 120, as uint8 32, without a
# warning, and by return_mapping=True a pixel's superpixel is found again for 15 % of the pixels, where it is
# documented to be for all. With two rows of void, 255, in the label map, the largest plus one is 0, and what is
# returned is the label map: 3 parts of 130, also of superpixels as int64, after a warning by numpy of an overflow in
# scalar add. With the label map first, and superpixels as int64, it is right.
# Why it matters: votes, purity and pseudo-labels by superpixel go over such parts, label maps are uint8 with 255 for
# void, and the result looks like labels. Say .astype("int64") of both first.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check scikit-image==0.26.0 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys
import warnings

import numpy as np
from skimage.segmentation import join_segmentations

rows, columns = np.mgrid[:80, :80]
superpixels = rows // 8 * 10 + columns // 8 + 1  # 100 squares
labels = np.zeros((80, 80), np.uint8)
labels[20:60, 20:60] = 15
with_void = labels.copy()
with_void[:2] = 255


def parts(first: np.ndarray, second: np.ndarray) -> tuple[int, list[str]]:
    """How many parts the join has, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        joined = join_segmentations(first, second)
    return len(np.unique(joined)), [str(one.message) for one in caught]


small = superpixels.astype(np.uint8)
seen = {
    "int64 and int64": parts(superpixels, labels.astype(np.int64)),
    "uint8 and uint8": parts(small, labels),
    "int64 and int64 with void": parts(superpixels, with_void.astype(np.int64)),
    "int64 and uint8 with void": parts(superpixels, with_void),
    "uint8 and uint8 with void": parts(small, with_void),
    "uint8 with void and int64": parts(with_void, superpixels),
}
for case, (count, warned) in seen.items():
    print(f"{case}: {count} parts, warnings: {warned}")
joined, to_superpixels, _ = join_segmentations(small, labels, return_mapping=True)
found = float(np.mean(to_superpixels[joined] == small))
print(f"uint8 and uint8: the superpixel is found again of {found:.0%} of the pixels")
counts = [count for count, _ in seen.values()]
silent = [not warned for _, warned in seen.values()]
right = counts == [120, 32, 130, 3, 3, 130] and silent == [True, True, True, False, False, True]
right = right and round(found, 2) == 0.15
sys.exit(0 if right else "changed: expected 120 and 32 parts, 130 and 3 with void, and 15 % found again")
PY
