"""Two heads as one, once more, slowly: probabilities of a pixel in loops."""

import math


def joined_pixel(known, newer):
    """Two lists of logits, the second with more of them -> the list of the logits of all classes."""
    odds = [math.exp(logit) for logit in newer]
    new = [each / sum(odds) for each in odds[len(known) :]]
    old = [(1 - sum(new)) / (1 + math.exp(-logit)) for logit in known]
    return [math.log(p / (1 - p)) for p in [*old, *new]]


def joined_picture(known, newer, shifts):
    """Two lists of pixels' logits, and a number of at most 0 for each new class -> that of the joined pixels."""
    new = range(len(known[0]), len(newer[0]))
    parts = [[math.exp(logit) / sum(math.exp(each) for each in pixel) for logit in pixel] for pixel in newer]
    there = []
    for channel, shift in zip(new, shifts, strict=True):
        odds = sorted((math.log(part[channel] / (1 - part[channel])) for part in parts), reverse=True)
        best = odds[: max(1, math.ceil(0.02 * len(odds)))]
        there.append(1 / (1 + math.exp(-sum(best) / len(best) - shift)) if shift else 1)
    joined = []
    for pixel, part in zip(known, parts, strict=True):
        found = [part[channel] * sure for channel, sure in zip(new, there, strict=True)]
        old = [(1 - sum(found)) / (1 + math.exp(-logit)) for logit in pixel]
        joined.append([math.log(p / (1 - p)) for p in [*old, *found]])
    return joined
