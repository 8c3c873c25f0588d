"""INSID3 once more, slowly: numpy and loops, written from the text, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64.
"""

import math

import numpy as np


def unit(vector):
    length = math.sqrt(sum(float(v) ** 2 for v in vector))
    return np.array([float(v) / length if length else 0.0 for v in vector])


def debiased(features, blank, directions):
    """[D, h, w] twice -> [D, h, w]: by the eigenvectors of the blank image's covariance."""
    vectors = [unit(blank[:, y, x]) for y, x in np.ndindex(*blank.shape[1:])]
    mean = sum(vectors) / len(vectors)
    covariance = sum(np.outer(v - mean, v - mean) for v in vectors)
    values, found = np.linalg.eigh(covariance)
    basis = [found[:, place] for place in np.argsort(-values)[:directions]]
    result = np.zeros(features.shape)
    for y, x in np.ndindex(*features.shape[1:]):
        vector = unit(features[:, y, x])
        left = vector.copy()
        for direction in basis:
            left -= np.dot(vector, direction) * direction
        result[:, y, x] = unit(left)
    return result


def prototype_of(features, patches):
    """[D, M] and bool [M] per shot -> [D]."""
    means = []
    for one, inside in zip(features, patches, strict=True):
        chosen = [one[:, place] for place in range(one.shape[1]) if inside[place]]
        if chosen:
            means.append(sum(chosen) / len(chosen))
    return unit(sum(means) / len(means)) if means else np.zeros(len(features[0]))


def nearest(features, supports):
    """[D, L], [D, M] -> whole numbers [L]."""
    result = []
    for column in features.T:
        cosines = [sum(float(a) * float(b) for a, b in zip(column, other, strict=True)) for other in supports.T]
        result.append(cosines.index(max(cosines)))
    return result


def candidates(alike, backward):
    """bool [L], bool [K, L] -> bool [L]."""
    shots = len(backward)
    return [bool(alike[i]) and sum(bool(b[i]) for b in backward) >= math.ceil(shots / 2) for i in range(len(alike))]


def clusters(features, tau):
    """[D, L] -> a list of sets of patches: the two nearest by mean distance joined again and again."""
    groups = [{i} for i in range(features.shape[1])]
    distance = lambda i, j: 1 - float(np.dot(features[:, i], features[:, j]))  # noqa: E731
    while len(groups) > 1:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        far = {(a, b): np.mean([distance(i, j) for i in groups[a] for j in groups[b]]) for a, b in pairs}
        a, b = min(far, key=lambda pair: far[pair])
        if far[a, b] > 1 - tau:
            break
        groups[b] |= groups.pop(a)
    return groups


def cluster_scores(cosines, found, plain, groups):
    """[L], bool [L], [D, L], a list of sets -> a number per set."""
    if not any(found):
        return [0.0] * len(groups)
    across = [sum(float(cosines[i]) for i in group) / len(group) for group in groups]
    shares = [sum(bool(found[i]) for i in group) / len(group) for group in groups]
    centres = [unit(sum(plain[:, i] for i in group) / len(group)) for group in groups]
    matched = [k for k in range(len(groups)) if shares[k] > 0]
    surest = max(matched, key=lambda k: across[k])
    shares[surest] = 1.0
    return [across[k] * float(np.dot(centres[k], centres[surest])) * shares[k] for k in range(len(groups))]
