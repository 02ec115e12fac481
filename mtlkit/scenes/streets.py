"""Streets: scenes with the 19 classes of Cityscapes, seen from a car that drives along them.

A street has a kind (main street, residential street, along a park, outskirts) that says what stands behind the pavement
on either side. Along it come parked cars, lamps, trees and signs, people on the pavements, traffic in both lanes, and
in half of the scenes a crossing with traffic lights and people before the car. One frame ago the camera was 0.3 to 1.2
m farther back, and whatever drives or walks was a little behind its place.

The camera is that of Cityscapes in height and field of view; a disparity follows from depth with a baseline and
``shot.camera(width).focal``. The sky has no depth and no normal, and its flow is that of the camera's turning alone.
What would cover less than a third of a pixel of an image 128 pixels wide is left out: larger images are sharper, but
show no finer things.

Scene ``index`` of a split depends on (split, index, seed) alone; the image size only decides how finely it is sampled.

Units: metres, radians; the world's x runs to the right across the street (0 in its middle), y along it, z up. A side of
the street is +1 (right) or -1 (left); ``out`` counts metres from its kerb away from the road.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import numpy as np

from . import figures, roadside, vehicles
from .drawing import SPLITS, Draw, Item
from .render import Shot
from .textures import Material
from .vehicles import CLASSES, PERSON, ROAD, SIDEWALK, SKY, TERRAIN
from .world import Light, Pose, Scene, Sky

__all__ = ["CLASSES", "FOCAL", "KINDS", "SPLITS", "VERSION", "compose"]

VERSION = 1  # raise it when any street changes
FOCAL = 2262.52 / 2048  # as a share of the width: the calibration of most of Cityscapes' recordings
KERB = 0.12  # height of the pavements
SIDES = (1, -1)
WIDE = 3.0  # a pavement that has room for bicycles
FAR = 14.0  # from here on, bicycles are simpler

ASPHALTS = ((0.46, 0.46, 0.47), (0.52, 0.52, 0.53), (0.40, 0.40, 0.42), (0.55, 0.54, 0.52))
MARKS = ((0.86, 0.86, 0.83),)
PAVINGS = ((0.62, 0.60, 0.57), (0.55, 0.54, 0.53), (0.66, 0.60, 0.54))
GRASSES = ((0.36, 0.50, 0.18), (0.42, 0.50, 0.22), (0.32, 0.46, 0.20))
# overhead, at the horizon
SKIES = (
    ((0.33, 0.53, 0.85), (0.84, 0.90, 0.96)), ((0.45, 0.62, 0.86), (0.93, 0.93, 0.92)),
    ((0.40, 0.52, 0.74), (0.95, 0.86, 0.72)),
)  # fmt: skip
GREYS = (((0.70, 0.73, 0.76), (0.86, 0.87, 0.88)), ((0.62, 0.65, 0.70), (0.80, 0.82, 0.84)))


def compose(split: str, index: int, seed: int = 0) -> Shot:
    """Street ``index`` of a split, for any image size.

    Raises:
        KitError: for an unknown split, or a negative index or seed.
    """
    draw = Draw.scene("streets", split, index, seed)
    street = _Street(draw, draw.one(tuple(KINDS)))
    street.ground()
    for side in SIDES:
        for start, end in street.spans:
            street.fronts[side](street, side, start, end)
            _kerbside(street, side, start, end)
            _pedestrians(street, side, start, end)
        _parked(street, side)
    if street.crossing:
        _crossing(street)
    _traffic(street)
    return _view(street)


# --- a street, being built --------------------------------------------------------------------------------------------


class _Street:
    """A straight street with two lanes, its ground laid out.

    Attributes:
        lane: width of a lane.
        parking: whether cars park along a side.
        edge: distance of a side's kerb from the middle.
        pavement: width of a side's pavement.
        end: where the street ends in a T-junction.
        crossing: from where to where along y another street crosses, or None.
        lit: what its traffic lights show to the camera: 0 red, 2 green.
        spans: the stretches of kerb that this leaves.
        eye: where the camera is.
    """

    def __init__(self, draw: Draw, kind: str):
        self.draw, self.content = draw, Item(0, 0, 0)
        fronts, parked = KINDS[kind]
        order = draw.rng.permutation(2)
        self.fronts = {side: draw.one(fronts[int(i)]) for side, i in zip(SIDES, order, strict=True)}
        self.lane, self.end = draw.span(3.0, 3.5), draw.span(95.0, 135.0)
        self.parking = {side: draw.chance(parked) for side in SIDES}
        self.edge = {side: self.lane + 2.1 * self.parking[side] for side in SIDES}
        self.pavement = {side: draw.span(*_PAVEMENTS[self.fronts[side]]) for side in SIDES}
        self.rails = draw.chance(0.55 if kind == "main" else 0.2)
        self.eye = self.lane / 2 + draw.span(-0.25, 0.25), 0.0, draw.span(1.2, 1.4)
        self.crossing, self.lit = None, draw.one((0, 0, 2))
        self.spans = [(-24.0, self.end - 9.0)]
        if draw.chance(0.5):
            start = draw.span(17.0, 34.0)
            self.crossing = start, start + draw.span(7.5, 10.0)
            self.spans = [(-24.0, start), (self.crossing[1], self.end - 9.0)]

    def put(self, item: Item, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> None:
        """Place an item, without what is too small to be seen."""
        pose = Pose.at(x, y, z, yaw=yaw)
        item.solids = [s for s in item.solids if self._seen(s.size, pose.rotation @ s.pose.position + pose.position)]
        self.content.join(item, pose)

    def send(self, item: Item, x: float, y: float, z: float, way: tuple[int, int], step: float) -> None:
        """Place an item that goes this way and has come ``step`` metres since the last frame; 0 stands."""
        first = len(self.content.solids)
        self.put(item, x, y, z, math.atan2(-way[0], way[1]))
        if step:
            back, sent = Pose.at(-step * way[0], -step * way[1], 0.0), self.content.solids[first:]
            self.content.solids[first:] = [dataclasses.replace(s, previous=back @ s.pose) for s in sent]

    def _seen(self, size: tuple[float, float, float], position: np.ndarray) -> bool:
        """Whether a solid covers a third of a pixel of an image 128 pixels wide, or throws a shadow from beside it."""
        _, b, c = sorted(size)
        x, y = abs(position[0] - self.eye[0]), position[1] - self.eye[1]
        if y + 2 * c < 1.5 * x - 2.0:
            return b * c > 0.4
        return 4 * b * c * (128 * FOCAL) ** 2 > 0.35 * (x * x + y * y)

    def beside(self, item: Item, side: int, y: float, out: float, yaw: float = 0.0) -> None:
        """Place an item ``out`` metres behind the kerb; it faces the road unless turned."""
        self.put(item, side * (self.edge[side] + out), y, KERB, side * math.pi / 2 + yaw)

    def facing(self, item: Item, side: int, y: float, out: float) -> None:
        """Place an item behind the kerb so that it faces the camera."""
        self.put(item, side * (self.edge[side] + out), y, KERB, math.pi)

    def plate(self, label: int, x: tuple[float, float], y: tuple[float, float], top: float, material: Material) -> None:
        """A piece of ground: from here to there, its upper side at this height."""
        size = (x[1] - x[0], y[1] - y[0], 0.3)
        self.content.begin(label).box((sum(x) / 2, sum(y) / 2, top - 0.3), size, material)

    def ground(self) -> None:
        """Roads, pavements, and what lies behind them."""
        draw = self.draw
        asphalt = draw.mixture("lanes", ASPHALTS, MARKS, self.lane, 0.01)
        plain = dataclasses.replace(asphalt, second=asphalt.colour)
        self.plate(ROAD, (-110.0, 110.0), (-30.0, self.end + 30.0), -0.01, plain)
        middle, long = (self.end - 30) / 2, self.end + 30
        self.content.box((0, middle, -0.2), (2 * self.lane, long, 0.2), asphalt)
        for x in (self.lane / 2, -self.lane / 2) if self.rails else ():
            for rail in (-0.72, 0.72):
                self.content.box((x + rail, middle, 0), (0.09, long, 0.006), vehicles.STEEL)
        paving = draw.mixture("tiles", PAVINGS, PAVINGS, (0.4, 0.8), 0.02)
        for side in SIDES:
            front = self.fronts[side]
            behind = draw.material("speckle", GRASSES, 0.5, 0.75) if front is not _shops else paving
            for span in self.spans:
                a, b = self.edge[side], self.edge[side] + self.pavement[side]
                self.plate(SIDEWALK, tuple(sorted((side * a, side * b))), span, KERB, paving)
                label = SIDEWALK if front is _shops else TERRAIN
                self.plate(label, tuple(sorted((side * b, side * 110))), span, KERB - 0.02, behind)
        _background(self)


def _march(draw: Draw, start: float, end: float, low: float, high: float) -> Iterator[float]:
    """Places from start to end, each so far from the one before."""
    y = start + draw.span(0.0, high)
    while y < end:
        yield y
        y += draw.span(low, high)


def _row(draw: Draw, start: float, end: float, make: Callable[[], Item], gap: tuple[float, float]) -> Iterator:
    """Items side by side along y, with the place of each, as long as they fit."""
    y = start
    while True:
        item = make()
        if y + item.width > end:
            return
        yield item, y + item.width / 2
        y += item.width + draw.span(*gap)


def _background(street: _Street) -> None:
    """What closes the view at the end of the street and far to its sides."""
    draw, far = street.draw, street.end + 6.0
    town = {side: street.fronts[side] is _shops or draw.chance(0.2) for side in SIDES}
    for side in SIDES:
        make, out = (roadside.block, 36.0) if town[side] else (roadside.wood, 52.0)
        for item, y in _row(draw, 5.0, far - 2, functools.partial(make, draw, 32.0), (0.0, 4.0)):
            street.beside(item, side, y, out)
    make = roadside.block if any(town.values()) else roadside.wood
    for item, x in _row(draw, -90.0, 90.0, functools.partial(make, draw, 24.0), (0.0, 3.0)):
        street.put(item, x, far + item.depth / 2, 0.0, math.pi)
    street.plate(SIDEWALK, (-110.0, 110.0), (far - 3.0, far + 30.0), KERB, Material("plain", PAVINGS[1]))


# --- what stands behind the pavement ----------------------------------------------------------------------------------


def _shops(street: _Street, side: int, start: float, end: float) -> None:
    """A closed row of houses."""
    draw, shops = street.draw, street.draw.span(0.3, 0.9)
    for house, y in _row(draw, start, end, lambda: roadside.town_house(draw, draw.chance(shops)), (0.0, 0.0)):
        street.beside(house, side, y, street.pavement[side] + house.depth / 2)


def _gardens(street: _Street, side: int, start: float, end: float) -> None:
    """Houses in gardens, behind fences, walls and hedges."""
    draw, out = street.draw, street.pavement[side]
    back = draw.span(4.2, 6.5)
    for house, y in _row(draw, start + 2, end, functools.partial(roadside.cottage, draw), (4.0, 9.0)):
        street.beside(house, side, y, out + back + house.depth / 2)
    _enclose(street, side, start, end, (roadside.fence, roadside.fence, roadside.hedge, roadside.wall), (0.9, 1.4), 3.0)
    for y in _march(draw, start + 2, end - 2, 5.0, 12.0):
        if draw.chance(0.55):
            street.beside(roadside.tree(draw, draw.span(1.2, 1.7)), side, y, out + 2.1)
        else:
            street.beside(roadside.bush(draw, draw.span(0.6, 1.0)), side, y, out + 1.6)


def _park(street: _Street, side: int, start: float, end: float) -> None:
    """Lawns with trees behind a fence or a low wall."""
    draw, out = street.draw, street.pavement[side]
    _enclose(
        street, side, start, end, (roadside.fence, roadside.railing, roadside.wall, roadside.hedge), (0.8, 1.2), 1.5
    )
    for row, (low, high) in enumerate(((3.5, 6.0), (11.0, 15.0), (22.0, 32.0))):
        for y in _march(draw, start + 2, end - 2, 7.5, 12.0 + 3 * row):
            lobes = 6 - row if y < 40 else 3
            street.beside(roadside.tree(draw, draw.span(1.8, 3.2), lobes), side, y, out + draw.span(low, high))
    for y in _march(draw, start + 2, end - 2, 8.0, 20.0):
        street.beside(roadside.bush(draw, draw.span(0.6, 1.1)), side, y, out + 1.7)


def _works(street: _Street, side: int, start: float, end: float) -> None:
    """Halls behind a long wall."""
    draw, out = street.draw, street.pavement[side]
    _enclose(street, side, start, end, (roadside.wall, roadside.wall, roadside.fence), (1.7, 2.4), 5.0)
    for hall, y in _row(draw, start, end, functools.partial(roadside.works, draw), (4.0, 12.0)):
        street.beside(hall, side, y, out + 6.5 + hall.depth / 2)
    for y in _march(draw, start + 2, end - 2, 9.0, 20.0):
        street.beside(roadside.tree(draw, draw.span(1.5, 2.2)), side, y, out + 3.2)


def _field(street: _Street, side: int, start: float, end: float) -> None:
    """Open ground with bushes, a few trees and a house."""
    draw, out = street.draw, street.pavement[side]
    if draw.chance(0.75):
        _enclose(street, side, start, end, (roadside.fence, roadside.railing), (0.8, 1.1), 2.0)
    for y in _march(draw, start + 2, end - 2, 6.0, 16.0):
        street.beside(roadside.bush(draw, draw.span(0.6, 1.3)), side, y, out + draw.span(2.0, 6.0))
    for y in _march(draw, start + 2, end - 2, 14.0, 26.0):
        street.beside(roadside.tree(draw, draw.span(1.8, 3.2)), side, y, out + draw.span(9.0, 24.0))
    street.beside(roadside.cottage(draw), side, draw.span(45.0, 80.0), out + 36.0)


def _enclose(
    street: _Street,
    side: int,
    start: float,
    end: float,
    kinds: tuple[Callable[[Draw, float, float], Item], ...],
    heights: tuple[float, float],
    gap: float,
) -> None:
    """Fences and the like along the back of a pavement, with gates between."""
    draw, kind, h = street.draw, street.draw.one(kinds), street.draw.span(*heights)

    for item, y in _row(draw, start, end, lambda: kind(draw, draw.span(9.0, 16.0), h), (0.0, gap)):
        street.beside(item, side, y, street.pavement[side] + 0.35)


# kind -> what stands on its two sides (one of each, in either order), and how often cars park along a side
Front = Callable[[_Street, int, float, float], None]
KINDS: dict[str, tuple[tuple[tuple[Front, ...], tuple[Front, ...]], float]] = {
    "main": (((_shops,), (_shops,)), 0.55),
    "residential": (((_gardens,), (_gardens,)), 0.8),
    "park": (((_park,), (_shops, _gardens)), 0.6),
    "outskirts": (((_works, _field), (_field, _works, _gardens)), 0.2),
}
_PAVEMENTS = {_shops: (3.0, 4.6), _gardens: (1.9, 2.8), _park: (2.4, 3.6), _works: (1.8, 2.6), _field: (1.6, 2.2)}


# --- along the kerb ---------------------------------------------------------------------------------------------------


def _kerbside(street: _Street, side: int, start: float, end: float) -> None:
    """Lamps, trees, signs, bollards and bicycles in a strip along the kerb."""
    draw, wide = street.draw, street.pavement[side] > WIDE
    kinds = ["lamp"] * 3 + ["sign"] * 2 + ["litter", "bollards"]
    kinds += ["tree"] * 3 * (wide and street.parking[side]) + ["bicycles"] * 4 * wide
    for y in _march(draw, max(start, 3.0) + 3, end - 7, 5.0, 9.0):
        kind = draw.one(kinds)
        if kind == "lamp":
            street.beside(roadside.lamp(draw), side, y, 0.4)
        elif kind == "tree":
            street.beside(roadside.tree(draw, draw.span(1.1, 1.5)), side, y, 0.75)
        elif kind == "sign":
            street.facing(roadside.sign(draw), side, y, 0.5)
        elif kind == "litter":
            street.beside(roadside.litter(draw), side, y, 0.6, draw.one((0.0, math.pi)))
        elif kind == "bicycles":
            for i in range(draw.whole(1, 4)):
                two = vehicles.bicycle(draw, far=y > FAR) if draw.chance(0.75) else vehicles.motorcycle(draw)
                street.beside(two, side, y + 0.85 * i, 1.15, draw.span(-0.12, 0.12))
        else:
            for i in range(draw.whole(1, 3)):
                street.beside(roadside.bollard(draw), side, y + 1.2 * i, 0.35)


def _parked(street: _Street, side: int) -> None:
    if not street.parking[side]:
        return
    draw = street.draw
    low, high = (street.crossing[0] - 6.0, street.crossing[1] + 6.0) if street.crossing else (0.0, 0.0)
    y = draw.span(4.0, 9.0) if side > 0 else draw.span(1.0, 5.0)
    while y < 62.0:
        car = vehicles.car(draw)
        middle, reach = y + car.depth / 2, car.depth / 2
        if not (middle + reach > low and middle - reach < high) and draw.chance(0.8):
            x = side * (street.edge[side] - 1.02 + draw.span(-0.08, 0.08))
            street.put(car, x, middle, 0.0, (0.0 if side > 0 else math.pi) + draw.span(-0.02, 0.02))
        y += car.depth + draw.span(0.7, 1.6)


def _pedestrians(street: _Street, side: int, start: float, end: float) -> None:
    """People on a pavement: most of them walk along it."""
    draw, high = street.draw, street.pavement[side] - 0.5
    low = 2.5 if street.pavement[side] > WIDE else min(1.25, high)
    often = {_shops: (2.5, 9.0), _park: (4.0, 16.0), _gardens: (6.0, 22.0)}.get(street.fronts[side], (10.0, 35.0))
    for y in _march(draw, max(start, 5.0), min(end, 50.0), *often):
        out = draw.span(low, high)
        if draw.chance(0.25):
            street.beside(figures.person(draw, PERSON), side, y, out, draw.span(-1.5, 1.5))
        else:
            _walker(street, side * (street.edge[side] + out), y, KERB, (0, draw.one((1, -1))))


def _walker(street: _Street, x: float, y: float, z: float, way: tuple[int, int]) -> None:
    walker = figures.person(street.draw, PERSON, figures.walking)
    street.send(walker, x, y, z, way, street.draw.span(0.05, 0.1))


# --- traffic ----------------------------------------------------------------------------------------------------------


def _crossing(street: _Street) -> None:
    """Traffic lights, a zebra with people on it while the light is red, and then someone who crosses by car."""
    draw, (start, end) = street.draw, street.crossing
    left, right, zebra = -street.edge[-1], street.edge[1], start - 2.6
    bars = Material("stripes", (0.84, 0.84, 0.82), (0.38, 0.38, 0.39), 1.0)
    street.content.begin(ROAD).box(((left + right) / 2, zebra, -0.1), (right - left, 3.0, 0.108), bars)
    arm = street.lane + 2.1 * street.parking[1] - street.lane / 2 + 0.5 if draw.chance(0.5) else 0.0
    street.facing(roadside.signal(draw, street.lit, arm), 1, zebra - 2.2, 0.5)
    street.facing(roadside.signal(draw, street.lit), -1, zebra - 2.2, 0.5)
    street.facing(roadside.signal(draw, street.lit), draw.one(SIDES), end + 1.0, 0.5)
    if street.lit:
        return
    for x in _march(draw, left + 0.3, right - 0.3, 0.9, 4.0):
        _walker(street, x, zebra + draw.span(-1.0, 1.0), 0.0, (draw.one((1, -1)), 0))
    if draw.chance(0.6):
        way = draw.one((1, -1))
        y = (start + end) / 2 + 1.8 * way
        street.send(_vehicle(street, y, False, False), draw.span(-9.0, 9.0), y, 0.0, (way, 0), draw.span(0.25, 0.7))


def _vehicle(street: _Street, y: float, own: bool, rails: bool) -> Item:
    """What drives ``y`` metres ahead; nothing that hides all else in the camera's ``own`` lane too often."""
    draw, kind = street.draw, street.draw.rng.random()
    heavy = 0.1 if own else 0.2
    if rails and kind > 0.8:
        return vehicles.tram(draw)
    if kind < heavy:
        return draw.one((vehicles.truck, vehicles.bus))(draw)
    if kind < heavy + 0.22:
        return vehicles.cyclist(draw, far=y > FAR)
    if kind < heavy + 0.32:
        return vehicles.motorcyclist(draw)
    return vehicles.car(draw)


def _traffic(street: _Street) -> None:
    """Vehicles in both lanes. Those before a red light wait; nobody stands on the crossing."""
    draw = street.draw
    low, high = (street.crossing[0] - 5.5, street.crossing[1] + 1.0) if street.crossing else (0.0, 0.0)
    for way, first, gap in ((1, draw.span(9.0, 30.0), (7.0, 25.0)), (-1, draw.span(5.0, 20.0), (7.0, 30.0))):
        y, speed = first, draw.span(0.3, 1.2)
        while y < 75.0:
            vehicle = _vehicle(street, y, way > 0, street.rails)
            a, b = y, y + vehicle.depth
            if not (b > low and a < high):
                waits = street.crossing and not street.lit and (b <= low if way > 0 else a >= high)
                aside = 0.5 if vehicle.width < 1.0 else 0.0  # two wheels keep to the right
                x = way * (street.lane / 2 + aside + draw.span(-0.15, 0.15))
                street.send(vehicle, x, (a + b) / 2, 0.0, (0, way), 0.0 if waits else speed)
            y = b + draw.span(*gap)


# --- the camera -------------------------------------------------------------------------------------------------------


def _view(street: _Street) -> Shot:
    """From the driver's place along the street, and from where it was one frame ago."""
    draw, eye = street.draw, np.array(street.eye)
    yaw, pitch, roll = draw.span(-0.07, 0.07), draw.span(-0.01, 0.045), draw.span(-0.01, 0.01)
    pose = Pose.look(eye, eye + [math.tan(yaw), 1.0, -math.tan(pitch)], roll)
    step, turned = draw.span(0.3, 1.2), draw.span(-0.012, 0.012)
    back = Pose.at(*(eye - [draw.span(-0.02, 0.02), step, draw.span(-0.008, 0.008)]), yaw=turned)
    previous = back @ Pose(pose.rotation, np.zeros(3))
    light, sky = _weather(draw)
    shot = Shot(Scene(tuple(street.content.solids), light, sky=sky), pose, FOCAL, previous)
    return dataclasses.replace(shot, scene=dataclasses.replace(shot.scene, salient=_salient(shot)))


def _weather(draw: Draw) -> tuple[Light, Sky]:
    """Two in three days are sunny."""
    sunny = draw.chance(0.67)
    high, low = draw.one(SKIES if sunny else GREYS)
    sky = Sky(SKY, Material("clouds", high, low, draw.span(0.8, 2.0), draw.whole(0, 9999)))
    azimuth, up = draw.span(0, 2 * math.pi), draw.span(0.45, 1.15)
    if sunny:
        warm = 0.1 * (1.15 - up)
        return Light.sun(azimuth, up, draw.span(0.55, 0.75), draw.span(0.5, 0.62), (1 + warm, 1.0, 1 - 1.5 * warm)), sky
    return Light.sun(azimuth, 1.2, draw.span(0.1, 0.25), draw.span(0.75, 0.88), (1.0, 1.0, 1.0)), sky


def _salient(shot: Shot) -> int | None:
    """The person, rider or vehicle that takes the largest part of the image."""
    label, instance, _ = shot.glance(16, 32)
    things, sizes = np.unique(instance[label >= PERSON], return_counts=True)
    return int(things[np.argmax(sizes)]) if len(things) else None
