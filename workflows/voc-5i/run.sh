#!/usr/bin/env bash
# PASCAL-5i: PANet on one fold, judged by 5 x 1,000 episodes of classes that it has not seen. What is done is not done again.
# As published, episodes of both are of trainaug's pictures, and counted as the public code counts.
#
#   VOC_ROOT=/data/VOCdevkit/VOC2012 workflows/voc-5i/run.sh            # fold 0
#   FOLD=2 SHOTS=5 SUPPORT=scribble workflows/voc-5i/run.sh             # another fold, other supports
#   SPLIT=val METRIC=wilss workflows/voc-5i/run.sh                      # other pictures, every false positive counted
#   ... run.sh --set embedding=projection --set weights=                # options of wilss-train
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../walk.sh"
needs VOC_ROOT 'the folder that holds JPEGImages, SegmentationClassAug and ImageSets'
fold=${FOLD:-0} out=${WILSS_OUT:-.}
manifest=$here/data_manifest.yaml
if [ "$fold" -ne 0 ]; then
  manifest=$here/fold-$fold.yaml
  sed -e "s/voc-5i-0/voc-5i-$fold/; s/^protocol: .*/protocol: 5i-$fold/; s/fold 0/fold $fold/" "$here/data_manifest.yaml" >"$manifest"
fi
masks=$out/masks/voc-5i-$fold/step-0.zarr run=$out/runs/voc-5i-$fold/panet
tolerating wilss-masks generate --step 0 --manifest "$manifest" --out "$masks"
split=${SPLIT:-train} metric=${METRIC:-panet}
tolerating wilss-train --method panet --masks "$masks" --manifest "$manifest" --out "$run" --split "$split" --resume "$@"
tolerating wilss-eval "$run" --manifest "$manifest" --split "$split" --metric "$metric" --episodes 1000 --runs 5 \
  --shots "${SHOTS:-1}" --support "${SUPPORT:-mask}" \
  --json "$run/episodes-$split-$metric-${SUPPORT:-mask}-${SHOTS:-1}.json"
