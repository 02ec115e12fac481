"""A catalogue of what drives: cars, trucks, buses, trams, motorcycles and bicycles, alone and ridden.

Each function draws one vehicle at random, by the classes of Cityscapes. A vehicle stands around its own origin on the
ground and drives towards +y; its right is +x.

Units: metres, radians. Common names: ``w``, ``l``, ``h`` whole width, length and height, ``r`` radius, ``z`` height
above the ground.
"""

from __future__ import annotations

import functools
import math

from . import figures
from .drawing import THINGS, Draw, Item
from .textures import Colour, Material

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
(
    ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY, PERSON, RIDER,
    CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE,
) = range(len(CLASSES))  # fmt: skip

PAINTS = (
    (0.88, 0.88, 0.87), (0.88, 0.88, 0.87), (0.62, 0.64, 0.66), (0.62, 0.64, 0.66), (0.33, 0.34, 0.36),
    (0.10, 0.10, 0.11), (0.10, 0.10, 0.11), (0.13, 0.22, 0.42), (0.20, 0.36, 0.58), (0.60, 0.11, 0.10),
    (0.45, 0.09, 0.12), (0.16, 0.32, 0.24), (0.66, 0.58, 0.42),
)  # fmt: skip
LIVERIES = (
    (0.86, 0.70, 0.14), (0.75, 0.14, 0.13), (0.88, 0.88, 0.86), (0.20, 0.38, 0.62), (0.22, 0.48, 0.34),
    (0.86, 0.45, 0.14),
)  # fmt: skip
GLASS = Material("plain", (0.13, 0.17, 0.20))
RUBBER = Material("plain", (0.06, 0.06, 0.065))
BLACK = Material("plain", (0.09, 0.09, 0.10))
STEEL = Material("plain", (0.58, 0.59, 0.61))
HEADLIGHT = Material("plain", (0.95, 0.95, 0.90), emission=0.9)
TAILLIGHT = Material("plain", (0.72, 0.07, 0.05), emission=0.65)
PLATE = Material("plain", (0.90, 0.90, 0.86))
AMBER = Material("plain", (0.95, 0.62, 0.12), emission=0.9)

BACKWARDS = -math.pi / 2  # the yaw of a wedge that rises towards the back
ACROSS = math.pi / 2  # the pitch of a disc whose axis runs from left to right


# --- parts of several vehicles ----------------------------------------------------------------------------------------


def _wheels(item: Item, x: float, places: tuple[float, ...], r: float, w: float = 0.22, hub: float = 0.58) -> None:
    """Pairs of wheels, their outer sides ``x`` from the middle, at these places along y."""
    for y in places:
        for side in (-1, 1):
            middle = side * (x - w / 2), y, r
            item.disc(middle, r, w, RUBBER, pitch=ACROSS).disc(middle, hub * r, w + 0.02, STEEL, pitch=ACROSS)


def _lights(item: Item, x: float, y: float, z: float, size: tuple[float, float], front: bool) -> None:
    """A pair of lights ``y`` before the middle, or behind it."""
    for side in (-1, 1):
        place = (side * x, y if front else -y, z)
        item.box(place, (size[0], 0.06, size[1]), HEADLIGHT if front else TAILLIGHT)


def _band(item: Item, place: tuple[float, float, float], w: float, l: float, h: float, pillar: Colour) -> None:
    """A row of windows on both sides of a long body."""
    glass = Material("doors", GLASS.colour, pillar, 1.45)
    item.box(place, (l, w, h), glass, yaw=math.pi / 2)  # the texture's joints run across the inner x


# --- cars -------------------------------------------------------------------------------------------------------------

# name -> length, height, bonnet, windscreen, rear window, boot (all along y), how often
_CARS = {
    "hatchback": ((3.8, 4.2), (1.44, 1.54), 0.85, 0.72, 0.45, 0.06),
    "saloon": ((4.4, 4.8), (1.40, 1.47), 1.15, 0.80, 0.72, 0.55),
    "estate": ((4.4, 4.8), (1.42, 1.50), 1.10, 0.78, 0.30, 0.04),
    "offroad": ((4.3, 4.7), (1.62, 1.74), 1.05, 0.62, 0.32, 0.05),
    "van": ((4.6, 5.1), (1.88, 2.02), 0.55, 0.75, 0.10, 0.02),
}


def car(draw: Draw) -> Item:
    """A car: hatchback, saloon, estate, off-road car or van."""
    lengths, heights, bonnet, screen, rear, boot = _CARS[draw.one(tuple(_CARS))]
    l, h, w = draw.span(*lengths), draw.span(*heights), draw.span(1.72, 1.86)
    paint = Material("plain", draw.colour(PAINTS, 0.03))
    item = Item(w + 0.3, l, h).begin(CAR)
    sill, waist, belt = 0.2, 0.44 * h, 0.62 * h
    r = (waist - sill) / 2
    item.box((0, 0, sill), (w, l - 2 * r, waist - sill), paint)
    for y in (l / 2 - r, r - l / 2):  # the rounded ends
        item.disc((0, y, sill + r), r, w, paint, pitch=ACROSS)
    back, base = -l / 2 + 0.06, l / 2 - bonnet
    item.box((0, (back + base) / 2, waist), (0.96 * w, base - back, belt - waist), paint)
    item.wedge(
        (0, base + bonnet / 2 - 0.06, waist - 0.01), (bonnet - 0.1, 0.96 * w, belt - waist), paint, yaw=BACKWARDS
    )
    _cabin(item, 0.85 * w, belt, h, (back + boot, rear, base, screen), paint)
    _wheels(item, w / 2 + 0.01, (0.31 * l, -0.3 * l), 0.205 * h + 0.01)
    _lights(item, w / 2 - 0.24, l / 2 - 0.06, waist - 0.18, (0.38, 0.15), True)
    _lights(item, w / 2 - 0.16, l / 2 - 0.045, waist - 0.12, (0.28, 0.2), False)
    item.box((0, l / 2 - 0.05, sill + 0.14), (0.7, 0.08, 0.16), BLACK)
    for y in (l / 2, -l / 2):
        item.box((0, y * 0.997, sill + 0.16), (0.5, 0.03, 0.11), PLATE)
    for side in (-1, 1):
        item.ball((side * (w / 2 + 0.06), base - screen * 0.55, belt + 0.07), (0.1, 0.06, 0.08), paint)
    return item


def _cabin(item: Item, w: float, belt: float, h: float, along: tuple[float, ...], paint: Material) -> None:
    """Windows and roof, between the belt line and the roof; ``along`` y: the back, how far the rear window and the
    windscreen slope, and the foot of the windscreen.
    """
    back, rear, base, screen = along
    tall, roof = h - belt, (back + rear, base - screen)
    middle, long = sum(roof) / 2, roof[1] - roof[0]
    item.box((0, middle, belt), (w, long, tall), paint)
    for foot, run, yaw, way in ((base, screen, BACKWARDS, 1), (back, rear, -BACKWARDS, -1)):
        y = foot - way * run / 2
        item.wedge((0, y, belt), (run, w, tall), paint, yaw=yaw)
        item.wedge((0, y + way * 0.02, belt), (0.96 * run, 0.88 * w, 0.96 * tall), GLASS, yaw=yaw)
    for side, share in ((middle + 0.25 * long + 0.1, 0.5), (middle - 0.25 * long + 0.02, 0.42)):  # front and rear panes
        item.box((0, side, belt + 0.02), (w + 0.02, share * long, 0.76 * tall), GLASS)


# --- trucks, buses, trams ---------------------------------------------------------------------------------------------


def truck(draw: Draw) -> Item:
    """A truck with a closed box, or an open one."""
    w, l, cab = 2.4, draw.span(7.0, 9.0), 1.9
    paint, z = Material("plain", draw.colour(LIVERIES + PAINTS, 0.04)), 0.95
    item = Item(w + 0.4, l, 3.6).begin(TRUCK)
    item.box((0, -0.1, 0.55), (0.9, l - 0.6, 0.4), BLACK)
    front = l / 2 - cab / 2
    item.box((0, front, 0.5), (w - 0.05, cab, 1.25), paint).box((0, front, 1.75), (w - 0.1, cab - 0.12, 0.95), paint)
    item.box((0, l / 2 - 0.04, 1.7), (w - 0.25, 0.06, 0.8), GLASS)
    item.box((0, front + 0.2, 1.75), (w - 0.06, 0.8, 0.65), GLASS)
    item.box((0, l / 2, 0.85), (1.5, 0.05, 0.5), BLACK)
    cargo = l - cab - 0.25
    y, h = -l / 2 + cargo / 2, draw.span(2.2, 2.6)
    if draw.chance(0.75):
        body = Material("plain", draw.colour(((0.88, 0.88, 0.86), (0.80, 0.80, 0.78), *LIVERIES), 0.03))
        item.box((0, y, z), (w, cargo, h), body)
        item.box((0, y, z + 0.3 * h), (w + 0.02, 0.7 * cargo, 0.28 * h), draw.plain(LIVERIES))
        item.box((0, -l / 2, z + 0.05), (0.04, 0.03, h - 0.1), BLACK)
    else:
        item.box((0, y, z), (w, cargo, 0.75), draw.material("planks", THINGS, 0.25))
        item.ball((0, y, z + 0.7), (0.45 * w, 0.4 * cargo, 0.5), draw.material("speckle", ((0.5, 0.4, 0.3),), 0.2, 0.7))
    _wheels(item, w / 2, (l / 2 - 0.95, -l / 2 + 1.2, -l / 2 + 2.25), 0.48, 0.3)
    _lights(item, w / 2 - 0.25, l / 2 + 0.01, 0.7, (0.36, 0.2), True)
    _lights(item, w / 2 - 0.2, l / 2 + 0.01, 0.65, (0.3, 0.16), False)
    item.box((0, -l / 2, 0.5), (w - 0.2, 0.08, 0.12), STEEL).box((0, -l / 2 - 0.04, 0.7), (0.5, 0.03, 0.12), PLATE)
    for side in (-1, 1):
        item.box((side * (w / 2 + 0.14), l / 2 - 0.2, 1.7), (0.16, 0.1, 0.5), BLACK)
    return item


def bus(draw: Draw) -> Item:
    """A city bus."""
    w, l, h = 2.5, draw.span(10.0, 12.0), draw.span(2.95, 3.1)
    paint = Material("plain", draw.colour(LIVERIES, 0.03))
    trim = Material("plain", draw.colour((paint.colour, (0.88, 0.88, 0.86), (0.15, 0.2, 0.35)), 0.02))
    item = Item(w + 0.5, l, h).begin(BUS)
    item.box((0, 0, 0.28), (w, l, 0.77), trim).box((0, 0, 1.05), (w - 0.06, l - 0.05, h - 1.2), paint)
    _band(item, (0, -0.1, 1.1), w, l - 0.5, 1.15, paint.colour)
    item.box((0, 0, h - 0.5), (w, l, 0.4), paint).box((0, -0.2 * l, h - 0.15), (1.7, 2.6, 0.28), paint)
    item.box((0, l / 2, 0.95), (w - 0.16, 0.06, 1.5), GLASS).box((0, l / 2 + 0.01, h - 0.42), (1.6, 0.06, 0.26), BLACK)
    item.box((0, l / 2 + 0.03, h - 0.38), (1.2, 0.04, 0.16), AMBER)
    item.box((0, -l / 2, 1.3), (w - 0.5, 0.05, 0.95), GLASS).box((0, -l / 2 - 0.01, h - 0.45), (0.6, 0.05, 0.25), AMBER)
    for y in (l / 2 - 1.0, 0.0, -l / 2 + 2.6):  # doors on the right
        item.box((w / 2 - 0.02, y, 0.36), (0.08, 1.15, 2.0), GLASS)
    _wheels(item, w / 2 + 0.01, (l / 2 - 2.4, -l / 2 + 3.6), 0.48, 0.3)
    _lights(item, w / 2 - 0.3, l / 2 + 0.01, 0.55, (0.4, 0.2), True)
    _lights(item, w / 2 - 0.16, l / 2 + 0.01, 0.7, (0.2, 0.5), False)
    item.box((0, -l / 2 - 0.01, 0.45), (0.55, 0.04, 0.13), PLATE)
    for side in (-1, 1):
        item.box((side * (w / 2 + 0.2), l / 2 + 0.1, 1.9), (0.2, 0.1, 0.4), BLACK)
    return item


def tram(draw: Draw) -> Item:
    """A tram of two or three carriages."""
    w, count, each, h = 2.4, draw.whole(2, 3), draw.span(8.0, 9.5), 3.3
    paint = Material("plain", draw.colour(LIVERIES, 0.03))
    roof = Material("plain", draw.colour(((0.85, 0.85, 0.83), (0.45, 0.46, 0.48)), 0.03))
    l = count * each
    item = Item(w + 0.4, l, h + 0.8).begin(TRAIN)
    for i in range(count):
        y = (i - (count - 1) / 2) * each
        item.box((0, y, 0.12), (w - 0.3, each - 2.0, 0.3), BLACK)
        item.box((0, y, 0.3), (w, each - 0.5, 0.85), paint).box((0, y, 1.15), (w - 0.06, each - 0.5, h - 1.2), paint)
        _band(item, (0, y, 1.2), w, each - 0.8, 1.2, (0.12, 0.13, 0.14))
        item.box((0, y, h - 0.3), (w - 0.1, each - 0.5, 0.3), roof)
        if i:
            item.box((0, y - each / 2, 0.35), (w - 0.3, 0.7, h - 0.6), BLACK)
    for way, yaw in ((1, BACKWARDS), (-1, -BACKWARDS)):  # both ends alike
        y = way * l / 2
        item.box((0, y - way * 0.1, 0.3), (w - 0.05, 0.6, 0.85), paint)
        item.wedge((0, y - way * 0.02, 1.15), (0.5, w - 0.1, h - 1.4), GLASS, yaw=yaw)
        item.box((0, y - way * 0.2, h - 0.42), (1.3, 0.06, 0.26), AMBER)
        _lights(item, w / 2 - 0.35, l / 2 + 0.19, 0.65, (0.3, 0.18), way > 0)
    item.box((0, 0, h - 0.02), (0.9, 1.4, 0.2), STEEL)
    item.tube((0, -0.5, h + 0.15), (0, 0.5, h + 0.6), 0.04, BLACK).tube(
        (0, 0.5, h + 0.6), (0, -0.2, h + 1.2), 0.03, BLACK
    )
    return item.tube((-0.6, -0.2, h + 1.2), (0.6, -0.2, h + 1.2), 0.03, BLACK)


# --- two wheels -------------------------------------------------------------------------------------------------------


def bicycle(draw: Draw, far: bool = False) -> Item:
    """A city bicycle; its saddle, bars and pedals are where ``cyclist`` expects them. From ``far``, discs are its
    wheels.
    """
    paint, r = Material("plain", draw.colour(LIVERIES + PAINTS, 0.05)), 0.34
    item = Item(0.6, 1.75, 1.1).begin(BICYCLE)
    for y in (-0.52, 0.54):
        if far:
            item.disc((0, y, r), r, 0.04, RUBBER, pitch=ACROSS).disc((0, y, r), 0.85 * r, 0.045, STEEL, pitch=ACROSS)
        else:
            _ring(item, y, r)
    seat, crank, head, low = (0, -0.22, 0.86), (0, -0.06, 0.3), (0, 0.38, 0.86), (0, 0.42, 0.68)
    for a, b in ((seat, crank), (crank, low), ((0, -0.2, 0.78), (0, 0.39, 0.8)), (crank, (0, -0.52, r)), (head, low)):
        item.tube(a, b, 0.03 if far else 0.02, paint)
    item.tube((0, -0.2, 0.78), (0, -0.52, r), 0.014, paint).tube(low, (0, 0.54, r), 0.018, paint)
    item.tube(head, (0, 0.36, 0.98), 0.016, BLACK).ball((0, -0.23, 0.9), (0.08, 0.14, 0.05), BLACK)
    item.tube((-0.27, 0.3, 1.0), (0.27, 0.3, 1.0), 0.017, BLACK)
    item.tube((-0.14, 0.03, 0.2), (-0.08, -0.06, 0.3), 0.02, BLACK)
    return item.tube((0.14, -0.15, 0.4), (0.08, -0.06, 0.3), 0.02, BLACK)


def _ring(item: Item, y: float, r: float, count: int = 12) -> None:
    """A wheel one can look through."""
    points = [(0, y + r * math.cos(a), r + r * math.sin(a)) for a in (2 * math.pi * i / count for i in range(count))]
    for i, point in enumerate(points):
        item.tube(points[i - 1], point, 0.022, RUBBER)
    for i in range(0, count // 2, 2):
        item.tube(points[i], points[i + count // 2], 0.006, STEEL)


def motorcycle(draw: Draw) -> Item:
    """A motorcycle; its saddle, bars and rests are where ``motorcyclist`` expects them."""
    paint, r = Material("plain", draw.colour(LIVERIES + PAINTS, 0.05)), 0.31
    item = Item(0.8, 2.1, 1.15).begin(MOTORCYCLE)
    for y in (-0.7, 0.72):
        item.disc((0, y, r), r, 0.13, RUBBER, pitch=ACROSS).disc((0, y, r), 0.6 * r, 0.15, STEEL, pitch=ACROSS)
    item.box((0, 0.02, 0.28), (0.3, 0.6, 0.32), BLACK).ball((0, 0.2, 0.78), (0.17, 0.32, 0.16), paint)
    item.box((0, -0.38, 0.68), (0.26, 0.68, 0.11), BLACK).ball((0, -0.7, 0.72), (0.12, 0.26, 0.09), paint)
    item.ball((0, 0.72, 0.58), (0.1, 0.24, 0.07), paint).ball((0, 0.55, 0.9), (0.15, 0.1, 0.13), HEADLIGHT)
    for side in (-1, 1):
        x = 0.1 * side
        item.tube((x, 0.72, r), (x, 0.45, 0.95), 0.03, STEEL).tube((x, -0.7, r), (x, -0.2, 0.45), 0.03, BLACK)
        item.tube((1.4 * x, -0.75, 0.36), (1.4 * x, 0.05, 0.32), 0.05, STEEL)
    item.tube((-0.36, 0.36, 1.03), (0.36, 0.36, 1.03), 0.022, BLACK)
    return item.box((0, -0.95, 0.68), (0.16, 0.05, 0.08), TAILLIGHT)


_CYCLING = functools.partial(
    figures.riding,
    saddle=(0.0, -0.24, 0.93),
    bars=((-0.25, 0.3, 1.02), (0.25, 0.3, 1.02)),
    pedals=((-0.13, 0.04, 0.22), (0.13, -0.16, 0.42)),
    lean=0.3,
)
_MOTORING = functools.partial(
    figures.riding,
    saddle=(0.0, -0.28, 0.8),
    bars=((-0.34, 0.36, 1.05), (0.34, 0.36, 1.05)),
    pedals=((-0.22, -0.02, 0.3), (0.22, -0.02, 0.3)),
    lean=0.18,
)


def cyclist(draw: Draw, far: bool = False) -> Item:
    """A bicycle and its rider."""
    person = figures.person(draw, RIDER, _CYCLING, draw.span(1.58, 1.86))
    return Item(0.7, 1.75, 1.9).put(bicycle(draw, far), 0, 0).put(person, 0, 0)


def motorcyclist(draw: Draw) -> Item:
    """A motorcycle and its rider."""
    person = figures.person(draw, RIDER, _MOTORING, draw.span(1.62, 1.88))
    return Item(0.9, 2.1, 1.7).put(motorcycle(draw), 0, 0).put(person, 0, 0)
