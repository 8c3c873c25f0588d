"""Regions once more, slowly: numpy and loops, written from the text, importing nothing of wilss."""

import math

import numpy as np


def partition(masks, scores=None):
    """[M, h, w] -> int [h, w]: of the masks at a pixel the smallest, then the best, then the first; -1 without one."""
    regions = np.full(masks.shape[1:], -1)
    for row in range(masks.shape[1]):
        for column in range(masks.shape[2]):
            best = None
            for place, mask in enumerate(masks):
                if mask[row, column]:
                    rank = (int(mask.sum()), -(scores[place] if scores is not None else 0), place)
                    if best is None or rank < best:
                        best = rank
            if best is not None:
                regions[row, column] = best[2]
    return regions


def vote(probabilities, regions):
    """[K, h, w], [h, w] -> [K, h, w]: the share of each label in the pixel's region."""
    result = probabilities.astype(np.float64).copy()
    for row in range(regions.shape[0]):
        for column in range(regions.shape[1]):
            if regions[row, column] < 0:
                continue
            counts = [0] * len(probabilities)
            for y in range(regions.shape[0]):
                for x in range(regions.shape[1]):
                    if regions[y, x] == regions[row, column]:
                        values = [float(v) for v in probabilities[:, y, x]]
                        counts[values.index(max(values))] += 1
            for k, count in enumerate(counts):
                result[k, row, column] = count / sum(counts)
    return result


def of_patches(regions, grid):
    """[h, w] -> [gh * gw]: most pixels, then the lowest number; without a pixel, the one at the patch's centre."""
    height, width = regions.shape
    found = []
    for patch_row in range(grid[0]):
        for patch_column in range(grid[1]):
            inside = [
                int(regions[y, x])
                for y in range(height)
                for x in range(width)
                if math.floor((y + 0.5) * grid[0] / height) == patch_row
                and math.floor((x + 0.5) * grid[1] / width) == patch_column
            ]
            if not inside:
                y = math.floor((patch_row + 0.5) * height / grid[0])
                x = math.floor((patch_column + 0.5) * width / grid[1])
                inside = [int(regions[y, x])]
            found.append(min(set(inside), key=lambda one: (-inside.count(one), one)))
    return np.array(found)


def merge_alike(regions, features, least):
    """[L], [L, D] -> [L]: groups by walking from region to region, numbered by their first region."""
    units = [np.asarray(f, np.float64) / math.sqrt(float(np.dot(f, f)) or 1.0) for f in features.astype(np.float64)]
    names = sorted({int(r) for r in regions if r >= 0})
    means = {}
    for name in names:
        mean = np.sum([unit for unit, region in zip(units, regions, strict=True) if region == name], axis=0)
        means[name] = mean / math.sqrt(float(mean @ mean))
    group = {}
    count = 0
    for name in names:
        if name in group:
            continue
        waiting = [name]
        while waiting:
            here = waiting.pop()
            if here not in group:
                group[here] = count
                waiting += [other for other in names if float(means[here] @ means[other]) >= least]
        count += 1
    return np.array([group.get(int(region), -1) for region in regions])


def scoped_softmax(logits, scope):
    """[L, L], [L] -> [L, L]: the softmax over a patch's own region; of patches without one, over the softmax's part
    above the mean of its row; over itself where there is no such part."""
    result = np.zeros_like(logits, dtype=np.float64)
    for i, row in enumerate(logits):
        if scope[i] >= 0:
            places = [j for j in range(len(row)) if scope[j] == scope[i]]
        else:
            powers = [math.exp(float(v)) for v in row]
            places = [j for j in range(len(row)) if powers[j] / sum(powers) > 1 / len(row) + 1e-12] or [i]
        total = sum(math.exp(float(row[j])) for j in places)
        for j in places:
            result[i, j] = math.exp(float(row[j])) / total
    return result


def agglomerate(features, least):
    """[D, gh, gw] -> [gh, gw]: of all pairs of regions that touch the most alike, joined, and again."""
    _, height, width = features.shape
    units = {}
    for y in range(height):
        for x in range(width):
            vector = features[:, y, x].astype(np.float64)
            units[y, x] = vector / math.sqrt(float(vector @ vector))
    groups = [[place] for place in sorted(units)]
    while True:
        best = None
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                if any(abs(y - v) + abs(x - u) == 1 for y, x in groups[a] for v, u in groups[b]):
                    one, other = (np.sum([units[place] for place in groups[i]], axis=0) for i in (a, b))
                    cosine = float(one @ other) / math.sqrt(float(one @ one) * float(other @ other))
                    if cosine >= least and (best is None or cosine > best[0]):
                        best = (cosine, a, b)
        if best is None:
            break
        _, a, b = best
        groups[a] = sorted(groups[a] + groups.pop(b))
    result = np.zeros((height, width), np.int64)
    for number, group in enumerate(groups):
        for place in group:
            result[place] = number
    return result
