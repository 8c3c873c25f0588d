"""FMWISS Secs. 3.3 to 3.5 once more, slowly: numpy and loops, written from the text, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64. `VOID` is 255, background is channel 0.
"""

import math

import numpy as np

VOID = 255


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def masked_bce(logits, targets, valid):
    """[B, C, H, W] twice, bool [B, H, W] -> a number."""
    batch, channels, height, width = logits.shape
    total = 0.0
    for b in range(batch):
        inside, pixels = 0.0, 0
        for row in range(height):
            for column in range(width):
                if not valid[b, row, column]:
                    continue
                pixels += 1
                for c in range(channels):
                    p, t = sigmoid(float(logits[b, c, row, column])), float(targets[b, c, row, column])
                    inside -= t * math.log(p) + (1 - t) * math.log(1 - p)
        total += inside / pixels if pixels else 0.0
    return total / batch


def dense_contrastive(embedding, classes, temperature):
    """[P, E], [P] -> a number."""
    points = []
    for vector in embedding:
        length = math.sqrt(sum(float(v) ** 2 for v in vector))
        points.append([float(v) / length for v in vector])
    losses = []
    for i in range(len(points)):
        positives = [j for j in range(len(points)) if j != i and classes[j] == classes[i]]
        negatives = [j for j in range(len(points)) if classes[j] != classes[i]]
        if not positives:
            continue
        against = sum(math.exp(_dot(points[i], points[j]) / temperature) for j in negatives)
        terms = []
        for j in positives:
            likeness = math.exp(_dot(points[i], points[j]) / temperature)
            terms.append(-math.log(likeness / (likeness + against)))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses) if losses else 0.0


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def upsampled_at(grid, row, column, height, width):
    """[E, h, w] at one pixel of height x width: bilinear between cell centres, the border held."""
    _, h, w = grid.shape
    y = min(max((row + 0.5) * h / height - 0.5, 0.0), h - 1.0)
    x = min(max((column + 0.5) * w / width - 0.5, 0.0), w - 1.0)
    value = np.zeros(len(grid))
    for r in range(h):
        for c in range(w):
            value += grid[:, r, c] * max(0.0, 1 - abs(y - r)) * max(0.0, 1 - abs(x - c))
    return value


def old_targets(old, pasted, new_masks):
    """[B, C_old, H, W], [B, H, W], [B, C_new, H, W] -> [B, C_old, H, W]."""
    targets = np.zeros(old.shape)
    for b, row, column in np.ndindex(*pasted.shape):
        for c in range(old.shape[1]):
            if pasted[b, row, column] != VOID:
                targets[b, c, row, column] = 1.0 if pasted[b, row, column] == c else 0.0
                continue
            targets[b, c, row, column] = float(old[b, c, row, column])
            if c == 0:
                held = max([float(mask) for mask in new_masks[b, :, row, column]], default=0.0)
                targets[b, c, row, column] *= 1 - held
    return targets


def student_targets(teacher, old, new_channels, old_channels, alpha, beta, shows_none=()):
    """[B, C, H, W], [B, C_old, H, W] -> [B, C, H, W]. shows_none: the places of images without any new class."""
    targets = np.zeros(teacher.shape)
    batch, channels, height, width = teacher.shape
    for b, row, column in np.ndindex(batch, height, width):
        best = 0
        for c in range(channels):
            if teacher[b, c, row, column] > teacher[b, best, row, column]:
                best = c
        for c in new_channels:
            hard = 1.0 if c == best else 0.0
            if b not in shows_none:
                targets[b, c, row, column] = alpha * hard + (1 - alpha) * float(teacher[b, c, row, column])
        for place, c in enumerate(old_channels):
            soft = float(teacher[b, c, row, column])
            targets[b, c, row, column] = beta * float(old[b, place, row, column]) + (1 - beta) * soft
        targets[b, 0, row, column] *= 1 - max([targets[b, c, row, column] for c in new_channels], default=0.0)
    return targets


def labels_of(new_masks, old, pasted, new_channels):
    """[B, C_new, H, W], [B, C_old, H, W], [B, H, W] -> [B, H, W]."""
    labels = np.full(pasted.shape, VOID)
    for b, row, column in np.ndindex(*pasted.shape):
        held = [c for place, c in enumerate(new_channels) if new_masks[b, place, row, column]]
        if pasted[b, row, column] != VOID:
            labels[b, row, column] = pasted[b, row, column]
        elif len(held) == 1:
            labels[b, row, column] = held[0]
        elif not held:
            labels[b, row, column] = list(old[b, :, row, column]).index(max(old[b, :, row, column]))
    return labels
