"""Calibration once more, slowly: loops over pixels, written from the papers, importing nothing of wilss.

Confidences and rights are plain lists; a curve is a list of pairs.
"""

import itertools
import math


def sureness(evidence, labels, background):
    """[T][h][w], [h][w], [h][w] -> [h][w]: the label's evidence beside the greatest of the others."""
    result: list[list[float]] = []
    for y, row in enumerate(labels):
        result.append([])
        for x, label in enumerate(row):
            weights = [float(background[y][x]), *(float(one[y][x]) for one in evidence)]
            own = weights.pop(int(label))
            result[-1].append(own / (own + max(weights)))
    return result


def bins_of(confidence, count):
    """Which pixels are in which bin: bin b holds [b / count, (b + 1) / count), the last one 1 as well."""
    members: list[list[int]] = [[] for _ in range(count)]
    for number, value in enumerate(confidence):
        place = count - 1
        for b in range(count):
            if value < (b + 1) / count:
                place = b
                break
        members[place].append(number)
    return members


def expected_error(confidence, right, count):
    total = 0.0
    for members in bins_of(confidence, count):
        if members:
            mean = sum(confidence[i] for i in members) / len(members)
            share = sum(1 for i in members if right[i]) / len(members)
            total += len(members) / len(confidence) * abs(share - mean)
    return total


def isotonic_levels(values, weights):
    """The rising sequence nearest in weighted squares: max over starts of min over ends of the mean between them."""
    result = []
    for place in range(len(values)):
        highest = -math.inf
        for start in range(place + 1):
            lowest = math.inf
            for end in range(place, len(values)):
                weight = sum(weights[start : end + 1])
                mean = (
                    sum(v * w for v, w in zip(values[start : end + 1], weights[start : end + 1], strict=True)) / weight
                )
                lowest = min(lowest, mean)
            highest = max(highest, lowest)
        result.append(highest)
    return result


def on_curve(value, curve):
    """A value between two knots lies on the line that joins them."""
    if value <= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if value <= x1:
            return y0 + (y1 - y0) * (value - x0) / (x1 - x0)
    return curve[-1][1]
