"""People from capsules and ellipsoids, with the parts of PASCAL-Part as ASTMT groups them.

A figure stands around its own origin on the floor and looks towards +y; its right is +x. A posture says where the hips,
the wrists and the ankles are; elbows and knees follow from the lengths of the limbs, so that feet rest on floors and
pedals, and hands on handlebars. Lengths are shares of the stature (R. Drillis, R. Contini: Body Segment Parameters,
1966); heads shrink less than their owners, so that children look like children.

Units: metres, radians. Points are (x, y, z); pairs are (left, right).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from .drawing import THINGS, Draw, Item
from .shapes import Array
from .textures import Material
from .world import Pose

# numbers and groups as in ASTMT (CVPR 2019): necks count as torso, hands and feet as lower limbs
PARTS = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")
HEAD, TORSO, UPPER_ARM, LOWER_ARM, UPPER_LEG, LOWER_LEG = range(1, len(PARTS))

SIDES = (-1.0, 1.0)
SKINS = (
    (0.93, 0.78, 0.67), (0.86, 0.68, 0.54), (0.76, 0.57, 0.42), (0.62, 0.44, 0.31), (0.47, 0.32, 0.22),
    (0.34, 0.23, 0.17),
)  # fmt: skip
HAIRS = (
    (0.10, 0.08, 0.07), (0.22, 0.14, 0.09), (0.38, 0.24, 0.13), (0.66, 0.50, 0.29), (0.55, 0.25, 0.12),
    (0.62, 0.61, 0.60),
)  # fmt: skip
SHIRTS = (
    (0.88, 0.88, 0.87), (0.72, 0.18, 0.17), (0.16, 0.26, 0.48), (0.22, 0.50, 0.34), (0.86, 0.70, 0.20),
    (0.45, 0.66, 0.80), (0.42, 0.28, 0.50), (0.16, 0.17, 0.18), (0.50, 0.52, 0.54), (0.20, 0.52, 0.54),
    (0.85, 0.45, 0.20), (0.38, 0.42, 0.25),
)  # fmt: skip
TROUSERS = ((0.18, 0.24, 0.38), (0.13, 0.13, 0.15), (0.50, 0.43, 0.32), (0.33, 0.34, 0.36), (0.30, 0.38, 0.50))
SHOES = ((0.09, 0.08, 0.08), (0.35, 0.22, 0.14), (0.85, 0.84, 0.82), (0.60, 0.16, 0.15))
DARK_EYE = Material("plain", (0.08, 0.06, 0.05))

Point = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Body:
    """Lengths of one person, metres. ``unit`` is the stature of an adult with this body's limbs."""

    stature: float

    @property
    def head(self) -> float:
        """From the chin to the top."""
        return 0.1 + 0.078 * self.stature

    @property
    def unit(self) -> float:
        return (self.stature - self.head) / 0.87

    @property
    def hip(self) -> float:
        """Height of the hip joints of one who stands upright."""
        return 0.53 * self.unit

    @property
    def ankle(self) -> float:
        """Height of the ankles above the soles."""
        return 0.039 * self.unit


@dataclasses.dataclass(frozen=True)
class Posture:
    """Where a body's ends are.

    Attributes:
        hips: the middle between the hip joints.
        spine: direction from there to the neck.
        wrists: left and right. What cannot be reached is pointed at.
        ankles: left and right, likewise.
        elbows: directions in which they bend, left and right.
        gaze: how far the head is turned, radians to the left.
        knees: how far they point outwards, as a share of how far they point forward.
    """

    hips: Point
    spine: Point
    wrists: tuple[Point, Point]
    ankles: tuple[Point, Point]
    elbows: tuple[Point, Point] = ((-0.5, -1.0, 0.0), (0.5, -1.0, 0.0))
    gaze: float = 0.0
    knees: float = 0.15


# --- postures ---------------------------------------------------------------------------------------------------------


def standing(draw: Draw, body: Body) -> Posture:
    """At ease, each hand somewhere else."""
    u = body.unit
    ankles = tuple((s * draw.span(0.05, 0.1) * u, draw.span(-0.04, 0.04) * u, body.ankle) for s in SIDES)
    hips = (draw.span(-0.01, 0.01) * u, 0.0, body.hip - 0.012 * u)
    wrists = tuple(_hand(draw, s, u) for s in SIDES)
    spine = (draw.span(-0.05, 0.05), draw.span(-0.03, 0.06), 1.0)
    return Posture(hips, spine, wrists, ankles, ((-1.0, -0.6, 0.0), (1.0, -0.6, 0.0)), draw.span(-0.7, 0.7))


def _hand(draw: Draw, side: float, u: float) -> Point:
    """A wrist: hanging, on the hip, before the body, or raised."""
    kind = draw.rng.random()
    if kind < 0.6:
        return side * draw.span(0.13, 0.17) * u, draw.span(0.0, 0.06) * u, 0.478 * u
    if kind < 0.75:
        return side * 0.125 * u, 0.03 * u, 0.6 * u
    if kind < 0.9:
        return side * draw.span(0.02, 0.1) * u, draw.span(0.13, 0.2) * u, draw.span(0.62, 0.75) * u
    return side * draw.span(0.16, 0.26) * u, draw.span(0.08, 0.2) * u, draw.span(0.9, 1.05) * u


def walking(draw: Draw, body: Body) -> Posture:
    """In mid-stride, arms against legs."""
    u, ahead = body.unit, draw.one(SIDES)
    stride, swing = draw.span(0.1, 0.19) * u, draw.span(0.06, 0.16)
    hips = (0.0, 0.0, body.ankle + math.sqrt((0.485 * u) ** 2 - stride**2))
    ankles = tuple((s * 0.045 * u, s * ahead * stride, body.ankle + (0.0 if s == ahead else 0.035 * u)) for s in SIDES)
    wrists = tuple((s * 0.145 * u, (0.03 - s * ahead * swing) * u, (0.475 + 0.2 * swing) * u) for s in SIDES)
    return Posture(hips, (0.0, draw.span(0.02, 0.09), 1.0), wrists, ankles, gaze=draw.span(-0.4, 0.4))


def sitting(draw: Draw, body: Body, seat: float = 0.45, table: float | None = None) -> Posture:
    """On a seat of this height above the origin; hands on the lap, or on a table of this height."""
    u = body.unit
    hips = (0.0, -0.04 * u, seat + 0.05 * u)
    feet = [(s * draw.span(0.05, 0.11) * u, draw.span(0.14, 0.28) * u) for s in SIDES]
    ankles = tuple((x, y, max(body.ankle, seat - 0.2 * u)) for x, y in feet)
    if table is None:
        wrists = tuple((s * 0.06 * u, draw.span(0.1, 0.16) * u, hips[2] + 0.075 * u) for s in SIDES)
    else:
        wrists = tuple((s * draw.span(0.05, 0.13) * u, draw.span(0.2, 0.26) * u, table + 0.03 * u) for s in SIDES)
    lean = draw.span(-0.12, 0.05) if table is None else draw.span(0.0, 0.12)
    elbows = ((-0.8, -0.5, -0.4), (0.8, -0.5, -0.4))
    return Posture(hips, (draw.span(-0.04, 0.04), lean, 1.0), wrists, ankles, elbows, draw.span(-0.6, 0.6))


def riding(
    draw: Draw,
    body: Body,
    saddle: Point,
    bars: tuple[Point, Point],
    pedals: tuple[Point, Point],
    lean: float = 0.35,
    knees: float = 0.15,
) -> Posture:
    """On a saddle, the hands on the bars, the feet on the pedals (or in stirrups); the spine ``lean`` radians forward.

    Points are on the surfaces that carry the rider. ``knees`` as in ``Posture``: horses are broad.
    """
    hips = (saddle[0], saddle[1], saddle[2] + 0.045 * body.unit)
    wrists = tuple((x, y - 0.03 * body.unit, z + 0.025 * body.unit) for x, y, z in bars)
    ankles = tuple((x, y - 0.04 * body.unit, z + body.ankle) for x, y, z in pedals)
    spine = (0.0, math.sin(lean), math.cos(lean))
    return Posture(hips, spine, wrists, ankles, ((-0.6, -0.3, -0.8), (0.6, -0.3, -0.8)), draw.span(-0.4, 0.4), knees)


# --- clothes ----------------------------------------------------------------------------------------------------------


class _Wear:
    """What one person looks like."""

    def __init__(self, draw: Draw):
        self.skin = Material("plain", draw.colour(SKINS, 0.02))
        self.hair = draw.material("speckle", HAIRS, 0.01, 0.7)
        self.shirt = _shirt(draw)
        self.sleeve = self.shirt if draw.chance(0.55) else self.skin
        self.trousers = draw.material("speckle", TROUSERS, 0.02, 0.88)
        self.shank = self.trousers if draw.chance(0.75) else self.skin
        self.shoe = draw.plain(SHOES)
        self.style = draw.one(("short", "short", "short", "long", "long", "bun", "bald", "cap"))
        self.cap = draw.plain(THINGS)


def _shirt(draw: Draw) -> Material:
    """Three in four are of one colour."""
    if draw.chance(0.75):
        return draw.material("speckle", SHIRTS, 0.02, 0.88)
    return draw.material(draw.one(("stripes", "checker")), SHIRTS, draw.span(0.06, 0.12), 0.65)


# --- the figure -------------------------------------------------------------------------------------------------------


def person(
    draw: Draw,
    label: int,
    posture: Callable[[Draw, Body], Posture] = standing,
    stature: float | None = None,
) -> Item:
    """A person of this class, in a posture of this kind; ``stature`` in metres, else of an adult, or one in eight
    times of a child. ``functools.partial`` gives ``sitting`` its seat and ``riding`` its saddle.
    """
    if stature is None:
        stature = draw.span(1.1, 1.45) if draw.chance(0.125) else draw.span(1.55, 1.9)
    body = Body(stature)
    pose, wear = posture(draw, body), _Wear(draw)
    top = pose.hips[2] + stature - body.hip
    item = Item(0.36 * stature, 0.3 * stature, top).begin(label)
    trunk = Pose.along(pose.hips, pose.spine)
    _torso(item, trunk, body.unit, wear)
    _limbs(item, trunk, body, pose, wear)
    _head(item, trunk @ Pose.at(0, 0.012 * body.unit, 0.34 * body.unit, yaw=pose.gaze), body.head, wear)
    return item


def _put(item: Item, frame: Pose, middle: Point, size: Point, material: Material) -> None:
    """An ellipsoid in the axes of a frame."""
    item.add("sphere", tuple(size), frame @ Pose.at(*middle), material)


def _torso(item: Item, trunk: Pose, u: float, wear: _Wear) -> None:
    """From the hips to the neck; the trunk's z runs along the spine."""
    item.part = TORSO
    _put(item, trunk, (0, -0.004 * u, 0.015 * u), (0.094 * u, 0.068 * u, 0.075 * u), wear.trousers)
    _put(item, trunk, (0, 0, 0.1 * u), (0.09 * u, 0.064 * u, 0.13 * u), wear.shirt)
    _put(item, trunk, (0, 0.002 * u, 0.185 * u), (0.102 * u, 0.068 * u, 0.135 * u), wear.shirt)
    neck = trunk.rotation @ (0, 0, 0.28 * u) + trunk.position
    for side in SIDES:
        item.tube(neck, trunk.rotation @ (side * 0.09 * u, 0, 0.26 * u) + trunk.position, 0.038 * u, wear.shirt)
    low, high = (trunk.rotation @ (0, 0.005 * u, z * u) + trunk.position for z in (0.29, 0.36))
    item.tube(low, high, 0.034 * u, wear.skin)


def _limbs(item: Item, trunk: Pose, body: Body, pose: Posture, wear: _Wear) -> None:
    u = body.unit
    for i, side in enumerate(SIDES):
        hip = trunk.rotation @ (side * 0.05 * u, 0, -0.005 * u) + trunk.position
        out = (pose.knees * side, 1.0, 0.1)
        knee, ankle = bent(hip, pose.ankles[i], 0.245 * u, 0.246 * u, out)
        item.part = UPPER_LEG
        item.tube(hip, knee, 0.047 * u, wear.trousers)
        item.part = LOWER_LEG
        item.tube(knee, ankle, (0.037 if wear.shank is wear.trousers else 0.033) * u, wear.shank)
        sole = Pose.at(*ankle) @ Pose.at(0, 0, 0, yaw=-0.15 * side)
        _put(item, sole, (0, 0.04 * u, -0.01 * u), (0.031 * u, 0.078 * u, 0.029 * u), wear.shoe)
        shoulder = trunk.rotation @ (side * 0.106 * u, 0, 0.262 * u) + trunk.position
        elbow, wrist = bent(shoulder, pose.wrists[i], 0.17 * u, 0.146 * u, pose.elbows[i])
        item.part = UPPER_ARM
        item.tube(shoulder, elbow, 0.031 * u, wear.shirt)
        item.part = LOWER_ARM
        item.tube(elbow, wrist, (0.026 if wear.sleeve is wear.shirt else 0.023) * u, wear.sleeve)
        hand = Pose.along(wrist, wrist - elbow, (0.3, 1.0, 0.2))
        _put(item, hand, (0, 0, 0.035 * u), (0.026 * u, 0.02 * u, 0.05 * u), wear.skin)


def bent(start: Array, goal: Point, first: float, second: float, towards: Point) -> tuple[Array, Array]:
    """The middle joint and the end of two bones from ``start`` to ``goal``, bent in a direction (law of cosines)."""
    way = np.array(goal, dtype=float) - start
    distance = math.sqrt(way @ way)
    way = way / distance
    distance = min(max(distance, 1.05 * abs(first - second) + 0.3 * first), 0.998 * (first + second))
    aside = np.array(towards, dtype=float)
    aside = aside - (aside @ way) * way
    aside = aside / math.sqrt(aside @ aside)
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    return start + along * way + math.sqrt(first**2 - along**2) * aside, start + distance * way


def _head(item: Item, chin: Pose, h: float, wear: _Wear) -> None:
    """A head of this height above the chin, with a face and hair."""
    item.part = HEAD
    middle = chin @ Pose.at(0, 0, 0.5 * h)
    _put(item, middle, (0, 0, 0), (0.37 * h, 0.43 * h, 0.5 * h), wear.skin)
    _put(item, middle, (0, 0.42 * h, -0.05 * h), (0.05 * h, 0.07 * h, 0.1 * h), wear.skin)
    for side in SIDES:
        _put(item, middle, (0.15 * side * h, 0.375 * h, 0.06 * h), (0.05 * h, 0.03 * h, 0.035 * h), DARK_EYE)
        _put(item, middle, (0.37 * side * h, -0.02 * h, 0), (0.04 * h, 0.07 * h, 0.1 * h), wear.skin)
    lips = Material("plain", tuple(c * f for c, f in zip(wear.skin.colour, (0.85, 0.6, 0.6), strict=True)))
    _put(item, middle, (0, 0.36 * h, -0.24 * h), (0.1 * h, 0.04 * h, 0.025 * h), lips)
    _hair(item, middle, h, wear)


def _hair(item: Item, middle: Pose, h: float, wear: _Wear) -> None:
    if wear.style == "bald":
        return
    if wear.style == "cap":
        _put(item, middle, (0, -0.05 * h, 0.16 * h), (0.41 * h, 0.46 * h, 0.4 * h), wear.cap)
        _put(item, middle, (0, 0.42 * h, 0.22 * h), (0.26 * h, 0.25 * h, 0.03 * h), wear.cap)
        return
    _put(item, middle, (0, -0.1 * h, 0.12 * h), (0.41 * h, 0.42 * h, 0.44 * h), wear.hair)
    if wear.style == "long":
        _put(item, middle, (0, -0.2 * h, -0.25 * h), (0.39 * h, 0.28 * h, 0.6 * h), wear.hair)
    if wear.style == "bun":
        _put(item, middle, (0, -0.45 * h, 0.3 * h), (0.18 * h,) * 3, wear.hair)
