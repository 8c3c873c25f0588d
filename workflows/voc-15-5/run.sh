#!/usr/bin/env bash
# VOC 15-5, step 1: masks for the five new classes from image tags. Run from anywhere; what is done is not done again.
#
#   VOC_ROOT=/data/VOCdevkit/VOC2012 workflows/voc-15-5/run.sh [options of wilss-masks generate, e.g. --devices 0,1]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${VOC_ROOT:?set VOC_ROOT to the folder that holds JPEGImages, e.g. VOC_ROOT=/data/VOCdevkit/VOC2012}"
export VOC_ROOT
manifest=$here/data_manifest.yaml
store=${WILSS_OUT:-masks/voc-15-5}/step-1.zarr

wilss-masks manifest check --manifest "$manifest"
wilss-masks generate --step 1 --manifest "$manifest" --out "$store" --keep scores --shard-size 128 "$@"
wilss-masks verify "$store"
wilss-masks evaluate "$store" --manifest "$manifest" --ablation
wilss-masks sheet "$store" --manifest "$manifest" --out "${store%.zarr}.png"
