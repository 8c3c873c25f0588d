"""MiB's losses once more, slowly: numpy and loops, written from the paper, importing nothing of wilss."""

import math

import numpy as np

VOID = 255


def shares(logits):
    powers = [math.exp(float(v) - float(max(logits))) for v in logits]
    return [power / sum(powers) for power in powers]


def _mean(losses_of_image, batch):
    return sum(sum(losses) / len(losses) if losses else 0.0 for losses in losses_of_image) / batch


def unbiased_ce(logits, labels, num_old):
    """[B, C, H, W], [B, H, W] -> a number."""
    images = []
    for b in range(len(logits)):
        losses = []
        for row, column in np.ndindex(*labels.shape[1:]):
            label = int(labels[b, row, column])
            if label == VOID:
                continue
            p = shares(logits[b, :, row, column])
            losses.append(-math.log(p[label] if label >= num_old else sum(p[:num_old])))
        images.append(losses)
    return _mean(images, len(logits))


def unbiased_distillation(logits, old, valid):
    """[B, C, H, W], [B, C_old, H, W], bool [B, H, W] -> a number."""
    count, images = old.shape[1], []
    for b in range(len(logits)):
        losses = []
        for row, column in np.ndindex(*valid.shape[1:]):
            if not valid[b, row, column]:
                continue
            p, q = shares(logits[b, :, row, column]), shares(old[b, :, row, column])
            hat = [p[0] + sum(p[count:]), *p[1:count]]
            losses.append(-sum(q[c] * math.log(hat[c]) for c in range(count)) / count)
        images.append(losses)
    return _mean(images, len(logits))


def labels_of_masks(masks, void, num_old):
    """bool [B, C_new, H, W], bool [B, H, W] -> [B, H, W]."""
    labels = np.zeros(void.shape, int)
    for b, row, column in np.ndindex(*void.shape):
        held = [c for c in range(masks.shape[1]) if masks[b, c, row, column]]
        if void[b, row, column] or len(held) > 1:
            labels[b, row, column] = VOID
        elif held:
            labels[b, row, column] = num_old + held[0]
    return labels
