"""PLOP's losses once more, slowly: numpy and loops, written from the paper and its public code's facts."""

import math

import numpy as np

from tests.references.mib import VOID, shares


def pooled(maps, scales):
    """[D, h, w] -> a list of numbers; regions as even as the grid allows."""
    depth, height, width = maps.shape
    found = []
    for s in scales:
        if s > min(height, width):
            continue
        for i in range(s):
            for j in range(s):
                rows = range(i * height // s, (i + 1) * height // s)
                columns = range(j * width // s, (j + 1) * width // s)
                for d in range(depth):
                    found += [sum(float(maps[d, r, c]) for c in columns) / len(columns) for r in rows]
                for d in range(depth):
                    found += [sum(float(maps[d, r, c]) for r in rows) / len(rows) for c in columns]
    return found


def pod_distance(features, old, valid, scales):
    """[B, D, h, w] twice, bool [B, h, w] -> a number."""
    total = 0.0
    for b in range(len(features)):
        first, second = (pooled(maps[b] ** 2 * valid[b], scales) for maps in (features, old))
        total += math.sqrt(sum((x - y) ** 2 for x, y in zip(first, second, strict=True)))
    return total / len(features)


def old_labels(labels, old, least):
    """[B, H, W], [B, C_old, H, W] -> [B, H, W] and [B]."""
    made, kept_share = labels.copy(), np.ones(len(labels))
    for b in range(len(labels)):
        told = {}
        for place in np.ndindex(*labels.shape[1:]):
            if labels[b][place] == 0:
                q = shares(old[b][(slice(None), *place)])
                told[place] = (q.index(max(q)), -sum(p * math.log(p) for p in q if p) / math.log(len(q)))
        kept = 0
        for place, (likeliest, entropy) in told.items():
            same = sorted(value for label, value in told.values() if label == likeliest)
            if entropy <= max(least, same[(len(same) - 1) // 2]):
                made[b][place] = likeliest
                kept += 1
            else:
                made[b][place] = VOID
        if told:
            kept_share[b] = kept / len(told)
    return made, kept_share


def weighted_pixel_ce(logits, labels, weights, valid):
    """[B, C, H, W], [B, H, W], [B], bool [B, H, W] -> a number."""
    total = 0.0
    for b in range(len(logits)):
        inside = [place for place in np.ndindex(*valid.shape[1:]) if valid[b][place]]
        known = [place for place in inside if labels[b][place] != VOID]
        losses = [-math.log(shares(logits[b][(slice(None), *place)])[int(labels[b][place])]) for place in known]
        total += float(weights[b]) * sum(losses) / len(inside) if inside else 0.0
    return total / len(logits)
