"""A small ray caster: from one scene of simple solids, an image and exactly consistent ground truth for every task.

Every ray starts in one point (the camera, the light, or the camera of the previous frame), so one function, ``_trace``,
serves the view, the shadow and the visibility in the previous frame. Each solid is convex: a ray meets it in one
interval of distances [near, far]. The shading is Lambert's, with one point light, one hard shadow ray and a constant
ambient part that is a little larger for surfaces that look up. There is nothing of gloss, of light that bounces, or of
a lens.

Frames: the world is in metres, z up. A camera has x right, y down, z forward; its rays are (x / focal, y / focal, 1),
so that the distance along a ray *is* the depth along z. Pixel (row i, column j) is sampled at its centre, the place
(j + 0.5, i + 0.5).

Only + - * / sqrt floor and comparisons touch a ray, element by element: a pixel's bytes depend neither on the tile it
is computed in nor on the number of rays beside it. (The one matrix product only decides, with a margin, which solids a
ray cannot meet.)

Shapes: N rays, n rays that may meet one solid, P solids, H/W image size; ``x_3N`` has three rows, one per coordinate or
colour.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import KitError, nearest

Array = NDArray[np.float64]
Colour = tuple[float, float, float]

VERSION = 1  # of this file's pictures: raise it when any pixel changes, and every cache is made anew
TILE = 12288  # rays at once: 96 x 128 is one tile; some 20 MB of working memory
NEAR = 1e-6  # metres (or share of a shadow ray): nearer hits are the surface itself
CREASE = 0.05  # metres of depth between two parts of one object that make an edge
_TINY = 1e-300  # keeps 1 / 0 finite without changing any other sum
# a rotated grid: four places in a pixel for the pixels that an outline crosses
_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))


# --- what a scene is made of ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Pose:
    """Where a thing stands: ``outer = rotation @ inner + position``, metres."""

    rotation: Array
    position: Array

    @classmethod
    def at(cls, x: float, y: float, z: float, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Pose:
        """At (x, y, z), turned by roll about x, then pitch about y, then yaw about z (radians)."""
        (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
        about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
        about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
        about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
        return cls(about_z @ about_y @ about_x, np.array([x, y, z], dtype=float))

    @classmethod
    def look(cls, eye: Sequence[float], target: Sequence[float], roll: float = 0.0) -> Pose:
        """A camera's pose: at ``eye``, looking at ``target``, turned by ``roll`` (radians) about its axis."""
        position = np.asarray(eye, dtype=float)
        forward = np.asarray(target, dtype=float) - position
        forward = forward / math.sqrt(forward @ forward)
        right = np.array([forward[1], -forward[0], 0.0])
        if not right.any():
            raise KitError(f"the camera looks straight up or down from {tuple(eye)}; move its target aside")
        right = right / math.sqrt(right @ right)
        down = np.cross(forward, right)
        c, s = math.cos(roll), math.sin(roll)
        return cls(np.stack([c * right + s * down, c * down - s * right, forward], axis=1), position)

    def __matmul__(self, inner: Pose) -> Pose:
        return Pose(self.rotation @ inner.rotation, self.rotation @ inner.position + self.position)


@dataclasses.dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        texture: a name in ``TEXTURES``. Textures are functions of the object's own coordinates: they move with it.
        colour: RGB in [0, 1].
        second: the texture's other colour, RGB in [0, 1].
        scale: metres of one period (a tile, a stripe, a grain of noise).
        seed: which of many equal textures.
        emission: the least brightness, for screens and windows; 1 shows the colour itself in the dark.
    """

    texture: str = "plain"
    colour: Colour = (0.5, 0.5, 0.5)
    second: Colour = (0.5, 0.5, 0.5)
    scale: float = 0.1
    seed: int = 0
    emission: float = 0.0

    def __post_init__(self) -> None:
        if self.texture not in TEXTURES:
            raise KitError(f"unknown texture {self.texture!r}: {nearest(self.texture, TEXTURES)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Solid:
    """One primitive.

    Attributes:
        shape: ``plane`` (the inner plane z = 0, without end), ``box``, ``sphere``, ``cylinder`` or ``capsule`` (both
            along the inner z).
        size: half sizes in metres: box (x, y, z), sphere its three half axes, cylinder and capsule (radius, radius,
            half the straight length).
        pose: from inner coordinates to the world.
        label: class id, -1 is unlabelled.
        instance: which object; the solids of one object share it.
        material: how it looks.
        previous: its pose one frame ago; None if it stood still.
        casts: whether it throws a shadow.
    """

    shape: str
    size: tuple[float, float, float]
    pose: Pose
    label: int
    instance: int
    material: Material
    previous: Pose | None = None
    casts: bool = True

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise KitError(f"unknown shape {self.shape!r}: {nearest(self.shape, SHAPES)}")
        if self.shape != "plane" and min(self.size) <= 0:
            raise KitError(f"a {self.shape} has sizes above 0, found {self.size}")

    @property
    def radius(self) -> float:
        """Of the ball around it, metres."""
        x, y, z = self.size
        if self.shape == "plane":
            return math.inf
        return {"sphere": max(x, y, z), "capsule": x + z, "cylinder": math.hypot(x, z)}.get(
            self.shape, math.hypot(x, y, z)
        )


@dataclasses.dataclass(frozen=True)
class Light:
    """A point light: position in metres, brightness at no distance, ambient part, and the distance that halves it."""

    position: tuple[float, float, float]
    brightness: float = 1.0
    ambient: float = 0.35
    reach: float = 4.0
    colour: Colour = (1.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Solids under a light. ``salient`` is the instance the picture is about, or None."""

    solids: tuple[Solid, ...]
    light: Light
    salient: int | None = None

    def before(self) -> Scene:
        """The scene one frame ago."""
        solids = tuple(
            s if s.previous is None else dataclasses.replace(s, pose=s.previous, previous=None) for s in self.solids
        )
        return dataclasses.replace(self, solids=solids)


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: pose, and focal length in pixels. Its axis goes through the middle of the image."""

    pose: Pose
    focal: float


# --- where a ray meets a solid: intervals in inner coordinates --------------------------------------------------------

Interval = tuple[Array, Array]


def _quadratic(a: Array, b: Array, c: float) -> Interval:
    """Where a t^2 + 2 b t + c <= 0 (a >= 0); near > far where nowhere."""
    a = a + _TINY
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0.0))
    near, far = (-b - root) / a, (root - b) / a
    return np.where(square < 0.0, np.inf, near), np.where(square < 0.0, -np.inf, far)


def _slab(o: float, d: Array, half: float) -> Interval:
    """Where |o + t d| <= half."""
    inverse = 1.0 / (d + _TINY)
    middle, reach = -o * inverse, np.abs(half * inverse)
    return middle - reach, middle + reach


def _plane(o: Array, d: Array, size: Sequence[float]) -> Interval:
    t = -o[2] / (d[2] + _TINY)
    return t, t


def _box(o: Array, d: Array, size: Sequence[float]) -> Interval:
    near, far = _slab(o[0], d[0], size[0])
    for axis in (1, 2):
        low, high = _slab(o[axis], d[axis], size[axis])
        near, far = np.maximum(near, low), np.minimum(far, high)
    return near, far


def _sphere(o: Array, d: Array, size: Sequence[float]) -> Interval:
    (x, y, z), (u, v, w) = (o[i] / size[i] for i in range(3)), (d[i] / size[i] for i in range(3))
    return _quadratic(u * u + v * v + w * w, x * u + y * v + z * w, x * x + y * y + z * z - 1.0)


def _tube(o: Array, d: Array, radius: float) -> Interval:
    return _quadratic(d[0] * d[0] + d[1] * d[1], o[0] * d[0] + o[1] * d[1], o[0] * o[0] + o[1] * o[1] - radius * radius)


def _cylinder(o: Array, d: Array, size: Sequence[float]) -> Interval:
    (near, far), (low, high) = _tube(o, d, size[0]), _slab(o[2], d[2], size[2])
    return np.maximum(near, low), np.minimum(far, high)


def _capsule(o: Array, d: Array, size: Sequence[float]) -> Interval:
    near, far = _cylinder(o, d, size)
    near, far = np.where(near > far, np.inf, near), np.where(near > far, -np.inf, far)
    for end in (-size[2], size[2]):
        low, high = _sphere(o - np.array([0.0, 0.0, end]), d, (size[0],) * 3)
        near, far = np.minimum(near, low), np.maximum(far, high)
    return near, far


SHAPES: dict[str, Callable[[Array, Array, Sequence[float]], Interval]] = {
    "plane": _plane, "box": _box, "sphere": _sphere, "cylinder": _cylinder, "capsule": _capsule,
}  # fmt: skip


def _outward(shape: str, p: Array, size: Sequence[float]) -> Array:
    """Unit outward normals (3, n) in inner coordinates at surface points p (3, n)."""
    n = np.zeros_like(p)
    if shape == "plane":
        n[2] = 1.0
        return n
    if shape == "box":
        axis = np.argmax(np.stack([np.abs(p[i]) - size[i] for i in range(3)]), axis=0)
        columns = np.arange(p.shape[1])
        n[axis, columns] = np.where(p[axis, columns] < 0.0, -1.0, 1.0)
        return n
    if shape == "sphere":
        n = np.stack([p[i] / (size[i] * size[i]) for i in range(3)])
    else:
        n[:2] = p[:2]
        if shape == "capsule":
            n[2] = p[2] - np.clip(p[2], -size[2], size[2])
        else:
            cap = np.abs(p[2]) - size[2] > np.sqrt(p[0] * p[0] + p[1] * p[1]) - size[0]
            n[:2, cap], n[2, cap] = 0.0, np.where(p[2, cap] < 0.0, -1.0, 1.0)
    return n / _length(n)


# --- textures: (inner point (3, n), material) -> RGB (3, n) -----------------------------------------------------------


def _hash(x: Array, y: Array, z: Array, seed: int) -> Array:
    """A number in [0, 1) for each triple of whole numbers (arrays that broadcast)."""
    x, y, z = (a.astype(np.int64).astype(np.uint32) for a in (x, y, z))
    h = x * np.uint32(374761393) + y * np.uint32(668265263) + z * np.uint32(2246822519)
    h = h + np.uint32(seed * 3266489917 & 0xFFFFFFFF)  # sums and products wrap around, as they should
    h = (h ^ (h >> 13)) * np.uint32(1274126177)
    h = (h ^ (h >> 15)) * np.uint32(2654435761)
    return ((h ^ (h >> 16)) & 0xFFFF) / 65536.0


def _noise(x: Array, y: Array, z: Array, seed: int) -> Array:
    """Smooth noise in [0, 1): random numbers at whole points, blended between."""
    x0, y0, z0 = (np.floor(a) for a in (x, y, z))
    u, v, w = (f * f * (3.0 - 2.0 * f) for f in (x - x0, y - y0, z - z0))
    step = np.array([[0.0], [1.0]])
    corner_222n = _hash((x0 + step)[:, None, None], (y0 + step)[None, :, None], (z0 + step)[None, None], seed)
    for weight in (u, v, w):
        corner_222n = corner_222n[0] + weight * (corner_222n[1] - corner_222n[0])
    return corner_222n


def _mix(share: Array, m: Material) -> Array:
    """``colour`` where the share is 0, ``second`` where it is 1."""
    return np.stack([c + share * (s - c) for c, s in zip(m.colour, m.second, strict=True)])


def _wave(x: Array) -> Array:
    """A triangle wave of period 1 in [0, 1]."""
    return np.abs(2.0 * (x - np.floor(x)) - 1.0)


def _plain(p: Array, m: Material) -> Array:
    return _mix(np.zeros_like(p[0]), m)


def _speckle(p: Array, m: Material) -> Array:
    return _mix(_noise(*(p / m.scale), m.seed), m)


def _checker(p: Array, m: Material) -> Array:
    # the shift keeps faces of solids off the borders between cells
    parity = np.floor(p[0] / m.scale + 0.13) + np.floor(p[1] / m.scale + 0.13) + np.floor(p[2] / m.scale + 0.13)
    return _mix(parity - 2.0 * np.floor(parity / 2.0), m)


def _stripes(p: Array, m: Material) -> Array:
    return _mix(np.where(_wave(p[0] / m.scale) > 0.5, 1.0, 0.0), m)


def _folds(p: Array, m: Material) -> Array:
    """Curtains: soft waves across, a little crooked."""
    bend = 0.6 * _noise(p[0] / m.scale / 3.0, p[1], p[2] / 0.7, m.seed)
    return _mix(_wave(p[0] / m.scale + bend), m)


def _wood(p: Array, m: Material) -> Array:
    """Grain along the inner x."""
    rings = 4.0 * _noise(p[0] / m.scale / 8.0, p[1] / m.scale, p[2] / m.scale, m.seed)
    return _mix(_wave(rings), m)


def _planks(p: Array, m: Material) -> Array:
    """A wooden floor: boards along the inner x, staggered, each with a shade of its own."""
    row = np.floor(p[1] / m.scale)
    along = p[0] / (9.0 * m.scale) + _hash(row, row * 0.0, row * 0.0, m.seed)
    shade = _hash(row, np.floor(along), row * 0.0, m.seed + 1)
    grain = _wave(3.0 * _noise(p[0] / m.scale / 3.0, 4.0 * p[1] / m.scale, 7.0 * row, m.seed))
    seam = (_wave(p[1] / m.scale) > 0.94) | (_wave(along) > 0.993)
    return _mix(np.where(seam, 1.3, 0.55 * shade + 0.35 * grain), m)


def _tiles(p: Array, m: Material) -> Array:
    """Square tiles in the inner x, y with joints of the second colour."""
    shade = 0.25 * _hash(np.floor(p[0] / m.scale), np.floor(p[1] / m.scale), p[0] * 0.0, m.seed)
    joint = (_wave(p[0] / m.scale) > 0.93) | (_wave(p[1] / m.scale) > 0.93)
    return _mix(np.where(joint, 1.0, shade), m)


def _spines(p: Array, m: Material) -> Array:
    """A row of books along the inner x: each of another colour, gaps of the second colour, a light band on some."""
    book = np.floor(p[0] / m.scale)
    zero = book * 0.0
    hues = np.stack([c + 0.6 * (_hash(book, zero + i, zero, m.seed) - 0.5) for i, c in enumerate(m.colour)])
    band = (_hash(book, zero, zero + 9.0, m.seed) > 0.5) & (_wave(p[2] / 0.11 + 0.2) > 0.75)
    hues = np.where(band, 0.5 * hues + 0.4, hues)
    gap = _wave(p[0] / m.scale) > 0.86
    return np.clip(np.where(gap, np.array(m.second)[:, None], hues), 0.02, 0.98)


def _painting(p: Array, m: Material) -> Array:
    """Blots in the inner x, z: between the two colours, and on some a darker mixture of both."""
    blots = _noise(p[0] / m.scale, np.full_like(p[1], 0.5), p[2] / m.scale, m.seed)
    dark = 0.35 * (np.array(m.colour) + np.array(m.second))[::-1, None]
    return np.where(
        _noise(p[0] / m.scale + 9.0, p[1] * 0.0, p[2] / m.scale, m.seed + 1) > 0.6, dark, _mix(_wave(1.5 * blots), m)
    )


def _sky(p: Array, m: Material) -> Array:
    """What a window shows: the colour above, the second colour below a rough horizon."""
    horizon = 0.3 * _noise(p[0] / m.scale, p[1] * 0.0, p[2] * 0.0, m.seed) - 0.35
    return _mix(np.clip((horizon - p[2]) * 12.0, 0.0, 1.0), m)


def _doors(p: Array, m: Material) -> Array:
    """Cabinet fronts: dark joints every ``scale`` metres across and twice as far upwards, counted from the middle."""
    joint = (_wave(p[0] / m.scale) > 0.95) | (_wave(p[2] / (2.0 * m.scale) + 0.5) > 0.97)
    grain = 0.35 * _noise(p[0] / 0.25, p[1] / 0.25, p[2] / 0.04, m.seed)
    return _mix(np.where(joint, 1.0, grain), m)


TEXTURES: dict[str, Callable[[Array, Material], Array]] = {
    "plain": _plain, "speckle": _speckle, "checker": _checker, "stripes": _stripes, "folds": _folds, "wood": _wood,
    "planks": _planks, "tiles": _tiles, "spines": _spines, "painting": _painting, "sky": _sky, "doors": _doors,
}  # fmt: skip


# --- casting ----------------------------------------------------------------------------------------------------------


def _length(x_3N: Array) -> Array:
    return np.sqrt(x_3N[0] * x_3N[0] + x_3N[1] * x_3N[1] + x_3N[2] * x_3N[2])


def _turn(rotation: Array, x_3N: Array) -> Array:
    """rotation @ x, written out so that a ray's sum does not depend on its neighbours."""
    return np.stack([r[0] * x_3N[0] + r[1] * x_3N[1] + r[2] * x_3N[2] for r in rotation])


class _Viewpoint:
    """The solids as seen from one point: poses relative to it, and balls around them."""

    def __init__(self, solids: Sequence[Solid], poses: Sequence[Pose], frame: Pose):
        self.solids = solids
        rotations_P33 = np.stack([p.rotation for p in poses]) if poses else np.zeros((0, 3, 3))
        apart_P3 = frame.position - np.array([p.position for p in poses]).reshape(-1, 3)
        self.turns_P33 = np.einsum("pji,jk->pik", rotations_P33, frame.rotation)  # frame -> inner
        self.origins_P3 = np.einsum("pji,pj->pi", rotations_P33, apart_P3)  # the viewpoint, inner
        centres_P3 = -apart_P3 @ frame.rotation
        radii_P = np.array([s.radius for s in solids])
        away_P = np.sqrt((centres_P3 * centres_P3).sum(axis=1))
        square_P = away_P**2 - (1.01 * radii_P + 2e-3 * away_P) ** 2  # the margins cover float32
        self.centres_P3 = centres_P3.astype(np.float32)
        self.least_P1 = np.where(square_P > 0.0, np.sqrt(np.maximum(square_P, 0.0)), -np.inf).astype(np.float32)[
            :, None
        ]

    def candidates(self, rays_3N: Array) -> Iterator[tuple[int, NDArray[np.intp] | slice]]:
        """Each solid with the rays that pass through the ball around it."""
        unit_3N = (rays_3N / _length(rays_3N)).astype(np.float32)
        for i, inside in enumerate(self.centres_P3 @ unit_3N >= self.least_P1):
            if self.least_P1[i, 0] == -np.inf:
                yield i, slice(None)
            else:
                chosen = np.flatnonzero(inside)
                if chosen.size:
                    yield i, chosen


def _trace(view: _Viewpoint, rays_3N: Array) -> tuple[Array, NDArray[np.intp]]:
    """Distance (N,) in units of the ray's length, inf where nothing is hit, and the solid that is hit (N,), -1 where
    none.
    """
    best_N = np.full(rays_3N.shape[1], np.inf)
    solid_N = np.full(rays_3N.shape[1], -1)
    for i, chosen in view.candidates(rays_3N):
        solid = view.solids[i]
        near, far = SHAPES[solid.shape](view.origins_P3[i], _turn(view.turns_P33[i], rays_3N[:, chosen]), solid.size)
        t = np.where(near > NEAR, near, far)
        nearer = (near <= far) & (t > NEAR) & (t < best_N[chosen])
        where = np.flatnonzero(nearer) if isinstance(chosen, slice) else chosen[nearer]
        best_N[where], solid_N[where] = t[nearer], i
    return best_N, solid_N


@dataclasses.dataclass
class _Hits:
    """What N rays of a camera meet. Points and normals are in the camera frame; nothing hit: solid -1, depth 0, normal
    0, black.
    """

    depth_N: Array
    solid_N: NDArray[np.intp]
    point_3N: Array
    normal_3N: Array
    albedo_3N: Array
    emission_N: Array
    inner_3N: Array


class _Renderer:
    """One scene before one camera."""

    def __init__(self, scene: Scene, camera: Camera):
        self.scene, self.camera = scene, camera
        self.view = _Viewpoint(scene.solids, [s.pose for s in scene.solids], camera.pose)
        casting = [s for s in scene.solids if s.casts]
        lamp = Pose(camera.pose.rotation, np.array(scene.light.position))
        self.shadow = _Viewpoint(casting, [s.pose for s in casting], lamp)
        self.light_3 = camera.pose.rotation.T @ (lamp.position - camera.pose.position)

    def hits(self, rays_3N: Array) -> _Hits:
        """The surfaces that these rays meet first."""
        depth_N, solid_N = _trace(self.view, rays_3N)
        depth_N = np.where(solid_N < 0, 0.0, depth_N)
        found = _Hits(
            depth_N,
            solid_N,
            depth_N * rays_3N,
            *(np.zeros_like(rays_3N) for _ in range(2)),
            np.zeros_like(depth_N),
            np.zeros_like(rays_3N),
        )
        order = np.argsort(solid_N, kind="stable")
        starts = np.flatnonzero(np.diff(solid_N[order], prepend=-2))
        for where in np.split(order, starts[1:]):
            i = solid_N[where[0]]
            if i >= 0:
                self._surface(found, int(i), where, rays_3N[:, where])
        return found

    def _surface(self, found: _Hits, i: int, where: NDArray[np.intp], rays_3n: Array) -> None:
        """Fill in normals and colours of the rays that meet solid i."""
        solid, turn = self.scene.solids[i], self.view.turns_P33[i]
        inner = self.view.origins_P3[i][:, None] + found.depth_N[where] * _turn(turn, rays_3n)
        normal = _turn(turn.T, _outward(solid.shape, inner, solid.size))
        away = (normal * rays_3n)[0] + (normal * rays_3n)[1] + (normal * rays_3n)[2] > 0.0
        found.normal_3N[:, where] = np.where(away, -normal, normal)
        found.albedo_3N[:, where] = TEXTURES[solid.material.texture](inner, solid.material)
        found.emission_N[where] = solid.material.emission
        found.inner_3N[:, where] = inner

    def shade(self, found: _Hits) -> Array:
        """RGB (3, N) in [0, 1]."""
        light = self.scene.light
        from_light_3N = found.point_3N - self.light_3[:, None]
        distance_N = _length(from_light_3N)
        product = -found.normal_3N * from_light_3N
        cosine_N = np.maximum(product[0] + product[1] + product[2], 0.0) / (distance_N + _TINY)
        lit = np.flatnonzero(cosine_N > 0.0)
        reached_N = np.zeros_like(cosine_N)
        reached_N[lit] = _trace(self.shadow, from_light_3N[:, lit])[0] > 1.0 - NEAR
        up_3 = self.camera.pose.rotation[2]  # the world's z in the camera frame
        up_N = found.normal_3N[0] * up_3[0] + found.normal_3N[1] * up_3[1] + found.normal_3N[2] * up_3[2]
        fading_N = 1.0 / (1.0 + distance_N * distance_N / (light.reach * light.reach))
        direct_N = light.brightness * fading_N * cosine_N * reached_N
        ambient_N = light.ambient * (1.0 + 0.15 * up_N)
        tint = np.array(light.colour)[:, None]
        return np.clip(found.albedo_3N * np.maximum(ambient_N + tint * direct_N, found.emission_N), 0.0, 1.0)


def _rays(columns: Array, rows: Array, camera: Camera, height: int, width: int) -> Array:
    """Rays (3, N) of length 1 along z through image places in pixels."""
    x, y = (columns - 0.5 * width) / camera.focal, (rows - 0.5 * height) / camera.focal
    return np.stack([x, y, np.ones_like(x)])


def render(
    scene: Scene,
    camera: Camera,
    height: int,
    width: int,
    previous: Camera | None = None,
    *,
    smooth: bool = True,
    tile: int = TILE,
) -> dict[str, np.ndarray]:
    """Cast a scene: the image, and the truth of every task at the centres of its pixels.

    Args:
        scene: solids and light, in metres.
        camera: where from; its focal length is in pixels of this very image.
        height: rows.
        width: columns.
        previous: the camera one frame ago; with it come ``flow`` and ``motion``.
        smooth: pixels that an outline crosses show the mean of four samples. Only ``image`` knows of it.
        tile: rays at once. Memory grows with it; the result does not depend on it.

    Returns:
        ``image`` float32 (3, H, W), RGB in [0, 1]; ``semantic`` int64 (H, W), -1 unlabelled; ``instance`` int64 (H, W),
        -1 nothing; ``depth`` float32 (1, H, W), metres along z, 0 nothing; ``normals`` float32 (3, H, W), unit, camera
        frame, facing the camera; ``albedo`` float32 (3, H, W), the colour without light; ``edges`` float32 (1, H, W), 1
        on the nearer of two neighbours (left/right, up/down) that show different objects, or parts of one object more
        than 5 cm apart in depth; ``saliency`` float32 (1, H, W), 1 on the object that the scene says the picture is
        about; with ``previous``: ``flow`` float32 (3, H, W): u, v in pixels from this frame to the previous one, and
        confidence, 1 where the point was seen in the previous frame, 0 where it was hidden or outside it; ``motion``
        int64 (H, W), 1 on objects that moved by themselves.

    Raises:
        KitError: for a size, focal length or tile that is not positive.
    """
    if min(height, width, tile) < 1 or not camera.focal > 0:
        raise KitError(
            f"height, width, tile and focal length are above 0, found {height}, {width}, {tile}, {camera.focal}"
        )
    renderer = _Renderer(scene, camera)
    flat, solid_HW = _cast(renderer, height, width, previous, tile)
    result = {key: value.reshape(-1, height, width).astype(np.float32) for key, value in flat.items()}
    result |= _labels(scene, solid_HW, result["depth"][0])
    if smooth:
        _smooth(renderer, result["image"], solid_HW, tile)
    if previous is not None:
        moved = np.array([s.previous is not None for s in scene.solids] + [False])  # the last one is "nothing"
        result["motion"] = moved[solid_HW].astype(np.int64)
    return result


def _cast(
    renderer: _Renderer, height: int, width: int, previous: Camera | None, tile: int
) -> tuple[dict[str, Array], NDArray[np.intp]]:
    """Everything that is a number for each ray, (rows, H * W), and the solid that each pixel shows, (H, W)."""
    count, scene = height * width, renderer.scene
    flat = {key: np.zeros((3, count)) for key in ("image", "normals", "albedo")} | {"depth": np.zeros((1, count))}
    solid = np.full(count, -1)
    if previous is not None:
        flat["flow"] = np.zeros((3, count))
        earlier = _Viewpoint(scene.solids, [_was(s) for s in scene.solids], previous.pose)
    for start in range(0, count, tile):
        pixels = np.arange(start, min(start + tile, count))
        found = renderer.hits(_rays(pixels % width + 0.5, pixels // width + 0.5, renderer.camera, height, width))
        solid[pixels] = found.solid_N
        flat["image"][:, pixels] = renderer.shade(found)
        for key, value in (("depth", found.depth_N), ("normals", found.normal_3N), ("albedo", found.albedo_3N)):
            flat[key][:, pixels] = value
        if previous is not None:
            flat["flow"][:, pixels] = _flow(scene, earlier, previous, found, pixels, height, width)
    return flat, solid.reshape(height, width)


def _was(solid: Solid) -> Pose:
    return solid.pose if solid.previous is None else solid.previous


def _labels(scene: Scene, solid_HW: NDArray[np.intp], depth_HW: np.ndarray) -> dict[str, np.ndarray]:
    """Semantic, instance, edges and saliency from the solid that every pixel shows."""
    label, instance = (np.array([getattr(s, key) for s in scene.solids] + [-1]) for key in ("label", "instance"))
    instance_HW = instance[solid_HW]
    depth_HW = np.where(solid_HW < 0, 1e9, depth_HW)  # nothing is farther than anything
    edges_HW = np.zeros(solid_HW.shape, dtype=np.float32)
    for a, b in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        gap = depth_HW[a] - depth_HW[b]
        crossing = (instance_HW[a] != instance_HW[b]) | ((solid_HW[a] != solid_HW[b]) & (np.abs(gap) > CREASE))
        edges_HW[a][crossing & (gap <= 0)] = 1
        edges_HW[b][crossing & (gap > 0)] = 1
    salient_HW = np.zeros_like(edges_HW) if scene.salient is None else (instance_HW == scene.salient).astype(np.float32)
    return {
        "semantic": label[solid_HW].astype(np.int64),
        "instance": instance_HW.astype(np.int64),
        "edges": edges_HW[None],
        "saliency": salient_HW[None],
    }


def _smooth(renderer: _Renderer, image_3HW: np.ndarray, solid_HW: NDArray[np.intp], tile: int) -> None:
    """Sample again, four times, the pixels with a neighbour that shows another solid."""
    height, width = solid_HW.shape
    border = np.zeros(solid_HW.shape, dtype=bool)
    across, down = solid_HW[:, 1:] != solid_HW[:, :-1], solid_HW[1:] != solid_HW[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    rows, columns = np.nonzero(border)
    step = max(1, tile // len(_SUBPIXELS))
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], columns[start : start + step]
        x = np.concatenate([j + 0.5 + dx for dx, _ in _SUBPIXELS])
        y = np.concatenate([i + 0.5 + dy for _, dy in _SUBPIXELS])
        colours = renderer.shade(renderer.hits(_rays(x, y, renderer.camera, height, width))).reshape(
            3, len(_SUBPIXELS), -1
        )
        image_3HW[:, i, j] = 0.25 * (colours[:, 0] + colours[:, 1] + colours[:, 2] + colours[:, 3])


def _flow(
    scene: Scene,
    earlier: _Viewpoint,
    previous: Camera,
    found: _Hits,
    pixels: NDArray[np.intp],
    height: int,
    width: int,
) -> Array:
    """u, v, confidence (3, N): where the points were in the previous image, and whether they were seen there."""
    before_3N = np.zeros_like(found.inner_3N)
    before_3N[2] = 1.0
    for i in np.unique(found.solid_N[found.solid_N >= 0]):
        where = np.flatnonzero(found.solid_N == i)
        offset = earlier.origins_P3[i][:, None]
        before_3N[:, where] = _turn(earlier.turns_P33[i].T, found.inner_3N[:, where] - offset)
    z = np.where(before_3N[2] > NEAR, before_3N[2], 1.0)
    x = before_3N[0] / z * previous.focal + 0.5 * width
    y = before_3N[1] / z * previous.focal + 0.5 * height
    inside = (before_3N[2] > NEAR) & (x >= 0) & (x < width) & (y >= 0) & (y < height) & (found.solid_N >= 0)
    seen = np.zeros(len(pixels))
    kept = np.flatnonzero(inside)
    seen[kept] = _trace(earlier, before_3N[:, kept])[0] > 1.0 - NEAR
    known = (before_3N[2] > NEAR) & (found.solid_N >= 0)
    return np.stack(
        [np.where(known, x - (pixels % width + 0.5), 0.0), np.where(known, y - (pixels // width + 0.5), 0.0), seen]
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Shot:
    """What a family draws for one index: a scene and the camera before it, for any image size.

    Attributes:
        scene: solids and light.
        pose: of the camera.
        focal: focal length as a share of the image's width.
        previous: the camera's pose one frame ago.
    """

    scene: Scene
    pose: Pose
    focal: float
    previous: Pose

    def camera(self, width: int) -> Camera:
        """This frame's camera for an image of this width."""
        return Camera(self.pose, self.focal * width)

    def render(self, height: int, width: int, flow: bool = False) -> dict[str, np.ndarray]:
        """``render`` of this shot; ``flow=True`` adds ``flow`` and ``motion``."""
        previous = Camera(self.previous, self.focal * width) if flow else None
        return render(self.scene, self.camera(width), height, width, previous)

    def glance(self, height: int = 12, width: int = 16) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Labels, instances (H, W) and depth in metres (H, W) alone: enough to judge a view."""
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rays = _rays(columns.ravel(), rows.ravel(), self.camera(width), height, width)
        depth, solid = _trace(_Viewpoint(self.scene.solids, [s.pose for s in self.scene.solids], self.pose), rays)
        label, instance = (
            np.array([getattr(s, key) for s in self.scene.solids] + [-1]) for key in ("label", "instance")
        )
        return tuple(a.reshape(height, width) for a in (label[solid], instance[solid], depth))
