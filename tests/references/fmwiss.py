"""FMWISS Sec. 3.2 once more, slowly: numpy and loops, written from the text, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64.
"""

import math

import numpy as np


def unit(vector):
    length = math.sqrt(sum(float(v) ** 2 for v in vector))
    return np.array([float(v) / length if length > 1e-12 else 0.0 for v in vector])


def ensemble(prompt_features):
    """[K, D] -> [D]: every prompt counts the same, whatever its length."""
    total = np.zeros(prompt_features.shape[1])
    for feature in prompt_features:
        total += unit(feature)
    return unit(total / len(prompt_features))


def score_map(image, text):
    """[D, h, w], [C, D] -> [C, h, w]."""
    depth, height, width = image.shape
    scores = np.zeros((len(text), height, width))
    for c in range(len(text)):
        for row in range(height):
            for column in range(width):
                for d in range(depth):
                    scores[c, row, column] += float(text[c, d]) * float(image[d, row, column])
    return scores


def foreground_score(tags, background, mode, logit_scale):
    """[T, h, w], [G, h, w] -> [T, h, w] in [0, 1]."""
    tags, background = tags.astype(np.float64), background.astype(np.float64)
    if mode == "softmax":
        return _softmax_over_words(tags, background, logit_scale)
    result = np.zeros_like(tags)
    for t in range(len(tags)):
        one = tags[t].copy()
        if mode == "margin" and len(background):
            for row in range(one.shape[0]):
                for column in range(one.shape[1]):
                    one[row, column] -= max(background[:, row, column])
        low, high = one.min(), one.max()
        if high - low > 1e-6:
            result[t] = (one - low) / (high - low)
    return result


def _softmax_over_words(tags, background, logit_scale):
    result = np.zeros_like(tags)
    for row in range(tags.shape[1]):
        for column in range(tags.shape[2]):
            words = [*tags[:, row, column], *background[:, row, column]]
            highest = max(words)
            weights = [math.exp(logit_scale * (word - highest)) for word in words]
            for t in range(len(tags)):
                result[t, row, column] = weights[t] / sum(weights)
    return result


def move_point(point, from_grid, to_grid):
    """Which patch of the other grid holds this patch's centre."""
    moved = []
    for place, old, new in zip(point, from_grid, to_grid, strict=True):
        centre_times_2_old = 2 * int(place) + 1  # centre = (2 p + 1) / (2 old), of the side
        for candidate in range(new):
            # candidate / new <= centre < (candidate + 1) / new
            if candidate * 2 * old <= centre_times_2_old * new < (candidate + 1) * 2 * old:
                moved.append(candidate)
    return tuple(moved)


def seed_attention(queries, keys, prefix, affinity):
    """[n, S, d], [n, L, d] -> [L - prefix]."""
    heads, seeds, depth = queries.shape
    length = keys.shape[1]
    total = np.zeros(length - prefix)
    for head in range(heads):
        for seed in range(seeds):
            if affinity == "qk":
                row = _softmax([float(queries[head, seed] @ keys[head, j]) / math.sqrt(depth) for j in range(length)])
            else:
                row = [float(unit(queries[head, seed]) @ unit(keys[head, j])) for j in range(length)]
            total += np.array(row[prefix:])
    return np.maximum(total / (heads * seeds), 0.0)


def _softmax(values):
    highest = max(values)
    weights = [math.exp(v - highest) for v in values]
    return [w / sum(weights) for w in weights]


def keep_top(values, amount, by):
    """[h, w] -> bool [h, w]: which places are kept."""
    flat = [float(v) for v in values.flatten()]
    if by != "std" and amount == 1:
        return np.ones(values.shape, dtype=bool)
    if max(flat) <= 0:
        return np.zeros(values.shape, dtype=bool)
    if by == "std":
        mean = sum(flat) / len(flat)
        cut = mean + amount * math.sqrt(sum((v - mean) ** 2 for v in flat) / len(flat))
        return values.astype(np.float64) >= float(np.asarray(cut, dtype=values.dtype))
    kept = 0
    ranked = sorted(flat, reverse=True)
    if by == "mass":
        total = math.fsum(flat)
        while math.fsum(ranked[:kept]) < amount * total:
            kept += 1
    else:
        while kept + 1e-9 < amount * len(flat):
            kept += 1
    return values >= ranked[kept - 1]


def fuse(init, seeds, mode):
    result = np.zeros(init.shape, dtype=bool)
    for index in np.ndindex(init.shape):
        a, b = bool(init[index]), bool(seeds[index])
        result[index] = {"union": a or b, "intersection": a and b, "init": a, "seeds": b}[mode]
    return result


def agreement(a, b):
    """Bool [H, W] twice -> IoU."""
    both = either = 0
    for index in np.ndindex(a.shape):
        both += bool(a[index]) and bool(b[index])
        either += bool(a[index]) or bool(b[index])
    return both / either if either else 1.0


def confidence(score, mask):
    inside = [float(score[index]) for index in np.ndindex(mask.shape) if mask[index]]
    return math.fsum(inside) / len(inside) if inside else 0.0


def area(mask):
    return sum(bool(mask[index]) for index in np.ndindex(mask.shape))
