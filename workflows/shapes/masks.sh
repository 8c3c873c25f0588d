#!/usr/bin/env bash
# The tables of mask quality on the held-out pictures (workflows/shapes/README.md says what its rows are).
# Rows that are done are not made again; `rm -r workflows/shapes/results` starts again.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
[ -f workflows/shapes/results/cam.safetensors ] || "$python" workflows/shapes/train_encoders.py cam
[ -f workflows/shapes/results/cam-threshold.txt ] || "$python" workflows/shapes/masks.py tune
"$python" workflows/shapes/masks.py
"$python" workflows/shapes/masks.py levers
