"""Rooms: indoor scenes with the 13 classes of NYUv2, drawn at random from a small catalogue of furniture.

A room has a kind (bedroom, living room, study, dining room), four walls, and furniture of that kind along the walls and
in the middle. Colours are typical of a class but overlap (a table, a shelf and a floor share their woods), so that
shape and place matter as much as colour. The camera stands on free floor at eye height and looks at a piece of
furniture, the salient object. As in NYUv2's own 13 classes, curtains count as window, doors as wall, carpets as floor,
lamps, plants, pillows and boxes as objects; one small object in ten is unlabelled (-1).

Scene ``index`` of a split depends on (split, index, seed) alone; the image size only decides how finely it is sampled.

Units: metres, radians; the world's x and y run along the walls, z up. A piece of furniture is built around its own
origin: its middle on the floor, its back towards -y.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import KitError, nearest
from .render import Colour, Light, Material, Pose, Scene, Shot, Solid

VERSION = 2  # raise it when any room changes
CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
SPLITS = {"train": 0, "validation": 1, "test": 2}
_ID = {name: i for i, name in enumerate(CLASSES)} | {"unlabelled": -1}
_FAMILY = 0x726F6F6D  # "room": keeps the random numbers of the families apart

WOODS = (
    (0.55, 0.36, 0.20),
    (0.42, 0.26, 0.14),
    (0.68, 0.50, 0.32),
    (0.80, 0.68, 0.50),
    (0.30, 0.20, 0.14),
    (0.88, 0.86, 0.82),
)
CLOTHS = (
    (0.47, 0.48, 0.50), (0.25, 0.33, 0.50), (0.58, 0.30, 0.24), (0.38, 0.46, 0.30), (0.70, 0.62, 0.50),
    (0.24, 0.23, 0.25), (0.66, 0.52, 0.26), (0.28, 0.48, 0.50),
)  # fmt: skip
LINENS = (
    (0.92, 0.90, 0.87),
    (0.62, 0.72, 0.82),
    (0.85, 0.68, 0.66),
    (0.70, 0.76, 0.62),
    (0.50, 0.42, 0.60),
    (0.80, 0.72, 0.55),
)
WALLS = (
    (0.88, 0.85, 0.78), (0.80, 0.83, 0.85), (0.86, 0.78, 0.67), (0.72, 0.78, 0.70), (0.80, 0.73, 0.74),
    (0.90, 0.90, 0.89), (0.63, 0.71, 0.78),
)  # fmt: skip
THINGS = (
    (0.75, 0.25, 0.20),
    (0.20, 0.45, 0.65),
    (0.85, 0.75, 0.30),
    (0.30, 0.55, 0.35),
    (0.85, 0.83, 0.80),
    (0.65, 0.48, 0.30),
)


# --- drawing at random ------------------------------------------------------------------------------------------------


class _Draw:
    """Random sizes, choices and materials."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def span(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one(self, choices: Sequence):
        return choices[int(self.rng.integers(len(choices)))]

    def colour(self, palette: Sequence[Colour], spread: float = 0.05) -> Colour:
        """A colour near one of the palette."""
        shade = self.span(0.85, 1.1)
        return tuple(min(max(c * shade + self.span(-spread, spread), 0.03), 0.97) for c in self.one(palette))

    def material(
        self, texture: str, palette: Sequence[Colour], scale: float, contrast: float = 0.75, emission: float = 0.0
    ) -> Material:
        """A texture between a colour and a darker one."""
        colour = self.colour(palette)
        second = tuple(c * contrast for c in colour)
        return Material(texture, colour, second, scale, self.whole(0, 9999), emission)

    def wood(self) -> Material:
        return self.material("wood", WOODS, 0.12, 0.8)

    def cloth(self, palette: Sequence[Colour] = CLOTHS) -> Material:
        kind = self.rng.random()
        if kind < 0.65:
            return self.material("speckle", palette, 0.02, 0.85)
        if kind < 0.85:
            return self.material("stripes", palette, self.span(0.08, 0.2), 0.75)
        return self.material("checker", palette, self.span(0.06, 0.15), 0.8)

    def plain(self, palette: Sequence[Colour] = THINGS) -> Material:
        return self.material("plain", palette, 1.0)


METAL = Material("plain", (0.55, 0.55, 0.57))
DARK = Material("plain", (0.07, 0.07, 0.08))


class Item:
    """A piece of furniture or a group of them, being built.

    ``width`` (x), ``depth`` (y) and ``height`` are those of the floor area and the wall area that it keeps free of
    others.
    """

    def __init__(self, width: float, depth: float, height: float):
        self.width, self.depth, self.height = width, depth, height
        self.solids: list[Solid] = []
        self.things = 0
        self.label, self.thing = -1, -1

    def begin(self, label: str) -> Item:
        """The next solids make one object of this class."""
        self.label, self.thing = _ID[label], self.things
        self.things += 1
        return self

    def add(self, shape: str, size: tuple[float, float, float], pose: Pose, material: Material) -> Item:
        self.solids.append(Solid(shape, size, pose, self.label, self.thing, material))
        return self

    def box(self, place: Sequence[float], size: Sequence[float], material: Material, **turn: float) -> Item:
        """A box of whole ``size`` standing at ``place``: the middle of its underside."""
        x, y, z = place
        w, d, h = size
        return self.add("box", (w / 2, d / 2, h / 2), Pose.at(x, y, z + h / 2, **turn), material)

    def rod(self, place: Sequence[float], radius: float, height: float, material: Material) -> Item:
        """An upright cylinder standing at ``place``."""
        x, y, z = place
        return self.add("cylinder", (radius, radius, height / 2), Pose.at(x, y, z + height / 2), material)

    def bar(self, middle: Sequence[float], radius: float, length: float, material: Material, **turn: float) -> Item:
        """A capsule around ``middle``, upright unless turned."""
        return self.add("capsule", (radius, radius, length / 2), Pose.at(*middle, **turn), material)

    def ball(self, middle: Sequence[float], size: Sequence[float], material: Material, **turn: float) -> Item:
        """An ellipsoid with these half axes."""
        return self.add("sphere", tuple(size), Pose.at(*middle, **turn), material)

    def legs(self, width: float, depth: float, height: float, radius: float, material: Material) -> Item:
        """Four legs under a plate of this size."""
        for x in (-1, 1):
            for y in (-1, 1):
                self.rod((x * (width / 2 - 2 * radius), y * (depth / 2 - 2 * radius), 0), radius, height, material)
        return self

    def put(self, other: Item, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Item:
        """Place another item, with all its objects, in this one."""
        pose = Pose.at(x, y, z, yaw=yaw)
        self.solids += [
            dataclasses.replace(s, pose=pose @ s.pose, instance=s.instance + self.things) for s in other.solids
        ]
        self.things += other.things
        return self


# --- small things -----------------------------------------------------------------------------------------------------


def _small(draw: _Draw) -> Item:
    """A vase, box, ball or jar to stand on something."""
    item = Item(0.25, 0.25, 0.3).begin("unlabelled" if draw.chance(0.1) else "objects")
    kind, material = draw.whole(0, 3), draw.plain()
    if kind == 0:
        r, h = draw.span(0.04, 0.08), draw.span(0.12, 0.28)
        return item.rod((0, 0, 0), r, h, material).ball((0, 0, h), (r * 1.25, r * 1.25, r * 0.8), material)
    if kind == 1:
        w, d, h = draw.span(0.12, 0.25), draw.span(0.1, 0.2), draw.span(0.08, 0.22)
        return item.box((0, 0, 0), (w, d, h), material, yaw=draw.span(-0.4, 0.4))
    if kind == 2:
        r = draw.span(0.06, 0.11)
        return item.ball((0, 0, r), (r, r, r), draw.material("checker", THINGS, 0.07, 0.5))
    return item.rod((0, 0, 0), draw.span(0.05, 0.09), draw.span(0.1, 0.2), material)


def _pile(draw: _Draw) -> Item:
    """A few books lying on each other."""
    item, z = Item(0.3, 0.25, 0.2).begin("books"), 0.0
    for _ in range(draw.whole(2, 5)):
        h = draw.span(0.025, 0.055)
        item.box((0, 0, z), (draw.span(0.2, 0.3), draw.span(0.15, 0.22), h), draw.plain(), yaw=draw.span(-0.3, 0.3))
        z += h
    return item


def _row(draw: _Draw, width: float, height: float) -> Item:
    """Books standing in a row."""
    spines = Material(
        "spines", draw.colour(((0.5, 0.42, 0.38),)), (0.08, 0.07, 0.06), draw.span(0.03, 0.055), draw.whole(0, 9999)
    )
    return Item(width, 0.2, height).begin("books").box((0, 0, 0), (width, 0.19, height), spines)


def _lamp(draw: _Draw, height: float) -> Item:
    foot, shade = draw.span(0.06, 0.09), draw.span(0.1, 0.16)
    material = draw.one((METAL, DARK, draw.wood()))
    item = Item(2 * shade, 2 * shade, height).begin("objects")
    item.rod((0, 0, 0), foot * (1.6 if height > 1 else 1.0), 0.02, material).rod(
        (0, 0, 0.02), 0.014, height - 0.2, material
    )
    return item.rod(
        (0, 0, height - 0.2), shade, 0.2, Material("plain", draw.colour(((0.95, 0.88, 0.7),)), emission=0.95)
    )


def _plant(draw: _Draw, size: float) -> Item:
    """A pot with leaves; ``size`` is its height."""
    item, pot = Item(0.6 * size, 0.6 * size, size).begin("objects"), 0.3 * size
    item.rod((0, 0, 0), 0.16 * size, pot, draw.plain())
    green = draw.material("speckle", ((0.25, 0.45, 0.2), (0.2, 0.38, 0.25), (0.4, 0.5, 0.2)), 0.05, 0.6)
    for i in range(draw.whole(6, 9)):
        lean, around = draw.span(0.15, 0.75), 2.4 * i + draw.span(0, 0.6)  # 2.4 rad apart: leaves never stack
        reach = draw.span(0.24, 0.36) * size
        x, y = math.sin(lean) * math.cos(around) * reach, math.sin(lean) * math.sin(around) * reach
        leaf = (0.06 * size, 0.11 * size, reach)
        item.ball((x, y, pot + math.cos(lean) * reach), leaf, green, yaw=around, pitch=lean)
    return item


def _screen(draw: _Draw, width: float) -> Item:
    """A television or monitor on a foot."""
    height = 0.58 * width
    item = Item(width, 0.2, height + 0.1).begin("tv")
    item.box((0, 0, 0), (0.35 * width, 0.18, 0.02), DARK).box((0, 0, 0.02), (0.06, 0.04, 0.08), DARK)
    return _panel(draw, item, width, height, 0.07)


def _panel(draw: _Draw, item: Item, width: float, height: float, z: float) -> Item:
    if draw.chance(0.6):
        face = Material(
            "painting", draw.colour(CLOTHS), draw.colour(THINGS), 0.25 * width, draw.whole(0, 9999), emission=0.8
        )
    else:
        face = Material("plain", draw.colour(((0.10, 0.11, 0.13),), 0.02))
    item.box((0, 0, z), (width, 0.05, height), DARK)
    return item.box((0, 0.025, z + 0.02), (width - 0.04, 0.01, height - 0.04), face)


# --- furniture --------------------------------------------------------------------------------------------------------


def _bed(draw: _Draw) -> Item:
    w, l, wood, linen = draw.span(1.0, 1.8), 2.05, draw.wood(), draw.cloth(LINENS)
    item = Item(w + 0.1, l + 0.1, 1.1).begin("bed").legs(w, l, 0.16, 0.035, wood)
    item.box((0, 0, 0.14), (w, l, 0.16), wood).box(
        (0, 0.02, 0.3), (w - 0.05, l - 0.08, 0.22), draw.material("plain", LINENS[:1], 1)
    )
    cover = draw.span(0.55, 0.75) * l
    item.box((0, (l - cover) / 2 + 0.02, 0.24), (w + 0.04, cover, 0.33), linen)
    item.box((0, -l / 2 - 0.02, 0.0), (w + 0.06, 0.06, draw.span(0.8, 1.15)), wood)
    pillows, case = (2 if w > 1.35 else 1), draw.cloth(LINENS)
    for i in range(pillows):
        x = (i - (pillows - 1) / 2) * 0.75
        item.begin("objects").ball((x, -l / 2 + 0.28, 0.58), (0.33, 0.21, 0.1), case, roll=0.25)
    group = Item(w + 0.1, l + 0.1, 1.1).put(item, 0, 0)
    for side in (-1, 1):
        if draw.chance(0.6):
            group.put(_nightstand(draw), side * (w / 2 + 0.32), -l / 2 + 0.25)
            group.width = w + 1.2
    return group


def _nightstand(draw: _Draw) -> Item:
    h, wood = draw.span(0.42, 0.58), draw.wood()
    item = (
        Item(0.45, 0.42, h)
        .begin("furniture")
        .box((0, 0, 0), (0.42, 0.4, h), dataclasses.replace(wood, texture="doors", scale=0.5))
    )
    item.box((0, 0, h), (0.46, 0.43, 0.025), wood).ball((0, 0.21, 0.7 * h), (0.018,) * 3, METAL)
    on_top = draw.one((lambda: _lamp(draw, draw.span(0.4, 0.55)), lambda: _pile(draw), lambda: _small(draw)))()
    return item.put(on_top, draw.span(-0.06, 0.06), 0, h + 0.025)


def _sofa(draw: _Draw) -> Item:
    w, d, cloth, arm = draw.span(1.5, 2.3), draw.span(0.85, 0.98), draw.cloth(), draw.span(0.14, 0.22)
    item = Item(w, d, 0.95).begin("sofa").legs(w, d, 0.12, 0.03, draw.wood())
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
        item.begin("objects")
        x = draw.span(-0.5, 0.5) * (w - 2 * arm - 0.4)
        item.box((x, 0.02, 0.46), (0.38, 0.12, 0.36), draw.cloth(), roll=0.45, yaw=draw.span(-0.3, 0.3))
    return item


def _chair(draw: _Draw, yaw: float = 0.0) -> Item:
    """A kitchen or an office chair; one sits with the face towards +y."""
    h, item = draw.span(0.43, 0.48), Item(0.5, 0.5, 0.95).begin("chair")
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
        for z in (0.14, 0.24, 0.34) if draw.chance(0.6) else (0.22,):
            item.box((0, -w / 2 + 0.02, h + z), (w - 0.08, 0.02, 0.06 if z != 0.22 else 0.22), wood)
    return Item(0.5, 0.5, 0.95).put(item, 0, 0, yaw=yaw)


def _top(draw: _Draw, item: Item, w: float, d: float, h: float, count: int) -> Item:
    """Put things on a plate, each in a strip of its own."""
    for i in range(count):
        x = ((i + 0.5) / count - 0.5) * (w - 0.2)
        made = _pile(draw) if draw.chance(0.35) else _small(draw)
        item.put(made, x + draw.span(-0.04, 0.04), draw.span(-0.25, 0.25) * (d - 0.25), h, yaw=draw.span(-0.5, 0.5))
    return item


def _table(draw: _Draw, w: float, d: float, h: float) -> Item:
    item, wood = Item(w, d, h).begin("table"), draw.wood()
    if draw.chance(0.3) and w < 1.3:
        r = min(w, d) / 2
        item.rod((0, 0, 0), 0.55 * r, 0.03, wood).rod((0, 0, 0.03), 0.05, h - 0.07, wood)
        return item.rod((0, 0, h - 0.04), r, 0.04, wood)
    legs = METAL if draw.chance(0.25) else wood
    return item.legs(w, d, h - 0.04, 0.03, legs).box((0, 0, h - 0.04), (w, d, 0.04), wood)


def _dining(draw: _Draw) -> Item:
    """A table with chairs around."""
    w, d, h = draw.span(1.0, 1.7), draw.span(0.8, 0.95), draw.span(0.71, 0.77)
    item = Item(w + 0.5, d + 1.1, 0.9).put(_top(draw, _table(draw, w, d, h), w, d, h, draw.whole(1, 3)), 0, 0)
    places = 1 if w < 1.25 else 2
    style = draw.rng.integers(2**31)
    for i in range(places):
        x = (i - (places - 1) / 2) * 0.62
        for side in (-1, 1):
            if draw.chance(0.85):
                chair = _chair(_Draw(np.random.default_rng(style)), 0.0 if side < 0 else math.pi)
                item.put(chair, x, side * (d / 2 + draw.span(0.05, 0.28)), yaw=draw.span(-0.25, 0.25))
    return item


def _desk(draw: _Draw) -> Item:
    """A desk with its chair, a screen and things to work with."""
    w, d, h, wood = draw.span(1.1, 1.6), draw.span(0.6, 0.75), draw.span(0.71, 0.76), draw.wood()
    item = (
        Item(w, d, h)
        .begin("table")
        .box((0, 0, h - 0.035), (w, d, 0.035), wood)
        .box((0, -d / 2 + 0.03, 0.25), (w - 0.1, 0.02, 0.4), wood)
    )
    for x in (-1, 1):
        item.box((x * (w / 2 - 0.02), 0, 0), (0.035, d - 0.04, h - 0.035), wood)
    side = draw.one((-1, 1))
    item.box(
        (side * (w / 2 - 0.24), 0, 0.1),
        (0.38, d - 0.08, h - 0.14),
        dataclasses.replace(wood, texture="doors", scale=0.5),
    )
    if draw.chance(0.65):
        item.put(_screen(draw, draw.span(0.45, 0.65)), draw.span(-0.1, 0.1), -0.12, h)
    item.put(draw.one((_pile, _small))(draw), side * (w / 2 - 0.22), 0.05, h)
    if draw.chance(0.6):
        item.put(_lamp(draw, draw.span(0.4, 0.5)), -side * (w / 2 - 0.18), -0.12, h)
    chair = draw.span(0.1, 0.35)
    group = Item(w, d + 0.9, 1.2).put(item, 0, -0.45)
    return group.put(_chair(draw, math.pi), -side * 0.12, d / 2 - 0.45 + chair, yaw=draw.span(-0.5, 0.5))


def _shelf(draw: _Draw) -> Item:
    """An open shelf with rows of books and a few other things."""
    w, d, h, wood = draw.span(0.7, 1.25), 0.3, draw.span(1.1, 2.1), draw.wood()
    item = Item(w, d, h).begin("furniture").box((0, -d / 2 + 0.01, 0), (w, 0.02, h), wood)
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
            item.put(_row(draw, books, draw.span(0.6, 0.85) * step), -(room - books) / 2, 0.02, z)
        if room - books > 0.25:
            item.put(_fit(_small(draw), step), (books + (room - books) / 2) - room / 2, 0.02, z)
    return item


def _fit(item: Item, height: float) -> Item:
    """The item made small enough for a space of this height."""
    share = min(1.0, 0.8 * height / 0.3)
    item.solids = [
        dataclasses.replace(
            s, size=tuple(share * a for a in s.size), pose=Pose(s.pose.rotation, share * s.pose.position)
        )
        for s in item.solids
    ]
    return item


def _cabinet(draw: _Draw, w: float, h: float, top: Callable[[], Item] | None = None) -> Item:
    """A chest or a wardrobe with doors, knobs, and something on it where it is low."""
    d, wood = draw.span(0.4, 0.58), draw.wood()
    front = dataclasses.replace(wood, texture="doors", scale=draw.one((0.3, 0.4, 0.5)))
    item = (
        Item(w, d, h)
        .begin("furniture")
        .box((0, 0, 0.06), (w, d, h - 0.09), front)
        .box((0, 0, h - 0.03), (w + 0.03, d + 0.02, 0.03), wood)
    )
    item.box((0, -0.03, 0), (w - 0.06, d - 0.06, 0.06), DARK)
    for x in (-0.06, 0.06, -0.3, 0.3):
        if abs(x) < w / 2 - 0.1:
            item.ball((x, d / 2 + 0.01, 0.55 * h), (0.018, 0.018, 0.018 if h < 1.3 else 0.09), METAL)
    if top is not None:
        item.put(top(), 0, 0, h)
    elif h < 1.3:
        _top(draw, item, w, d, h, draw.whole(1, 3))
    return item


def _chest(draw: _Draw) -> Item:
    return _cabinet(draw, draw.span(0.8, 1.3), draw.span(0.7, 1.05))


def _wardrobe(draw: _Draw) -> Item:
    return _cabinet(draw, draw.span(0.9, 1.5), draw.span(1.8, 2.1))


def _television(draw: _Draw) -> Item:
    item = _cabinet(draw, draw.span(1.2, 1.7), draw.span(0.4, 0.55), lambda: _screen(draw, draw.span(0.8, 1.15)))
    item.height = 1.3
    return item


def _lounge(draw: _Draw) -> Item:
    """A sofa with a low table before it, and perhaps a carpet."""
    sofa = _sofa(draw)
    w, d, h = draw.span(0.8, 1.1), draw.span(0.5, 0.65), draw.span(0.36, 0.45)
    group = Item(sofa.width, sofa.depth + 1.05, 0.95)
    group.put(sofa, 0, -0.525)
    if draw.chance(0.5):
        group.put(_carpet(draw, sofa.width - 0.1, 1.3), 0, 0.4)
    table = _top(draw, _table(draw, w, d, h), w, d, h, draw.whole(1, 2))
    return group.put(table, draw.span(-0.15, 0.15), sofa.depth / 2 - 0.525 + 0.35 + d / 2)


def _carpet(draw: _Draw, w: float, d: float) -> Item:
    texture = draw.one(("speckle", "stripes", "checker", "painting"))
    material = Material(
        texture, draw.colour(CLOTHS), draw.colour(CLOTHS + LINENS), draw.span(0.12, 0.3), draw.whole(0, 9999)
    )
    return Item(w, d, 0.02).begin("floor").box((0, 0, 0), (w, d, 0.012), material)


def _clutter(draw: _Draw) -> Item:
    """Something that stands about on the floor."""
    kind = draw.whole(0, 3)
    if kind == 0:
        return _plant(draw, draw.span(0.6, 1.2))
    if kind == 1:
        return _lamp(draw, draw.span(1.35, 1.65))
    item = Item(0.5, 0.45, 0.5).begin("unlabelled" if draw.chance(0.1) else "objects")
    if kind == 2:
        card = draw.material("speckle", ((0.66, 0.50, 0.32), (0.80, 0.78, 0.74)), 0.1, 0.9)
        h = draw.span(0.22, 0.4)
        item.box((0, 0, 0), (draw.span(0.3, 0.46), draw.span(0.28, 0.4), h), card, yaw=draw.span(-0.3, 0.3))
        return item.put(_pile(draw), 0, 0, h) if draw.chance(0.4) else item
    r = draw.span(0.12, 0.24)
    return item.ball((0, 0, r), (r, r, r), draw.material("checker", THINGS, draw.span(0.1, 0.16), 0.45))


# --- on the wall: x along it, y into the room, the origin on the floor ------------------------------------------------


def _window(draw: _Draw) -> Item:
    w, h, z = draw.span(0.9, 1.7), draw.span(1.0, 1.35), draw.span(0.75, 0.95)
    item = Item(w + 0.6, 0.12, z + h + 0.2).begin("window")
    sky = Material(
        "sky",
        draw.colour(((0.70, 0.82, 0.95), (0.85, 0.90, 0.95))),
        draw.colour(((0.45, 0.55, 0.38),)),
        0.3,
        draw.whole(0, 9999),
        0.95,
    )
    item.box((0, 0, z), (w, 0.02, h), sky)
    frame = Material("plain", draw.colour(((0.90, 0.89, 0.86), (0.45, 0.30, 0.2))))
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


def _picture(draw: _Draw) -> Item:
    w, h, z = draw.span(0.4, 1.1), draw.span(0.35, 0.8), draw.span(1.2, 1.45)
    item = Item(w + 0.1, 0.05, z + h).begin("picture")
    item.box((0, 0, z), (w, 0.04, h), draw.one((DARK, draw.wood(), METAL)))
    canvas = Material(
        "painting",
        draw.colour(CLOTHS + LINENS, 0.1),
        draw.colour(THINGS + CLOTHS, 0.1),
        draw.span(0.1, 0.25),
        draw.whole(0, 9999),
    )
    if draw.chance(0.5):  # a mount of paper
        item.box((0, 0.018, z + 0.03), (w - 0.06, 0.01, h - 0.06), Material("plain", (0.9, 0.89, 0.85)))
        return item.box((0, 0.02, z + 0.09), (w - 0.18, 0.014, h - 0.18), canvas)
    return item.box((0, 0.02, z + 0.03), (w - 0.06, 0.01, h - 0.06), canvas)


def _door(draw: _Draw) -> Item:
    item, wood = Item(1.05, 0.06, 2.05).begin("wall"), draw.wood()
    item.box((0, 0, 0), (1.02, 0.05, 2.06), wood)
    item.box((0, 0.02, 0), (0.88, 0.05, 2.0), dataclasses.replace(wood, texture="doors", scale=0.8))
    return item.ball((0.36, 0.07, 1.0), (0.03, 0.04, 0.03), METAL)


def _wall_shelf(draw: _Draw) -> Item:
    w, z, wood = draw.span(0.6, 1.1), draw.span(1.25, 1.5), draw.wood()
    item = Item(w, 0.24, z + 0.35).begin("furniture").box((0, 0.12, z), (w, 0.24, 0.03), wood)
    books = draw.span(0.45, 0.8) * w
    item.put(_row(draw, books, draw.span(0.2, 0.27)), -(w - books) / 2 + 0.02, 0.13, z + 0.03)
    return item.put(_small(draw), (w - 0.25) / 2, 0.13, z + 0.03)


def _wall_screen(draw: _Draw) -> Item:
    w, z = draw.span(0.9, 1.3), draw.span(1.0, 1.2)
    return _panel(draw, Item(w, 0.05, z + 0.58 * w).begin("tv"), w, 0.58 * w, z)


# --- rooms ------------------------------------------------------------------------------------------------------------

# kind -> (always there, some of these, how often a screen hangs on the wall)
KINDS: dict[str, tuple[tuple[Callable[[_Draw], Item], ...], tuple[Callable[[_Draw], Item], ...], float]] = {
    "bedroom": ((_bed,), (_wardrobe, _chest, _desk, _shelf, _television), 0.25),
    "living": ((_lounge, _television), (_shelf, _chest, _shelf), 0.1),
    "study": ((_desk, _shelf), (_sofa, _shelf, _bed, _chest), 0.2),
    "dining": ((_dining,), (_chest, _shelf, _sofa, _television), 0.25),
}


class _Room:
    """Four walls, a floor and a ceiling, being furnished."""

    def __init__(self, draw: _Draw):
        self.draw = draw
        self.width, self.depth, self.height = draw.span(3.5, 5.2), draw.span(3.8, 5.6), draw.span(2.4, 2.8)
        w, d = self.width, self.depth
        # each wall as seen from the room: x along it, y into the room
        self.walls = [
            Pose.at(0, 0, 0),
            Pose.at(w, 0, 0, yaw=math.pi / 2),
            Pose.at(w, d, 0, yaw=math.pi),
            Pose.at(0, d, 0, yaw=-math.pi / 2),
        ]
        self.lengths = [w, d, w, d]
        self.solids: list[Solid] = []
        self.things = 0
        self.floor: list[tuple[float, float, float, float]] = []  # taken: x, x, y, y
        self.wall: list[tuple[int, float, float, float, float]] = []  # taken: wall, from, to, low, high
        self.targets: list[tuple[int, tuple[float, float, float]]] = []  # instance, and where to look
        self._shell()

    def _shell(self) -> None:
        draw = self.draw
        floors = (("planks", WOODS, 0.11, 0.55), ("tiles", WALLS, 0.35, 0.7), ("speckle", CLOTHS + LINENS, 0.03, 0.8))
        texture, palette, scale, contrast = draw.one(floors)
        self._plane("floor", Pose.at(0, 0, 0), draw.material(texture, palette, scale, contrast))
        self._plane(
            "ceiling",
            Pose.at(0, 0, self.height),
            draw.material("speckle", ((0.92, 0.91, 0.89), WALLS[0]), 0.3, 0.97, emission=0.7),
        )
        paint, other = (
            draw.material("speckle", WALLS, 0.25, 0.96),
            draw.material(draw.one(("stripes", "speckle")), WALLS, 0.16, 0.93),
        )
        skirting = Material("plain", draw.colour(((0.90, 0.89, 0.86), WOODS[0])))
        for i, (pose, length) in enumerate(zip(self.walls, self.lengths, strict=True)):
            self._plane("wall", pose @ Pose.at(0, 0, 0, roll=-math.pi / 2), other if i == 2 else paint)
            board = Pose.at(length / 2, 0, 0.04)
            self.solids.append(
                Solid("box", (length / 2, 0.012, 0.04), pose @ board, _ID["wall"], self.things - 1, skirting)
            )

    def _plane(self, label: str, pose: Pose, material: Material) -> None:
        self.solids.append(Solid("plane", (1, 1, 1), pose, _ID[label], self.things, material, casts=False))
        self.things += 1

    def _place(self, item: Item, pose: Pose) -> None:
        self.solids += [
            dataclasses.replace(s, pose=pose @ s.pose, instance=s.instance + self.things) for s in item.solids
        ]
        self.things += item.things

    def stand(self, item: Item, tries: int = 12) -> bool:
        """Put an item against a wall where there is room for it."""
        for _ in range(tries):
            i = self.draw.whole(0, 3)
            if item.width > self.lengths[i] - 0.2:
                continue
            along = self.draw.span(item.width / 2 + 0.1, self.lengths[i] - item.width / 2 - 0.1)
            behind = (i, along - item.width / 2, along + item.width / 2, 0.0, item.height)
            pose = self.walls[i] @ Pose.at(along, item.depth / 2 + 0.07, 0)
            if not self._meets_wall(behind) and self._claim(item, pose):
                self.wall.append(behind)
                return True
        return False

    def set_down(self, item: Item, tries: int = 12) -> bool:
        """Put an item anywhere on free floor."""
        for _ in range(tries):
            yaw = self.draw.whole(0, 3) * math.pi / 2
            dx, dy = _reach(item, Pose.at(0, 0, 0, yaw=yaw))
            if 2 * dx > self.width - 0.2 or 2 * dy > self.depth - 0.2:
                continue
            x, y = self.draw.span(dx + 0.1, self.width - dx - 0.1), self.draw.span(dy + 0.1, self.depth - dy - 0.1)
            if self._claim(item, Pose.at(x, y, 0, yaw=yaw)):
                return True
        return False

    def hang(self, item: Item, low: float, tries: int = 12) -> bool:
        """Put an item on a wall, free from ``low`` upwards."""
        for _ in range(tries):
            i = self.draw.whole(0, 3)
            along = self.draw.span(item.width / 2 + 0.15, self.lengths[i] - item.width / 2 - 0.15)
            place = (i, along - item.width / 2, along + item.width / 2, low, item.height)
            if item.width < self.lengths[i] - 0.3 and item.height < self.height - 0.03 and not self._meets_wall(place):
                self.wall.append(place)
                self._place(item, self.walls[i] @ Pose.at(along, 0.02, 0))
                return True
        return False

    def _meets_wall(self, place: tuple[int, float, float, float, float]) -> bool:
        i, a, b, low, high = place
        return any(i == j and a < d and c < b and low < top and bottom < high for j, c, d, bottom, top in self.wall)

    def _claim(self, item: Item, pose: Pose) -> bool:
        """Place an item if its floor is free."""
        (x, y), (dx, dy) = pose.position[:2], _reach(item, pose)
        taken = (x - dx, x + dx, y - dy, y + dy)
        outside = taken[0] < 0 or taken[1] > self.width or taken[2] < 0 or taken[3] > self.depth
        if outside or any(taken[0] < b and a < taken[1] and taken[2] < d and c < taken[3] for a, b, c, d in self.floor):
            return False
        self.floor.append(tuple(float(v) for v in taken))
        self.targets.append((self.things, (float(x), float(y), 0.55 * item.height)))
        self._place(item, pose)
        return True

    def clearance(self, x: float, y: float) -> float:
        """Metres from here to the nearest furniture; 0 in it."""
        gaps = [math.hypot(max(a - x, x - b, 0.0), max(c - y, y - d, 0.0)) for a, b, c, d in self.floor]
        return min(gaps, default=math.inf)


def _reach(item: Item, pose: Pose) -> tuple[float, float]:
    """Half the floor it takes along the world's x and y."""
    dx, dy = np.abs(pose.rotation[:2, :2]) @ np.array([item.width, item.depth]) / 2
    return float(dx), float(dy)


def _furnish(room: _Room, kind: str) -> None:
    draw = room.draw
    always, some, screen = KINDS[kind]
    for make in always:
        item = make(draw)
        if make is _dining:
            room.set_down(item, 30)
        else:
            room.stand(item, 30)
    for i in draw.rng.permutation(len(some))[: draw.whole(2, 4)]:
        room.stand(some[int(i)](draw))
    for _ in range(draw.whole(1, 2)):
        room.hang(_window(draw), 0.7)
    room.hang(_door(draw), 0.0)
    if draw.chance(screen):
        room.hang(_wall_screen(draw), 0.9)
    if draw.chance(0.35):
        room.hang(_wall_shelf(draw), 1.15)
    for _ in range(draw.whole(1, 4)):
        room.hang(_picture(draw), 1.15)
    for _ in range(draw.whole(1, 2)):
        room.stand(_clutter(draw)) if draw.chance(0.7) else room.set_down(_clutter(draw))
    if draw.chance(0.5):
        room.set_down(_chair(draw, draw.span(-0.6, 0.6)))


def _lights(room: _Room) -> Light:
    """A lamp below the ceiling; it hangs there as an object, and the light comes from just under it."""
    draw, r = room.draw, 0.0
    x, y = room.width * draw.span(0.35, 0.65), room.depth * draw.span(0.35, 0.65)
    r = draw.span(0.12, 0.2)
    glass = Material("plain", (0.97, 0.94, 0.86), emission=1.0)
    item = Item(1, 1, 1).begin("objects").ball((0, 0, room.height - 0.03), (r, r, 0.09), glass)
    item.solids = [dataclasses.replace(s, casts=False) for s in item.solids]
    room._place(item, Pose.at(x, y, 0))
    warm = draw.span(-0.06, 0.08)
    return Light(
        (x, y, room.height - 0.16),
        draw.span(0.8, 1.1),
        draw.span(0.34, 0.46),
        draw.span(3.5, 5.0),
        (1.0 + warm, 1.0, 1.0 - warm),
    )


def _views(room: _Room, light: Light, count: int = 8) -> Shot:
    """The first of several random views that shows much; else the best of them."""
    draw, best, most = room.draw, None, -math.inf
    scene = Scene(tuple(room.solids), light)
    for _ in range(count):
        salient, target = draw.one(room.targets[:4])
        eye = _eye(room, target)
        aim = (target[0] + draw.span(-0.4, 0.4), target[1] + draw.span(-0.4, 0.4), target[2] + draw.span(-0.1, 0.5))
        pose = Pose.look(eye, aim, draw.span(-0.03, 0.03))
        shot = Shot(dataclasses.replace(scene, salient=salient), pose, draw.span(0.7, 0.85), pose)
        score = _score(shot, salient) - 10.0 * (room.clearance(eye[0], eye[1]) < 0.2)
        if score > most:
            best, most = shot, score
        if score >= 6:
            break
    return best


def _eye(room: _Room, target: tuple[float, float, float]) -> tuple[float, float, float]:
    """Where a person could stand to look at the target: of the free places tried, the one nearest to 3.2 m away."""
    draw, free, crowded = room.draw, [], []
    for _ in range(40):
        x, y = draw.span(0.25, room.width - 0.25), draw.span(0.25, room.depth - 0.25)
        gap, away = room.clearance(x, y), math.hypot(x - target[0], y - target[1])
        (free if gap >= 0.35 else crowded).append((abs(away - 3.2) if gap >= 0.35 else -gap, x, y))
    _, x, y = min(free[:: draw.whole(1, 4)] or crowded)  # not always the very best place
    return x, y, draw.span(1.3, 1.7)


def _score(shot: Shot, salient: int) -> float:
    """The number of classes in view, less for a view that is blocked, or that shows little but walls."""
    label, instance, depth = shot.glance()
    names, counts = np.unique(label, return_counts=True)
    score = float((counts[names >= 0] >= 2).sum())
    things, sizes = np.unique(instance, return_counts=True)
    biggest = sizes[things > 5].max(initial=0) / label.size
    walls = (label == _ID["wall"]).mean()
    return (
        score
        - 8.0 * max(0.0, biggest - 0.4)
        - 8.0 * max(0.0, walls - 0.5)
        - 3.0 * (depth.min() < 0.8)
        - 2.0 * ((instance == salient).sum() < 3)
    )


def _move(shot: Shot, draw: _Draw) -> Shot:
    """The same view with a past: the camera has walked a little, one to three things in view have slid and turned."""
    label, instance, _ = shot.glance(24, 32)
    fixed = [s.instance for s in shot.scene.solids if not s.casts]  # walls and the lamp on the ceiling
    loose = np.isin(label, [_ID["chair"], _ID["objects"], -1]) & ~np.isin(instance, fixed)
    seen, counts = np.unique(instance[loose], return_counts=True)
    chosen = seen[np.argsort(-counts, kind="stable")][: draw.whole(1, 3)]
    moved = {}
    for thing in chosen if len(chosen) else [shot.scene.salient]:
        parts = [s.pose.position for s in shot.scene.solids if s.instance == thing]
        middle = np.mean(parts, axis=0)
        angle, way, by = draw.span(-0.12, 0.12), draw.span(0, 2 * math.pi), draw.span(0.04, 0.12)
        slide = Pose.at(by * math.cos(way), by * math.sin(way), 0.0)
        about = Pose.at(*middle) @ Pose.at(0, 0, 0, yaw=angle) @ Pose.at(*(-middle))
        moved[int(thing)] = slide @ about
    solids = tuple(
        dataclasses.replace(s, previous=moved[s.instance] @ s.pose) if s.instance in moved else s
        for s in shot.scene.solids
    )
    step = Pose.at(*(draw.span(-0.05, 0.05) for _ in range(3)), *(draw.span(-0.02, 0.02) for _ in range(3)))
    return dataclasses.replace(shot, scene=dataclasses.replace(shot.scene, solids=solids), previous=shot.pose @ step)


def compose(split: str, index: int, seed: int = 0) -> Shot:
    """Room ``index`` of a split, for any image size.

    Raises:
        KitError: for an unknown split, or a negative index or seed.
    """
    if split not in SPLITS:
        raise KitError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
    if index < 0 or seed < 0:
        raise KitError(f"index and seed of a scene are whole numbers from 0, found {index} and {seed}")
    draw = _Draw(np.random.default_rng([_FAMILY, seed, SPLITS[split], index]))
    room = _Room(draw)
    _furnish(room, draw.one(tuple(KINDS)))
    light = _lights(room)
    return _move(_views(room, light), draw)
