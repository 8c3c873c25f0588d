"""WILSON's losses once more, slowly: numpy and loops, written from the paper and its public code's facts.

Every function takes and returns numpy arrays and computes in float64. `VOID` is 255, background is channel 0.
"""

import math

import numpy as np

VOID = 255


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softmax(values):
    powers = [math.exp(float(v) - float(max(values))) for v in values]
    return [power / sum(powers) for power in powers]


def bce(logit, target):
    p = sigmoid(float(logit))
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


def tag_scores(logits, valid):
    """[B, C, h, w], bool [B, h, w] -> [B, C]."""
    batch, channels, height, width = logits.shape
    scores = np.zeros((batch, channels))
    for b in range(batch):
        places = [(r, c) for r in range(height) for c in range(width) if valid[b, r, c]]
        shares = {place: softmax(logits[b, :, place[0], place[1]]) for place in places}
        for k in range(channels):
            weighted = sum(shares[r, c][k] * logits[b, k, r, c] for r, c in places)
            total = sum(shares[place][k] for place in places)
            mean = total / len(places) if places else 0.0
            scores[b, k] = weighted / (1 + total) + (1 - mean) ** 3 * math.log(0.01 + mean)
    return scores


def outside_bce(logits, masks, tags, valid):
    """[B, C_new, h, w], bool of the same, bool [B, C_new], bool [B, h, w] -> a number."""
    total = 0.0
    for b, c in np.ndindex(*tags.shape):
        if tags[b, c] and not masks[b, c].any():
            continue
        outside = [place for place in np.ndindex(*valid.shape[1:]) if valid[b][place] and not masks[b, c][place]]
        losses = [bce(logits[b, c][place], 0.0) for place in outside]
        total += sum(losses) / len(losses) if losses else 0.0
    return total / tags.size


def tag_bce(scores, tags, known):
    """[B, C_new] twice, bool [B] -> a number."""
    total = 0.0
    for b in range(len(scores)):
        if known[b]:
            total += sum(bce(s, float(t)) for s, t in zip(scores[b], tags[b], strict=True)) / scores.shape[1]
    return total / len(scores)


def prior_bce(logits, old, valid):
    """[B, C_old, h, w] twice, bool [B, h, w] -> a number."""
    total = 0.0
    for b in range(len(logits)):
        places = [place for place in np.ndindex(*valid.shape[1:]) if valid[b][place]]
        losses = [bce(logits[b, c][place], float(old[b, c][place])) for place in places for c in range(logits.shape[1])]
        total += sum(losses) / len(losses) if losses else 0.0
    return total / len(logits)


def with_tags(maps, tags, new_channels):
    """[B, C, h, w], bool [B, C_new] -> [B, C, h, w]."""
    kept = np.zeros(maps.shape)
    for b in range(len(maps)):
        kept[b, 0] = maps[b, 0]
        for place, channel in enumerate(new_channels):
            if tags[b, place]:
                kept[b, channel] = maps[b, channel]
    return kept


def sure_labels(maps, valid, foreground, background, least):
    """[B, C, h, w], bool [B, h, w] -> [B, h, w]."""
    labels = np.full(valid.shape, VOID)
    for b in range(len(maps)):
        greatest = [max([float(m) for m in maps[b, c][valid[b]]], default=0.0) for c in range(maps.shape[1])]
        for place in np.ndindex(*valid.shape[1:]):
            if not valid[b][place]:
                continue
            above = [
                c
                for c in range(maps.shape[1])
                if maps[b, c][place] > max(least, (foreground if c else background) * greatest[c])
            ]
            if len(above) == 1:
                labels[b][place] = above[0]
    return labels


def balanced_ce(logits, labels, tags, valid):
    """[B, C, h, w], [B, h, w], bool [B, C_new], bool [B, h, w] -> a number."""
    total = 0.0
    for b in range(len(logits)):
        places = [place for place in np.ndindex(*valid.shape[1:]) if valid[b][place]]
        known = [place for place in places if labels[b][place] != VOID]
        counts = [sum(labels[b][place] == c for place in known) for c in range(logits.shape[1])]
        if sum(count > 0 for count in counts) != int(tags[b].sum()) + 1:
            continue
        loss = 0.0
        for row, column in known:
            label = labels[b, row, column]
            weight = (len(known) - counts[label]) / (1 + len(known))
            loss -= weight * math.log(softmax(logits[b, :, row, column])[label])
        total += loss / len(places)
    return total / len(logits)


def localized_targets(maps, old, new_channels, alpha):
    """[B, C, h, w], [B, C_old, h, w] -> [B, C, h, w]."""
    targets = np.zeros(maps.shape)
    for b, row, column in np.ndindex(maps.shape[0], *maps.shape[2:]):
        cell = [float(value) for value in maps[b, :, row, column]]
        mixed = [alpha * (value == max(cell)) + (1 - alpha) * value for value in cell]
        for c in range(maps.shape[1]):
            if c in new_channels:
                targets[b, c, row, column] = mixed[c]
            else:
                told = float(old[b, c, row, column])
                targets[b, c, row, column] = min(told, mixed[0]) if c == 0 else told
    return targets


def feature_distance(features, old, valid):
    """[B, D, h, w] twice, bool [B, h, w] -> a number."""
    total = 0.0
    for b in range(len(features)):
        places = [place for place in np.ndindex(*valid.shape[1:]) if valid[b][place]]
        squares = [
            (float(features[b, d][place]) - float(old[b, d][place])) ** 2
            for place in places
            for d in range(features.shape[1])
        ]
        total += sum(squares) / len(squares) if squares else 0.0
    return total / len(features)
