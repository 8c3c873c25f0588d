#!/usr/bin/env bash
# VOC 15-5: 15 classes from pixel labels, then 5 from image tags.
# Run from anywhere; what is done is not done again. ../walk.sh says which variables it heeds
# (DEVICES, BACKBONE, WILSS_OUT, MANIFEST, ...).
#
#   VOC_ROOT=/data/VOCdevkit/VOC2012 BACKBONE=/data/resnet101.pth DEVICES=0,1 workflows/voc-15-5/run.sh
#   ... run.sh train --set loss_stride=2       # one part alone, with options of its command: masks, train or eval
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../walk.sh"
needs VOC_ROOT 'the folder that holds JPEGImages, SegmentationClassAug and ImageSets'
walk "$here" 1 "$@"
