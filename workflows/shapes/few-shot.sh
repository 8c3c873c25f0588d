#!/usr/bin/env bash
# The table of few-shot segmentation (workflows/shapes/README.md says what its rows are): four folds, three seeds.
# What is done is not done again; `rm -r workflows/shapes/results/few-shot` starts again.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
"$python" workflows/shapes/few_shot.py run "$@"
"$python" workflows/shapes/few_shot.py table
