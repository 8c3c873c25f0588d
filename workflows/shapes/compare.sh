#!/usr/bin/env bash
# The table of methods (workflows/shapes/README.md says what its rows are): three seeds, mean and spread.
# Rows that are done are not trained again; `rm -r workflows/shapes/results/{base,joint,fmwiss}*` starts those again.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
"$python" workflows/shapes/compare.py run
"$python" workflows/shapes/compare.py table
