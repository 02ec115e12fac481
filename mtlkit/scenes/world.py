"""What a scene is made of: solids with a place, a class and a material, a light, and the camera before them.

The world is in metres, z up. A camera has x right, y down, z forward. Motion is two poses: a solid keeps the one that
it had in the previous frame, so that flow is exact, not estimated.

Shapes: rotations are (3, 3), positions (3,); ``outer = rotation @ inner + position``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ..errors import KitError, nearest
from .shapes import SHAPES, Array
from .textures import Colour, Material

SUN = 1000.0  # metres to a sun


def _cross(a: Array, b: Array) -> Array:
    """np.cross for two vectors, without what it costs to be general."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@dataclasses.dataclass(frozen=True, eq=False)
class Pose:
    """Where a thing stands: ``outer = rotation @ inner + position``, metres."""

    rotation: Array
    position: Array

    @classmethod
    def at(cls, x: float, y: float, z: float, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Pose:
        """At (x, y, z), turned by roll about x, then pitch about y, then yaw about z (radians)."""
        (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
        about_z, position = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]]), np.array([x, y, z], dtype=float)
        if pitch == 0.0 and roll == 0.0:
            return cls(about_z, position)
        about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
        about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
        return cls(about_z @ about_y @ about_x, position)

    @classmethod
    def look(cls, eye: Sequence[float], target: Sequence[float], roll: float = 0.0) -> Pose:
        """A camera's pose: at ``eye``, looking at ``target``, turned by ``roll`` (radians) about its axis.

        Raises:
            KitError: for a view straight up or down, where right and left are anyone's guess.
        """
        position = np.asarray(eye, dtype=float)
        forward = np.asarray(target, dtype=float) - position
        forward = forward / math.sqrt(forward @ forward)
        right = np.array([forward[1], -forward[0], 0.0])
        if not right.any():
            raise KitError(f"the camera looks straight up or down from {tuple(eye)}; move its target aside")
        right = right / math.sqrt(right @ right)
        down = _cross(forward, right)
        c, s = math.cos(roll), math.sin(roll)
        return cls(np.stack([c * right + s * down, c * down - s * right, forward], axis=1), position)

    @classmethod
    def along(cls, middle: Sequence[float], axis: Sequence[float], right: Sequence[float] = (1.0, 0.0, 0.0)) -> Pose:
        """At ``middle``, the inner z along ``axis`` and the inner x as near to ``right`` as that allows.

        Raises:
            KitError: for an axis along ``right``, where the inner x could point anywhere.
        """
        z, x = np.array(axis, dtype=float), np.array(right, dtype=float)
        z = z / math.sqrt(z @ z)
        x = x - (x @ z) * z
        if not x @ x > 1e-12:
            raise KitError(f"the axis {tuple(axis)} runs along {tuple(right)}; give another direction as right")
        x = x / math.sqrt(x @ x)
        return cls(np.stack([x, _cross(z, x), z], axis=1), np.array(middle, dtype=float))

    def __matmul__(self, inner: Pose) -> Pose:
        return Pose(self.rotation @ inner.rotation, self.rotation @ inner.position + self.position)


@dataclasses.dataclass(frozen=True, eq=False)
class Solid:
    """One primitive.

    Attributes:
        shape: ``plane`` (the inner plane z = 0, without end), ``box``, ``sphere``, ``cylinder`` or ``capsule`` (both
            along the inner z), ``wedge`` (the half of a box below the plane from its lower edge at -x to its upper edge
            at +x).
        size: half sizes in metres: box and wedge (x, y, z), sphere its three half axes, cylinder and capsule (radius,
            radius, half the straight length).
        pose: from inner coordinates to the world.
        label: class id, -1 is unlabelled.
        instance: which object; the solids of one object share it.
        material: how it looks.
        previous: its pose one frame ago; None if it stood still.
        casts: whether it throws a shadow.
        part: which part of a person, a number from 1 up; 0 is none.

    Raises:
        KitError: for an unknown shape or a size that is not positive.
    """

    shape: str
    size: tuple[float, float, float]
    pose: Pose
    label: int
    instance: int
    material: Material
    previous: Pose | None = None
    casts: bool = True
    part: int = 0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise KitError(f"unknown shape {self.shape!r}: {nearest(self.shape, SHAPES)}")
        if self.shape != "plane" and min(self.size) <= 0:
            raise KitError(f"a {self.shape} has sizes above 0, found {self.size}")

    @property
    def radius(self) -> float:
        """Of the ball around it, metres."""
        x, y, z = self.size
        return {
            "plane": math.inf,
            "box": math.hypot(x, y, z),
            "wedge": math.hypot(x, y, z),
            "sphere": max(x, y, z),
            "cylinder": math.hypot(x, z),
            "capsule": x + z,
        }[self.shape]

    @property
    def was(self) -> Pose:
        """Its pose one frame ago."""
        return self.pose if self.previous is None else self.previous


@dataclasses.dataclass(frozen=True)
class Light:
    """A point light, and the light that comes from everywhere.

    Attributes:
        position: metres.
        brightness: of the point light at no distance.
        ambient: brightness of a surface that it does not reach and that neither looks up nor down.
        reach: the distance that halves its brightness, metres.
        colour: RGB factors of the point light alone.
    """

    position: tuple[float, float, float]
    brightness: float = 1.0
    ambient: float = 0.35
    reach: float = 4.0
    colour: Colour = (1.0, 1.0, 1.0)

    @classmethod
    def sun(cls, azimuth: float, elevation: float, brightness: float, ambient: float, colour: Colour) -> Light:
        """A light so far away that its rays run side by side, as good as: up by ``elevation`` from the direction
        (cos, sin) of ``azimuth`` (radians).
        """
        level = SUN * math.cos(elevation)
        position = level * math.cos(azimuth), level * math.sin(azimuth), SUN * math.sin(elevation)
        return cls(position, brightness, ambient, math.inf, colour)


@dataclasses.dataclass(frozen=True)
class Sky:
    """What is seen where nothing else is. It is infinitely far away: only the camera's turning moves it, and it has
    neither depth nor normal.

    Attributes:
        label: class id, -1 is unlabelled.
        material: how it looks; it needs no light. Its texture is asked at unit vectors in the world's axes, so its
            scale has no unit.
    """

    label: int
    material: Material


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Solids under a light. ``salient`` is the instance the picture is about, or None; with ``parts``, the parts of
    persons are among the targets; without a ``sky``, nothing is black and unlabelled.
    """

    solids: tuple[Solid, ...]
    light: Light
    salient: int | None = None
    parts: bool = False
    sky: Sky | None = None

    def before(self) -> Scene:
        """The scene one frame ago."""
        solids = tuple(dataclasses.replace(s, pose=s.was, previous=None) for s in self.solids)
        return dataclasses.replace(self, solids=solids)


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: pose, and focal length in pixels. Its axis goes through the middle of the image."""

    pose: Pose
    focal: float
