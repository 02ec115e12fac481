"""Things of PASCAL VOC that neither homes nor streets are full of: bottles, boats, aeroplanes.

A thing stands around its own origin on the floor, or floats around it on the water, its front towards +y.

Units: metres, radians. Points are (x, y, z). Common names as in ``furniture``.
"""

from __future__ import annotations

import math

from .drawing import DARK, METAL, THINGS, Draw, Item
from .figures import SIDES
from .textures import Material
from .world import Pose

GLASSES = ((0.12, 0.30, 0.14), (0.30, 0.16, 0.07), (0.62, 0.75, 0.72), (0.08, 0.08, 0.08), (0.75, 0.12, 0.10))
PAINTS = ((0.92, 0.92, 0.90), (0.92, 0.92, 0.90), (0.18, 0.32, 0.55), (0.75, 0.20, 0.16), (0.80, 0.62, 0.22))
WHITE = Material("plain", (0.92, 0.92, 0.91))
PANE = Material("plain", (0.16, 0.22, 0.28))


def bottle(draw: Draw, label: int) -> Item:
    """Of wine, beer or water."""
    h, r = draw.span(0.23, 0.34), draw.span(0.032, 0.045)
    glass, body = draw.plain(GLASSES), draw.span(0.5, 0.62) * h
    item = Item(2 * r, 2 * r, h).begin(label)
    item.rod((0, 0, 0), r, body, glass).ball((0, 0, body), (r, r, draw.span(1.0, 1.8) * r), glass)
    item.rod((0, 0, body), 0.4 * r, h - body, glass).rod((0, 0, 0.91 * h), 0.46 * r, 0.09 * h, draw.plain())
    return item.rod((0, 0, 0.25 * body), 1.03 * r, 0.5 * body, draw.material("stripes", THINGS, 0.05, 0.6))


# --- on the water -----------------------------------------------------------------------------------------------------


def boat(draw: Draw, label: int) -> Item:
    """A sailing boat, or one with a cabin."""
    w, l, side = draw.span(1.7, 2.3), draw.span(5.0, 7.5), draw.span(0.7, 1.0)
    item = Item(w, l, 3.0).begin(label)
    _hull(item, draw, w, l, side)
    if draw.chance(0.5):
        item.height = _rig(item, draw, l, side)
        return item
    wide, long, high = 0.7 * w, draw.span(0.3, 0.45) * l, draw.span(0.9, 1.3)
    item.box((0, -0.05 * l, side), (wide, long, high), WHITE)
    item.box((0, -0.05 * l, side + 0.4 * high), (wide + 0.02, 0.9 * long, 0.38 * high), PANE)
    item.box((0, -0.05 * l, side + high), (wide + 0.15, long + 0.2, 0.08), draw.plain(PAINTS))
    item.height = side + high
    return item


def _hull(item: Item, draw: Draw, w: float, l: float, side: float) -> None:
    """Straight sides, a flat stern and a pointed bow, ``side`` high above the water."""
    paint, stripe = draw.plain(PAINTS), draw.plain(PAINTS[2:])
    deck, bow = draw.wood(), 0.36 * l
    for low, high, grow, material in (
        (-0.3, side, 0.0, paint),
        (0.55 * side, 0.75 * side, 0.02, stripe),
        (side, side + 0.05, -0.1, deck),
    ):
        _outline(item, w + grow, l - bow, bow + grow, low, high, material, -bow / 2)


def _outline(
    item: Item, w: float, straight: float, bow: float, low: float, high: float, material: Material, y: float
) -> None:
    """A block and the two halves of a triangle before it."""
    item.box((0, y, low), (w, straight, high - low), material)
    for side in SIDES:
        middle = (side * w / 4, y + straight / 2 + bow / 2, (low + high) / 2)
        pose = Pose.along(middle, (0, 1, 0), (-side, 0, 0))
        item.add("wedge", (w / 4, (high - low) / 2, bow / 2), pose, material)


def _rig(item: Item, draw: Draw, l: float, side: float) -> float:
    """A mast with two sails; returns its height."""
    top, foot, cloth = (
        draw.span(1.1, 1.3) * l,
        0.08 * l,
        draw.material("plain", ((0.93, 0.92, 0.88), (0.8, 0.3, 0.2)), 1.0),
    )
    item.rod((0, foot, 0), 0.05, top, METAL)
    boom = draw.span(-0.35, 0.35)
    for length, high, way in ((0.42 * l, 0.82 * (top - side), -1.0), (0.36 * l, 0.66 * (top - side), 1.0)):
        swing = boom if way < 0 else 0.0
        end = (-math.sin(swing) * length / 2, way * math.cos(swing) * length / 2)
        middle = (end[0], foot + end[1] + 0.05 * way, side + 0.35 + high / 2)
        mast = (math.sin(swing), -way * math.cos(swing), 0)
        item.add("wedge", (length / 2, 0.02, high / 2), Pose.along(middle, (0, 0, 1), mast), cloth)
    return top


# --- in the air -------------------------------------------------------------------------------------------------------


def aeroplane(draw: Draw, label: int) -> Item:
    """An airliner on its wheels."""
    l = draw.span(16.0, 24.0)
    r, z = 0.058 * l, 0.13 * l
    paint, trim = draw.plain(PAINTS[:1]), draw.plain(PAINTS[2:])
    item = Item(0.95 * l, l, 0.34 * l).begin(label)
    item.bar((0, 0, z), r, 0.78 * l, paint, roll=math.pi / 2)
    item.ball((0, 0.4 * l, z - 0.1 * r), (0.97 * r, 0.1 * l, 0.9 * r), paint)
    item.ball((0, -0.42 * l, z + 0.25 * r), (0.7 * r, 0.14 * l, 0.7 * r), paint)
    item.box((0, 0.02 * l, z + 0.22 * r), (1.97 * r, 0.66 * l, 0.18 * r), PANE)
    item.box((0, 0.0, z - 0.3 * r), (1.94 * r, 0.8 * l, 0.16 * r), trim)
    item.ball((0, 0.435 * l, z + 0.4 * r), (0.5 * r, 0.04 * l, 0.28 * r), PANE)
    fin = Pose.along((0, -0.42 * l, z + 0.09 * l + 0.6 * r), (0, 0, 1), (0, -1, 0))
    item.add("wedge", (0.07 * l, 0.007 * l, 0.09 * l), fin, trim)
    for side in SIDES:
        item.ball(
            (0.25 * side * l, -0.03 * l, z - 0.4 * r),
            (0.25 * l, 0.06 * l, 0.012 * l),
            paint,
            yaw=-0.42 * side,
            pitch=-0.08 * side,
        )
        item.ball((0.09 * side * l, -0.43 * l, z + 0.35 * r), (0.1 * l, 0.035 * l, 0.008 * l), paint, yaw=-0.42 * side)
        x, y, low = 0.17 * side * l, 0.06 * l, z - 1.0 * r
        item.bar((x, y, low), 0.026 * l, 0.05 * l, paint, roll=math.pi / 2)
        item.add("cylinder", (0.024 * l, 0.024 * l, 0.004 * l), Pose.along((x, y + 0.05 * l, low), (0, 1, 0)), DARK)
        _gear(item, 0.055 * side * l, -0.04 * l, z - r, l)
    _gear(item, 0.0, 0.34 * l, z - r, l)
    return item


def _gear(item: Item, x: float, y: float, z: float, l: float) -> None:
    item.tube((x, y, 0.02 * l), (x, y, z + 0.02 * l), 0.008 * l, METAL)
    wheel = 0.022 * l
    item.add("cylinder", (wheel, wheel, 0.008 * l), Pose.along((x, y, wheel), (1, 0, 0), (0, 1, 0)), DARK)
