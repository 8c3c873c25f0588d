"""SAM 3 by tags, written with loops over single places. Imports nothing of wilss."""

import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def tag_score(masks, scores, semantic, least):
    """masks [Q][h][w], scores [Q], semantic [h][w]: lists of floats. Returns [h][w]."""
    height, width = len(semantic), len(semantic[0])
    found = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            objects = [score * sigmoid(mask[y][x]) for mask, score in zip(masks, scores, strict=True) if score >= least]
            found[y][x] = max([*objects, sigmoid(semantic[y][x])])
    return found


def label(scores, threshold):
    """Of one place, scores [T]: the tag that it goes to, or None for the background."""
    ordered = sorted([*scores, 0.0], reverse=True)
    first, second = ordered[0], ordered[1]
    if first * math.sqrt(first - second) < threshold**1.25:
        return None
    return scores.index(first)


def lead(scores, threshold):
    """Of one place, scores [T]: the evidence of every tag."""
    found = []
    for tag, score in enumerate(scores):
        rivals = [other for number, other in enumerate(scores) if number != tag]
        ahead = score - max([*rivals, 0.0])
        found.append(score * math.sqrt(ahead) / threshold**1.25 if ahead > 0 else 0.0)
    return found
