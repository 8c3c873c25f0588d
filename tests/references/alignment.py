"""Distribution alignment once more, slowly: ReMixMatch Sec. 3.1 for the pixels of soft labels, in loops."""

import numpy as np

LEAST = 1e-4


def aligned(labels, given, wanted, strength):
    """[U, C, H, W], [C], [C] -> [U, C, H, W]."""
    found = np.zeros_like(labels)
    images, channels, height, width = labels.shape
    for u, y, x in np.ndindex(images, height, width):
        weights = [
            labels[u, c, y, x] * (max(wanted[c], LEAST) / max(given[c], LEAST)) ** strength for c in range(channels)
        ]
        for c in range(channels):
            found[u, c, y, x] = weights[c] / sum(weights)
    return found


def soft_counts(labels, valid):
    """[U, C, H, W], bool [U, H, W] -> a list of C numbers."""
    images, channels, height, width = labels.shape
    places = [(u, y, x) for u, y, x in np.ndindex(images, height, width) if valid[u, y, x]]
    return [sum(labels[u, c, y, x] for u, y, x in places) for c in range(channels)]


def shares_over_steps(counts, most_kept):
    """Counts of every step, a list of C numbers each -> the moving average of their shares after the last one."""
    average = None
    for step, of_step in enumerate(counts):
        total = sum(of_step)
        if total == 0:
            continue
        kept = min(step / (step + 1), most_kept)
        before = [0.0] * len(of_step) if average is None else average
        average = [kept * old + (1 - kept) * count / total for old, count in zip(before, of_step, strict=True)]
    return average
