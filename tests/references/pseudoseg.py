"""PseudoSeg once more, slowly: numpy and loops, written from the text, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64. `VOID` is 255.
"""

import math

import numpy as np

VOID = 255


def softmax(values):
    highest = max(values)
    powers = [math.exp(v - highest) for v in values]
    return [power / sum(powers) for power in powers]


def attention_rows(queries, keys, valid=None):
    """[S, d], [L, d], bool [L] or None -> [S, L]."""
    result = np.zeros((len(queries), len(keys)))
    seen = [i for i in range(len(keys)) if valid is None or valid[i]]
    for s in range(len(queries)):
        products = [sum(float(a) * float(b) for a, b in zip(queries[s], keys[i], strict=True)) for i in seen]
        for i, share in zip(seen, softmax([p / math.sqrt(queries.shape[1]) for p in products]), strict=True):
            result[s, i] = share
    return result


def self_attention_cam(queries, keys, scores, valid=None):
    """[L, d] twice, [C, h, w] -> [C, h, w]."""
    rows = attention_rows(queries, keys, valid)
    channels, h, w = scores.shape
    result = np.zeros(scores.shape)
    for c, i in np.ndindex(channels, h * w):
        spread = sum(rows[i, j] * float(scores[c, j // w, j % w]) for j in range(h * w))
        result[c, i // w, i % w] = spread + float(scores[c, i // w, i % w])
    return result


def max_normalised(cam):
    """[C, h, w] -> [C, h, w]."""
    result = np.zeros(cam.shape)
    for c in range(len(cam)):
        highest = max(0.0, max(float(v) for v in cam[c].flatten()))
        for row, column in np.ndindex(*cam.shape[1:]):
            if highest > 0:
                result[c, row, column] = max(0.0, float(cam[c, row, column])) / highest
    return result


def with_background(cam):
    """[C - 1, h, w] -> [C, h, w]."""
    result = np.zeros((len(cam) + 1, *cam.shape[1:]))
    for row, column in np.ndindex(*cam.shape[1:]):
        result[0, row, column] = 2 - max(float(v) for v in cam[:, row, column])
        result[1:, row, column] = cam[:, row, column]
    return result


def joint_norm(p, m, per, valid):
    """[B, C, h, w] twice, bool [B, h, w] -> a number per image."""
    squares: list[list[float]] = [[] for _ in p]
    for b, c, row, column in np.ndindex(*p.shape):
        if valid[b, row, column]:
            squares[b] += [float(p[b, c, row, column]) ** 2, float(m[b, c, row, column]) ** 2]
    if per == "batch":
        squares = [[one for image in squares for one in image]] * len(p)
    return [math.sqrt(sum(one) / len(one)) if one else 0.0 for one in squares]


def sharpen(values, temperature):
    """A list of numbers >= 0 -> a list that sums to 1."""
    powers = [v ** (1 / temperature) for v in values]
    return [power / sum(powers) for power in powers]


def calibrated_fusion(p, m, g, temperature, per, valid):
    """[B, C, h, w] twice -> [B, C, h, w]."""
    result = np.zeros(p.shape)
    norms = joint_norm(p, m, per, valid)
    for b, row, column in np.ndindex(len(p), *p.shape[2:]):
        decoder = softmax([float(v) / norms[b] for v in p[b, :, row, column]])
        maps = softmax([float(v) / norms[b] for v in m[b, :, row, column]])
        mixed = [g * a + (1 - g) * c for a, c in zip(decoder, maps, strict=True)]
        result[b, :, row, column] = sharpen(mixed, temperature)
    return result


def pixel_ce(logits, labels):
    """[B, C, H, W], [B, H, W] -> a number."""
    total = 0.0
    for b in range(len(logits)):
        losses = [
            -math.log(softmax([float(v) for v in logits[b, :, row, column]])[labels[b, row, column]])
            for row, column in np.ndindex(*labels.shape[1:])
            if labels[b, row, column] != VOID
        ]
        total += sum(losses) / len(losses) if losses else 0.0
    return total / len(logits)


def soft_ce(logits, targets, valid):
    """[B, C, H, W] twice, bool [B, H, W] -> a number."""
    total = 0.0
    for b in range(len(logits)):
        losses = []
        for row, column in np.ndindex(*valid.shape[1:]):
            if valid[b, row, column]:
                said = softmax([float(v) for v in logits[b, :, row, column]])
                wanted = targets[b, :, row, column]
                losses.append(-sum(float(t) * math.log(q) for t, q in zip(wanted, said, strict=True)))
        total += sum(losses) / len(losses) if losses else 0.0
    return total / len(logits)


def multi_label_bce(logits, tags):
    """[B, C], bool [B, C] -> a number."""
    losses = []
    for index in np.ndindex(*logits.shape):
        q = 1 / (1 + math.exp(-float(logits[index])))
        losses.append(-math.log(q if tags[index] else 1 - q))
    return sum(losses) / len(losses)


def batch_norm_without_factor(batches, shift, eps, decay):
    """A batch norm without a factor on one channel: what it makes of the last batch, and what it keeps for later.

    batches: lists of numbers. Returns the last batch normalised by its own statistics, then the kept mean and variance.
    """
    kept_mean, kept_variance, last = 0.0, 1.0, []
    for values in batches:
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        last = [(value - mean) / math.sqrt(variance + eps) + shift for value in values]
        unbiased = variance * len(values) / (len(values) - 1)
        kept_mean = decay * kept_mean + (1 - decay) * mean
        kept_variance = decay * kept_variance + (1 - decay) * unbiased
    return last, kept_mean, kept_variance
