"""People, animals and things: scenes with the 20 classes and background of PASCAL VOC, and the parts of persons.

As in that data set, a picture is about something: a setting (a meal, a pasture, a quay) puts its main subject in the
middle and more around and behind it, and the camera steps back until the subject, or a part of it, fills the frame.
One frame ago the camera stood a little elsewhere, and one to three things in view have moved since.

Scene ``index`` of a split depends on (split, index, seed) alone; the image size only decides how finely it is sampled.

Units: metres, radians; z is up, and the camera looks along the world's y, more or less.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from . import animals, figures, furniture, roadside, things, vehicles
from .drawing import METAL, SPLITS, Draw, Item, slide, with_past
from .figures import SIDES
from .render import Shot
from .stage import TOWARDS, Stage, Unit, bounds, frame, greenery, open_air, room
from .world import Pose

__all__ = ["CLASSES", "PARTS", "SETTINGS", "SPLITS", "VERSION", "compose"]

VERSION = 1  # raise it when any picture changes
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PARTS = figures.PARTS
(
    BACKGROUND, AEROPLANE, BICYCLE, BIRD, BOAT, BOTTLE, BUS, CAR, CAT, CHAIR, COW, TABLE, DOG, HORSE, MOTORBIKE, PERSON,
    PLANT, SHEEP, SOFA, TRAIN, TV,
) = range(len(CLASSES))  # fmt: skip
_FURNITURE = {furniture.CHAIR: CHAIR, furniture.SOFA: SOFA, furniture.TABLE: TABLE, furniture.TV: TV}
_SOFA = _FURNITURE | {furniture.OBJECTS: SOFA}  # with its cushions
_VEHICLES = {
    vehicles.RIDER: PERSON, vehicles.CAR: CAR, vehicles.BUS: BUS, vehicles.TRAIN: TRAIN,
    vehicles.MOTORCYCLE: MOTORBIKE, vehicles.BICYCLE: BICYCLE,
}  # fmt: skip


def compose(split: str, index: int, seed: int = 0) -> Shot:
    """Scene ``index`` of a split, for any image size.

    Raises:
        KitError: for an unknown split, or a negative index or seed.
    """
    draw = Draw.scene("people", split, index, seed)
    stage = Stage(draw)
    _setting(split, index, seed)(stage)
    if draw.chance(0.5):
        stage.subject = stage.subject[:1]
    return _past(frame(stage, _salient(stage)), stage)


def _setting(split: str, index: int, seed: int) -> Callable[[Stage], None]:
    """The settings come in rounds, shuffled, each as often in a round as its share: small sets are varied too."""
    each = [setting for setting, share in SETTINGS.values() for _ in range(share)]
    order = Draw.scene("settings", split, index // len(each), seed).rng.permutation(len(each))
    return each[order[index % len(each)]]


def _salient(stage: Stage) -> int:
    """The largest of the subjects: the person that belongs to it, or else what has a class."""

    def area(unit: Unit) -> float:
        low, high = bounds(stage.solids(unit))
        return float((high[0] - low[0]) * (high[2] - low[2]))

    solids = stage.solids(max(stage.subject, key=area))
    wanted = PERSON if any(s.label == PERSON for s in solids) else max(s.label for s in solids)
    return next(s.instance for s in solids if s.label == wanted)


def _past(shot: Shot, stage: Stage) -> Shot:
    """The same view with a past: up to three of the units in view that can move have gone a little forward; if none
    can, the subject has been pushed.
    """
    draw = stage.draw
    seen, counts = np.unique(shot.glance(24, 32)[1], return_counts=True)
    size = dict(zip(seen.tolist(), counts.tolist(), strict=True))
    units = [unit for unit in stage.units if unit.speed and any(thing in size for thing in unit.things)]
    units.sort(key=lambda unit: -sum(size.get(thing, 0) for thing in unit.things))
    units = units[: draw.whole(1, 3)] or stage.subject[:1]

    def moved() -> dict[int, Pose]:
        back = {}
        for unit in units:
            x, y, _ = -unit.pose.rotation[:, 1]
            way, by = math.atan2(y, x) + draw.span(-0.2, 0.2), (unit.speed or 0.08) * draw.span(0.5, 1.0)
            motion = slide([unit.pose.position], draw.span(-0.08, 0.08), way, by)
            back |= dict.fromkeys(unit.things, motion)
        return back

    return with_past(shot, draw, moved)


# --- what settings are made of ----------------------------------------------------------------------------------------


def _beside(side: float, near: float, far: float) -> tuple[float, float]:
    """From ``near`` to ``far`` on the left (-1) or right (1)."""
    return min(side * near, side * far), max(side * near, side * far)


def _home(draw: Draw, make: Callable[..., Item], *options: float) -> Item:
    """A piece of furniture, with our classes."""
    return make(draw, *options).relabel(_FURNITURE)


def _chair(style: int) -> Item:
    """Equal numbers, equal chairs."""
    return _home(Draw(np.random.default_rng(style)), furniture.chair)


def _plant(draw: Draw, low: float = 0.6, high: float = 1.2) -> Item:
    return furniture.plant(draw, draw.span(low, high)).relabel({furniture.OBJECTS: PLANT})


def _animal(draw: Draw, kind: str) -> Item:
    return animals.quadruped(draw, CLASSES.index(kind), kind)


def _any(draw: Draw) -> float:
    """A yaw: any direction, but seldom straight away from the camera."""
    return TOWARDS + draw.span(-2.4, 2.4)


def _person(
    stage: Stage, x: tuple[float, float], y: tuple[float, float], walks: float = 0.5, z: float = 0.0
) -> list[Unit]:
    """Someone who stands or, this often, walks between these x and y; nobody if there is no room."""
    draw = stage.draw
    if draw.chance(walks):
        unit = stage.scatter(figures.person(draw, PERSON, figures.walking), x, y, _any(draw), 0.12, z)
    else:
        unit = stage.scatter(figures.person(draw, PERSON), x, y, TOWARDS + draw.span(-0.8, 0.8), 0.06, z)
    return [unit] if unit else []


def _often(draw: Draw, share: float, units: list[Unit]) -> list[Unit]:
    """These, this often; else none."""
    return units if draw.chance(share) else []


def _seated(stage: Stage, chair: Item, x: float, y: float, yaw: float, table: float | None = None) -> Unit:
    """Someone on a chair that stands there, turned so. The seat is the highest face over its middle."""
    draw = stage.draw
    seat = max(s.pose.position[2] + s.size[2] for s in chair.solids if np.abs(s.pose.position[:2]).max() < 0.05)
    posture = functools.partial(figures.sitting, seat=seat, table=table)
    return stage.put(figures.person(draw, PERSON, posture, draw.span(1.55, 1.88)), x, y, yaw, speed=0.04)


def _small_thing(draw: Draw) -> Item:
    """Something on a table: often a bottle."""
    kind = draw.rng.random()
    if kind < 0.55:
        return things.bottle(draw, BOTTLE)
    if kind < 0.7:
        return _plant(draw, 0.28, 0.42)
    return draw.one((furniture.small, furniture.pile))(draw).relabel({})


# --- indoors ----------------------------------------------------------------------------------------------------------


def _meal(stage: Stage) -> None:
    """People at a table, seen from its free side."""
    draw = stage.draw
    room(stage, 5.0, draw.span(1.6, 3.0))
    w, d, h = draw.span(0.95, 1.7), draw.span(0.75, 0.9), draw.span(0.71, 0.77)
    if w < 1.3:  # perhaps round
        d = w
    stage.stand(_home(draw, furniture.table, w, d, h), 0, 0)
    places = [(x, d / 2 + 0.2, TOWARDS) for x in ((-0.32, 0.32) if w > 1.3 else (0.0,))]
    places += [(side * (w / 2 + 0.2), 0.0, side * math.pi / 2) for side in SIDES]
    style, chairs, persons = draw.whole(0, 10**6), [], []
    for x, y, yaw in places:
        chairs.append(stage.put(_chair(style), x, y, yaw))
        if draw.chance(0.65):
            persons.append(_seated(stage, _chair(style), x, y, yaw, h))
    for i in range(3):
        stage.put(_small_thing(draw), (i - 1) * 0.28 * w, draw.span(-0.25, 0.1) * d, draw.span(-0.5, 0.5), z=h)
    if draw.chance(0.5):
        stage.put(_plant(draw), draw.one(SIDES) * draw.span(1.7, 2.1), draw.span(0.6, 1.2))
    stage.subject = persons or chairs
    if draw.chance(0.3):
        _person(stage, (-1.6, 1.6), (d / 2 + 0.9, d / 2 + 1.0), 0.0)


def _lounge(stage: Stage) -> None:
    """A sofa with or without people, a low table, plants."""
    draw = stage.draw
    room(stage, 5.0, draw.span(0.6, 1.6))
    sofa, count = furniture.sofa(draw), draw.whole(0, 3)
    if count:  # cushions would be in the way
        sofa.solids = [s for s in sofa.solids if s.label == furniture.SOFA]
    unit = stage.stand(sofa.relabel(_SOFA), 0, 0, TOWARDS)
    seats = (-0.55, 0.0, 0.55) if sofa.width > 1.9 else (-0.35, 0.35)
    sitting = [
        stage.put(
            figures.person(draw, PERSON, functools.partial(figures.sitting, seat=0.46)), x, -0.12, TOWARDS, speed=0.04
        )
        for x in draw.rng.permutation(seats)[:count]
    ]
    stage.subject = sitting or [unit]
    for side in SIDES:
        x, kind = _beside(side, sofa.width / 2 + 0.3, sofa.width / 2 + 0.6), draw.rng.random()
        if kind < 0.45:
            stage.scatter(_plant(draw), x, (-0.2, 0.2))
        elif kind < 0.6:
            _person(stage, x, (-0.3, 0.1), 0.0)
        elif kind < 0.75:
            stage.scatter(_home(draw, furniture.lamp, 1.35, 1.65), x, (-0.1, 0.2))
    if draw.chance(0.4):
        w = draw.span(0.6, 0.8)
        stage.stand(_home(draw, furniture.table, w, w, 0.4), 0, -1.2)
        stage.put(_small_thing(draw), draw.span(-0.2, 0.2), -1.2, z=0.4)


def _pet(stage: Stage) -> None:
    """A cat or a dog before a sofa, a chair or a plant."""
    draw = stage.draw
    room(stage, 4.5, draw.span(1.6, 2.6))
    kind = draw.one(("cat", "dog"))
    stage.subject = [stage.stand(_animal(draw, kind), 0, 0, _any(draw), 0.08)]
    back = (0.9, 1.3)
    if draw.chance(0.4):
        stage.scatter(furniture.sofa(draw).relabel(_SOFA), (-0.8, 0.8), (1.0, 1.1), TOWARDS)
    for make in (functools.partial(_home, make=furniture.chair), _plant):
        if draw.chance(0.6):
            stage.scatter(make(draw), (-1.5, 1.5), back, _any(draw))
    if draw.chance(0.35):
        _person(stage, (-1.0, 1.0), (0.5, 0.9), 0.3)
    stage.eye = (0.4, 1.2)


def _screen(stage: Stage) -> None:
    """A television on its cabinet; people, chairs, a pet about it."""
    draw = stage.draw
    back = draw.span(0.5, 0.6)
    room(stage, 4.5, back)
    subject = stage.stand(furniture.television(draw).relabel(_FURNITURE), 0, back - 0.32, TOWARDS)
    stage.subject = [subject]
    for side in SIDES:
        x, kind = _beside(side, 0.95, 1.6), draw.rng.random()
        if kind < 0.35:
            stage.scatter(_plant(draw), x, (-0.2, 0.1))
        elif kind < 0.6:
            person = _person(stage, x, (-0.7, 0.0), 0.2)
            stage.subject = _often(draw, 0.4, person) + stage.subject
        elif kind < 0.85:
            stage.scatter(_home(draw, furniture.chair), x, (-0.6, 0.0), _any(draw))
    if draw.chance(0.3):
        stage.scatter(_animal(draw, draw.one(("cat", "dog"))), (-0.8, 0.8), (-1.0, -0.7), _any(draw), 0.06)


def _still(stage: Stage) -> None:
    """Bottles, plants or a screen on a table, from near."""
    draw = stage.draw
    room(stage, 4.0, draw.span(0.9, 2.0))
    h = draw.span(0.71, 0.77)
    stage.stand(_home(draw, furniture.table, draw.span(1.3, 1.6), 0.8, h), 0, 0)
    makers = (lambda d: things.bottle(d, BOTTLE), lambda d: _plant(d, 0.3, 0.45), _monitor)
    first = draw.one((0, 0, 0, 1, 2))
    stage.subject = [stage.put(makers[first](draw), draw.span(-0.08, 0.08), 0.05, TOWARDS + draw.span(-0.3, 0.3), z=h)]
    for side in SIDES:
        make = draw.one((makers[0], makers[0], makers[1], lambda d: furniture.small(d).relabel({})))
        unit = stage.put(make(draw), side * draw.span(0.44, 0.52), draw.span(-0.2, 0.2), draw.span(-0.5, 0.5), z=h)
        stage.subject.append(unit)
    style = draw.whole(0, 10**6)
    if draw.chance(0.6):
        x, y = draw.span(-0.4, 0.4), 0.6
        stage.put(_chair(style), x, y, TOWARDS)
        if draw.chance(0.4):
            _seated(stage, _chair(style), x, y, TOWARDS, h)
    stage.eye, stage.close = (h + 0.15, h + 0.5), (0.9, 1.8)


def _monitor(draw: Draw) -> Item:
    return furniture.screen(draw, 0.42, 0.6).relabel(_FURNITURE)


# --- outdoors ---------------------------------------------------------------------------------------------------------


def _pasture(stage: Stage) -> None:
    """Animals of one kind, grazing, and perhaps who looks after them."""
    draw = stage.draw
    open_air(stage, "grass", draw.one(("wood", "hills", "hills", "houses")))
    kind, count = draw.one(("cow", "sheep", "horse", "cow", "sheep")), draw.whole(1, 4)
    stage.subject = [stage.stand(_animal(draw, kind), 0, 0, _any(draw), 0.1)]
    for _ in range(count - 1):
        unit = stage.scatter(_animal(draw, kind), (-3.5, 3.5), (0.5, 6.0), _any(draw), 0.1)
        stage.subject += _often(draw, 0.4, [unit] if unit else [])
    if draw.chance(0.45):
        stage.subject = _often(draw, 0.5, _person(stage, (-1.5, 1.5), (-0.8, 1.5), 0.3)) + stage.subject
    if draw.chance(0.4):
        stage.content.put(roadside.fence(draw, 40.0, 1.1).relabel({}), 0, draw.span(8, 12))
    greenery(stage, draw.whole(0, 4), 6.0, 25.0)
    stage.eye = (0.9, 1.7)


def _ride(stage: Stage) -> None:
    """Someone on a horse, a bicycle or a motorcycle."""
    draw = stage.draw
    kind = draw.whole(0, 3)
    open_air(stage, "grass" if kind == 0 else draw.one(("grass", "paving")), draw.one(("wood", "hills", "houses")))
    for i in range(draw.one((1, 1, 2))):
        if kind == 0:
            item, speed = animals.rider(draw, HORSE, PERSON), 0.15
        else:
            item, speed = (vehicles.motorcyclist if kind == 1 else vehicles.cyclist)(draw).relabel(_VEHICLES), 0.2
        unit = stage.scatter(item, (-0.2 - 2.5 * i, 0.2 + 2.5 * i), (1.2 * i, 3.0 * i), _any(draw), speed)
        stage.subject += [unit] if unit else []
    for _ in range(draw.whole(0, 2)):
        _person(stage, (-3.0, 3.0), (1.5, 6.0))
    greenery(stage, draw.whole(1, 5), 5.0, 22.0)


def _park(stage: Stage) -> None:
    """People, dogs, chairs and bicycles on a lawn."""
    draw = stage.draw
    open_air(stage, draw.one(("grass", "grass", "paving", "sand")), draw.one(("wood", "hills", "houses")))
    stage.subject = _person(stage, (-0.1, 0.1), (0, 0), 0.4)
    for _ in range(draw.whole(0, 3)):
        stage.subject += _person(stage, (-1.6, 1.6), (-0.3, 1.8), 0.3)
    if draw.chance(0.4):
        unit = stage.scatter(_animal(draw, "dog"), (-1.5, 1.5), (-0.8, 0.5), _any(draw), 0.12)
        stage.subject = stage.subject[:1] + ([unit] if unit else [])
    if draw.chance(0.3):
        stage.scatter(vehicles.bicycle(draw).relabel(_VEHICLES), (-2.0, 2.0), (0.4, 1.8), _any(draw))
    if draw.chance(0.3):
        stage.scatter(_home(draw, furniture.chair), (-2.0, 2.0), (-0.2, 1.5), _any(draw))
    if draw.chance(0.3):
        stage.scatter(animals.bird(draw, BIRD), (-1.2, 1.2), (-1.0, 0.5), _any(draw), 0.06)
    greenery(stage, draw.whole(2, 6), 4.0, 22.0)


def _road(stage: Stage) -> None:
    """A vehicle by the road, people before it."""
    draw = stage.draw
    open_air(stage, "paving", draw.one(("houses", "houses", "wood")), 30.0)
    lanes = draw.mixture("lanes", ((0.30, 0.30, 0.31), (0.38, 0.37, 0.36)), ((0.9, 0.9, 0.88),), 3.4)
    stage.content.begin(BACKGROUND).box((0, 2.6, 0), (7.6, 200.0, 0.01), lanes, yaw=math.pi / 2)
    cars, others = (vehicles.car, vehicles.bus), (vehicles.motorcycle, vehicles.bicycle)
    make = draw.one(2 * cars + others)
    yaw = draw.one(SIDES) * math.pi / 2
    stage.subject = [_vehicle(stage, make, 0.0, 0.4, yaw + draw.span(-0.25, 0.25))]
    if draw.chance(0.6):
        _vehicle(stage, draw.one(2 * cars + others[:1]), draw.span(-9, 9), 4.8, yaw + math.pi)
    for _ in range(draw.whole(0, 3)):
        stage.subject = _often(draw, 0.25, _person(stage, (-2.5, 2.5), (-2.6, -1.2))) + stage.subject
    greenery(stage, draw.whole(0, 4), 8.0, 20.0)
    stage.turn, stage.close = (-0.8, 0.8), (0.6, 1.3)


def _vehicle(stage: Stage, make: Callable[[Draw], Item], x: float, y: float, yaw: float) -> Unit | None:
    """If there is room for it."""
    return stage.stand(make(stage.draw).relabel(_VEHICLES), x, y, yaw, 0.25)


def _quay(stage: Stage) -> None:
    """Boats on the water, people on a jetty before them, birds."""
    draw = stage.draw
    open_air(stage, "water", draw.one(("hills", "hills", "wood", "houses")), 60.0)
    stage.subject = [stage.stand(things.boat(draw, BOAT), 0, 0, _any(draw), 0.1)]
    for _ in range(draw.whole(0, 3)):
        stage.scatter(things.boat(draw, BOAT), (-14, 14), (4.0, 25.0), _any(draw), 0.1)
    if draw.chance(0.6):
        z, y, wood = draw.span(0.4, 0.7), -draw.span(4.8, 5.5), draw.material("planks", ((0.45, 0.36, 0.27),), 0.2, 0.6)
        stage.content.begin(BACKGROUND).box((0, y, -0.5), (30.0, 2.2, z + 0.5), wood)
        for _ in range(draw.whole(1, 3)):
            person = _person(stage, (-2.5, 2.5), (y - 0.5, y + 0.5), z=z)
            stage.subject = _often(draw, 0.35, person) + stage.subject
        if draw.chance(0.3):
            stage.scatter(animals.bird(draw, BIRD), (-2.5, 2.5), (y - 0.5, y + 0.5), _any(draw), 0.05, z)
        stage.eye = (1.6, 2.6)
    else:
        stage.eye = (1.2, 3.0)


def _airfield(stage: Stage) -> None:
    """An airliner on the apron, people on their way to it."""
    draw = stage.draw
    open_air(stage, "paving", draw.one(("hills", "wood", "none")), 90.0)
    stage.subject = [stage.stand(things.aeroplane(draw, AEROPLANE), 0, 0, _any(draw), 0.25)]
    if draw.chance(0.3):
        stage.scatter(things.aeroplane(draw, AEROPLANE), (-25, 25), (20.0, 45.0), _any(draw), 0.25)
    for _ in range(draw.whole(0, 3)):
        _person(stage, (-5.0, 5.0), (-15.0, -9.0), 0.8)
    if draw.chance(0.3):
        _vehicle(stage, vehicles.car, draw.span(-8, 8), draw.span(-12, -8), _any(draw))
    stage.eye, stage.close = (1.5, 3.5), (0.7, 1.4)


def _station(stage: Stage) -> None:
    """A tram, and those who wait for it on the platform."""
    draw = stage.draw
    open_air(stage, draw.one(("paving", "grass")), draw.one(("houses", "wood")), 30.0)
    z, slabs = 0.25, draw.material("tiles", ((0.62, 0.61, 0.58), (0.55, 0.52, 0.48)), 0.8, 0.75)
    stage.content.begin(BACKGROUND).box((0, -3.9, 0), (80.0, 5.0, z), slabs)
    stage.content.box((0, -1.6, z), (80.0, 0.3, 0.01), draw.plain(((0.88, 0.87, 0.82),)))
    for y in (-0.72, 0.72):
        stage.content.box((0, y, 0), (200.0, 0.08, 0.1), METAL)
    tram = vehicles.tram(draw).relabel(_VEHICLES)
    end = draw.one(SIDES)  # which of its ends is near
    place = end * (draw.span(0.2, 0.45) * tram.depth)
    stage.subject = [stage.stand(tram, place, 0, -end * math.pi / 2, 0.25)]
    persons = [unit for _ in range(draw.whole(0, 4)) for unit in _person(stage, (-1.8, 1.8), (-3.4, -2.1), z=z)]
    stage.turn, stage.close = tuple(sorted((-1.25 * end, -0.4 * end))), (0.3, 0.7)
    if persons and draw.chance(0.5):
        stage.subject, stage.turn, stage.close = persons, (-0.8, 0.8), (0.75, 1.8)
    stage.eye = (1.4, 2.2)
    greenery(stage, draw.whole(0, 4), 6.0, 18.0)


def _birds(stage: Stage) -> None:
    """Birds on the ground or in the air."""
    draw = stage.draw
    ground = draw.one(("grass", "sand", "water", "paving"))
    open_air(stage, ground, draw.one(("wood", "hills", "hills")))
    flies = ground == "water" or draw.chance(0.3)
    for i in range(draw.whole(1, 4)):
        item, z = animals.bird(draw, BIRD, flies), draw.span(1.5, 3.0) if flies else 0.0
        unit = stage.scatter(item, (-0.7 * i, 0.7 * i), (0.0, 0.8 * i), _any(draw), 0.08, z)
        stage.subject += [unit] if unit else []
    stage.eye = (1.0, 1.8) if flies else (0.25, 0.9)
    if ground != "water":
        greenery(stage, draw.whole(0, 4), 5.0, 20.0)
        if draw.chance(0.3):
            _person(stage, (-2.0, 2.0), (2.5, 5.0))


# name -> (setting, how often in a round)
SETTINGS: dict[str, tuple[Callable[[Stage], None], int]] = {
    "meal": (_meal, 10), "lounge": (_lounge, 10), "pet": (_pet, 8), "screen": (_screen, 7), "still": (_still, 8),
    "pasture": (_pasture, 14), "ride": (_ride, 10), "park": (_park, 11), "road": (_road, 15), "quay": (_quay, 7),
    "airfield": (_airfield, 6), "station": (_station, 6), "birds": (_birds, 6),
}  # fmt: skip
