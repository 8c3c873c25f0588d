"""Slow twins of `wilss.equations.dense`: loops over heads and patches, in float64."""

import math

import numpy as np


def softmax(values):
    raised = [math.exp(value - max(values)) for value in values]
    return [value / sum(raised) for value in raised]


def neighbour_attention(keys, values, prefix, grid, deviation):
    """keys, values: [n, P + N, d]. Returns [n, N, d]."""
    heads, tokens, width = keys.shape
    found = np.zeros((heads, tokens - prefix, values.shape[-1]))
    for n in range(heads):
        for i in range(prefix, tokens):
            logits = []
            for j in range(tokens):
                logit = float(keys[n, i] @ keys[n, j]) / math.sqrt(width)
                if j >= prefix:
                    here, there = divmod(i - prefix, grid[1]), divmod(j - prefix, grid[1])
                    apart = (here[0] - there[0]) ** 2 + (here[1] - there[1]) ** 2
                    logit += math.exp(-apart / (2 * deviation**2))
                logits.append(logit)
            for j, weight in enumerate(softmax(logits)):
                found[n, i - prefix] += weight * values[n, j]
    return found


def proxy_attention(features, values, sharpness):
    """features: [N, D]; values: [n, N, d]. Returns [n, N, d]."""
    count = len(features)
    own = [feature / max(np.linalg.norm(feature), 1e-12) for feature in features]
    cosines = [[float(a @ b) for b in own] for a in own]
    mean = sum(map(sum, cosines)) / count**2
    found = np.zeros(values.shape)
    for i in range(count):
        raised = [sharpness * (cosines[i][j] - 1.2 * mean) for j in range(count)]
        kept = [j for j in range(count) if raised[j] >= 0 or j == i]
        for j, weight in zip(kept, softmax([raised[j] for j in kept]), strict=True):
            found[:, i] += weight * values[:, j]
    return found
