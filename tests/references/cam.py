"""Class activation maps once more, slowly: numpy and loops, written from the text, importing nothing of wilss."""

import math

import numpy as np


def activation_maps(features, weights):
    """[D, h, w], [T, D] -> [T, h, w]."""
    result = np.zeros((len(weights), *features.shape[1:]))
    for t, row, column in np.ndindex(*result.shape):
        total = sum(float(weights[t, d]) * float(features[d, row, column]) for d in range(len(features)))
        result[t, row, column] = max(0.0, total)
    return result


def over_maximum(maps):
    """[T, h, w] -> [T, h, w]."""
    result = np.zeros(maps.shape)
    for t in range(len(maps)):
        highest = max(float(value) for value in maps[t].flatten())
        if highest > 0:
            for row, column in np.ndindex(*maps.shape[1:]):
                result[t, row, column] = float(maps[t, row, column]) / highest
    return result


def mean_cosines(stages):
    """K of [D, h, w], of one grid -> [L, L]: the mean over stages of the cosine of centred patches."""
    length = stages[0][0].size
    result = np.zeros((length, length))
    for stage in stages:
        patches = [[float(channel.flatten()[i]) for channel in stage] for i in range(length)]
        middle = [sum(patch[d] for patch in patches) / length for d in range(len(stage))]
        moved = [[value - centre for value, centre in zip(patch, middle, strict=True)] for patch in patches]
        for i, j in np.ndindex(length, length):
            product = sum(a * b for a, b in zip(moved[i], moved[j], strict=True))
            lengths = math.sqrt(sum(a * a for a in moved[i])) * math.sqrt(sum(b * b for b in moved[j]))
            result[i, j] += product / lengths / len(stages)
    return result


def feature_rows(cosines, temperature):
    """[L, L] -> [L, L], each row a softmax."""
    result = np.zeros(cosines.shape)
    for i, row in enumerate(cosines):
        powers = [math.exp(float(value) / temperature) for value in row]
        result[i] = [power / sum(powers) for power in powers]
    return result


def spread_often(maps, affinity, passes, power):
    """[T, h, w], [L, L] (row attends to column) -> [T, h, w]."""
    length = maps[0].size
    for _ in range(passes):
        spread = np.zeros((len(maps), length))
        for t, column in np.ndindex(len(maps), length):
            spread[t, column] = sum(float(maps[t].flatten()[i]) ** power * affinity[i, column] for i in range(length))
        maps = over_maximum(spread.reshape(maps.shape))
    return maps


def positive_weights(tags, power, most):
    """bool [N, C] -> [C]."""
    result = []
    for c in range(tags.shape[1]):
        shown = max(1, sum(bool(image[c]) for image in tags))
        result.append(min(most, max(1e-3, (len(tags) - shown) / shown) ** power))
    return np.array(result)


def drawing_weights(tags, power):
    """bool [N, C] -> [N]."""
    rarity = [max(1, sum(bool(image[c]) for image in tags)) ** -power for c in range(tags.shape[1])]
    raw = [max([rarity[c] for c in range(len(rarity)) if image[c]], default=min(rarity)) for image in tags]
    return np.array([value / sum(raw) for value in raw])


def tag_loss(logits, tags, positive):
    """[N, C], bool [N, C], [C] -> a number."""
    total = 0.0
    for n, c in np.ndindex(*logits.shape):
        share = 1 / (1 + math.exp(-float(logits[n, c])))
        total -= float(positive[c]) * math.log(share) if tags[n, c] else math.log(1 - share)
    return total / logits.size


def patch_labels(maps, cut):
    """[T, L] -> [L]."""
    result = []
    for patch in range(maps.shape[1]):
        values = [float(value) for value in maps[:, patch]]
        result.append(1 + values.index(max(values)) if max(values) >= cut else 0)
    return np.array(result)


def balanced_weights(labels, count, power):
    """[M] -> [M]."""
    labels = [int(label) for label in labels]
    return np.array([(len(labels) / (count * labels.count(label))) ** power for label in labels])
