#!/usr/bin/env bash
# 15-1 on the built-in data: 15 classes from pixel labels, then five steps of one class from image tags. What is
# done is not done again.
#
#   workflows/shapes/steps.sh                          # everything, into workflows/shapes/results/steps
#   WILSS_TRAIN_EPOCHS=8 workflows/shapes/steps.sh     # quicker
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../walk.sh"
export WILSS_OUT=${WILSS_OUT:-$here/results/steps} WILSS_DATA=${WILSS_DATA:-$here/../../data} WORKERS=1
export WILSS_EVAL_PROTOCOL=full # the pictures are small
mkdir -p "$WILSS_OUT"
MANIFEST=$WILSS_OUT/data_manifest.yaml
sed -e 's/^name: .*/name: shapes-15-1/' -e 's/^protocol: .*/protocol: 15-1/' -e 's/^title: .*/title: Shapes, 15-1/' \
  "$here/../../data_manifest.yaml" >"$MANIFEST"
walk "$here" 5 "$@"
[ $# -gt 0 ] || "$(dirname "$(command -v wilss-train)")/python" "$here/compare.py" steps "$WILSS_OUT"
