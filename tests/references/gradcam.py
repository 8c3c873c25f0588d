"""Slow twins of `wilss.equations.gradcam`: loops, in float64, by the probabilities themselves."""

import math

import numpy as np


def log_odds(logits, tags):
    """logits: [K]. Returns [T]."""
    total = sum(math.exp(one) for one in logits)
    probabilities = [math.exp(one) / total for one in logits[:tags]]
    return [math.log(p / (1 - p)) for p in probabilities]


def class_map(gradient, features):
    """gradient, features: [N, D]. Returns [N]."""
    count, width = features.shape
    weights = [sum(gradient[i, k] for i in range(count)) / count for k in range(width)]
    found = [max(0.0, sum(weights[k] * features[i, k] for k in range(width))) for i in range(count)]
    return np.array([one / max(found) if max(found) > 0 else 0.0 for one in found])


def greatest_of_names(values, counts):
    """values: [M, h, w]. Returns [C, h, w]."""
    found, start = [], 0
    for count in counts:
        best = values[start].copy()
        for name in values[start + 1 : start + count]:
            for place in np.ndindex(best.shape):
                best[place] = max(best[place], name[place])
        found.append(best)
        start += count
    return np.array(found)
