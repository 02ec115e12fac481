"""Ten small domains of labelled pictures, drawn, openly a stand-in for the ten sets of the Visual Decathlon.

The domains have the names of the sets, some of their classes, and much of what tells the sets apart at a glance:
silhouettes in the sky, textures that fill the picture, signs, white strokes on black, numbers, grey traces of motion.
Mean colours are near those of the real sets. What a classifier learns here is how to tell ten domains and their classes
apart; it says nothing about photographs.

Picture ``index`` of a split depends on (domain, split, index, seed) alone, and is of class ``index`` modulo the number
of classes, so that every class is as frequent as another. Another seed draws other pictures of the same classes.

Shapes: H/W size. The shorter side is 72 pixels, as in the real sets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..registry import Registry
from .drawing import Draw
from .easel import blurred, cover, fade, noise, ring
from .shapes import Array
from .sketches import AIRCRAFT, DIGITS, OBJECTS, SIGNS, SMALL_OBJECTS, Part, Sketch, arc, line
from .textures import Colour

VERSION = 1  # raise it when any picture changes
SIDE = 72  # pixels of the shorter side

SKIES = ((0.55, 0.68, 0.82), (0.70, 0.76, 0.82), (0.42, 0.55, 0.75), (0.80, 0.80, 0.80))
GROUNDS = ((0.40, 0.42, 0.30), (0.50, 0.47, 0.42), (0.55, 0.52, 0.38), (0.36, 0.40, 0.34))
ANY = ((0.62, 0.50, 0.40), (0.35, 0.45, 0.30), (0.55, 0.60, 0.66), (0.30, 0.30, 0.36), (0.70, 0.66, 0.55))
LEAVES = ((0.20, 0.32, 0.14), (0.16, 0.22, 0.14), (0.30, 0.36, 0.24), (0.22, 0.18, 0.16), (0.36, 0.40, 0.44))
STREETS = ((0.20, 0.26, 0.16), (0.32, 0.32, 0.33), (0.25, 0.22, 0.20), (0.38, 0.44, 0.52))
PAINTS = ((0.75, 0.70, 0.60), (0.36, 0.42, 0.62), (0.66, 0.32, 0.28), (0.35, 0.48, 0.44), (0.58, 0.58, 0.65))
FABRICS = ((0.85, 0.78, 0.68), (0.35, 0.25, 0.22), (0.62, 0.36, 0.28), (0.30, 0.38, 0.44), (0.72, 0.62, 0.40),
           (0.50, 0.45, 0.50), (0.80, 0.76, 0.74))  # fmt: skip

Paint = Callable[[Sketch, Draw, str], None]


@dataclasses.dataclass(frozen=True)
class Domain:
    """One domain.

    Attributes:
        classes: their names, sorted: the class ids of the kit.
        paint: (sketch, source of chance, name of the class) -> paints a picture.
        longer: the longer side as a multiple of the shorter one, drawn from this range.
        upright: how often the longer side is the height.
        blur: standard deviation in pixels.
        grain: standard deviation of the noise of each pixel.
        grey: without colour.
    """

    classes: tuple[str, ...]
    paint: Paint
    longer: tuple[float, float] = (1.0, 1.0)
    upright: float = 0.0
    blur: float = 0.0
    grain: float = 0.02
    grey: bool = False


def picture(domain: str, split: str, index: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """Picture ``index`` of a split, uint8 (H, W, 3), and its class id. The same bytes in every process.

    Raises:
        KitError: for an unknown domain or split, a negative index or seed.
    """
    made = DOMAINS[domain]
    draw = Draw.scene(domain, split, index, seed)
    label = index % len(made.classes)
    size = (SIDE, round(SIDE * draw.span(*made.longer)))
    sketch = Sketch(*(size[::-1] if draw.chance(made.upright) else size))
    made.paint(sketch, draw, made.classes[label])
    image_3HW = blurred(sketch.image_3HW, made.blur)
    if made.grey:
        image_3HW = np.broadcast_to(image_3HW.mean(axis=0), image_3HW.shape)
    image_3HW = image_3HW + draw.rng.normal(0.0, made.grain, image_3HW.shape[made.grey :])
    image_HW3 = np.rint(255 * np.clip(image_3HW, 0.0, 1.0)).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(image_HW3), label


def small_item(names: Sequence[str], split: str, count: int, side: int, seed: int, number: int) -> dict[str, Array]:
    """Item ``number`` of a cache of small pictures, ``count`` of each of these domains: ``image``, uint8 (3, side,
    side), the square in the middle of ``picture``. Every pixel is the mean of what it covers.
    """
    image_HW3, _ = picture(names[number // count], split, number % count, seed)
    top, left = ((n - SIDE) // 2 for n in image_HW3.shape[:2])
    square_3HW = image_HW3[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)
    edges = np.arange(side + 1) * SIDE / side
    share = np.clip(edges[1:, None] - np.arange(SIDE), 0, 1) - np.clip(edges[:-1, None] - np.arange(SIDE), 0, 1)
    share /= SIDE / side  # (side, SIDE)
    return {"image": np.rint(share @ square_3HW @ share.T).astype(np.uint8)}


# --- what lies behind -------------------------------------------------------------------------------------------------


def _backdrop(sketch: Sketch, draw: Draw, top: Sequence[Colour], bottom: Sequence[Colour], grain: float) -> None:
    """From one colour to the other, downwards and in blots of this size."""
    x_HW, y_HW = sketch.whole
    blots_HW = noise(x_HW / grain + 9, y_HW / grain + 9, draw.whole(0, 9999))
    share_HW = np.clip(0.5 + 0.35 * y_HW + 0.9 * (blots_HW - 0.5), 0.0, 1.0)
    sketch.over(np.ones_like(x_HW), draw.colour(top)).over(share_HW, draw.colour(bottom))


def _tint(draw: Draw, spread: float) -> Colour:
    """Factors of the colours of one thing: how bright it is, and in what light."""
    light = draw.span(1 - spread, 1 + 0.5 * spread)
    return tuple(light * draw.span(1 - 0.3 * spread, 1 + 0.3 * spread) for _ in range(3))


# --- things out of a table --------------------------------------------------------------------------------------------


def _shown(
    table: Mapping[str, Sequence[Part]],
    top: Sequence[Colour],
    bottom: Sequence[Colour],
    scales: tuple[float, float],
    tilt: float,
    mirrored: float,
    spread: float = 0.3,
    grain: float = 0.6,
) -> Paint:
    """Things of a table before a backdrop: somewhere, of a size in ``scales``, turned by up to ``tilt``."""

    def paint(sketch: Sketch, draw: Draw, name: str) -> None:
        _backdrop(sketch, draw, top, bottom, grain)
        place = (draw.span(-0.15, 0.15), draw.span(-0.15, 0.15))
        sketch.move(*place, draw.span(-tilt, tilt), draw.span(*scales), draw.chance(mirrored))
        sketch.add(table[name], _tint(draw, spread))

    return paint


# --- people -----------------------------------------------------------------------------------------------------------


def _crossing(sketch: Sketch, draw: Draw, name: str) -> None:
    """A street, grey and blurred; in it someone on foot, or a post, a trunk, nothing."""
    _backdrop(sketch, draw, ((0.7, 0.7, 0.7), (0.55, 0.55, 0.55)), ((0.42, 0.42, 0.42), (0.55, 0.55, 0.55)), 0.5)
    for _ in range(draw.whole(1, 3)):
        shade, x = draw.span(0.2, 0.8), draw.span(-1, 1)
        sketch.move(x, draw.span(-1.5, 0.5)).add(
            [line((shade,) * 3, draw.span(0.1, 0.5), (0, -2), (0, draw.span(0, 3)))]
        )
    sketch.move(draw.span(-0.15, 0.15), draw.span(-0.1, 0.1), 0.0, draw.span(0.85, 1.1), draw.chance(0.5))
    if name == "pedestrian":
        sketch.add(_walker(draw))
    elif draw.chance(0.6):
        sketch.add([line((draw.span(0.1, 0.35),) * 3, draw.span(0.1, 0.6), (0, draw.span(-1.7, -1)), (0, 1.6))])


def _walker(draw: Draw) -> list[Part]:
    """Someone on foot, seen from anywhere, 3.2 units high."""
    coat, legs, skin = ((shade,) * 3 for shade in (draw.span(0.08, 0.35), draw.span(0.05, 0.3), draw.span(0.5, 0.75)))
    step, swing = draw.span(0.02, 0.45), draw.span(0.1, 0.45)
    return [
        line(legs, 0.24, (-0.08, 0.2), (-step, 0.85), (-step - 0.1, 1.5)),
        line(legs, 0.24, (0.08, 0.2), (step, 0.85), (step * 0.8, 1.5)),
        line(coat, 0.17, (-0.25, -0.8), (-0.3 - 0.4 * swing, -0.2), (-0.2 - swing, 0.25)),
        line(coat, 0.17, (0.25, -0.8), (0.3 + 0.4 * swing, -0.2), (0.15 + swing, 0.25)),
        line(coat, 0.5, (0, -0.75), (0, 0.1)),
        Part("disc", skin, ((0.03, -1.3),), (0.2, 0.26)),
    ]


# --- textures ---------------------------------------------------------------------------------------------------------


def _wave(x_HW: Array) -> Array:
    """From 1 at whole numbers straight down to 0 between them."""
    return np.abs(2.0 * (x_HW - np.floor(x_HW)) - 1.0)


def _honeycomb(u_HW: Array, v_HW: Array) -> Array:
    """The borders between hexagons, one wide."""
    nearest_HW, border_HW = np.full_like(u_HW, np.inf), np.zeros_like(u_HW)
    for shift in (0.0, 0.5):  # two grids of middles make the triangular one
        a_HW, b_HW = u_HW - shift, v_HW / math.sqrt(3) - shift
        x_HW, y_HW = np.abs(a_HW - np.rint(a_HW)), math.sqrt(3) * np.abs(b_HW - np.rint(b_HW))
        out_HW = np.hypot(x_HW, y_HW)
        # 0 in the middle of a hexagon, 0.5 on its border
        hexagon_HW = np.maximum(x_HW, 0.5 * x_HW + math.sqrt(0.75) * y_HW)
        border_HW = np.where(out_HW < nearest_HW, hexagon_HW, border_HW)
        nearest_HW = np.minimum(out_HW, nearest_HW)
    return fade(12.0 * border_HW - 4.8)


# (u, v: place in periods; w: blots, share; seed) -> share of the second colour
PATTERNS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "banded": lambda u, v, w: fade(6.0 * _wave(v + 0.15 * w) - 2.5),
    "chequered": lambda u, v, w: (np.floor(u + 0.1 * w) + np.floor(v)) % 2,
    "dotted": lambda u, v, w: fade(4.0 - 11.0 * np.hypot(u - np.rint(u), v - np.rint(v))),
    "grid": lambda u, v, w: fade(5.0 * np.maximum(_wave(u), _wave(v + 0.1 * w)) - 3.7),
    "honeycombed": lambda u, v, w: _honeycomb(u, v),
    "marbled": lambda u, v, w: _wave(0.25 * u + 4.0 * w),
    "spiralled": lambda u, v, w: fade(3.0 * _wave(np.hypot(u, v) + np.arctan2(v, u) / (2 * math.pi)) - 1.0),
    "zigzagged": lambda u, v, w: fade(6.0 * _wave(v + 0.9 * _wave(u)) - 2.5),
}


def _texture(sketch: Sketch, draw: Draw, name: str) -> None:
    """A texture that fills the picture."""
    period = draw.span(0.3, 0.6)
    sketch.move(draw.span(-0.3, 0.3), draw.span(-0.3, 0.3), draw.span(0, math.pi), period)
    blots_HW = noise(0.4 * sketch.x_HW + 30, 0.4 * sketch.y_HW + 30, draw.whole(0, 9999))
    share_HW = PATTERNS[name](sketch.x_HW, sketch.y_HW, blots_HW)
    first = draw.one(FABRICS)
    second = draw.one([c for c in FABRICS if abs(sum(c) - sum(first)) > 0.5])
    sketch.over(np.ones_like(share_HW), draw.colour([first])).over(share_HW, draw.colour([second]))
    sketch.over(0.12 * noise(sketch.whole[0] + 9, sketch.whole[1] + 9, draw.whole(0, 9999)), (0.1, 0.1, 0.1))


# --- characters and numbers -------------------------------------------------------------------------------------------


def _character(sketch: Sketch, draw: Draw, name: str) -> None:
    """An invented character, in white on black, by another hand each time."""
    form = Draw(np.random.default_rng([int.from_bytes(b"omni", "big"), int(name[-2:])]))
    sketch.move(draw.span(-0.1, 0.1), draw.span(-0.1, 0.1), draw.span(-0.15, 0.15), draw.span(0.95, 1.2))
    for _ in range(form.whole(3, 5)):
        start, bend = form.span(0, 360), form.span(60, 330)
        points = (
            arc(form.span(-0.4, 0.4), form.span(-0.4, 0.4), form.span(0.15, 0.5), form.span(0.15, 0.5), start, bend, 7)
            if form.chance(0.5)
            else [(form.span(-0.7, 0.7), form.span(-0.7, 0.7)) for _ in range(form.whole(2, 3))]
        )
        jitter = draw.rng.normal(0.0, 0.035, (len(points), 2))
        sketch.add([line((1.0, 1.0, 1.0), 0.1, *(np.array(points) + jitter).tolist())])


def _house_number(sketch: Sketch, draw: Draw, name: str) -> None:
    """The digit of a house number, often with parts of its neighbours."""
    _backdrop(sketch, draw, PAINTS, PAINTS, 1.5)
    middle = sketch.image_3HW.mean()
    ink = draw.colour([c for c in ((0.9, 0.9, 0.9), (0.1, 0.1, 0.12), (0.75, 0.7, 0.2), (0.2, 0.2, 0.5))
                       if abs(sum(c) / 3 - middle) > 0.22])  # fmt: skip
    turn, scale, width = draw.span(-0.15, 0.15), draw.span(1.0, 1.3), draw.span(0.14, 0.26)
    shown = [(int(name), 0.0)] + [(draw.whole(0, 9), side) for side in (-1.0, 1.0) if draw.chance(0.6)]
    for digit, side in shown:
        sketch.move(side * scale * draw.span(0.8, 0.95), draw.span(-0.08, 0.08), turn, scale)
        sketch.add([line(ink, width, *DIGITS[digit])])


# --- actions ----------------------------------------------------------------------------------------------------------

# t from 0 to 1 -> where the body's moving part is
MOTIONS: dict[str, Callable[[float], tuple[float, float]]] = {
    "Basketball": lambda t: (1.4 * t - 0.7, 3.0 * (t - 0.6) ** 2 - 0.7),
    "Diving": lambda t: (-0.3 + 0.5 * t, -0.8 + 1.6 * t * t),
    "GolfSwing": lambda t: (0.7 * math.cos(4.2 * t - 0.4), 0.1 + 0.7 * math.sin(4.2 * t - 0.4)),
    "JumpRope": lambda t: (0.45 * math.sin(19 * t), -0.85 * math.cos(19 * t)),
    "PullUps": lambda t: (0.0, 0.55 * math.cos(5 * t)),
    "Rowing": lambda t: (0.7 * math.cos(12 * t), 0.2 + 0.1 * math.sin(12 * t)),
}


def _action(sketch: Sketch, draw: Draw, name: str) -> None:
    """A film in one picture: what came late is lighter than grey, what came early darker."""
    trace_HW, steps = np.zeros_like(sketch.x_HW), 24
    flip, scale, x, y = draw.chance(0.5), draw.span(0.8, 1.1), draw.span(-0.2, 0.2), draw.span(-0.1, 0.1)
    body, speed = draw.span(0.12, 0.2), draw.span(0.85, 1.15)
    for step in range(steps):
        at_x, at_y = MOTIONS[name](speed * (step + draw.span(-0.3, 0.3)) / steps)
        sketch.move(x + scale * at_x * (-1 if flip else 1), y + scale * at_y)
        for wide, tall, weight in ((body, body, 1.0), (0.5 * body, 2.5 * body, 0.6)):
            weight *= 2 * step / (steps - 1) - 1
            trace_HW += weight * np.exp(-2.0 * ring(sketch.x_HW, sketch.y_HW, wide, tall) ** 2)
    blots_HW = noise(3 * sketch.whole[0] + 9, 3 * sketch.whole[1] + 9, draw.whole(0, 9999)) - 0.5
    shade_HW = 0.5 + 0.24 * np.tanh(trace_HW) + 0.14 * blots_HW
    sketch.over(np.ones_like(shade_HW), shade_HW[None].repeat(3, axis=0))


# --- flowers ----------------------------------------------------------------------------------------------------------

# petals, their half width and pointedness, their colour, the colour and radius of the middle
FLOWERS: dict[str, tuple[int, float, float, Colour, Colour, float]] = {
    "black-eyed_susan": (13, 0.16, 0.5, (0.95, 0.70, 0.10), (0.18, 0.10, 0.06), 0.26),
    "buttercup": (5, 0.42, 0.0, (0.97, 0.86, 0.10), (0.70, 0.70, 0.15), 0.18),
    "daffodil": (6, 0.30, 0.8, (0.97, 0.88, 0.45), (0.95, 0.60, 0.10), 0.36),
    "morning_glory": (5, 0.70, 0.0, (0.42, 0.28, 0.75), (0.95, 0.92, 0.95), 0.24),
    "oxeye_daisy": (20, 0.11, 0.1, (0.95, 0.95, 0.94), (0.93, 0.75, 0.12), 0.26),
    "poinsettia": (8, 0.22, 1.4, (0.80, 0.08, 0.12), (0.75, 0.75, 0.20), 0.10),
    "tree_poppy": (6, 0.55, 0.0, (0.94, 0.93, 0.90), (0.95, 0.78, 0.15), 0.24),
    "windflower": (9, 0.19, 0.3, (0.62, 0.50, 0.85), (0.85, 0.82, 0.45), 0.14),
}


def _flower(sketch: Sketch, draw: Draw, name: str) -> None:
    """A flower seen from above or a little from the side, among leaves."""
    _backdrop(sketch, draw, LEAVES, LEAVES, draw.span(0.25, 0.6))
    count, width, pointed, petal, middle, radius = FLOWERS[name]
    x, y, turn, scale = draw.span(-0.2, 0.2), draw.span(-0.2, 0.2), draw.span(0, math.pi), draw.span(0.65, 0.95)
    tint, squeeze = np.array(_tint(draw, 0.25)), draw.span(0.7, 1.0)
    for i in range(count):
        angle = 2 * math.pi * (i + draw.span(-0.15, 0.15)) / count
        sketch.move(x, y, turn, scale)
        u_HW, v_HW = sketch.x_HW, sketch.y_HW / squeeze
        out_HW = math.cos(angle) * u_HW + math.sin(angle) * v_HW
        side_HW = math.cos(angle) * v_HW - math.sin(angle) * u_HW
        taper_HW = 1.0 - np.minimum(0.9, pointed * np.maximum(out_HW - 0.4, 0.0))
        inside_HW = ring(out_HW - 0.55, side_HW / taper_HW, 0.45, width) - 1.0
        shade = draw.span(0.82, 1.0) * (0.75 + 0.25 * fade(out_HW))
        sketch.over(cover(inside_HW), np.clip(np.multiply(petal, tint), 0, 1)[:, None, None] * shade)
    sketch.add([Part("disc", middle, ((0, 0),), (radius, radius * squeeze))], tuple(tint))


# --- the domains, in the order of MTAN's released code ----------------------------------------------------------------

DOMAINS: Registry[Domain] = Registry("domain")
DOMAINS |= {
    "imagenet12": Domain(
        classes=tuple(sorted(OBJECTS)),
        paint=_shown(OBJECTS, ANY, ANY, scales=(0.55, 0.95), tilt=0.4, mirrored=0.5),
        longer=(1.0, 1.6),
        upright=0.25,
        blur=0.5,
        grain=0.03,
    ),
    "aircraft": Domain(
        classes=tuple(sorted(AIRCRAFT)),
        paint=_shown(AIRCRAFT, SKIES, GROUNDS, scales=(0.7, 0.95), tilt=0.12, mirrored=0.3),
        longer=(1.3, 1.6),
        blur=0.4,
    ),
    "cifar100": Domain(
        classes=tuple(sorted(SMALL_OBJECTS)),
        paint=_shown(SMALL_OBJECTS, SKIES + ANY, ANY, scales=(0.6, 0.95), tilt=0.3, mirrored=0.5),
        blur=1.3,
    ),
    "daimlerpedcls": Domain(
        ("non-pedestrian", "pedestrian"), _crossing, longer=(2.0, 2.0), upright=1.0, blur=1.8, grain=0.03, grey=True
    ),
    "dtd": Domain(tuple(sorted(PATTERNS)), _texture, longer=(1.0, 1.5), upright=0.3, blur=0.4, grain=0.03),
    "gtsrb": Domain(
        classes=tuple(sorted(SIGNS)),
        paint=_shown(SIGNS, STREETS, STREETS, scales=(0.6, 0.8), tilt=0.08, mirrored=0.0, spread=0.7),
        longer=(1.0, 1.1),
        upright=0.5,
        blur=0.9,
    ),
    "omniglot": Domain(tuple(f"character{n:02d}" for n in range(1, 13)), _character, blur=0.4, grain=0.0, grey=True),
    "svhn": Domain(tuple("0123456789"), _house_number, blur=1.2),
    "ucf101": Domain(tuple(sorted(MOTIONS)), _action, longer=(1.33, 1.33), blur=0.8),
    "vgg-flowers": Domain(tuple(sorted(FLOWERS)), _flower, longer=(1.0, 1.4), upright=0.4, blur=0.4),
}
