"""A stage for pictures that are about something: a room or the open air, what stands there, and a camera.

The subject stands around the origin, more around and behind it; the camera looks along the world's y, more or less.
Walls, ground, trees and what else makes the place has class 0, which families that use this call background.

Units: metres, radians; z is up.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from . import furniture, roadside
from .drawing import CLOTHS, LINENS, WALLS, WOODS, Draw, Item
from .render import Shot
from .shapes import Array
from .textures import Material
from .world import Light, Pose, Scene, Sky, Solid

LAND = 400.0  # metres to where the ground ends, about a pixel below the horizon
GOOD = 3.5  # a score that ends the search for a view: a tenth of the image is subject, and two classes are seen
TOWARDS = math.pi  # the yaw of one who looks at the camera
# texture, palette, scale, contrast
_FLOORS = (("planks", WOODS, 0.11, 0.55), ("tiles", WALLS, 0.35, 0.7), ("speckle", CLOTHS + LINENS, 0.03, 0.8))
_GROUNDS = {
    "grass": (((0.33, 0.47, 0.17), (0.42, 0.50, 0.20), (0.27, 0.42, 0.18)), 0.5, 0.7),
    "paving": (((0.55, 0.54, 0.52), (0.44, 0.44, 0.45), (0.62, 0.58, 0.52)), 0.7, 0.85),
    "sand": (((0.78, 0.69, 0.50), (0.70, 0.58, 0.40)), 0.6, 0.85),
    "water": (((0.22, 0.38, 0.47), (0.26, 0.46, 0.50), (0.30, 0.40, 0.46)), 1.1, 0.75),
}
_BLUES = ((0.33, 0.55, 0.86), (0.45, 0.65, 0.90), (0.55, 0.68, 0.82))
_CLOUDS = ((0.93, 0.94, 0.96), (0.85, 0.87, 0.90))


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """Things that stand and move together.

    Attributes:
        pose: of them all.
        things: their instances.
        speed: how far they may go from frame to frame, metres; 0 stands still.
    """

    pose: Pose
    things: range
    speed: float


class Stage:
    """A place, being filled.

    Attributes:
        content: everything.
        units: what was put there.
        light: of the place.
        sky: over it, or None.
        subject: the units that the picture is about, the main one first.
        eye: lowest and highest place of the camera above the ground.
        turn: how far round to the right of the subject the camera stands, from and to, radians.
        close: how near it comes, from and to; at 1 the subject fills most of the frame, at 2 it is half as large.
    """

    def __init__(self, draw: Draw):
        self.draw, self.content = draw, Item(0, 0, 0)
        self.units: list[Unit] = []
        self.subject: list[Unit] = []
        self.light, self.sky = Light((0, 0, 0)), None
        self.eye, self.turn, self.close = (1.1, 1.7), (-0.35, 0.35), (0.75, 1.6)
        self._taken: list[tuple[Array, Array]] = []

    def put(self, item: Item, x: float, y: float, yaw: float = 0.0, speed: float = 0.0, z: float = 0.0) -> Unit:
        """Place an item; it moves along its own y."""
        first, pose = self.content.things, Pose.at(x, y, z, yaw=yaw)
        self.content.join(item, pose)
        self.units.append(Unit(pose, range(first, self.content.things), speed))
        return self.units[-1]

    def stand(
        self, item: Item, x: float, y: float, yaw: float = 0.0, speed: float = 0.0, z: float = 0.0
    ) -> Unit | None:
        """``put``, if nothing else that was stood anywhere takes this floor."""
        reach = np.abs(Pose.at(0, 0, 0, yaw=yaw).rotation[:2, :2]) @ (item.width, item.depth) / 2
        low, high = np.array((x, y)) - reach, np.array((x, y)) + reach
        if any((low < b).all() and (a < high).all() for a, b in self._taken):
            return None
        self._taken.append((low, high))
        return self.put(item, x, y, yaw, speed, z)

    def scatter(
        self,
        item: Item,
        x: tuple[float, float],
        y: tuple[float, float],
        yaw: float = 0.0,
        speed: float = 0.0,
        z: float = 0.0,
    ) -> Unit | None:
        """``stand`` anywhere between these x and y."""
        for _ in range(10):
            unit = self.stand(item, self.draw.span(*x), self.draw.span(*y), yaw, speed, z)
            if unit:
                return unit
        return None

    def solids(self, *units: Unit) -> list[Solid]:
        """What units are made of."""
        return [s for s in self.content.solids if any(s.instance in unit.things for unit in units)]


# --- places -----------------------------------------------------------------------------------------------------------


def room(stage: Stage, width: float, back: float) -> None:
    """Floor, ceiling, three walls (the back one at y = ``back``) with things on it, and a lamp."""
    draw, high = stage.draw, stage.draw.span(2.4, 2.8)
    left, right = -width / 2 - draw.span(0, 0.8), width / 2 + draw.span(0, 0.8)
    paint, other = draw.material("speckle", WALLS, 0.25, 0.96), draw.material("stripes", WALLS, 0.16, 0.93)
    plaster = draw.material("speckle", WALLS[:1], 0.3, 0.97, emission=0.7)
    for pose, material in (
        (Pose.at(0, 0, 0), draw.material(*draw.one(_FLOORS))),
        (Pose.at(0, 0, high), plaster),
        (Pose.at(0, back, 0, roll=math.pi / 2), draw.one((paint, paint, other))),
        (Pose.at(left, 0, 0, pitch=math.pi / 2), paint),
        (Pose.at(right, 0, 0, pitch=math.pi / 2), paint),
    ):
        stage.content.begin(0).add("plane", (1, 1, 1), pose, material, casts=False)
    skirting = Material("plain", draw.colour(((0.90, 0.89, 0.86), WOODS[0])))
    stage.content.box((0, back - 0.01, 0), (right - left, 0.02, 0.08), skirting)
    _hang(stage, left + 0.3, right, back - 0.02, high)
    warm = draw.span(-0.06, 0.08)
    place = draw.span(0.6 * left, 0.6 * right), draw.span(-1.5, 0.3 * back), high - 0.15
    brightness, ambient, reach = draw.span(0.85, 1.1), draw.span(0.34, 0.46), draw.span(4.0, 5.5)
    stage.light = Light(place, brightness, ambient, reach, (1.0 + warm, 1.0, 1.0 - warm))


def _hang(stage: Stage, x: float, end: float, y: float, high: float) -> None:
    """Pictures, windows and doors along the back wall, from ``x`` to ``end``."""
    kinds = (furniture.picture, furniture.picture, furniture.window, furniture.door)
    while True:
        item = stage.draw.one(kinds)(stage.draw)
        x += item.width / 2 + stage.draw.span(0.1, 0.9)
        if x + item.width / 2 > end:
            return
        if item.height < high - 0.1:
            stage.content.put(item.relabel({}), x, y, yaw=TOWARDS)
        x += item.width / 2


def open_air(stage: Stage, ground: str, backdrop: str, far: float = 45.0) -> None:
    """A wide ground (``grass``, ``paving``, ``sand`` or ``water``), a sky with a sun behind the camera, and a
    backdrop this far away: ``wood``, ``hills``, ``houses`` or ``none``.
    """
    draw = stage.draw
    palette, scale, contrast = _GROUNDS[ground]
    plane = draw.material("speckle", palette, scale, contrast)
    stage.content.begin(0).add("box", (LAND, LAND, 0.5), Pose.at(0, 0, -0.5), plane, casts=False)
    clouds = draw.mixture("clouds", _BLUES, _CLOUDS, (0.8, 1.8), 0.02)
    stage.sky = Sky(0, clouds)
    warm = draw.span(0.0, 0.1)
    azimuth, elevation = -math.pi / 2 + draw.span(-1.3, 1.3), draw.span(0.5, 1.1)
    stage.light = Light.sun(
        azimuth, elevation, draw.span(0.6, 0.85), draw.span(0.4, 0.5), (1.0 + warm, 1.0, 1.0 - warm)
    )
    if backdrop == "hills":
        _hills(stage, draw.span(1.5, 3.0) * far)
    elif backdrop != "none":
        for i in range(-3, 4):
            piece = roadside.wood(draw, 0.5 * far) if backdrop == "wood" else _house(draw)
            angle, away = 0.36 * i + draw.span(-0.05, 0.05), far * draw.span(0.9, 1.25)
            stage.content.put(piece.relabel({}), away * math.sin(angle), away * math.cos(angle), yaw=TOWARDS - angle)
    stage.turn, stage.close = (-0.5, 0.5), (0.75, 2.0)


def _house(draw: Draw) -> Item:
    return draw.one((roadside.cottage, roadside.cottage, lambda d: roadside.block(d, 14.0)))(draw)


def _hills(stage: Stage, far: float) -> None:
    draw = stage.draw
    for i in range(-3, 4):
        angle, away = 0.42 * i + draw.span(-0.1, 0.1), far * draw.span(0.9, 1.4)
        green = draw.material("speckle", _GROUNDS["grass"][0], 4.0, 0.75)
        size = (draw.span(0.3, 0.5) * far, 0.2 * far, draw.span(0.05, 0.16) * far)
        stage.content.begin(0).ball((away * math.sin(angle), away * math.cos(angle), 0), size, green, yaw=-angle)


def greenery(stage: Stage, count: int, near: float, far: float) -> None:
    """Trees and bushes beside and behind the subject."""
    draw = stage.draw
    for _ in range(count):
        item = (
            roadside.tree(draw, draw.span(1.2, 2.2)) if draw.chance(0.6) else roadside.bush(draw, draw.span(0.5, 1.0))
        )
        y = draw.span(near, far)
        stage.scatter(item.relabel({}), (-0.9 * y - 2, 0.9 * y + 2), (y, y + 1.0))


# --- the camera -------------------------------------------------------------------------------------------------------


def frame(stage: Stage, salient: int, count: int = 8) -> Shot:
    """The first of several random views that shows much of the salient thing, and others; else the best of them.

    Args:
        stage: with at least one subject; the picture is of them all.
        salient: the instance that it is about.
        count: views to try.
    """
    best, most = None, -math.inf
    low, high = bounds(stage.solids(*stage.subject))
    scene = Scene(tuple(stage.content.solids), stage.light, salient, True, stage.sky)
    for _ in range(count):
        pose, focal = _look(stage, low, high)
        shot = Shot(scene, pose, focal, pose)
        score = _score(shot)
        if score > most:
            best, most = shot, score
        if score >= GOOD:
            break
    return best


def bounds(solids: list[Solid]) -> tuple[Array, Array]:
    """The lowest and highest corner of the box around these."""
    places = np.array([s.pose.position for s in solids])
    sizes = [s.size[:2] + (s.size[2] + (s.size[0] if s.shape == "capsule" else 0.0),) for s in solids]
    reach = np.array([np.abs(s.pose.rotation) @ size for s, size in zip(solids, sizes, strict=True)])
    return (places - reach).min(axis=0), (places + reach).max(axis=0)


def _look(stage: Stage, low: Array, high: Array) -> tuple[Pose, float]:
    """A camera before this box, and its focal length as a share of the image's width."""
    draw, middle, size = stage.draw, (low + high) / 2, high - low
    focal, side, eye = draw.span(0.85, 1.15), draw.span(*stage.turn), draw.span(*stage.eye)
    across = abs(math.cos(side)) * size[0] + abs(math.sin(side)) * size[1]
    away = focal * max(size[2] / 0.65, across / 0.9) * draw.span(*stage.close)
    away += (abs(math.cos(side)) * size[1] + abs(math.sin(side)) * size[0]) / 2
    place = (middle[0] + away * math.sin(side), middle[1] - away * math.cos(side), eye)
    aim = middle + (draw.span(-0.2, 0.2) * size[0], 0.0, draw.span(-0.05, 0.2) * size[2])
    return Pose.look(place, aim, draw.span(-0.03, 0.03)), focal


def _score(shot: Shot) -> float:
    """Classes in view, and as much of the subject as makes a picture; less for what stands in the way."""
    label, instance, depth = shot.glance()
    subject = instance == shot.scene.salient
    share = subject.mean()
    classes = sum((label == k).sum() >= 2 for k in np.unique(label) if k > 0)
    blocked = depth.min() < 0.4 * depth[subject].min(initial=np.inf)
    return classes + 14 * min(share, 0.25) - 8 * max(share - 0.45, 0.0) - 2 * blocked
