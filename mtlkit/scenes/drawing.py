"""What the families of scenes draw with: random sizes, colours and materials, and things built of solids.

``Draw`` is the one source of chance: what a scene looks like is decided by the order in which its family asks. ``Item``
is a thing (or a group of things) being built around its own origin: its middle on the floor, its back towards -y, z up.
The palettes are typical of what they name but overlap (a table, a shelf and a floor share their woods), so that shape
and place tell a class as much as colour does.

Units: metres, radians, RGB in [0, 1].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ..errors import KitError, nearest
from .render import Shot
from .shapes import Array
from .textures import Colour, Material
from .world import Pose, Solid

Choice = TypeVar("Choice")

SPLITS = {"train": 0, "validation": 1, "test": 2}

WOODS = (
    (0.55, 0.36, 0.20), (0.42, 0.26, 0.14), (0.68, 0.50, 0.32), (0.80, 0.68, 0.50), (0.30, 0.20, 0.14),
    (0.88, 0.86, 0.82),
)  # fmt: skip
CLOTHS = (
    (0.47, 0.48, 0.50), (0.25, 0.33, 0.50), (0.58, 0.30, 0.24), (0.38, 0.46, 0.30), (0.70, 0.62, 0.50),
    (0.24, 0.23, 0.25), (0.66, 0.52, 0.26), (0.28, 0.48, 0.50),
)  # fmt: skip
LINENS = (
    (0.92, 0.90, 0.87), (0.62, 0.72, 0.82), (0.85, 0.68, 0.66), (0.70, 0.76, 0.62), (0.50, 0.42, 0.60),
    (0.80, 0.72, 0.55),
)  # fmt: skip
WALLS = (
    (0.88, 0.85, 0.78), (0.80, 0.83, 0.85), (0.86, 0.78, 0.67), (0.72, 0.78, 0.70), (0.80, 0.73, 0.74),
    (0.90, 0.90, 0.89), (0.63, 0.71, 0.78),
)  # fmt: skip
THINGS = (
    (0.75, 0.25, 0.20), (0.20, 0.45, 0.65), (0.85, 0.75, 0.30), (0.30, 0.55, 0.35), (0.85, 0.83, 0.80),
    (0.65, 0.48, 0.30),
)  # fmt: skip
METAL = Material("plain", (0.55, 0.55, 0.57))
DARK = Material("plain", (0.07, 0.07, 0.08))


class Draw:
    """Random sizes, choices and materials."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    @classmethod
    def scene(cls, family: str, split: str, index: int, seed: int) -> Draw:
        """The source for one scene. The first four letters of its name keep the families apart.

        Raises:
            KitError: for an unknown split, or a negative index or seed.
        """
        if split not in SPLITS:
            raise KitError(f"unknown split {split!r}: {nearest(split, SPLITS)}")
        if index < 0 or seed < 0:
            raise KitError(f"index and seed of a scene are whole numbers from 0, found {index} and {seed}")
        letters = int.from_bytes(family[:4].encode(), "big")
        return cls(np.random.default_rng([letters, seed, SPLITS[split], index]))

    def span(self, low: float, high: float) -> float:
        """A number from low to high."""
        return low + (high - low) * self.rng.random()  # what rng.uniform does, in a third of the time

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        """True this often."""
        return bool(self.rng.random() < share)

    def one(self, choices: Sequence[Choice]) -> Choice:
        """One of these."""
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

    def mixture(
        self,
        texture: str,
        first: Sequence[Colour],
        second: Sequence[Colour],
        scale: float | tuple[float, float],
        spread: float = 0.05,
        emission: float = 0.0,
    ) -> Material:
        """A texture between colours of two palettes; a scale of two numbers is a range to draw from."""
        colours = self.colour(first, spread), self.colour(second, spread)
        scale = self.span(*scale) if isinstance(scale, tuple) else scale
        return Material(texture, *colours, scale, self.whole(0, 9999), emission)

    def wood(self) -> Material:
        """Of furniture."""
        return self.material("wood", WOODS, 0.12, 0.8)

    def cloth(self, palette: Sequence[Colour] = CLOTHS) -> Material:
        """Two in three are without a pattern."""
        kind = self.rng.random()
        if kind < 0.65:
            return self.material("speckle", palette, 0.02, 0.85)
        if kind < 0.85:
            return self.material("stripes", palette, self.span(0.08, 0.2), 0.75)
        return self.material("checker", palette, self.span(0.06, 0.15), 0.8)

    def plain(self, palette: Sequence[Colour] = THINGS) -> Material:
        """One colour."""
        return self.material("plain", palette, 1.0)


class Item:
    """A thing, or a group of them, being built. Methods that add to it return it.

    Attributes:
        width: along x, of the floor and of the wall that it keeps free of others.
        depth: along y, of the floor.
        height: of the wall.
        solids: what it is made of so far, in its own coordinates.
        things: how many objects these make; ``Solid.instance`` counts them from 0.
        part: ``Solid.part`` of what is added next; 0 again with the next object.
    """

    def __init__(self, width: float, depth: float, height: float):
        self.width, self.depth, self.height = width, depth, height
        self.solids: list[Solid] = []
        self.things, self.part = 0, 0
        self._label, self._thing = -1, -1

    def begin(self, label: int) -> Item:
        """The next solids make one object of this class."""
        self._label, self._thing, self.part = label, self.things, 0
        self.things += 1
        return self

    def add(self, shape: str, size: tuple[float, ...], pose: Pose, material: Material, casts: bool = True) -> Item:
        """A solid of these half sizes; see ``Solid``."""
        self.solids.append(Solid(shape, size, pose, self._label, self._thing, material, casts=casts, part=self.part))
        return self

    def box(self, place: Sequence[float], size: Sequence[float], material: Material, **turn: float) -> Item:
        """A box of whole ``size`` standing at ``place``: the middle of its underside."""
        return self._stand("box", place, size, material, turn)

    def wedge(self, place: Sequence[float], size: Sequence[float], material: Material, **turn: float) -> Item:
        """The lower half of such a box, cut by a slope that rises along x: roofs, windscreens."""
        return self._stand("wedge", place, size, material, turn)

    def _stand(self, shape: str, place: Sequence[float], size: Sequence[float], material: Material, turn: dict) -> Item:
        x, y, z = place
        w, d, h = size
        return self.add(shape, (w / 2, d / 2, h / 2), Pose.at(x, y, z + h / 2, **turn), material)

    def rod(self, place: Sequence[float], radius: float, height: float, material: Material) -> Item:
        """An upright cylinder standing at ``place``."""
        x, y, z = place
        return self.add("cylinder", (radius, radius, height / 2), Pose.at(x, y, z + height / 2), material)

    def disc(self, middle: Sequence[float], radius: float, width: float, material: Material, **turn: float) -> Item:
        """A cylinder around ``middle``, its axis upright unless turned: wheels, signs."""
        return self.add("cylinder", (radius, radius, width / 2), Pose.at(*middle, **turn), material)

    def bar(self, middle: Sequence[float], radius: float, length: float, material: Material, **turn: float) -> Item:
        """A capsule around ``middle``, upright unless turned."""
        return self.add("capsule", (radius, radius, length / 2), Pose.at(*middle, **turn), material)

    def tube(self, start: Sequence[float], end: Sequence[float], radius: float, material: Material) -> Item:
        """A capsule from point to point: limbs, frames of bicycles."""
        a, b = np.array(start, dtype=float), np.array(end, dtype=float)
        way = b - a
        right = np.eye(3)[int(np.argmin(np.abs(way)))]
        half = math.sqrt(way @ way) / 2
        return self.add("capsule", (radius, radius, half), Pose.along((a + b) / 2, way, right), material)

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
        return self.join(other, Pose.at(x, y, z, yaw=yaw))

    def join(self, other: Item, pose: Pose) -> Item:
        """``put`` at any pose."""
        for s in other.solids:
            self.solids.append(dataclasses.replace(s, pose=pose @ s.pose, instance=s.instance + self.things))
        self.things += other.things
        return self

    def relabel(self, classes: Mapping[int, int]) -> Item:
        """The classes of another family: its label -> ours. What is not named becomes 0, which families that need this
        call background.
        """
        self.solids = [dataclasses.replace(s, label=classes.get(s.label, 0)) for s in self.solids]
        return self

    def shrink(self, share: float) -> Item:
        """The whole item, this many times as large."""
        for i, s in enumerate(self.solids):
            pose = Pose(s.pose.rotation, share * s.pose.position)
            self.solids[i] = dataclasses.replace(s, size=tuple(share * a for a in s.size), pose=pose)
        return self


def with_past(shot: Shot, draw: Draw, moved: Callable[[], Mapping[int, Pose]], tries: int = 8) -> Shot:
    """The same view with a past: the camera has moved a little, and what ``moved`` names has moved by itself.

    A past in which a thing stood in the camera's way is drawn again: nothing of the present could be found in it.

    Args:
        shot: the present.
        draw: the source of chance.
        moved: draws instances that have moved, each with the motion that takes it from where it is to where it was.
        tries: how often at most.
    """
    nearest = shot.glance()[2].min()
    for _ in range(tries):
        back = moved()
        solids = tuple(
            dataclasses.replace(s, previous=back[s.instance] @ s.pose) if s.instance in back else s
            for s in shot.scene.solids
        )
        step = Pose.at(*(draw.span(-0.05, 0.05) for _ in range(3)), *(draw.span(-0.02, 0.02) for _ in range(3)))
        scene = dataclasses.replace(shot.scene, solids=solids)
        past = dataclasses.replace(shot, scene=scene, previous=shot.pose @ step)
        if past.before().glance()[2].min() > 0.5 * nearest:
            break
    return past


def slide(parts: Sequence[Array], angle: float, way: float, by: float) -> Pose:
    """A turn by ``angle`` about the middle of these places, then a slide along the floor in the direction ``way``."""
    middle = np.mean(parts, axis=0)
    about = Pose.at(*middle) @ Pose.at(0, 0, 0, yaw=angle) @ Pose.at(*(-middle))
    return Pose.at(by * math.cos(way), by * math.sin(way), 0.0) @ about
