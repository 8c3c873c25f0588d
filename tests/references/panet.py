"""PANet once more, slowly: numpy and loops, written from the text, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64. `VOID` is 255, background is 0.
"""

import math

import numpy as np

VOID = 255


def upsampled(maps, height, width):
    """[D, h, w] -> [D, H, W]: bilinear between cell centres, the border held."""
    depth, h, w = maps.shape
    result = np.zeros((depth, height, width))
    for row, column in np.ndindex(height, width):
        y = min(max((row + 0.5) * h / height - 0.5, 0.0), h - 1.0)
        x = min(max((column + 0.5) * w / width - 0.5, 0.0), w - 1.0)
        near_rows, near_columns = [r for r in range(h) if abs(y - r) < 1], [c for c in range(w) if abs(x - c) < 1]
        for r in near_rows:
            for c in near_columns:
                result[:, row, column] += (1 - abs(y - r)) * (1 - abs(x - c)) * maps[:, r, c]
    return result


def masked_average(features, mask):
    """[D, h, w], [H, W] -> [D] and the area: the features at the mask's size, averaged inside it."""
    pixels = upsampled(features, *mask.shape)
    total, area = np.zeros(len(features)), 0.0
    for row, column in np.ndindex(*mask.shape):
        total += float(mask[row, column]) * pixels[:, row, column]
        area += float(mask[row, column])
    return (total / area if area else total), area


def prototype(features, masks):
    """[D, h, w] and [H, W] per shot -> [D]: the mean over the shots that have a pixel."""
    found = [masked_average(one, mask) for one, mask in zip(features, masks, strict=True)]
    vectors = [vector for vector, area in found if area > 0]
    return sum(vectors) / len(vectors) if vectors else np.zeros(len(features[0]))


def prototypes(features, maps, ways, count):
    """Per support [D, h, w], [H, W] of 0, 1, VOID, and its way -> [count + 1, D], background first."""
    rows = [prototype(features, [known == 0 for known in maps])]
    for way in range(1, count + 1):
        own = [i for i in range(len(ways)) if ways[i] == way]
        if own:
            rows.append(prototype([features[i] for i in own], [maps[i] == 1 for i in own]))
        else:
            rows.append(np.zeros(len(features[0])))
    return np.stack(rows)


def scores(features, vectors, alpha):
    """[D, h, w], [P, D] -> [P, h, w]."""
    result = np.zeros((len(vectors), *features.shape[1:]))
    for p, row, column in np.ndindex(*result.shape):
        result[p, row, column] = alpha * cosine(features[:, row, column], vectors[p])
    return result


def cosine(a, b):
    lengths = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(x) ** 2 for x in b))
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def probabilities(maps):
    """[P, H, W] -> [P, H, W]."""
    result = np.zeros(maps.shape)
    for row, column in np.ndindex(*maps.shape[1:]):
        highest = max(float(v) for v in maps[:, row, column])
        powers = [math.exp(float(v) - highest) for v in maps[:, row, column]]
        result[:, row, column] = [power / sum(powers) for power in powers]
    return result


def label_map(maps):
    """[P, H, W] -> [H, W], the first among equals."""
    labels = np.zeros(maps.shape[1:], dtype=np.int64)
    for row, column in np.ndindex(*labels.shape):
        values = list(maps[:, row, column])
        labels[row, column] = values.index(max(values))
    return labels


def counts_with_bias(maps, labels, bias):
    """[P, H, W], [H, W] of ways and VOID -> way -> [tp, fp, fn], with the background's score raised by `bias`."""
    counts = {way: [0, 0, 0] for way in range(1, len(maps))}
    for row, column in np.ndindex(*labels.shape):
        truth = labels[row, column]
        if truth == VOID:
            continue
        values = [float(maps[0, row, column]) + bias, *(float(v) for v in maps[1:, row, column])]
        said = values.index(max(values))
        for way, numbers in counts.items():
            numbers[0] += way == said == truth
            numbers[1] += way == said != truth
            numbers[2] += way == truth != said
    return counts


def best_bias(queries, biases):
    """Queries of (maps, labels, class of each way) -> the bias of the highest mean IoU, the nearest to 0 of equals."""
    found = []
    for bias in biases:
        sums: dict[int, list[int]] = {}
        for maps, labels, classes in queries:
            for way, numbers in counts_with_bias(maps, labels, bias).items():
                row = sums.setdefault(classes[way - 1], [0, 0, 0])
                for place in range(3):
                    row[place] += numbers[place]
        ious = [tp / (tp + fp + fn) for tp, fp, fn in sums.values() if tp + fp + fn]
        found.append((-sum(ious) / len(ious), abs(bias), bias))
    return min(found)[2]


def query_ce(maps, labels):
    """[P, H, W], [H, W] -> a number."""
    soft = probabilities(maps)
    losses = [
        -math.log(soft[labels[row, column], row, column])
        for row, column in np.ndindex(*labels.shape)
        if labels[row, column] != VOID
    ]
    return sum(losses) / len(losses) if losses else 0.0


def alignment_loss(query, query_scores, supports, maps, ways, alpha):
    """[D, h, w], [P, h, w]; per support [D, h, w], [H, W] and its way -> a number."""
    predicted = label_map(query_scores)
    total = 0.0
    for features, known, way in zip(supports, maps, ways, strict=True):
        if not (predicted == way).any():
            continue
        pair = []
        for wanted in (0, way):
            inside = [query[:, r, c] for r, c in np.ndindex(*predicted.shape) if predicted[r, c] == wanted]
            pair.append(sum(inside) / len(inside) if inside else np.zeros(len(query)))
        total += query_ce(upsampled(scores(features, np.stack(pair), alpha), *known.shape), known)
    return total / len(supports)


def counted_by_sets(queries):
    """The public code's counts: each query gives, for background and ways that its truth holds, hits and misses.

    queries: (ways, truth, predicted) with lists of ids by pixel. Returns id -> [tp, fp, fn], background 0.
    """
    sums: dict[int, list[int]] = {}
    for ways, truth, predicted in queries:
        known = {place for place, identity in enumerate(truth) if identity != VOID}
        for identity in (0, *ways):
            wanted = {p for p in known if truth[p] == identity or (identity == 0 and truth[p] not in ways)}
            said = {p for p in known if predicted[p] == identity}
            if wanted:
                row = sums.setdefault(identity, [0, 0, 0])
                for column, places in enumerate((said & wanted, said - wanted, wanted - said)):
                    row[column] += len(places)
    return sums


def binary_iou_by_sets(queries):
    """The public code's binary IoU: counts of all classes added up, then the mean of background's and theirs."""
    sums = counted_by_sets(queries)
    foreground = [sum(row[column] for identity, row in sums.items() if identity) for column in range(3)]
    each = [row[0] / sum(row) for row in (sums.get(0, [0, 0, 0]), foreground) if sum(row)]
    return sum(each) / len(each)
