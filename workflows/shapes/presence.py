"""Where a single step's prior is taken back: from every pixel, from whole pictures, or not at all.

    python workflows/shapes/steps.py run --tune --seed 0   # the networks: 15-1 in another order, on other drawings
    python workflows/shapes/presence.py                    # the last of them, joined in each way: figures/presence.json

Nothing is trained here: the heads are the same, and so is how much is taken back.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from runs import Cell, keep_figures
from steps import TUNING

from wilss.data.manifest import load_manifest
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.segmenter import Head, Segmenter
from wilss_train.results.evaluate import evaluate

SEED = 0


def main() -> None:
    """Judge the last step's network on the other drawings' val in each way."""
    chain = TUNING[0]
    manifest = load_manifest(chain.manifest)
    protocol = manifest.protocol
    info = read_info(chain.out(protocol.num_steps - 1, SEED))
    later = [identity for step in range(1, protocol.num_steps) for identity in protocol.new(step)]
    cells: dict[str, dict[str, Cell]] = {}
    for key, network in _ways(load_segmenter(info)):
        judged = evaluate(network, info, manifest.evaluation("val").records, split="val", device="cpu")
        means = {"first": judged.mean_iou(protocol.new(0)), "later": judged.mean_iou(later), "all": judged.all_iou}
        places = [info.seen.index(identity) for identity in later]
        of_later = {name: float(np.nanmean(getattr(judged.scores, name)[places])) for name in ("precision", "recall")}
        cells[key] = {name: None if value is None else 100 * value for name, value in {**means, **of_later}.items()}
    keep_figures("presence", cells, seeds=1)


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
