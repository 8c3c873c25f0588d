#!/usr/bin/env bash
# COCO to VOC: 60 classes from COCO's pixel labels, then VOC's 20 from image tags.
# Run from anywhere; what is done is not done again. ../walk.sh says which variables it heeds
# (DEVICES, BACKBONE, WILSS_OUT, MANIFEST, ...).
#
#   COCO_ROOT=/data/coco VOC_ROOT=/data/VOCdevkit/VOC2012 BACKBONE=/data/wide_resnet38.pth workflows/coco-voc/run.sh
#   ... run.sh train --set loss_stride=2       # one part alone, with options of its command: masks, train or eval
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../walk.sh"
needs COCO_ROOT 'the folder that holds train2017, val2017 and annotations'
needs VOC_ROOT 'the folder that holds JPEGImages, SegmentationClassAug and ImageSets'
walk "$here" 1 "$@"
