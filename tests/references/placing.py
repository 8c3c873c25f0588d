"""Slow twins of `wilss.equations.affinity`, `placing` and `competition`: loops over patches, in float64."""

import numpy as np


def softmax(values):
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def cosine(a, b):
    length = max(float(np.linalg.norm(a)), 1e-12) * max(float(np.linalg.norm(b)), 1e-12)
    return float(a @ b) / length


def attention(queries, keys, prefix):
    """queries, keys: [n, P + L, d]. Returns [L, L]."""
    heads, tokens, width = queries.shape
    rows = [
        [softmax(np.array([queries[n, i] @ keys[n, j] for j in range(tokens)]) / np.sqrt(width)) for n in range(heads)]
        for i in range(prefix, tokens)
    ]
    return np.array([np.mean(row, axis=0)[prefix:] for row in rows])


def cosines(features, prefix):
    """features: [n, P + L, d]. Returns [L, L]."""
    heads, tokens, _ = features.shape
    patches = range(prefix, tokens)
    return np.array(
        [[np.mean([cosine(features[n, i], features[n, j]) for n in range(heads)]) for j in patches] for i in patches]
    )


def without_negatives(cosine_map, how, sharpness):
    found = np.zeros_like(cosine_map)
    mean = cosine_map.mean()
    for i, row in enumerate(cosine_map):
        if how == "zero":
            positive = np.array([max(0.0, value) for value in row])
            found[i] = positive / max(positive.sum(), 1e-12)
            continue
        kept = [j for j, value in enumerate(row) if j == i or sharpness * (value - 1.2 * mean) >= 0]
        found[i, kept] = softmax(np.array([sharpness * (row[j] - 1.2 * mean) for j in kept]))
    return found


def affinity(kind, queries, keys, values, outputs, prefix, how="zero", sharpness=3.0):
    if kind == "qk":
        return attention(queries, keys, prefix)
    if kind == "qq+kk":
        return (attention(queries, queries, prefix) + attention(keys, keys, prefix)) / 2
    features = {"kk": keys, "vv": values, "outputs": outputs[None]}[kind]
    return without_negatives(cosines(features, prefix), how, sharpness)


def balanced(matrix, balance, rounds):
    if balance == "symmetric":
        return (matrix + matrix.T) / 2
    if balance == "sinkhorn":
        for _ in range(rounds):
            matrix = matrix / matrix.sum(axis=0, keepdims=True)
            matrix = matrix / matrix.sum(axis=1, keepdims=True)
        return (matrix + matrix.T) / 2
    return matrix


def soft_weights(score, power):
    found = []
    for row in score:
        raised = [value**power for value in row]
        found.append([one / sum(raised) if sum(raised) > 0 else 1 / len(raised) for one in raised])
    return np.array(found)


def spread_again(weights, score, matrix, passes, power):
    maps = weights @ matrix
    for _ in range(passes - 1):
        tops = np.array([max(row.max(), 1e-300) for row in maps])
        maps = soft_weights(maps / tops[:, None] * score, power) @ matrix
    return maps


def compete(evidences):
    """evidences: [T, h, w]. Returns labels [h, w]."""
    tags, height, width = evidences.shape
    labels = np.zeros((height, width), int)
    for y in range(height):
        for x in range(width):
            best = None
            for t in range(tags):
                if evidences[t, y, x] >= 1 and (best is None or evidences[t, y, x] > best):
                    best, labels[y, x] = evidences[t, y, x], t + 1
    return labels


def against_background(probabilities):
    """[K, L] -> [K - 1, L]."""
    result = np.zeros((len(probabilities) - 1, probabilities.shape[1]))
    for c, patch in np.ndindex(*result.shape):
        both = float(probabilities[c + 1, patch]) + float(probabilities[0, patch])
        result[c, patch] = float(probabilities[c + 1, patch]) / both if both > 0 else 0.0
    return result
