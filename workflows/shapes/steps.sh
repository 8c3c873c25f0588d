#!/usr/bin/env bash
# One or two classes at a time (workflows/shapes/README.md says what the rows are): 15-1, 10-2 and 19-1 on the built-in
# data, three seeds, mean and spread. What is done is not done again; `rm -r workflows/shapes/results/steps` starts again.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
"$python" workflows/shapes/steps.py run
"$python" workflows/shapes/steps.py table
