"""How surfaces look: a material, and the textures it can have.

A texture is a function of a point in the object's own ("inner") coordinates, in metres, so it moves with the object and
needs no unwrapping. Randomness is a hash of whole numbers, never a generator with a state: the colour of a point
depends on that point alone.

Shapes: n points, ``p_3n`` inner coordinates, colours RGB (3, n) in [0, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import KitError, nearest

Array = NDArray[np.float64]
Colour = tuple[float, float, float]

STOREY = 1.2  # height of a storey as a multiple of the distance between the windows of a facade


@dataclasses.dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        texture: a name in ``TEXTURES``.
        colour: RGB in [0, 1].
        second: the texture's other colour, RGB in [0, 1].
        scale: metres of one period (a tile, a stripe, a grain of noise).
        seed: which of many equal textures.
        emission: the least brightness, for screens and windows; 1 shows the colour itself in the dark.

    Raises:
        KitError: for an unknown texture.
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


# --- noise, waves, mixtures: what textures are made of ----------------------------------------------------------------


def _hash(x: Array | float, y: Array | float, z: Array | float, seed: int) -> Array:
    """A number in [0, 1) for each triple of whole numbers (at least one an array; they broadcast)."""
    x, y, z = (np.atleast_1d(a).astype(np.int64).astype(np.uint32) for a in (x, y, z))
    h = x * np.uint32(374761393) + y * np.uint32(668265263) + z * np.uint32(2246822519)
    h = h + np.uint32(seed * 3266489917 & 0xFFFFFFFF)  # sums and products wrap around, as they should
    h = (h ^ (h >> 13)) * np.uint32(1274126177)
    h = (h ^ (h >> 15)) * np.uint32(2654435761)
    return ((h ^ (h >> 16)) & 0xFFFF) / 65536.0


def _noise(x: Array | float, y: Array | float, z: Array | float, seed: int) -> Array:
    """Smooth noise in [0, 1): random numbers at whole points, blended between."""
    x0, y0, z0 = (np.floor(a) for a in (x, y, z))
    u, v, w = (f * f * (3.0 - 2.0 * f) for f in (x - x0, y - y0, z - z0))
    step = np.array([[0.0], [1.0]])
    corner_222n = _hash((x0 + step)[:, None, None], (y0 + step)[None, :, None], (z0 + step)[None, None], seed)
    for weight in (u, v, w):
        corner_222n = corner_222n[0] + weight * (corner_222n[1] - corner_222n[0])
    return corner_222n


def _wave(x: Array) -> Array:
    """A triangle wave of period 1 in [0, 1]: 1 at whole numbers."""
    return np.abs(2.0 * (x - np.floor(x)) - 1.0)


def _mix(share: Array, m: Material) -> Array:
    """``colour`` where the share is 0, ``second`` where it is 1."""
    return np.stack([c + share * (s - c) for c, s in zip(m.colour, m.second, strict=True)])


# --- the textures: (inner points (3, n), material) -> RGB (3, n) ------------------------------------------------------


def _plain(p_3n: Array, m: Material) -> Array:
    """``colour`` everywhere."""
    return _mix(np.zeros_like(p_3n[0]), m)


def _speckle(p_3n: Array, m: Material) -> Array:
    """Smooth noise: plaster, cloth, leaves."""
    return _mix(_noise(*(p_3n / m.scale), m.seed), m)


def _checker(p_3n: Array, m: Material) -> Array:
    """Cubes of either colour by turns. The shift keeps faces of solids off the borders between cubes."""
    parity = sum(np.floor(x / m.scale + 0.13) for x in p_3n)
    return _mix(parity - 2.0 * np.floor(parity / 2.0), m)


def _stripes(p_3n: Array, m: Material) -> Array:
    """Bands of equal width across the inner x."""
    return _mix(np.where(_wave(p_3n[0] / m.scale) > 0.5, 1.0, 0.0), m)


def _folds(p_3n: Array, m: Material) -> Array:
    """Curtains: soft waves across, a little crooked."""
    x, y, z = p_3n
    bend = 0.6 * _noise(x / m.scale / 3.0, y, z / 0.7, m.seed)
    return _mix(_wave(x / m.scale + bend), m)


def _wood(p_3n: Array, m: Material) -> Array:
    """Grain along the inner x."""
    x, y, z = p_3n / m.scale
    return _mix(_wave(4.0 * _noise(x / 8.0, y, z, m.seed)), m)


def _planks(p_3n: Array, m: Material) -> Array:
    """A wooden floor: boards along the inner x, staggered, each with a shade of its own."""
    x, y, _ = p_3n
    row = np.floor(y / m.scale)
    along = x / (9.0 * m.scale) + _hash(row, 0.0, 0.0, m.seed)
    shade = _hash(row, np.floor(along), 0.0, m.seed + 1)
    grain = _wave(3.0 * _noise(x / m.scale / 3.0, 4.0 * y / m.scale, 7.0 * row, m.seed))
    seam = (_wave(y / m.scale) > 0.94) | (_wave(along) > 0.993)
    return _mix(np.where(seam, 1.3, 0.55 * shade + 0.35 * grain), m)


def _tiles(p_3n: Array, m: Material) -> Array:
    """Square tiles in the inner x, y with joints of the second colour."""
    x, y, _ = p_3n / m.scale
    joint = (_wave(x) > 0.93) | (_wave(y) > 0.93)
    return _mix(np.where(joint, 1.0, 0.25 * _hash(np.floor(x), np.floor(y), 0.0, m.seed)), m)


def _spines(p_3n: Array, m: Material) -> Array:
    """A row of books along the inner x: each of another colour, gaps of the second colour, a light band on some."""
    x, _, z = p_3n
    book = np.floor(x / m.scale)
    hues = np.stack([c + 0.6 * (_hash(book, i, 0.0, m.seed) - 0.5) for i, c in enumerate(m.colour)])
    band = (_hash(book, 0.0, 9.0, m.seed) > 0.5) & (_wave(z / 0.11 + 0.2) > 0.75)
    hues = np.where(band, 0.5 * hues + 0.4, hues)
    gap = _wave(x / m.scale) > 0.86
    return np.clip(np.where(gap, np.array(m.second)[:, None], hues), 0.02, 0.98)


def _painting(p_3n: Array, m: Material) -> Array:
    """Blots in the inner x, z: between the two colours, and on some a darker mixture of both."""
    x, _, z = p_3n / m.scale
    blots = _mix(_wave(1.5 * _noise(x, 0.5, z, m.seed)), m)
    dark = 0.35 * (np.array(m.colour) + np.array(m.second))[::-1, None]
    return np.where(_noise(x + 9.0, 0.0, z, m.seed + 1) > 0.6, dark, blots)


def _sky(p_3n: Array, m: Material) -> Array:
    """What a window shows: the colour above, the second colour below a rough horizon."""
    horizon = 0.3 * _noise(p_3n[0] / m.scale, 0.0, 0.0, m.seed) - 0.35
    return _mix(np.clip((horizon - p_3n[2]) * 12.0, 0.0, 1.0), m)


def _clouds(p_3n: Array, m: Material) -> Array:
    """An open sky, asked by direction: the colour overhead, the second colour at the horizon and in clouds, which lie
    in a layer of the plane z = 1.
    """
    x, y, z = p_3n
    up = np.maximum(z, 0.0) + 0.12  # the layer bends down to the horizon instead of running out to it
    cloud = 0.65 * _noise(x / up / m.scale, y / up / m.scale, 0.0 * z, m.seed)
    cloud += 0.35 * _noise(3.1 * x / up / m.scale, 3.1 * y / up / m.scale, 0.0 * z, m.seed + 1)
    haze = np.clip(1.0 - 2.2 * up, 0.0, 1.0)
    return _mix(np.maximum(haze, np.clip(3.5 * cloud - 1.6, 0.0, 1.0)), m)


def _doors(p_3n: Array, m: Material) -> Array:
    """Cabinet fronts: dark joints every ``scale`` metres across and twice as far upwards, counted from the middle."""
    x, y, z = p_3n
    joint = (_wave(x / m.scale) > 0.95) | (_wave(z / (2.0 * m.scale) + 0.5) > 0.97)
    grain = 0.35 * _noise(x / 0.25, y / 0.25, z / 0.04, m.seed)
    return _mix(np.where(joint, 1.0, grain), m)


def _facade(p_3n: Array, m: Material) -> Array:
    """The walls of a box as a house's: windows every ``scale`` metres, in storeys ``STOREY`` times as high, both
    counted from the middle. They are of the second colour, each of a brightness of its own, in pale frames; how wide,
    and whether with a bar, is up to the seed.
    """
    along, up = (p_3n[0] + p_3n[1]) / m.scale, p_3n[2] / (STOREY * m.scale)
    column, storey = np.floor(along), np.floor(up)
    u, v = np.abs(along - column - 0.5), np.abs(up - storey - 0.48)  # 0 in the middle of a window
    wide = 0.2 + 0.18 * _hash(0.0, 0.0, 0.0, m.seed)
    bar = (u < 0.03) & (_hash(1.0, 0.0, 0.0, m.seed) < 0.6)
    plaster_3n = np.array(m.colour)[:, None] * (1.0 - 0.1 * _noise(*(p_3n / 0.9), m.seed))
    frame_3n = 0.35 * plaster_3n + 0.58
    glass_3n = np.array(m.second)[:, None] * (0.55 + 0.9 * _hash(column, storey, 0.0, m.seed + 1))
    wall_3n = np.where((u < wide + 0.045) & (v < 0.335), frame_3n, plaster_3n)
    return np.clip(np.where((u < wide) & (v < 0.3) & ~bar, glass_3n, wall_3n), 0.02, 0.98)


def _lanes(p_3n: Array, m: Material) -> Array:
    """A road along the inner y: asphalt with patches, and dashes of the second colour between lanes ``scale`` metres
    wide, counted from the middle.
    """
    x, y, _ = p_3n
    worn = 0.5 * _noise(x / 0.9, y / 3.0, 0.0 * x, m.seed) + 0.5 * _noise(x / 0.15, y / 0.15, 0.0 * x, m.seed + 1)
    asphalt_3n = np.array(m.colour)[:, None] * (0.9 + 0.2 * worn)
    dash = (np.abs(x - m.scale * np.rint(x / m.scale)) < 0.07) & (y - 9.0 * np.floor(y / 9.0) < 3.0)
    return np.where(dash, np.array(m.second)[:, None], asphalt_3n)


TEXTURES: dict[str, Callable[[Array, Material], Array]] = {
    "plain": _plain, "speckle": _speckle, "checker": _checker, "stripes": _stripes, "folds": _folds, "wood": _wood,
    "planks": _planks, "tiles": _tiles, "spines": _spines, "painting": _painting, "sky": _sky, "doors": _doors,
    "clouds": _clouds, "facade": _facade, "lanes": _lanes,
}  # fmt: skip
