"""One picture: a textured background, things of no class, one to three objects, and their exact mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from wilss.data.shapes.outlines import CLASS_NAMES, OUTLINES, Outline, blob, shard, stroke
from wilss.data.shapes.textures import CLASS_FAMILIES, FAMILIES, FAVOURITE_HUES, Field, lch
from wilss.drawing import borders
from wilss.randomness import numpy_generator_for

VOID = 255
Generator = np.random.Generator
Colour = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a picture may hold; every range is inclusive.

    objects: how many objects of a class; (0, 0) gives scenes of background alone.
    sides: height and width in pixels, drawn independently and then kept within a ratio of 4:3.
    distractors: how many things of no class.
    smallest: a class that shows on a smaller share of the picture is void in the label, and no tag.
    """

    objects: tuple[int, int] = (1, 3)
    sides: tuple[int, int] = (136, 200)
    distractors: tuple[int, int] = (3, 7)
    smallest: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """image: uint8 [H, W, 3]; label: uint8 [H, W] of ids, 255 along outlines; tags: the ids to be seen."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    tags: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Thing:
    """Something to paint: where (pixels), how large (radius), how turned, in which weave and colours."""

    outline: Outline
    centre: tuple[float, float]
    radius: float
    turn: float
    family: str
    period: float
    colours: tuple[Colour, Colour]
    class_id: int = 0


def draw(seed: int, index: int, style: Style | None = None) -> Drawing:
    """Picture number `index` of `seed`; the same bytes whenever and in whatever order it is asked for."""
    style = style or Style()
    rng = numpy_generator_for(seed, "shapes", index)
    height, width = _size(rng, style)
    classes = _classes(rng, style)
    hues = [_hue(rng, CLASS_NAMES[c]) for c in classes] or [float(rng.uniform(0, 360))]
    ground = _ground_hue(rng, hues[0])
    canvas = _background(rng, height, width, ground)
    label = np.zeros((height, width), dtype=np.uint8)

    spots: list[tuple[float, float, float]] = []
    objects = [
        _object(rng, c, hue, (height, width), len(classes), spots) for c, hue in zip(classes, hues, strict=False)
    ]
    others = [
        _distractor(rng, (height, width), [ground, *hues])
        for _ in range(rng.integers(*style.distractors, endpoint=True))
    ]
    in_front = int(rng.random() < 0.5)
    for thing in [*others[in_front:], *objects, *others[:in_front]]:
        _paint(rng, canvas, label, thing)
    label, tags = _tagged(_with_rim(label), style.smallest)
    return Drawing(image=_finish(rng, canvas), label=label, tags=tags)


def _size(rng: Generator, style: Style) -> tuple[int, int]:
    low, high = style.sides
    height, width = (int(side) for side in rng.integers(low, high, 2, endpoint=True))
    longest = round(min(height, width) * 4 / 3)
    return min(height, longest), min(width, longest)


def _classes(rng: Generator, style: Style) -> list[int]:
    count = int(rng.integers(*style.objects, endpoint=True))
    return [int(c) for c in rng.choice(np.arange(1, len(CLASS_NAMES)), size=count, replace=False)]


def _hue(rng: Generator, name: str) -> float:
    """Six in ten objects lean towards the hue of their class; the others take any."""
    leaning = rng.random() < 0.6
    return float(FAVOURITE_HUES[name] + rng.normal(0, 25) if leaning else rng.uniform(0, 360)) % 360


def _ground_hue(rng: Generator, hue: float) -> float:
    """The background's hue: near, across from, or in a triad with the first object's."""
    return float(hue + rng.choice([0, 40, -40, 120, -120, 150, -150, 180]) + rng.normal(0, 8)) % 360


def _background(rng: Generator, height: int, width: int, hue: float) -> Field:
    """One or two woven regions with a soft gradient over them: float32 [H, W, 3] in [0, 1]."""
    dark = rng.random() < 0.3
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    whole = np.array([(-2, -2), (2, -2), (2, 2), (-2, 2)], dtype=float)
    pieces = [whole]
    if rng.random() < 0.45:
        x = np.linspace(-2, 2, 20)
        hills = rng.uniform(-0.3, 0.4) + rng.uniform(0, 0.15) * np.sin(rng.uniform(2, 5) * x + rng.uniform(0, 6))
        pieces.append(np.concatenate([np.stack([x, hills], 1), [(2, 2), (-2, 2)]]))
    for number, piece in enumerate(pieces):
        light = rng.uniform(0.3, 0.45) if dark else rng.uniform(0.68, 0.9)
        tilt = hue + number * rng.choice([25, -25, 60])
        first = lch(light, rng.uniform(0.03, 0.08), tilt)
        second = lch(
            light + rng.choice([-1, 1]) * rng.uniform(0.06, 0.16),
            rng.uniform(0.03, 0.1),
            tilt + rng.normal(0, 20),
        )
        scene = _Thing(
            outline=((piece, True),),
            centre=(width / 2, height / 2),
            radius=min(height, width) / 2,
            turn=rng.normal(0, 0.06),
            family=str(rng.choice(list(FAMILIES))),
            period=rng.uniform(14, 34),
            colours=(first, second),
        )
        _paint(rng, canvas, None, scene, flat=True)
    return canvas


def _object(
    rng: Generator,
    class_id: int,
    hue: float,
    size: tuple[int, int],
    count: int,
    spots: list[tuple[float, float, float]],
) -> _Thing:
    """An object of a class, placed where it hides the earlier ones (`spots`, grown here) least."""
    height, width = size
    name = CLASS_NAMES[class_id]
    radius = min(size) * rng.uniform(*{1: (0.3, 0.46), 2: (0.25, 0.38)}.get(count, (0.22, 0.32)))
    inset = 0.8 * radius
    trials = np.stack([rng.uniform(inset, width - inset, 12), rng.uniform(inset, height - inset, 12)], axis=1)
    room = [min((np.hypot(*(xy - s[:2])) - s[2] for s in spots), default=0.0) for xy in trials]
    centre = trials[int(np.argmax(room))]
    spots.append((float(centre[0]), float(centre[1]), radius))
    light = rng.uniform(0.5, 0.78)
    chroma = rng.uniform(0.09, 0.17)
    other = light + (0.24 if light < 0.62 else -0.24) * rng.uniform(0.8, 1.4)
    second = lch(other, chroma * rng.uniform(0.3, 1.0), hue + rng.choice([0, 30, -30, 180]))
    mirror = np.array([rng.choice([-1.0, 1.0]), 1.0]) * [1, rng.uniform(0.85, 1.0)]
    return _Thing(
        outline=tuple((points * mirror, solid) for points, solid in OUTLINES[name](rng)),
        centre=(float(centre[0]), float(centre[1])),
        radius=radius,
        turn=rng.uniform(-0.55, 0.55),
        family=str(rng.choice(CLASS_FAMILIES[name])),
        period=rng.uniform(9, 16),
        colours=(lch(light, chroma, hue), second),
        class_id=class_id,
    )


def _distractor(rng: Generator, size: tuple[int, int], hues: list[float]) -> _Thing:
    """A pebble, a polygon or a brush stroke of no class, in the colours of the objects and the background."""
    kind = [blob, shard, stroke][int(rng.integers(3))]
    hue = float(rng.choice(hues)) + rng.normal(0, 15)
    light = rng.uniform(0.45, 0.85)
    first = lch(light, rng.uniform(0.05, 0.14), hue)
    second = lch(
        light + rng.choice([-1, 1]) * rng.uniform(0.05, 0.2),
        rng.uniform(0.05, 0.14),
        hue + rng.choice([0, 30]),
    )
    long = 2.4 if kind is stroke else 1.0
    return _Thing(
        outline=kind(rng),
        centre=(rng.uniform(0, size[1]), rng.uniform(0, size[0])),
        radius=min(size) * rng.uniform(0.06, 0.15) * long,
        turn=rng.uniform(0, 2 * np.pi),
        family=str(rng.choice(list(FAMILIES))),
        period=rng.uniform(8, 18),
        colours=(first, second),
    )


def _paint(
    rng: Generator, canvas: Field, label: NDArray[np.uint8] | None, thing: _Thing, *, flat: bool = False
) -> None:
    """Paint `thing` over canvas and label in place: shadow, woven colours, light from the top left.

    `flat` things (the background's regions) throw no shadow and have no rounded edge.
    """
    weave = np.float32(rng.uniform(0, np.pi))
    outline = _placed(thing)
    window = _window(outline, canvas.shape[:2])
    if window is None:
        return
    rows, columns = window
    alpha = _coverage(outline, rows, columns)
    x = np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(thing.centre[0])
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(thing.centre[1])
    angle = np.float32(thing.turn) + weave
    along, across = np.cos(angle) / np.float32(thing.period), np.sin(angle) / np.float32(thing.period)
    field = FAMILIES[thing.family](x * along + y * across, y * along - x * across, rng)
    light = np.float32(1.0) - (x + y) * np.float32(0.1 / max(thing.radius, 1))
    part = canvas[rows, columns]
    if not flat:
        soft = _blurred(alpha)
        part[4:, 3:] *= (1 - np.float32(0.4) * soft[:-4, :-3])[..., None]
        light *= np.float32(0.72) + np.float32(0.28) * soft
    first, second = thing.colours
    for channel in range(3):
        plane = part[..., channel]
        colour = (first[channel] + field * (second[channel] - first[channel])) * light
        plane += alpha * (colour - plane)
    if label is not None:
        label[rows, columns][alpha >= 0.5] = thing.class_id


def _placed(thing: _Thing) -> Outline:
    """The outline in pixels of the picture."""
    cosine, sine = np.cos(thing.turn), np.sin(thing.turn)
    rotation = thing.radius * np.array([[cosine, sine], [-sine, cosine]])
    return tuple((points @ rotation + thing.centre, solid) for points, solid in thing.outline)


def _window(outline: Outline, size: tuple[int, ...]) -> tuple[slice, slice] | None:
    """The rows and columns of the picture that the outline and its shadow touch; None if hardly any."""
    corners = np.concatenate([points for points, _ in outline])
    left, top = np.maximum(corners.min(axis=0).astype(int) - 4, 0)
    right, bottom = np.minimum(corners.max(axis=0).astype(int) + 9, (size[1], size[0]))
    if right - left < 8 or bottom - top < 8:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _coverage(outline: Outline, rows: slice, columns: slice) -> Field:
    """How much of each pixel of the window the outline covers: float32 in [0, 1], sampled 2 x 2."""
    mask = Image.new("L", (2 * (columns.stop - columns.start), 2 * (rows.stop - rows.start)))
    pen = ImageDraw.Draw(mask)
    for points, solid in outline:
        corners = (points - (columns.start, rows.start) + 0.5) * 2
        pen.polygon(corners.ravel().tolist(), fill=255 if solid else 0)
    return np.asarray(mask.reduce(2), dtype=np.float32) / np.float32(255)


def _blurred(alpha: Field) -> Field:
    """The coverage, softened over seven pixels."""
    bytes_ = Image.fromarray((alpha * np.float32(255)).astype(np.uint8))
    return np.asarray(bytes_.filter(ImageFilter.BoxBlur(3)), dtype=np.float32) / np.float32(255)


def _with_rim(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Void on both sides of every border between two ids: a line of two pixels."""
    return np.where(borders(label), np.uint8(VOID), label)


def _tagged(label: NDArray[np.uint8], smallest: float) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """The label with hardly visible classes made void, and the ids that remain: the two always agree."""
    areas = np.bincount(label.ravel(), minlength=256)[1 : len(CLASS_NAMES)]
    ids = np.arange(1, len(CLASS_NAMES))
    seen = areas >= smallest * label.size
    hidden = ids[(areas > 0) & ~seen]
    if hidden.size:
        label = np.where(np.isin(label, hidden), np.uint8(VOID), label)
    return label, tuple(int(i) for i in ids[seen])


def _finish(rng: Generator, canvas: Field) -> NDArray[np.uint8]:
    """A breath of grain, then bytes."""
    grain = rng.normal(0, 0.012, canvas.shape[:2]).astype(np.float32)
    return np.asarray(np.clip(canvas + grain[..., None], 0, 1) * 255 + 0.5, dtype=np.uint8)
