"""Signs of label errors once more, slowly: loops, written from the definitions, importing nothing of wilss."""

import math


def presence(maps, share):
    """[C][h][w] -> [C]: the mean of the greatest places."""
    result = []
    for one in maps:
        values = sorted((float(value) for row in one for value in row), reverse=True)
        count = max(1, round(share * len(values)))
        result.append(sum(values[:count]) / count)
    return result


def confident_doubts(present, tags):
    """[N][C] twice -> two sets of (image, class): unsupported and missing."""
    unsupported, missing = set(), set()
    for c in range(len(present[0])):
        yes = [row[c] for row, tagged in zip(present, tags, strict=True) if tagged[c] and not math.isnan(row[c])]
        no = [1 - row[c] for row, tagged in zip(present, tags, strict=True) if not tagged[c] and not math.isnan(row[c])]
        if not yes or not no:
            continue
        t1, t0 = sum(yes) / len(yes), sum(no) / len(no)
        for n, row in enumerate(present):
            if math.isnan(row[c]):
                continue
            is_there, is_not = row[c] >= t1, 1 - row[c] >= t0
            if tags[n][c] and is_not and not is_there:
                unsupported.add((n, c))
            if not tags[n][c] and is_there and not is_not:
                missing.add((n, c))
    return unsupported, missing


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def unusual(values, cut, least):
    logs = {place: math.log(value) for place, value in enumerate(values) if value > 0}
    if len(logs) < least:
        return [0.0] * len(values)
    centre = median(list(logs.values()))
    spread = 1.4826 * median([abs(value - centre) for value in logs.values()])
    result = []
    for place in range(len(values)):
        away = abs(logs[place] - centre) / spread if place in logs and spread else 0.0
        result.append(1 - cut / away if away > cut else 0.0)
    return result


def parts_of(mask):
    """Sets of (y, x) that touch by sides or corners, by flooding, in the order of their first pixel."""
    height, width = len(mask), len(mask[0])
    left = {(y, x) for y in range(height) for x in range(width) if mask[y][x]}
    parts = []
    for start in sorted(left):
        if start not in left:
            continue
        left.discard(start)
        part, queue = {start}, [start]
        while queue:
            y, x = queue.pop()
            for neighbour in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if neighbour in left:
                    left.discard(neighbour)
                    part.add(neighbour)
                    queue.append(neighbour)
        parts.append(part)
    return parts


def stray_parts(mask, most, far):
    """The pixels of tiny parts that lie far from the largest, as a set."""
    parts = parts_of(mask)
    if len(parts) < 2:
        return set()
    main = max(parts, key=len)  # the first among equals
    reach = far * math.hypot(len(mask), len(mask[0]))
    stray = set()
    for part in parts:
        if part is main or len(part) > most * len(main):
            continue
        nearest = min(math.hypot(y - v, x - u) for y, x in part for v, u in main)
        if nearest >= reach:
            stray |= part
    return stray


def rim_share(mask, width):
    height, wide = len(mask), len(mask[0])
    rim = max(1, round(width * min(height, wide)))
    inside = total = 0
    for y, row in enumerate(mask):
        for x, value in enumerate(row):
            total += bool(value)
            inside += bool(value) and rim <= y < height - rim and rim <= x < wide - rim
    return 1 - inside / total if total else 0.0


def systematic(counts, images, share, least):
    pairs = []
    for a, row in enumerate(counts):
        for b, count in enumerate(row):
            if a != b and sum(row) and count / sum(row) >= share and images[a][b] >= least:
                pairs.append((a, b, count / sum(row)))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))
