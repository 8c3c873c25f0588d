"""Where a single step's prior is taken back: from every pixel, from whole pictures, or not at all.

    python workflows/shapes/steps.py run --tune   # the networks: 15-1 in another order, on other drawings
    python workflows/shapes/presence.py           # the last of each seed, joined in each way

Nothing is trained here: the heads are the same, and so is how much is taken back.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from runs import SEEDS, keep_figures, spread
from steps import TUNING

from wilss.data.manifest import Manifest, load_manifest
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.segmenter import Head, Segmenter
from wilss_train.results.evaluate import evaluate


def main() -> None:
    """Judge the last step's networks on the other drawings' val in each way."""
    chain = TUNING[0]
    manifest = load_manifest(chain.manifest)
    runs = [chain.out(manifest.protocol.num_steps - 1, seed) for seed in SEEDS]
    judged = [_judged(run, manifest) for run in runs]
    cells = {
        way: {name: spread([scores[way][name] for scores in judged]) for name in judged[0][way]} for way in judged[0]
    }
    keep_figures("presence", cells, trained=runs)


def _judged(run: Path, manifest: Manifest) -> dict[str, dict[str, float | None]]:
    """By the way of joining: mIoU of the first fifteen classes, the later five and all, and how the later are found."""
    protocol, info = manifest.protocol, read_info(run)
    later = [identity for step in range(1, protocol.num_steps) for identity in protocol.new(step)]
    places = [info.seen.index(identity) for identity in later]
    found: dict[str, dict[str, float | None]] = {}
    for key, network in _ways(load_segmenter(info)):
        judged = evaluate(network, info, manifest.evaluation("val").records, split="val", device="cpu")
        found[key] = {
            "first": judged.mean_iou(protocol.new(0)),
            "later": judged.mean_iou(later),
            "all": judged.all_iou,
            **{name: float(np.nanmean(getattr(judged.scores, name)[places])) for name in ("precision", "recall")},
        }
    return found


def _ways(network: Segmenter) -> Iterator[tuple[str, Segmenter]]:
    """The network as it is, with its shifts in the biases of their pixels, and without them."""
    spec = network.spec
    yield "pictures", network
    network.spec = replace(spec, shifts=())
    yield "never", network
    with torch.no_grad():
        for head, shifts in zip(network.later, spec.shifts_of_heads, strict=True):
            assert isinstance(head, Head)
            assert head.classifier.bias is not None
            head.classifier.bias[-len(shifts) :] += torch.tensor(shifts)
    yield "pixels", network


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
