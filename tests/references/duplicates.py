"""Perceptual hashes and near pairs, slowly: loops, written from the definitions, importing nothing of wilss."""

import math


def frequencies(grey, side):
    """[n][n] -> [side][side]: the orthonormal DCT-II, sum by sum."""
    n = len(grey)

    def scale(k):
        return math.sqrt((1 if k == 0 else 2) / n)

    def wave(k, x):
        return math.cos(math.pi * (2 * x + 1) * k / (2 * n))

    return [
        [
            scale(v) * scale(u) * sum(grey[y][x] * wave(v, y) * wave(u, x) for y in range(n) for x in range(n))
            for u in range(side)
        ]
        for v in range(side)
    ]


def hash_of(low):
    """[side][side] -> int: a bit for each frequency but the first that is above their median."""
    values = [value for row in low for value in row]
    ordered = sorted(values[1:])
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return sum(1 << place for place, value in enumerate(values) if place and value > median)


def close_pairs(hashes, asked, radius):
    """Every one with every one."""
    return [
        (i, j)
        for i, one in enumerate(hashes)
        for j, other in enumerate(asked)
        if bin(int(one) ^ int(other)).count("1") <= radius
    ]


def difference(one, other, cells):
    """[S][S][3] twice -> the greatest mean absolute difference of cells x cells squares, without the mean colours."""
    size = len(one)

    def mean(picture, channel):
        return sum(picture[y][x][channel] for y in range(size) for x in range(size)) / size**2

    means = [[mean(picture, channel) for channel in range(3)] for picture in (one, other)]
    side, worst = size // cells, 0.0
    for top in range(0, size, side):
        for left in range(0, size, side):
            total = 0.0
            for y in range(top, top + side):
                for x in range(left, left + side):
                    for channel in range(3):
                        a = one[y][x][channel] - means[0][channel]
                        b = other[y][x][channel] - means[1][channel]
                        total += abs(a - b) / 3
            worst = max(worst, total / side**2)
    return worst / 255
