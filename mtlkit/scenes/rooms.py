"""Rooms: indoor scenes with the 13 classes of NYUv2, drawn at random from the catalogue of furniture.

A room has a kind (bedroom, living room, study, dining room), four walls, and furniture of that kind along the walls and
in the middle. The camera stands on free floor at eye height and looks at a piece of furniture, the salient object; of
several random views, one that shows much is taken. One frame ago the camera stood a little elsewhere, and one to three
things in view have slid and turned since.

Scene ``index`` of a split depends on (split, index, seed) alone; the image size only decides how finely it is sampled.

Units: metres, radians; the world's x and y run along the walls, z up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from . import furniture as catalogue
from .drawing import CLOTHS, LINENS, SPLITS, WALLS, WOODS, Draw, Item, slide, with_past
from .furniture import CEILING, CHAIR, CLASSES, FLOOR, OBJECTS, UNLABELLED, WALL
from .render import Shot
from .textures import Material
from .world import Light, Pose, Scene

__all__ = ["CLASSES", "KINDS", "SPLITS", "VERSION", "compose"]

VERSION = 2  # raise it when any room changes

Make = Callable[[Draw], Item]
# kind -> (always there, some of these, how often a screen hangs on the wall)
KINDS: dict[str, tuple[tuple[Make, ...], tuple[Make, ...], float]] = {
    "bedroom": (
        (catalogue.bed,),
        (catalogue.wardrobe, catalogue.chest, catalogue.desk, catalogue.shelf, catalogue.television),
        0.25,
    ),
    "living": (
        (catalogue.lounge, catalogue.television),
        (catalogue.shelf, catalogue.chest, catalogue.shelf),
        0.1,
    ),
    "study": (
        (catalogue.desk, catalogue.shelf),
        (catalogue.sofa, catalogue.shelf, catalogue.bed, catalogue.chest),
        0.2,
    ),
    "dining": (
        (catalogue.dining,),
        (catalogue.chest, catalogue.shelf, catalogue.sofa, catalogue.television),
        0.25,
    ),
}
# texture, palette, scale, contrast
_FLOORS = (("planks", WOODS, 0.11, 0.55), ("tiles", WALLS, 0.35, 0.7), ("speckle", CLOTHS + LINENS, 0.03, 0.8))


def compose(split: str, index: int, seed: int = 0) -> Shot:
    """Room ``index`` of a split, for any image size.

    Raises:
        KitError: for an unknown split, or a negative index or seed.
    """
    draw = Draw.scene("rooms", split, index, seed)
    room = _Room(draw)
    _furnish(room, draw.one(tuple(KINDS)))
    light = _lamp(room)
    return _past(_view(room, light), draw)


# --- a room and its furniture -----------------------------------------------------------------------------------------


class _Room:
    """Four walls, a floor and a ceiling, being furnished.

    Attributes:
        content: everything in it, the shell included.
        targets: the instance of every thing on the floor, and where to look at it.
    """

    def __init__(self, draw: Draw):
        self.draw = draw
        self.width, self.depth, self.height = draw.span(3.5, 5.2), draw.span(3.8, 5.6), draw.span(2.4, 2.8)
        w, d = self.width, self.depth
        corners = ((0, 0), (w, 0), (w, d), (0, d))
        yaws = (0.0, math.pi / 2, math.pi, -math.pi / 2)
        # each wall as seen from the room: x along it, y into the room
        self.walls = [Pose.at(x, y, 0, yaw=yaw) for (x, y), yaw in zip(corners, yaws, strict=True)]
        self.lengths = [w, d, w, d]
        self.content = Item(w, d, self.height)
        self.targets: list[tuple[int, tuple[float, float, float]]] = []
        self._floor: list[tuple[float, float, float, float]] = []  # taken: x, x, y, y
        self._wall: list[tuple[int, float, float, float, float]] = []  # taken: wall, from, to, low, high
        self._shell()

    def _shell(self) -> None:
        draw = self.draw
        self._plane(FLOOR, Pose.at(0, 0, 0), draw.material(*draw.one(_FLOORS)))
        plaster = draw.material("speckle", ((0.92, 0.91, 0.89), WALLS[0]), 0.3, 0.97, emission=0.7)
        self._plane(CEILING, Pose.at(0, 0, self.height), plaster)
        paint = draw.material("speckle", WALLS, 0.25, 0.96)
        other = draw.material(draw.one(("stripes", "speckle")), WALLS, 0.16, 0.93)
        skirting = Material("plain", draw.colour(((0.90, 0.89, 0.86), WOODS[0])))
        for i, (pose, length) in enumerate(zip(self.walls, self.lengths, strict=True)):
            self._plane(WALL, pose @ Pose.at(0, 0, 0, roll=-math.pi / 2), other if i == 2 else paint)
            self.content.add("box", (length / 2, 0.012, 0.04), pose @ Pose.at(length / 2, 0, 0.04), skirting)

    def _plane(self, label: int, pose: Pose, material: Material) -> None:
        self.content.begin(label).add("plane", (1, 1, 1), pose, material, casts=False)

    def stand(self, item: Item, tries: int = 12) -> bool:
        """Put an item against a wall where there is room for it."""
        for i, along in self._along(item, 0.1, tries):
            place = (i, along - item.width / 2, along + item.width / 2, 0.0, item.height)
            pose = self.walls[i] @ Pose.at(along, item.depth / 2 + 0.07, 0)
            if not self._meets_wall(place) and self._claim(item, pose):
                self._wall.append(place)
                return True
        return False

    def hang(self, item: Item, low: float, tries: int = 12) -> bool:
        """Put an item on a wall, free from ``low`` upwards."""
        for i, along in self._along(item, 0.15, tries):
            place = (i, along - item.width / 2, along + item.width / 2, low, item.height)
            if item.height < self.height - 0.03 and not self._meets_wall(place):
                self._wall.append(place)
                self.content.join(item, self.walls[i] @ Pose.at(along, 0.02, 0))
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

    def clearance(self, x: float, y: float) -> float:
        """Metres from here to the nearest furniture; 0 in it."""
        gaps = [math.hypot(max(a - x, x - b, 0.0), max(c - y, y - d, 0.0)) for a, b, c, d in self._floor]
        return min(gaps, default=math.inf)

    def _along(self, item: Item, margin: float, tries: int) -> Iterator[tuple[int, float]]:
        """Random places for an item: a wall that is long enough, and where along it."""
        for _ in range(tries):
            i = self.draw.whole(0, 3)
            if item.width <= self.lengths[i] - 2 * margin:
                yield i, self.draw.span(item.width / 2 + margin, self.lengths[i] - item.width / 2 - margin)

    def _meets_wall(self, place: tuple[int, float, float, float, float]) -> bool:
        i, a, b, low, high = place
        return any(i == j and a < d and c < b and low < top and bottom < high for j, c, d, bottom, top in self._wall)

    def _claim(self, item: Item, pose: Pose) -> bool:
        """Place an item if its floor is free."""
        (x, y), (dx, dy) = (float(v) for v in pose.position[:2]), _reach(item, pose)
        left, right, back, front = x - dx, x + dx, y - dy, y + dy
        outside = left < 0 or right > self.width or back < 0 or front > self.depth
        if outside or any(left < b and a < right and back < d and c < front for a, b, c, d in self._floor):
            return False
        self._floor.append((left, right, back, front))
        self.targets.append((self.content.things, (x, y, 0.55 * item.height)))
        self.content.join(item, pose)
        return True


def _reach(item: Item, pose: Pose) -> tuple[float, float]:
    """Half the floor it takes along the world's x and y."""
    dx, dy = np.abs(pose.rotation[:2, :2]) @ np.array([item.width, item.depth]) / 2
    return float(dx), float(dy)


def _furnish(room: _Room, kind: str) -> None:
    draw = room.draw
    always, some, screen = KINDS[kind]
    for make in always:
        place = room.set_down if make is catalogue.dining else room.stand
        place(make(draw), 30)
    for i in draw.rng.permutation(len(some))[: draw.whole(2, 4)]:
        room.stand(some[int(i)](draw))
    for _ in range(draw.whole(1, 2)):
        room.hang(catalogue.window(draw), 0.7)
    room.hang(catalogue.door(draw), 0.0)
    if draw.chance(screen):
        room.hang(catalogue.wall_screen(draw), 0.9)
    if draw.chance(0.35):
        room.hang(catalogue.wall_shelf(draw), 1.15)
    for _ in range(draw.whole(1, 4)):
        room.hang(catalogue.picture(draw), 1.15)
    for _ in range(draw.whole(1, 2)):
        place = room.stand if draw.chance(0.7) else room.set_down
        place(catalogue.clutter(draw))
    if draw.chance(0.5):
        room.set_down(catalogue.chair(draw, draw.span(-0.6, 0.6)))


def _lamp(room: _Room) -> Light:
    """A lamp below the ceiling; it hangs there as an object, and the light comes from just under it."""
    draw = room.draw
    x, y = room.width * draw.span(0.35, 0.65), room.depth * draw.span(0.35, 0.65)
    r = draw.span(0.12, 0.2)
    glass = Material("plain", (0.97, 0.94, 0.86), emission=1.0)
    room.content.begin(OBJECTS).add("sphere", (r, r, 0.09), Pose.at(x, y, room.height - 0.03), glass, casts=False)
    warm = draw.span(-0.06, 0.08)
    brightness, ambient, reach = draw.span(0.8, 1.1), draw.span(0.34, 0.46), draw.span(3.5, 5.0)
    return Light((x, y, room.height - 0.16), brightness, ambient, reach, (1.0 + warm, 1.0, 1.0 - warm))


# --- the camera -------------------------------------------------------------------------------------------------------


def _view(room: _Room, light: Light, count: int = 8) -> Shot:
    """The first of several random views that shows much; else the best of them."""
    draw, best, most = room.draw, None, -math.inf
    for _ in range(count):
        salient, (x, y, z) = draw.one(room.targets[:4])
        eye = _eye(room, x, y)
        aim = (x + draw.span(-0.4, 0.4), y + draw.span(-0.4, 0.4), z + draw.span(-0.1, 0.5))
        pose = Pose.look(eye, aim, draw.span(-0.03, 0.03))
        shot = Shot(Scene(tuple(room.content.solids), light, salient), pose, draw.span(0.7, 0.85), pose)
        score = _score(shot) - 10.0 * (room.clearance(eye[0], eye[1]) < 0.2)
        if score > most:
            best, most = shot, score
        if score >= 6:
            break
    return best


def _eye(room: _Room, target_x: float, target_y: float) -> tuple[float, float, float]:
    """Where a person could stand to look at the target: of the free places tried, the one nearest to 3.2 m away."""
    draw, free, crowded = room.draw, [], []
    for _ in range(40):
        x, y = draw.span(0.25, room.width - 0.25), draw.span(0.25, room.depth - 0.25)
        gap = room.clearance(x, y)
        if gap >= 0.35:
            free.append((abs(math.hypot(x - target_x, y - target_y) - 3.2), x, y))
        else:
            crowded.append((-gap, x, y))
    _, x, y = min(free[:: draw.whole(1, 4)] or crowded)  # not always the very best place
    return x, y, draw.span(1.3, 1.7)


def _score(shot: Shot) -> float:
    """The number of classes in view, less for a view that is blocked, or that shows little but walls."""
    label, instance, depth = shot.glance()
    names, counts = np.unique(label, return_counts=True)
    things, sizes = np.unique(instance, return_counts=True)
    biggest = sizes[things > 5].max(initial=0) / label.size  # 0 to 5 are the shell
    walls = (label == WALL).mean()
    score = float((counts[names >= 0] >= 2).sum())
    score -= 8.0 * max(0.0, biggest - 0.4) + 8.0 * max(0.0, walls - 0.5)
    return score - 3.0 * (depth.min() < 0.8) - 2.0 * ((instance == shot.scene.salient).sum() < 3)


def _past(shot: Shot, draw: Draw) -> Shot:
    """The same view with a past: the camera has walked a little, one to three things in view have slid and turned."""
    loose = {k: [s.pose.position for s in shot.scene.solids if s.instance == k] for k in _loose(shot, draw)}

    def moved() -> dict[int, Pose]:
        return {
            thing: slide(parts, draw.span(-0.12, 0.12), draw.span(0, 2 * math.pi), draw.span(0.04, 0.12))
            for thing, parts in loose.items()
        }

    return with_past(shot, draw, moved)


def _loose(shot: Shot, draw: Draw) -> list[int]:
    """The one to three largest chairs and objects in view, by instance; without any, the salient thing."""
    label, instance, _ = shot.glance(24, 32)
    fixed = [s.instance for s in shot.scene.solids if not s.casts]  # walls and the lamp on the ceiling
    loose = np.isin(label, [CHAIR, OBJECTS, UNLABELLED]) & ~np.isin(instance, fixed)
    seen, counts = np.unique(instance[loose], return_counts=True)
    largest = seen[np.argsort(-counts, kind="stable")][: draw.whole(1, 3)]
    return [int(thing) for thing in largest] or [shot.scene.salient]
