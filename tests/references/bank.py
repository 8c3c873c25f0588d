"""The bank and its vote once more, slowly: numpy and loops in float64, importing nothing of wilss."""

import numpy as np


def eroded(mask, rounds):
    """[H, W] -> [H, W]: a pixel stays where all of its neighbours inside the image are set, `rounds` times."""
    for _ in range(rounds):
        before = mask.copy()
        for row, column in np.ndindex(*mask.shape):
            mask[row, column] = before[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].all()
    return mask


def shares(mask, grid):
    """[H, W] -> [h, w]: the mean over the pixels from floor to ceiling of a cell's edges."""
    result = np.zeros(grid)
    for row, column in np.ndindex(*grid):
        edges = [
            slice(place * side // cells, -(-(place + 1) * side // cells))
            for place, side, cells in zip((row, column), mask.shape, grid, strict=True)
        ]
        result[row, column] = mask[tuple(edges)].mean()
    return result


def direction(vector, centre):
    rest = vector - centre
    length = np.linalg.norm(rest)
    return rest / length if length > 0 else rest


def typical(vectors, dropped):
    """[N, D] -> [N]: all but the floor(dropped N) of the smallest cosine with the mean, the later of equals first."""
    mean = vectors.mean(axis=0)
    cosines = [cosine(vector, mean) for vector in vectors]
    farthest = sorted(range(len(vectors)), key=lambda place: (cosines[place], -place))
    gone = set(farthest[: int(dropped * len(vectors))])
    return np.array([place not in gone for place in range(len(vectors))])


def cosine(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b) / lengths if lengths else 0.0


def vote_of_each(patches, bank, nearest, temperature):
    """[L, D], per label [N, D] -> [K, L]."""
    result = np.zeros((len(bank), len(patches)))
    for place, patch in enumerate(patches):
        powers = []
        for features in bank:
            best = sorted((cosine(patch, feature) for feature in features), reverse=True)[:nearest]
            powers.append(np.exp(sum(best) / len(best) / temperature) if best else 0.0)
        result[:, place] = np.array(powers) / sum(powers)
    return result


def vote_of_nearest(patches, bank, nearest, temperature):
    """[L, D], per label [N, D] -> [K, L]."""
    result = np.zeros((len(bank), len(patches)))
    for place, patch in enumerate(patches):
        all_of_them = [(cosine(patch, one), label) for label, features in enumerate(bank) for one in features]
        for likeness, label in sorted(all_of_them, key=lambda pair: -pair[0])[:nearest]:
            result[label, place] += np.exp(likeness / temperature)
        result[:, place] /= result[:, place].sum()
    return result


def smoothed(probabilities, affinity):
    """[K, L], [L, L] -> [K, L]."""
    result = np.array(probabilities, dtype=float)
    for label, place in np.ndindex(*probabilities.shape):
        reached = affinity[:, place].sum()
        if reached > 0:
            result[label, place] = sum(affinity[:, place] * probabilities[label]) / reached
    return result
