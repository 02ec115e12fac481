"""Things drawn in the plane: discs, areas and lines painted over each other, and the tables of what is made of them.

A thing is a tuple of parts in the order in which they are painted. Its coordinates are x to the right and y down, about
-1 to 1, the shorter side of the picture; colours are RGB in [0, 1].

Shapes: H/W size, n points: ``points_n2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .easel import cover, ring
from .shapes import Array
from .textures import Colour

Points = Sequence[tuple[float, float]]


class Part(NamedTuple):
    """One shape of one colour.

    Attributes:
        shape: ``"disc"`` (one point, its middle; size: half axes), ``"area"`` (corners) or ``"line"`` (size: width).
        colour: RGB.
        points: where it is.
        size: how large it is.
    """

    shape: str
    colour: Colour
    points: Points
    size: tuple[float, ...] = ()


class Sketch:
    """A picture being painted.

    Args:
        height: rows.
        width: columns.

    Attributes:
        x_HW: of every pixel, in the coordinates of what is painted next.
        y_HW: likewise.
        image_3HW: RGB.
    """

    def __init__(self, height: int, width: int):
        pixel = 2.0 / min(height, width)
        x, y = ((np.arange(n) + 0.5 - n / 2) * pixel for n in (width, height))
        self.whole = np.meshgrid(x, y)
        self.x_HW, self.y_HW = self.whole
        self.image_3HW = np.zeros((3, height, width))

    def move(self, x: float = 0.0, y: float = 0.0, turn: float = 0.0, scale: float = 1.0, flip: bool = False) -> Sketch:
        """What is painted next is made ``scale`` times as large, turned clockwise and put at this place."""
        c, s = math.cos(turn) / scale, math.sin(turn) / scale
        x_HW, y_HW = self.whole[0] - x, self.whole[1] - y
        self.x_HW, self.y_HW = c * x_HW + s * y_HW, c * y_HW - s * x_HW
        if flip:
            self.x_HW = -self.x_HW
        return self

    def over(self, share_HW: Array, colour: Colour | Array) -> Sketch:
        """Paint a colour, (3,) or (3, H, W), over what is there."""
        colour_3HW = np.asarray(colour).reshape(3, *np.shape(colour)[1:] or (1, 1))
        self.image_3HW = self.image_3HW + share_HW * (colour_3HW - self.image_3HW)
        return self

    def add(self, parts: Sequence[Part], tint: Colour = (1.0, 1.0, 1.0)) -> Sketch:
        """Paint a thing; ``tint`` is multiplied into its colours."""
        for part in parts:
            self.over(cover(self._inside(part)), np.clip(np.multiply(part.colour, tint), 0.0, 1.0))
        return self

    def _inside(self, part: Part) -> Array:
        """A function of the place, below 0 inside the part."""
        if part.shape == "disc":
            ((x, y),), (a, b) = part.points, part.size
            return (ring(self.x_HW - x, self.y_HW - y, a, b) - 1.0) * min(a, b)
        points_n2 = np.array(part.points)
        if part.shape == "line":
            return self._distance(points_n2[:-1], points_n2[1:]) - part.size[0] / 2
        ends_n2 = np.roll(points_n2, -1, axis=0)
        distance_HW = self._distance(points_n2, ends_n2)
        return np.where(self._enclosed(points_n2, ends_n2), -distance_HW, distance_HW)

    def _distance(self, starts_n2: Array, ends_n2: Array) -> Array:
        """To the nearest of these pieces of straight line."""
        squared_HW = np.full_like(self.x_HW, np.inf)
        for (px, py), (qx, qy) in zip(starts_n2, ends_n2, strict=True):
            dx, dy = qx - px, qy - py
            x_HW, y_HW = self.x_HW - px, self.y_HW - py
            along_HW = np.clip((x_HW * dx + y_HW * dy) / max(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
            x_HW, y_HW = x_HW - along_HW * dx, y_HW - along_HW * dy
            squared_HW = np.minimum(squared_HW, x_HW * x_HW + y_HW * y_HW)
        return np.sqrt(squared_HW)

    def _enclosed(self, starts_n2: Array, ends_n2: Array) -> Array:
        """Where a ray to the left crosses the border an odd number of times."""
        odd_HW = np.zeros(self.x_HW.shape, bool)
        for (px, py), (qx, qy) in zip(starts_n2, ends_n2, strict=True):
            if py != qy:
                crossing_HW = (py > self.y_HW) != (qy > self.y_HW)
                odd_HW ^= crossing_HW & (self.x_HW > px + (self.y_HW - py) * (qx - px) / (qy - py))
        return odd_HW


def disc(colour: Colour, x: float, y: float, a: float, b: float | None = None) -> Part:
    """A disc, or an ellipse with these half axes."""
    return Part("disc", colour, ((x, y),), (a, a if b is None else b))


def area(colour: Colour, *points: tuple[float, float]) -> Part:
    """What these corners enclose."""
    return Part("area", colour, points)


def box(colour: Colour, left: float, top: float, right: float, bottom: float) -> Part:
    """An upright rectangle."""
    return area(colour, (left, top), (right, top), (right, bottom), (left, bottom))


def line(colour: Colour, width: float, *points: tuple[float, float]) -> Part:
    """A broken line with round ends."""
    return Part("line", colour, points, (width,))


def placed(parts: Sequence[Part], x: float, y: float, scale: float) -> tuple[Part, ...]:
    """A thing made smaller and put into another."""
    return tuple(
        Part(p.shape, p.colour, [(x + scale * a, y + scale * b) for a, b in p.points], tuple(scale * s for s in p.size))
        for p in parts
    )


def arc(x: float, y: float, a: float, b: float, start: float, end: float, count: int = 13) -> list[tuple[float, float]]:
    """Points on an ellipse from one angle to another, in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / (count - 1)) for i in range(count)]
    return [(x + a * math.cos(t), y + b * math.sin(t)) for t in angles]


# --- the tables -------------------------------------------------------------------------------------------------------

BLACK, DARK, GREY, WHITE = (0.05, 0.05, 0.06), (0.2, 0.2, 0.22), (0.55, 0.56, 0.58), (0.93, 0.93, 0.92)
RED, ORANGE, YELLOW, GREEN = (0.80, 0.13, 0.12), (0.92, 0.50, 0.12), (0.93, 0.80, 0.20), (0.24, 0.50, 0.22)
BLUE, BROWN, TAN, SILVER = (0.15, 0.35, 0.70), (0.42, 0.27, 0.15), (0.82, 0.68, 0.46), (0.80, 0.82, 0.85)

# strokes in -0.35 ... 0.35 and -0.6 ... 0.6
_SIX = (
    (0.25, -0.58), (-0.1, -0.45), (-0.32, -0.05), (-0.34, 0.3), (-0.15, 0.57), (0.15, 0.58), (0.34, 0.3), (0.2, 0.02),
    (-0.1, 0.0), (-0.32, 0.2),
)  # fmt: skip
DIGITS: tuple[Points, ...] = (
    arc(0, 0, 0.33, 0.6, 0, 360, 17),
    ((-0.2, -0.35), (0.05, -0.6), (0.05, 0.6)),
    ((-0.32, -0.35), (-0.2, -0.55), (0.1, -0.6), (0.32, -0.4), (0.25, -0.1), (-0.35, 0.6), (0.37, 0.6)),
    (*arc(-0.03, -0.31, 0.32, 0.29, -150, 90), *arc(-0.03, 0.28, 0.36, 0.32, -80, 150)),
    ((0.15, 0.6), (0.15, -0.6), (-0.36, 0.25), (0.38, 0.25)),
    ((0.32, -0.6), (-0.25, -0.6), (-0.3, -0.05), *arc(0, 0.22, 0.35, 0.38, -110, 140)),
    _SIX,
    ((-0.35, -0.6), (0.35, -0.6), (-0.05, 0.6)),
    (*arc(0, -0.32, 0.26, 0.28, 90, 450), *arc(0, 0.28, 0.33, 0.32, -90, 270)),
    tuple((-x, -y) for x, y in _SIX),
)

_MUSHROOM = (
    area(WHITE, (-0.2, -0.2), (0.2, -0.2), (0.25, 0.8), (-0.25, 0.8)), disc(RED, 0, -0.3, 0.75, 0.45),
    disc(WHITE, -0.3, -0.4, 0.12), disc(WHITE, 0.15, -0.5, 0.1), disc(WHITE, 0.4, -0.2, 0.1),
)  # fmt: skip
OBJECTS: dict[str, tuple[Part, ...]] = {
    "balloon": (
        line(DARK, 0.03, (-0.4, 0.1), (-0.12, 0.75)), line(DARK, 0.03, (0.4, 0.1), (0.12, 0.75)),
        disc(RED, 0, -0.25, 0.62), disc(YELLOW, 0, -0.25, 0.25, 0.62), box(BROWN, -0.15, 0.7, 0.15, 0.9),
    ),
    "banana": (
        line(YELLOW, 0.32, *arc(0.1, -0.5, 0.75, 0.85, 20, 170)), line(BROWN, 0.14, (0.84, -0.25), (0.9, -0.42)),
    ),
    "envelope": (
        box(WHITE, -0.85, -0.5, 0.85, 0.5), line(GREY, 0.06, (-0.85, -0.5), (0, 0.12), (0.85, -0.5)),
        line(GREY, 0.04, (-0.85, 0.5), (-0.25, -0.05)), line(GREY, 0.04, (0.85, 0.5), (0.25, -0.05)),
    ),
    "goldfish": (
        area(ORANGE, (0.3, 0), (0.9, -0.45), (0.75, 0), (0.9, 0.45)), area(ORANGE, (-0.3, -0.3), (0.2, -0.6), (0.2, 0)),
        disc(ORANGE, -0.2, 0, 0.62, 0.38), disc(BLACK, -0.52, -0.1, 0.07),
    ),
    "hourglass": (
        area(SILVER, (-0.5, -0.75), (0.5, -0.75), (0.06, 0), (0.5, 0.75), (-0.5, 0.75), (-0.06, 0)),
        area(ORANGE, (-0.25, -0.35), (0.25, -0.35), (0, 0)), area(ORANGE, (0, 0.3), (0.42, 0.7), (-0.42, 0.7)),
        line(BROWN, 0.16, (-0.6, -0.8), (0.6, -0.8)), line(BROWN, 0.16, (-0.6, 0.8), (0.6, 0.8)),
    ),
    "mushroom": _MUSHROOM,
    "traffic_light": (
        box(GREY, -0.07, 0.5, 0.07, 1.2), box(BLACK, -0.32, -0.9, 0.32, 0.6), disc(RED, 0, -0.6, 0.2),
        disc(YELLOW, 0, -0.14, 0.2), disc((0.1, 0.7, 0.35), 0, 0.32, 0.2),
    ),
    "umbrella": (
        line(BROWN, 0.08, (0, -0.7), (0, 0.7), *arc(0.14, 0.7, 0.14, 0.16, 180, 0, 5)),
        area(BLUE, *arc(0, 0.05, 0.9, 0.8, 180, 360)), area(RED, *arc(0, 0.05, 0.32, 0.8, 180, 360)),
    ),
}  # fmt: skip

SMALL_OBJECTS: dict[str, tuple[Part, ...]] = {
    "apple": (
        disc(RED, -0.25, 0.1, 0.45, 0.6), disc(RED, 0.25, 0.1, 0.45, 0.6), line(BROWN, 0.1, (0, -0.35), (0.1, -0.8)),
        disc(GREEN, 0.35, -0.65, 0.25, 0.12),
    ),
    "bottle": (
        area(GREEN, (-0.3, 0.9), (0.3, 0.9), (0.3, -0.1), (0.1, -0.45), (0.1, -0.9), (-0.1, -0.9), (-0.1, -0.45),
             (-0.3, -0.1)),
        box(WHITE, -0.3, 0.15, 0.3, 0.6),
    ),
    "clock": (
        disc(BROWN, 0, 0, 0.85), disc(WHITE, 0, 0, 0.7), line(BLACK, 0.1, (0, -0.5), (0, 0), (0.35, 0.2)),
    ),
    "cup": (
        line(BLUE, 0.14, *arc(0.5, 0, 0.35, 0.3, -90, 90)), box(BLUE, -0.6, -0.5, 0.5, 0.6),
        disc(SILVER, -0.05, -0.5, 0.55, 0.14),
    ),
    "house": (
        box(TAN, -0.65, -0.1, 0.65, 0.85), area(RED, (-0.85, -0.05), (0, -0.85), (0.85, -0.05)),
        box(BROWN, -0.15, 0.35, 0.2, 0.85), box(BLUE, -0.5, 0.1, -0.25, 0.4), box(BLUE, 0.32, 0.1, 0.55, 0.4),
    ),
    "mushroom": _MUSHROOM,
    "rocket": (
        area(YELLOW, (-0.15, 0.5), (0.15, 0.5), (0, 1.0)), area(RED, (-0.5, 0.65), (0, -0.1), (0.5, 0.65)),
        disc(WHITE, 0, -0.1, 0.28, 0.75), area(RED, (-0.17, -0.6), (0, -0.95), (0.17, -0.6)), disc(BLUE, 0, -0.2, 0.12),
    ),
    "table": (
        line(BROWN, 0.12, (-0.6, -0.2), (-0.7, 0.8)), line(BROWN, 0.12, (0.6, -0.2), (0.7, 0.8)),
        line(BROWN, 0.1, (-0.35, -0.3), (-0.38, 0.5)), line(BROWN, 0.1, (0.35, -0.3), (0.38, 0.5)),
        area(TAN, (-0.6, -0.45), (0.6, -0.45), (0.9, -0.1), (-0.9, -0.1)),
    ),
}  # fmt: skip


def _fin(x: float, height: float, colour: Colour = SILVER) -> Part:
    """Upright, at the tail."""
    return area(colour, (x - 0.22, 0), (x + 0.02, -height), (x + 0.14, -height), (x + 0.12, 0))


def _airscrew(x: float, y: float, reach: float) -> Part:
    """Seen from the side."""
    return line(BLACK, 0.035, (x, y - reach), (x, y + reach))


# noses to the left
AIRCRAFT: dict[str, tuple[Part, ...]] = {
    "747-400": (
        _fin(0.95, 0.55, BLUE), disc(WHITE, -0.65, -0.1, 0.38, 0.15), disc(WHITE, 0, 0, 1.12, 0.17),
        line(BLUE, 0.04, (-1.0, 0), (0.95, 0)), area(GREY, (-0.25, 0.06), (0.15, 0.06), (0.62, 0.34), (0.5, 0.36)),
        disc(DARK, -0.1, 0.24, 0.15, 0.07), disc(DARK, 0.25, 0.34, 0.13, 0.06),
    ),
    "A320": (
        _fin(0.68, 0.45, RED), disc(WHITE, 0, 0, 0.86, 0.14), line(DARK, 0.03, (-0.65, -0.03), (0.65, -0.03)),
        area(GREY, (-0.2, 0.05), (0.12, 0.05), (0.4, 0.26), (0.3, 0.27)), disc(RED, -0.08, 0.2, 0.15, 0.08),
    ),
    "C-130": (
        _fin(0.85, 0.62, GREEN), area(GREEN, (0.2, 0.24), (1.0, -0.1), (0.9, -0.16), (0.0, -0.22)),
        disc(GREEN, -0.25, 0, 0.65, 0.25), box(DARK, -0.35, -0.3, 0.15, -0.2), disc(DARK, -0.42, -0.18, 0.17, 0.07),
        _airscrew(-0.6, -0.18, 0.26), disc(BLACK, -0.2, 0.28, 0.09),
    ),
    "Cessna_172": (
        _fin(0.8, 0.38, RED), area(WHITE, (-0.65, 0.12), (-0.6, -0.05), (-0.32, -0.08), (-0.15, -0.28), (0.2, -0.25),
                                   (0.95, -0.06), (0.95, 0.02), (0.15, 0.22), (-0.5, 0.2)),
        area(BLUE, (-0.28, -0.08), (-0.14, -0.24), (0.16, -0.22), (0.16, -0.06)), box(RED, -0.3, -0.36, 0.25, -0.28),
        line(GREY, 0.03, (-0.05, -0.3), (0.0, 0.12)), line(GREY, 0.04, (-0.45, 0.15), (-0.45, 0.4)),
        disc(BLACK, -0.45, 0.42, 0.08), disc(BLACK, 0.08, 0.4, 0.09), _airscrew(-0.68, 0.06, 0.3),
    ),
    "DC-3": (
        _fin(0.85, 0.5), area(SILVER, (-0.2, -0.2), (1, -0.08), (1, 0), (-0.1, 0.2)), disc(SILVER, -0.2, 0, 0.7, 0.2),
        line(DARK, 0.05, (-0.5, -0.05), (0.4, -0.05)), disc(GREY, -0.35, 0.18, 0.26, 0.11), _airscrew(-0.63, 0.18, 0.3),
        line(DARK, 0.05, (-0.3, 0.2), (-0.3, 0.42)), disc(BLACK, -0.3, 0.44, 0.11),
    ),
    "Spitfire": (
        _fin(0.75, 0.32, GREEN), area(BROWN, (-0.85, 0), (-0.8, -0.12), (-0.1, -0.16), (0.85, -0.04), (0.85, 0.03),
                                      (0.1, 0.16), (-0.75, 0.14)),
        area(GREEN, (-0.5, -0.14), (-0.1, -0.16), (0.2, 0.14), (-0.25, 0.15)), disc(SILVER, -0.02, -0.17, 0.18, 0.09),
        disc(GREEN, -0.1, 0.12, 0.38, 0.08), disc(RED, 0.42, 0, 0.08), _airscrew(-0.88, 0.01, 0.38),
    ),
}  # fmt: skip

_STRIPE = 0.16


def _number(*digits: int, colour: Colour = BLACK) -> tuple[Part, ...]:
    return tuple(
        part
        for i, digit in enumerate(digits)
        for part in placed([line(colour, 0.22, *DIGITS[digit])], 0.5 * (2 * i + 1 - len(digits)), 0, 0.55)
    )


def _triangle(colour: Colour, size: float, up: bool) -> Part:
    """The corners of a triangle around the origin."""
    turn = -90 if up else 90
    return area(colour, *arc(0, 0.2 if up else -0.2, size, size, turn, turn + 240, 3))


SIGNS: dict[str, tuple[Part, ...]] = {
    "ahead_only": (
        disc(WHITE, 0, 0, 0.95), disc(BLUE, 0, 0, 0.9), line(WHITE, _STRIPE, (0, 0.6), (0, -0.3)),
        area(WHITE, (-0.3, -0.2), (0, -0.65), (0.3, -0.2)),
    ),
    "general_caution": (
        _triangle(RED, 1.1, True), _triangle(WHITE, 0.72, True), line(BLACK, _STRIPE, (0, -0.12), (0, 0.22)),
        disc(BLACK, 0, 0.42, 0.08),
    ),
    "keep_right": (
        disc(WHITE, 0, 0, 0.95), disc(BLUE, 0, 0, 0.9), line(WHITE, _STRIPE, (-0.5, -0.5), (0.25, 0.25)),
        area(WHITE, (0.5, 0.5), (0.45, -0.05), (-0.05, 0.45)),
    ),
    "no_entry": (disc(WHITE, 0, 0, 0.95), disc(RED, 0, 0, 0.9), box(WHITE, -0.65, -0.15, 0.65, 0.15)),
    "priority_road": (
        area(WHITE, (0, -1), (1, 0), (0, 1), (-1, 0)), area(YELLOW, (0, -0.7), (0.7, 0), (0, 0.7), (-0.7, 0)),
    ),
    "speed_limit_30": (disc(RED, 0, 0, 0.95), disc(WHITE, 0, 0, 0.72), *_number(3, 0)),
    "stop": (
        area(WHITE, *arc(0, 0, 1, 1, 22.5, 337.5, 8)), area(RED, *arc(0, 0, 0.92, 0.92, 22.5, 337.5, 8)),
        line(WHITE, 0.2, (-0.6, 0), (-0.42, 0)), line(WHITE, 0.2, (-0.15, 0), (0.15, 0)),
        line(WHITE, 0.2, (0.42, 0), (0.6, 0)),
    ),
    "yield": (_triangle(RED, 1.1, False), _triangle(WHITE, 0.72, False)),
}  # fmt: skip
