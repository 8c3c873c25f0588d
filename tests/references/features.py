"""Slow twins of `wilss.equations.features`: loops over tokens, in float64."""

import numpy as np


def moments(features):
    """features: [N, D]. Returns count, sum [D], sum of outer products [D, D]."""
    width = features.shape[1]
    total, outer = np.zeros(width), np.zeros((width, width))
    for row in features:
        total += row
        outer += np.outer(row, row)
    return len(features), total, outer


def principal_directions(features, dims):
    """By singular values of the centred features [N, D], which must have as many: [K, D], up to their signs."""
    centred = features - np.mean(features, axis=0)
    return np.linalg.svd(centred, full_matrices=True)[2][:dims]


def projected(features, mean, rows):
    return np.array([[row @ (token - mean) for row in rows] for token in features])


def restored(kept, mean, rows):
    return np.array([mean + sum(number * row for number, row in zip(token, rows, strict=True)) for token in kept])


def quantised(kept):
    """kept: [L, K]. Returns whole numbers [L, K] and scales [K]."""
    scales = np.array([max(abs(number) for number in column) / 127 for column in kept.T])
    whole = [
        [round(number / scale) if scale else 0 for number, scale in zip(token, scales, strict=True)] for token in kept
    ]
    return np.array(whole), scales


def scores(features, vectors):
    """features: [L, D]; vectors: [C, D]. Returns [C, L]."""
    return np.array([[vector @ token for token in features] for vector in vectors])
