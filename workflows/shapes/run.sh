#!/usr/bin/env bash
# The whole walk on the built-in data: base training, masks from tags, incremental training, report.
# Run it again to go on where it stopped. Options are handed to wilss-train, e.g. `--epochs 3` for a short walk.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${BIN:-.venv/bin}
masks=${WILSS_OUT:-masks/shapes-15-5} runs=${WILSS_RUNS:-runs/shapes-15-5}

"$bin/wilss-masks" generate --step 0 --out "$masks/step-0.zarr"                # pixel labels into a store
"$bin/wilss-train" --masks "$masks/step-0.zarr" --out "$runs/step-0" --resume "$@"
"$bin/wilss-masks" generate --step 1 --out "$masks/step-1.zarr" --keep scores  # from image tags alone
"$bin/wilss-masks" evaluate "$masks/step-1.zarr"
"$bin/wilss-masks" sheet --spread "$masks/step-1.zarr" --out "$masks/step-1.png"
"$bin/wilss-train" --masks "$masks/step-1.zarr" --from "$runs/step-0" --out "$runs/step-1" --resume "$@"
"$bin/wilss-eval" "$runs/step-1" --confusion "$runs/step-1/confusion.png"
"$bin/wilss-memory" info "$runs/step-1"
echo "Look at the masks: $masks/step-1.png, and at what came of them: $runs/step-1/report.html"
