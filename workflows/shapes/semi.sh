#!/usr/bin/env bash
# The table of few labels beside many images (workflows/shapes/README.md says what its rows are): 1/16 and 1/8 of the
# pictures labelled, and 1/8 for three times as long; three seeds, mean and spread. Rows that are done are not trained
# again; `rm -r workflows/shapes/results/semi workflows/shapes/results/semi-36` starts again.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
"$python" workflows/shapes/semi.py run
"$python" workflows/shapes/semi.py table
longer=(--part 8 --only none --only fused --only unimatch)
"$python" workflows/shapes/semi.py --epochs 36 run "${longer[@]}"
"$python" workflows/shapes/semi.py --epochs 36 table "${longer[@]}"
