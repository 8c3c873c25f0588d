"""What a memory bank keeps, once more and slowly: loops, written from the text, importing nothing of wilss."""

import hashlib

import numpy as np


def priority(seed, image_id, class_name):
    """sha256 of the json list [seed, "memory", image, class], first 8 bytes, big-endian, modulo 2**63; ASCII names."""
    text = f'[{seed},"memory","{image_id}","{class_name}"]'
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) % 2**63


def largest_region(mask):
    """[H, W] -> [H, W]: the pixels of the largest region by a flood through eight neighbours; the first if equal."""
    seen = np.zeros(mask.shape, bool)
    best: list[tuple[int, int]] = []
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start], region, todo = True, [], [start]
        while todo:
            y, x = todo.pop()
            region.append((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
                if inside and mask[near] and not seen[near]:
                    seen[near] = True
                    todo.append(near)
        best = region if len(region) > len(best) else best
    made = np.zeros(mask.shape, bool)
    for place in best:
        made[place] = True
    return made


def kept(candidates, count, min_area):
    """(priority, area of the largest region, name) triples -> the names that a bank keeps, by priority."""
    large = sorted(candidate for candidate in candidates if candidate[1] >= min_area)
    return [name for _, _, name in large[:count]]
