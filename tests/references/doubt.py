"""Which images to correct next, once more, slowly: loops, importing nothing of wilss."""

import math

import numpy as np


def doubts(signals, asked, empty):
    """[N, C]: mean over the signals of rank / count within a class, 1 the least sure."""
    images, classes = asked.shape
    found = np.full((images, classes), math.nan)
    for c in range(classes):
        for n in range(images):
            if not asked[n, c]:
                continue
            if empty[n, c]:
                found[n, c] = 1.0
                continue
            ranks = []
            for signal in signals:
                others = [signal[m, c] for m in range(images) if asked[m, c] and not empty[m, c]]
                others = [value for value in others if not math.isnan(value)]
                if not math.isnan(signal[n, c]):
                    surer = sum(value > signal[n, c] for value in others)
                    same = sum(value == signal[n, c] for value in others)
                    ranks.append((surer + (same + 1) / 2) / len(others))
            found[n, c] = sum(ranks) / len(ranks) if ranks else 0.5
    return found


def distance_to(chosen, features, n):
    """One minus the greatest cosine to what was chosen; 1 where nothing was, or there are no features."""
    distance = 1.0
    for m, _ in chosen if features is not None else ():
        one, two = features[n], features[m]
        lengths = max(float(np.linalg.norm(one)), 1e-12) * max(float(np.linalg.norm(two)), 1e-12)
        distance = min(distance, max(0.0, 1 - one @ two / lengths))
    return distance


def choose(doubt, budget, features=None):
    """Classes take turns; the greatest doubt times the distance to what was chosen, the lower row among equals."""
    images, classes = doubt.shape
    sums = [sum(d for d in doubt[:, c] if not math.isnan(d)) for c in range(classes)]
    turns = sorted(range(classes), key=lambda c: (-sums[c], c))
    chosen = list[tuple[int, int]]()
    while len(chosen) < budget:
        before = len(chosen)
        for c in turns:
            best = None
            for n in range(images):
                if math.isnan(doubt[n, c]) or any(n == m for m, _ in chosen):
                    continue
                value = float(doubt[n, c] * distance_to(chosen, features, n))
                if best is None or value > best[0]:
                    best = value, n
            if best is not None and len(chosen) < budget:
                chosen.append((best[1], c))
        if len(chosen) == before:
            break
    return chosen
