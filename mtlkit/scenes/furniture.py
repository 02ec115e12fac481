"""A catalogue of furniture and of what stands, lies and hangs about in a home, by the 13 classes of NYUv2.

Each function draws one piece at random. As in NYUv2's own 13 classes, curtains count as window, doors as wall, carpets
as floor, lamps, plants, pillows and boxes as objects; one small object in ten is unlabelled (-1).

Units: metres, radians. Furniture stands around its own origin, its middle on the floor, its back towards -y. What hangs
on a wall has x along it, y into the room, and its origin on the floor. Common names: ``w``, ``d``, ``h`` whole width,
depth and height, ``r`` radius, ``z`` height above the floor.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .drawing import CLOTHS, DARK, LINENS, METAL, THINGS, Draw, Item
from .textures import Material

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
BED, BOOKS, CEILING, CHAIR, FLOOR, FURNITURE, OBJECTS, PICTURE, SOFA, TABLE, TV, WALL, WINDOW = range(len(CLASSES))
UNLABELLED = -1

PAPER = ((0.66, 0.50, 0.32), (0.80, 0.78, 0.74))
GREENS = ((0.25, 0.45, 0.2), (0.2, 0.38, 0.25), (0.4, 0.5, 0.2))
SKIES = ((0.70, 0.82, 0.95), (0.85, 0.90, 0.95))
FRAMES = ((0.90, 0.89, 0.86), (0.45, 0.30, 0.2))


def _fronts(wood: Material, scale: float) -> Material:
    """Doors of this wood."""
    return dataclasses.replace(wood, texture="doors", scale=scale)


# --- small things -----------------------------------------------------------------------------------------------------


def _object(draw: Draw, w: float, d: float, h: float) -> Item:
    return Item(w, d, h).begin(UNLABELLED if draw.chance(0.1) else OBJECTS)


def small(draw: Draw) -> Item:
    """A vase, box, ball or jar to stand on something."""
    item = _object(draw, 0.25, 0.25, 0.3)
    kind, material = draw.whole(0, 3), draw.plain()
    if kind == 0:
        r, h = draw.span(0.04, 0.08), draw.span(0.12, 0.28)
        return item.rod((0, 0, 0), r, h, material).ball((0, 0, h), (r * 1.25, r * 1.25, r * 0.8), material)
    if kind == 1:
        size = draw.span(0.12, 0.25), draw.span(0.1, 0.2), draw.span(0.08, 0.22)
        return item.box((0, 0, 0), size, material, yaw=draw.span(-0.4, 0.4))
    if kind == 2:
        r = draw.span(0.06, 0.11)
        return item.ball((0, 0, r), (r, r, r), draw.material("checker", THINGS, 0.07, 0.5))
    return item.rod((0, 0, 0), draw.span(0.05, 0.09), draw.span(0.1, 0.2), material)


def pile(draw: Draw) -> Item:
    """A few books lying on each other."""
    item, z = Item(0.3, 0.25, 0.2).begin(BOOKS), 0.0
    for _ in range(draw.whole(2, 5)):
        h = draw.span(0.025, 0.055)
        item.box((0, 0, z), (draw.span(0.2, 0.3), draw.span(0.15, 0.22), h), draw.plain(), yaw=draw.span(-0.3, 0.3))
        z += h
    return item


def row(draw: Draw, w: float, h: float) -> Item:
    """Books standing in a row."""
    colour = draw.colour(((0.5, 0.42, 0.38),))
    spines = Material("spines", colour, (0.08, 0.07, 0.06), draw.span(0.03, 0.055), draw.whole(0, 9999))
    return Item(w, 0.2, h).begin(BOOKS).box((0, 0, 0), (w, 0.19, h), spines)


def lamp(draw: Draw, low: float = 0.4, high: float = 0.55) -> Item:
    """A lamp with a shade, as high as a number from ``low`` to ``high``; above 1 m it stands on the floor."""
    h, foot, shade = draw.span(low, high), draw.span(0.06, 0.09), draw.span(0.1, 0.16)
    material = draw.one((METAL, DARK, draw.wood()))
    item = Item(2 * shade, 2 * shade, h).begin(OBJECTS)
    item.rod((0, 0, 0), foot * (1.6 if h > 1 else 1.0), 0.02, material)
    item.rod((0, 0, 0.02), 0.014, h - 0.2, material)
    glow = Material("plain", draw.colour(((0.95, 0.88, 0.7),)), emission=0.95)
    return item.rod((0, 0, h - 0.2), shade, 0.2, glow)


def plant(draw: Draw, h: float) -> Item:
    """A pot with leaves."""
    item, pot = Item(0.6 * h, 0.6 * h, h).begin(OBJECTS), 0.3 * h
    item.rod((0, 0, 0), 0.16 * h, pot, draw.plain())
    green = draw.material("speckle", GREENS, 0.05, 0.6)
    for i in range(draw.whole(6, 9)):
        lean, around = draw.span(0.15, 0.75), 2.4 * i + draw.span(0, 0.6)  # 2.4 rad apart: leaves never stack
        reach = draw.span(0.24, 0.36) * h
        x, y = math.sin(lean) * math.cos(around) * reach, math.sin(lean) * math.sin(around) * reach
        leaf = (0.06 * h, 0.11 * h, reach)
        item.ball((x, y, pot + math.cos(lean) * reach), leaf, green, yaw=around, pitch=lean)
    return item


def screen(draw: Draw, low: float, high: float) -> Item:
    """A television or monitor on a foot, as wide as a number from ``low`` to ``high``."""
    w = draw.span(low, high)
    item = Item(w, 0.2, 0.58 * w + 0.1).begin(TV)
    item.box((0, 0, 0), (0.35 * w, 0.18, 0.02), DARK).box((0, 0, 0.02), (0.06, 0.04, 0.08), DARK)
    return _panel(draw, item, w, 0.07)


def _panel(draw: Draw, item: Item, w: float, z: float) -> Item:
    """A flat screen from ``z`` upwards, on or off."""
    h = 0.58 * w
    if draw.chance(0.6):
        face = draw.mixture("painting", CLOTHS, THINGS, 0.25 * w, emission=0.8)
    else:
        face = Material("plain", draw.colour(((0.10, 0.11, 0.13),), 0.02))
    item.box((0, 0, z), (w, 0.05, h), DARK)
    return item.box((0, 0.025, z + 0.02), (w - 0.04, 0.01, h - 0.04), face)


def clutter(draw: Draw) -> Item:
    """Something that stands about on the floor: a plant, a lamp, a cardboard box, a ball."""
    kind = draw.whole(0, 3)
    if kind == 0:
        return plant(draw, draw.span(0.6, 1.2))
    if kind == 1:
        return lamp(draw, 1.35, 1.65)
    item = _object(draw, 0.5, 0.45, 0.5)
    if kind == 2:
        card, h = draw.material("speckle", PAPER, 0.1, 0.9), draw.span(0.22, 0.4)
        item.box((0, 0, 0), (draw.span(0.3, 0.46), draw.span(0.28, 0.4), h), card, yaw=draw.span(-0.3, 0.3))
        return item.put(pile(draw), 0, 0, h) if draw.chance(0.4) else item
    r = draw.span(0.12, 0.24)
    return item.ball((0, 0, r), (r, r, r), draw.material("checker", THINGS, draw.span(0.1, 0.16), 0.45))


# --- beds, seats, tables ----------------------------------------------------------------------------------------------


def bed(draw: Draw) -> Item:
    """A bed with its pillows, and perhaps nightstands."""
    w, l, wood, linen = draw.span(1.0, 1.8), 2.05, draw.wood(), draw.cloth(LINENS)
    item = Item(w + 0.1, l + 0.1, 1.1).begin(BED).legs(w, l, 0.16, 0.035, wood)
    item.box((0, 0, 0.14), (w, l, 0.16), wood)
    item.box((0, 0.02, 0.3), (w - 0.05, l - 0.08, 0.22), draw.plain(LINENS[:1]))
    cover = draw.span(0.55, 0.75) * l
    item.box((0, (l - cover) / 2 + 0.02, 0.24), (w + 0.04, cover, 0.33), linen)
    item.box((0, -l / 2 - 0.02, 0.0), (w + 0.06, 0.06, draw.span(0.8, 1.15)), wood)
    pillows, case = (2 if w > 1.35 else 1), draw.cloth(LINENS)
    for i in range(pillows):
        x = (i - (pillows - 1) / 2) * 0.75
        item.begin(OBJECTS).ball((x, -l / 2 + 0.28, 0.58), (0.33, 0.21, 0.1), case, roll=0.25)
    for side in (-1, 1):
        if draw.chance(0.6):
            item.put(_nightstand(draw), side * (w / 2 + 0.32), -l / 2 + 0.25)
            item.width = w + 1.2
    return item


def _nightstand(draw: Draw) -> Item:
    h, wood = draw.span(0.42, 0.58), draw.wood()
    item = Item(0.45, 0.42, h).begin(FURNITURE)
    item.box((0, 0, 0), (0.42, 0.4, h), _fronts(wood, 0.5)).box((0, 0, h), (0.46, 0.43, 0.025), wood)
    item.ball((0, 0.21, 0.7 * h), (0.018,) * 3, METAL)
    return item.put(draw.one((lamp, pile, small))(draw), draw.span(-0.06, 0.06), 0, h + 0.025)


def sofa(draw: Draw) -> Item:
    """A sofa for two or three, with cushions."""
    w, d, cloth, arm = draw.span(1.5, 2.3), draw.span(0.85, 0.98), draw.cloth(), draw.span(0.14, 0.22)
    item = Item(w, d, 0.95).begin(SOFA).legs(w, d, 0.12, 0.03, draw.wood())
    item.box((0, 0, 0.1), (w, d, 0.22), cloth).box((0, -d / 2 + 0.1, 0.3), (w, 0.2, draw.span(0.42, 0.6)), cloth)
    for side in (-1, 1):
        x = side * (w - arm) / 2
        item.box((x, 0, 0.3), (arm, d, 0.26), cloth).bar((x, 0, 0.56), arm / 2, d - arm, cloth, roll=math.pi / 2)
    seats = 2 if w < 1.9 else 3
    step = (w - 2 * arm) / seats
    for i in range(seats):
        x = (i - (seats - 1) / 2) * step
        item.box((x, 0.09, 0.32), (step - 0.015, d - 0.22, 0.14), cloth)
        item.box((x, -d / 2 + 0.27, 0.45), (step - 0.03, 0.16, 0.36), cloth, roll=0.2)
    for _ in range(draw.whole(0, 2)):
        x = draw.span(-0.5, 0.5) * (w - 2 * arm - 0.4)
        item.begin(OBJECTS)
        item.box((x, 0.02, 0.46), (0.38, 0.12, 0.36), draw.cloth(), roll=0.45, yaw=draw.span(-0.3, 0.3))
    return item


def chair(draw: Draw, yaw: float = 0.0) -> Item:
    """A kitchen or an office chair; one sits with the face towards +y, turned by ``yaw``."""
    h, item = draw.span(0.43, 0.48), Item(0.5, 0.5, 0.95).begin(CHAIR)
    if draw.chance(0.3):
        cloth = draw.cloth()
        for i in range(3):
            item.bar((0, 0, 0.06), 0.025, 0.5, DARK, pitch=math.pi / 2, yaw=i * math.pi / 3)
        item.rod((0, 0, 0.05), 0.03, h - 0.05, METAL).rod((0, 0, h - 0.02), 0.24, 0.08, cloth)
        item.bar((0, -0.24, h + 0.12), 0.02, 0.3, DARK).box((0, -0.24, h + 0.16), (0.42, 0.07, 0.42), cloth, roll=0.12)
    else:
        wood, w = draw.wood(), draw.span(0.4, 0.46)
        item.legs(w, w, h, 0.02, wood)
        item.box((0, 0, h), (w, w, 0.04), draw.cloth() if draw.chance(0.4) else wood)
        for x in (-1, 1):
            item.box((x * (w / 2 - 0.03), -w / 2 + 0.02, h), (0.035, 0.03, 0.46), wood)
        slats, broad = ((0.14, 0.24, 0.34), 0.06) if draw.chance(0.6) else ((0.22,), 0.22)
        for z in slats:
            item.box((0, -w / 2 + 0.02, h + z), (w - 0.08, 0.02, broad), wood)
    return Item(0.5, 0.5, 0.95).put(item, 0, 0, yaw=yaw)


def laden(draw: Draw, item: Item, count: int) -> Item:
    """The item with things on its plate, each in a strip of its own."""
    for i in range(count):
        x = ((i + 0.5) / count - 0.5) * (item.width - 0.2)
        thing = pile(draw) if draw.chance(0.35) else small(draw)
        place = x + draw.span(-0.04, 0.04), draw.span(-0.25, 0.25) * (item.depth - 0.25), item.height
        item.put(thing, *place, yaw=draw.span(-0.5, 0.5))
    return item


def table(draw: Draw, w: float, d: float, h: float) -> Item:
    """A table on four legs, or a round one on a foot."""
    item, wood = Item(w, d, h).begin(TABLE), draw.wood()
    if draw.chance(0.3) and w < 1.3:
        r = min(w, d) / 2
        item.rod((0, 0, 0), 0.55 * r, 0.03, wood).rod((0, 0, 0.03), 0.05, h - 0.07, wood)
        return item.rod((0, 0, h - 0.04), r, 0.04, wood)
    legs = METAL if draw.chance(0.25) else wood
    return item.legs(w, d, h - 0.04, 0.03, legs).box((0, 0, h - 0.04), (w, d, 0.04), wood)


def dining(draw: Draw) -> Item:
    """A table with equal chairs around."""
    w, d, h = draw.span(1.0, 1.7), draw.span(0.8, 0.95), draw.span(0.71, 0.77)
    item = laden(draw, table(draw, w, d, h), draw.whole(1, 3))
    item.width, item.depth, item.height = w + 0.5, d + 1.1, 0.9
    places = 1 if w < 1.25 else 2
    style = draw.rng.integers(2**31)
    for i in range(places):
        x = (i - (places - 1) / 2) * 0.62
        for side in (-1, 1):
            if draw.chance(0.85):
                one = chair(Draw(np.random.default_rng(style)), 0.0 if side < 0 else math.pi)
                item.put(one, x, side * (d / 2 + draw.span(0.05, 0.28)), yaw=draw.span(-0.25, 0.25))
    return item


def lounge(draw: Draw) -> Item:
    """A sofa with a low table before it, and perhaps a carpet."""
    seat = sofa(draw)
    w, d, h = draw.span(0.8, 1.1), draw.span(0.5, 0.65), draw.span(0.36, 0.45)
    group = Item(seat.width, seat.depth + 1.05, 0.95).put(seat, 0, -0.525)
    if draw.chance(0.5):
        group.put(_carpet(draw, seat.width - 0.1, 1.3), 0, 0.4)
    low = laden(draw, table(draw, w, d, h), draw.whole(1, 2))
    return group.put(low, draw.span(-0.15, 0.15), seat.depth / 2 - 0.525 + 0.35 + d / 2)


def _carpet(draw: Draw, w: float, d: float) -> Item:
    texture = draw.one(("speckle", "stripes", "checker", "painting"))
    cloth = draw.mixture(texture, CLOTHS, CLOTHS + LINENS, (0.12, 0.3))
    return Item(w, d, 0.02).begin(FLOOR).box((0, 0, 0), (w, d, 0.012), cloth)


def desk(draw: Draw) -> Item:
    """A desk with its chair, a screen and things to work with."""
    w, d, h, wood = draw.span(1.1, 1.6), draw.span(0.6, 0.75), draw.span(0.71, 0.76), draw.wood()
    item = Item(w, d, h).begin(TABLE).box((0, 0, h - 0.035), (w, d, 0.035), wood)
    item.box((0, -d / 2 + 0.03, 0.25), (w - 0.1, 0.02, 0.4), wood)
    for x in (-1, 1):
        item.box((x * (w / 2 - 0.02), 0, 0), (0.035, d - 0.04, h - 0.035), wood)
    side = draw.one((-1, 1))
    item.box((side * (w / 2 - 0.24), 0, 0.1), (0.38, d - 0.08, h - 0.14), _fronts(wood, 0.5))
    if draw.chance(0.65):
        item.put(screen(draw, 0.45, 0.65), draw.span(-0.1, 0.1), -0.12, h)
    item.put(draw.one((pile, small))(draw), side * (w / 2 - 0.22), 0.05, h)
    if draw.chance(0.6):
        item.put(lamp(draw, 0.4, 0.5), -side * (w / 2 - 0.18), -0.12, h)
    away = d / 2 - 0.45 + draw.span(0.1, 0.35)
    group = Item(w, d + 0.9, 1.2).put(item, 0, -0.45)
    return group.put(chair(draw, math.pi), -side * 0.12, away, yaw=draw.span(-0.5, 0.5))


# --- shelves and cabinets ---------------------------------------------------------------------------------------------


def shelf(draw: Draw) -> Item:
    """An open shelf with rows of books and a few other things."""
    w, d, h, wood = draw.span(0.7, 1.25), 0.3, draw.span(1.1, 2.1), draw.wood()
    item = Item(w, d, h).begin(FURNITURE).box((0, -d / 2 + 0.01, 0), (w, 0.02, h), wood)
    for x in (-1, 1):
        item.box((x * (w / 2 - 0.0125), 0, 0), (0.025, d, h), wood)
    boards = max(3, round(h / 0.36))
    step = (h - 0.03) / boards
    for i in range(boards + 1):
        item.box((0, 0, i * step), (w - 0.05, d - 0.01, 0.025), wood)
    for i in range(boards):
        room, z = w - 0.08, i * step + 0.025
        books = room * draw.one((0.0, 0.5, 0.7, 0.97))
        if books:
            item.put(row(draw, books, draw.span(0.6, 0.85) * step), -(room - books) / 2, 0.02, z)
        if room - books > 0.25:
            thing = small(draw).shrink(min(1.0, 0.8 * step / 0.3))
            item.put(thing, (books + (room - books) / 2) - room / 2, 0.02, z)
    return item


def _cabinet(draw: Draw, w: float, h: float) -> Item:
    d, wood = draw.span(0.4, 0.58), draw.wood()
    front = _fronts(wood, draw.one((0.3, 0.4, 0.5)))
    item = Item(w, d, h).begin(FURNITURE).box((0, 0, 0.06), (w, d, h - 0.09), front)
    item.box((0, 0, h - 0.03), (w + 0.03, d + 0.02, 0.03), wood).box((0, -0.03, 0), (w - 0.06, d - 0.06, 0.06), DARK)
    for x in (-0.06, 0.06, -0.3, 0.3):
        if abs(x) < w / 2 - 0.1:
            item.ball((x, d / 2 + 0.01, 0.55 * h), (0.018, 0.018, 0.018 if h < 1.3 else 0.09), METAL)
    return item


def chest(draw: Draw) -> Item:
    """A low cabinet with things on it."""
    return laden(draw, _cabinet(draw, draw.span(0.8, 1.3), draw.span(0.7, 1.05)), draw.whole(1, 3))


def wardrobe(draw: Draw) -> Item:
    """A high cabinet."""
    return _cabinet(draw, draw.span(0.9, 1.5), draw.span(1.8, 2.1))


def television(draw: Draw) -> Item:
    """A television on its low cabinet."""
    item = _cabinet(draw, draw.span(1.2, 1.7), draw.span(0.4, 0.55))
    item.put(screen(draw, 0.8, 1.15), 0, 0, item.height)
    item.height = 1.3
    return item


# --- on the wall ------------------------------------------------------------------------------------------------------


def window(draw: Draw) -> Item:
    """A window with a cross of frames, a sill, and perhaps curtains."""
    w, h, z = draw.span(0.9, 1.7), draw.span(1.0, 1.35), draw.span(0.75, 0.95)
    item = Item(w + 0.6, 0.12, z + h + 0.2).begin(WINDOW)
    item.box((0, 0, z), (w, 0.02, h), draw.mixture("sky", SKIES, ((0.45, 0.55, 0.38),), 0.3, emission=0.95))
    frame = Material("plain", draw.colour(FRAMES))
    for x in (-0.5, 0.0, 0.5):
        item.box((x * w, 0.02, z), (0.05, 0.05, h), frame)
    for share in (0.0, 0.6, 1.0):
        item.box((0, 0.02, z + share * h - 0.025), (w + 0.05, 0.045, 0.05), frame)
    item.box((0, 0.06, z - 0.06), (w + 0.16, 0.14, 0.035), frame)
    if draw.chance(0.7):
        cloth = draw.material("folds", CLOTHS + LINENS, 0.11, 0.6)
        low, top = (0.05 if draw.chance(0.5) else z - 0.2), z + h + 0.12
        for side in (-1, 1):
            item.box((side * (w / 2 + 0.1), 0.1, low), (draw.span(0.28, 0.4), 0.05, top - low), cloth)
        item.bar((0, 0.1, top), 0.018, w + 0.6, DARK, pitch=math.pi / 2)
    return item


def picture(draw: Draw) -> Item:
    """A painting in a frame, half of them in a mount of paper."""
    w, h, z = draw.span(0.4, 1.1), draw.span(0.35, 0.8), draw.span(1.2, 1.45)
    item = Item(w + 0.1, 0.05, z + h).begin(PICTURE)
    item.box((0, 0, z), (w, 0.04, h), draw.one((DARK, draw.wood(), METAL)))
    canvas = draw.mixture("painting", CLOTHS + LINENS, THINGS + CLOTHS, (0.1, 0.25), spread=0.1)
    if draw.chance(0.5):
        item.box((0, 0.018, z + 0.03), (w - 0.06, 0.01, h - 0.06), Material("plain", (0.9, 0.89, 0.85)))
        return item.box((0, 0.02, z + 0.09), (w - 0.18, 0.014, h - 0.18), canvas)
    return item.box((0, 0.02, z + 0.03), (w - 0.06, 0.01, h - 0.06), canvas)


def door(draw: Draw) -> Item:
    """A closed door in its frame."""
    wood = draw.wood()
    item = Item(1.05, 0.06, 2.05).begin(WALL).box((0, 0, 0), (1.02, 0.05, 2.06), wood)
    item.box((0, 0.02, 0), (0.88, 0.05, 2.0), _fronts(wood, 0.8))
    return item.ball((0.36, 0.07, 1.0), (0.03, 0.04, 0.03), METAL)


def wall_shelf(draw: Draw) -> Item:
    """A board with books and one other thing."""
    w, z, wood = draw.span(0.6, 1.1), draw.span(1.25, 1.5), draw.wood()
    item = Item(w, 0.24, z + 0.35).begin(FURNITURE).box((0, 0.12, z), (w, 0.24, 0.03), wood)
    books = draw.span(0.45, 0.8) * w
    item.put(row(draw, books, draw.span(0.2, 0.27)), -(w - books) / 2 + 0.02, 0.13, z + 0.03)
    return item.put(small(draw), (w - 0.25) / 2, 0.13, z + 0.03)


def wall_screen(draw: Draw) -> Item:
    """A flat screen."""
    w, z = draw.span(0.9, 1.3), draw.span(1.0, 1.2)
    return _panel(draw, Item(w, 0.05, z + 0.58 * w).begin(TV), w, z)
