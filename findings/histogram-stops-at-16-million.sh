#!/usr/bin/env bash
# In a picture of 36 million pixels a class that is found to 74 % has IoU 1.00: torch.histc stops counting at 16,777,216.
#
# torch 2.14.1, on the CPU. Counts are numbers of the input's type, and float32 has no 16,777,217: a bin that is counted
# one by one stays there. Each thread counts a part, so that the result goes by the number of threads, too. Seen, labels
# of 6000 x 6000, 27 million of them of class 0, of which 20 million are found: histc says 16,777,216 for both on one
# thread, and the IoU of class 0 by three such counts is 1.00 for 0.74; on two threads it counts fewer than 27 million.
# float64 labels, and torch.bincount, count right. Nothing is raised.
# Why it matters: mmsegmentation's mIoU is made of three calls of histc on label.float() for each picture, and tiles of
# 6000 x 6000 (Potsdam), slides and mosaics are that large; torchrun sets one thread where it starts several processes.
# histc takes no integers on the CPU, hence the float(). Count with torch.bincount, which gives int64.
# Known: pytorch/pytorch issue 96613, where it is the same on a GPU.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has this version, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6 || exit 2
fi
"$python" -c 'import sys, torch; sys.exit(0 if torch.__version__.split("+")[0] == "2.14.1" else 1)' || exit 2

"$python" - <<'PY'
import sys

import torch

SIDE, FIRST, FOUND = 6000, 27_000_000, 20_000_000
truth, given = (torch.ones(SIDE * SIDE, dtype=torch.uint8) for _ in range(2))
truth[:FIRST] = 0
given[:FOUND] = 0


def by_histc(labels: torch.Tensor) -> torch.Tensor:
    return torch.histc(labels.float(), bins=2, min=0, max=1).double()


def by_bincount(labels: torch.Tensor) -> torch.Tensor:
    return torch.bincount(labels, minlength=2).double()


def judged(count) -> tuple[list[int], list[float]]:
    """Pixels of the two classes in the truth, and IoU."""
    both, one, other = count(truth[truth == given]), count(truth), count(given)
    return one.long().tolist(), [round(value, 2) for value in (both / (one + other - both)).tolist()]


seen = {}
for threads in (1, 2):
    torch.set_num_threads(threads)
    seen[threads] = judged(by_histc)
    print(f"histc, threads {threads}: pixels {seen[threads][0]}, IoU {seen[threads][1]}")
torch.set_num_threads(1)
in_float64 = torch.histc(truth.double(), bins=2, min=0, max=1).long().tolist()
right_ones = judged(by_bincount)
print(f"bincount: pixels {right_ones[0]}, IoU {right_ones[1]}; histc of float64: {in_float64}")

counts = [FIRST, SIDE * SIDE - FIRST]
same = seen[1] == ([2**24, counts[1]], [1.0, 0.56]) and seen[2][0][0] < FIRST
same = same and in_float64 == counts and right_ones == (counts, [0.74, 0.56])
sys.exit(0 if same else "changed: expected 16,777,216 of 27,000,000 on one thread, and IoU 1.00 for 0.74")
PY
