#!/usr/bin/env bash
# Where an object fills the picture, scipy's distances to its edge are those to a point above the upper left corner.
#
# scipy 1.17.1, numpy 2.4.6. distance_transform_edt of a mask without background has nothing to measure to, and measures
# from the place (-1, 0). Seen, a full mask of 64 x 64: 1 at the upper left, 90 at the lower right, the nearest edge of
# all pixels at row -1, column 0; flipped, the mask is the same and its distances are not. A single pixel of background
# gives the right ones. Nothing is raised. distance_transform_cdt gives -1 everywhere, which shows.
# Why it matters: weights by the distance to an edge (U-Net), boundary and Hausdorff losses and signed distances take
# crops of the training set, and sky, road and walls fill crops: these have a slope of weights that points at a corner,
# and a loss that is not the same of a flipped picture. Ask mask.all() first, as MONAI's Hausdorff loss does.
# Known: scipy/scipy issue 15585.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check scipy==1.17.1 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys

import numpy as np
from scipy.ndimage import distance_transform_cdt, distance_transform_edt

full = np.ones((64, 64), bool)
distances, nearest = distance_transform_edt(full, return_indices=True)
places = {tuple(place) for place in nearest.reshape(2, -1).T.tolist()}
corners = [round(float(distances[row, column])) for row in (0, -1) for column in (0, -1)]
same = bool((distance_transform_edt(full[::-1]) == distances[::-1]).all())
chessboard = set(distance_transform_cdt(full).ravel().tolist())
print(f"full: {corners} at the corners, nearest edge {places}, the same when flipped: {same}, chessboard {chessboard}")

all_but_one = full.copy()
all_but_one[0, 0] = False
rows, columns = np.mgrid[:64, :64]
right_but_one = bool(np.allclose(distance_transform_edt(all_but_one), np.hypot(rows, columns)))
print(f"all but one pixel: the distances to it: {right_but_one}")
right = (corners, places, same, chessboard, right_but_one) == ([1, 63, 64, 90], {(-1, 0)}, False, {-1}, True)
sys.exit(0 if right else "changed: expected distances to (-1, 0), 1 to 90")
PY
