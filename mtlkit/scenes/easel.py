"""Drawing in the plane: soft-edged shapes, layers painted over each other, and the camera that takes the picture.

A shape is a function f of the place, below 0 inside. Its own slope tells how much of a pixel lies inside, so borders
are smooth at any size, and shapes may be bent, turned and combined before they are drawn.

Units: half the height of an adult's head. x, y are in the head's frame, x right and y down as in the picture, the crown
of an adult at (0, -1) and the chin at (0, 1); u, v are the same on the skin, once the head has turned. Colours are RGB
in [0, 1]. With "share" is meant a number from 0 to 1.

Shapes: H/W the size painted, a multiple of the picture's; ``image_3HW``.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .shapes import Array
from .textures import TEXTURES, Colour, Material

FINE = 96  # rows that are painted at least; a smaller picture is their mean


@dataclasses.dataclass(frozen=True)
class Photo:
    """How one picture was taken.

    Attributes:
        place: (x, y) of the head from the middle of the picture.
        scale: how large the head is; at 1 the picture is 2.9 units high.
        tilt: turn in the plane of the picture, radians, to the right.
        yaw, pitch: turn to the picture's right and downwards, radians.
        light: unit direction to the light: x right, y down, z towards the viewer.
        ambient: brightness without it, share.
        tint: RGB factors of the light.
        exposure: factor of all brightness.
        smile: from 0 at rest to 1; a little below 0 is serious.
        teeth: how far a smile shows them, share.
        gaze: how far the eyes look to the right, from -1 to 1.
        closed: how far the eyes are closed, share.
        background, cloth: materials, of the clothes the latter; their lengths are in the file's unit.
        neckline: (half width, how far below the chin, share of a point in its shape).
        frame: colour of the glasses, None without.
        lenses: (half width, half height, share of a rectangle in their shape).
        blur: standard deviation, share of the picture's height.
        grain: standard deviation of the noise of the sensor.
        seed: of that noise.
    """

    place: tuple[float, float]
    scale: float
    tilt: float
    yaw: float
    pitch: float
    light: tuple[float, float, float]
    ambient: float
    tint: Colour
    exposure: float
    smile: float
    teeth: float
    gaze: float
    closed: float
    background: Material
    cloth: Material
    neckline: tuple[float, float, float]
    frame: Colour | None
    lenses: tuple[float, float, float]
    blur: float
    grain: float
    seed: int


# --- shapes -----------------------------------------------------------------------------------------------------------


def cover(f_HW: Array) -> Array:
    """How much of each pixel lies where f < 0, share."""
    down_HW, across_HW = np.gradient(f_HW)
    slope_HW = np.sqrt(down_HW * down_HW + across_HW * across_HW) + 1e-9
    return np.clip(0.5 - f_HW / slope_HW, 0.0, 1.0)


def fade(x_HW: Array) -> Array:
    """From 0 where x <= 0 smoothly to 1 where x >= 1."""
    x_HW = np.clip(x_HW, 0.0, 1.0)
    return x_HW * x_HW * (3.0 - 2.0 * x_HW)


def hill(*shares: Array) -> Array:
    """1 at the origin of these coordinates, smoothly down to 0 at distance 1."""
    rest_HW = np.maximum(1.0 - sum(a * a for a in shares), 0.0)
    return rest_HW * rest_HW


def ring(x_HW: Array, y_HW: Array, width: float, height: float) -> Array:
    """0 in the middle of an ellipse of these half axes, 1 on it, 2 at twice its size."""
    a_HW, b_HW = x_HW / width, y_HW / height
    return np.sqrt(a_HW * a_HW + b_HW * b_HW)


def union(a_HW: Array, b_HW: Array, soft: float) -> Array:
    """Inside either; concave corners are filled within ``soft``."""
    near_HW = np.maximum(soft - np.abs(a_HW - b_HW), 0.0)
    return np.minimum(a_HW, b_HW) - near_HW * near_HW / (4.0 * soft)


def stroke(t_HW: Array, off_HW: Array, width: Array | float) -> Array:
    """A line along t from -1 to 1, pointed at both ends; ``off`` is the distance from its middle."""
    rest_HW = 1.0 - t_HW * t_HW
    return np.abs(off_HW) - rest_HW * np.where(rest_HW > 0.0, width, 1.0)


def noise(x_HW: Array, y_HW: Array, seed: int) -> Array:
    """Smooth noise in [0, 1) with grains of size 1, repeated after 64 of them: random numbers at the points of a grid
    (a turned one, or the eye would find it), blended between.
    """
    table = np.random.default_rng(seed).random(64 * 64)
    x_HW, y_HW = 0.8 * x_HW - 0.6 * y_HW, 0.6 * x_HW + 0.8 * y_HW
    left_HW, top_HW = np.floor(x_HW), np.floor(y_HW)
    a_HW, b_HW = fade(x_HW - left_HW), fade(y_HW - top_HW)
    j_HW, i_HW = left_HW.astype(np.int64), top_HW.astype(np.int64)
    rows = []
    for i in (0, 64):
        row_HW = 64 * i_HW + i
        first_HW, second_HW = (table[(row_HW & 4032) + (j_HW + j & 63)] for j in (0, 1))
        rows.append(first_HW + a_HW * (second_HW - first_HW))
    return rows[0] + b_HW * (rows[1] - rows[0])


def blurred(image_3HW: Array, pixels: float) -> Array:
    """Three running means each way: nearly a Gaussian, and exactly of this standard deviation. The outermost pixels of
    a mean count in part, so that it can be less than a pixel.
    """
    share = pixels * pixels / 3.0  # of the variance; that of a mean over 2 reach + 1 pixels is reach (reach + 1) / 3
    reach = int((math.sqrt(1.0 + 12.0 * share) - 1.0) / 2.0)
    window = 2 * reach + 1
    part = window * (share - reach * (reach + 1) / 3.0) / (2.0 * ((reach + 1) ** 2 - share))
    for axis in (1, 2) * 3:
        edges = [(0, 0)] * 3
        edges[axis] = (reach + 2, reach + 1)
        sums_3HW = np.cumsum(np.pad(image_3HW, edges, mode="edge"), axis=axis).swapaxes(axis, 0)
        outer_3HW = sums_3HW[window + 2 :] - sums_3HW[: -window - 2]
        inner_3HW = sums_3HW[window + 1 : -1] - sums_3HW[1 : -window - 1]
        image_3HW = ((inner_3HW + part * (outer_3HW - inner_3HW)) / (window + 2.0 * part)).swapaxes(axis, 0)
    return image_3HW


# --- the picture being painted ----------------------------------------------------------------------------------------


class Easel:
    """A picture, begun with its background, and the coordinates of its pixels.

    Args:
        photo: how it is taken.
        size: rows and columns of the finished picture.
        skull: half width of the head that is to be painted.

    Attributes:
        body: x, y (2, H, W) of neck and shoulders, which tilt less than the head.
        head: x, y (2, H, W) of the head.
        skin: u, v (2, H, W) on its surface, an ellipsoid that turns.
        light_HW: brightness of the skin, once the head is painted.
    """

    def __init__(self, photo: Photo, size: int, skull: float):
        self.photo, self.size = photo, size
        self.fine = -(-FINE // size)
        self.pixel = 2.9 / photo.scale / (size * self.fine)
        along = (np.arange(size * self.fine) + 0.5) * self.pixel - 1.45 / photo.scale
        x_HW, y_HW = np.meshgrid(along - photo.place[0], along - photo.place[1])
        self.head, self.body = _turned(x_HW, y_HW, photo.tilt), _turned(x_HW, y_HW, 0.4 * photo.tilt)
        out_HW = ring(self.head[0], self.head[1] - 0.1, 1.1 * skull, 1.3)  # it must not end before the head's outline
        near_HW = 0.8 * np.sqrt(np.maximum(1.0 - out_HW * out_HW, 0.0))
        angles = photo.yaw, photo.pitch
        self.skin = [a * math.cos(b) - near_HW * math.sin(b) for a, b in zip(self.head, angles, strict=True)]
        self.light_HW = np.ones_like(x_HW)
        self.image_3HW = blurred(self.texture(photo.background, x_HW, y_HW), 0.02 * len(along))

    def texture(self, material: Material, x_HW: Array, y_HW: Array) -> Array:
        """A material's colours (3, H, W)."""
        points_3n = np.stack([x_HW.ravel(), y_HW.ravel(), -y_HW.ravel()])
        return TEXTURES[material.texture](points_3n, material).reshape(3, *x_HW.shape)

    def over(self, share_HW: Array, colour: Colour | Array, shade_HW: Array | float = 1.0) -> None:
        """Paint a colour, (3,) or (3, H, W), times a shade, over what is there."""
        colour_3HW = np.asarray(colour).reshape(3, *np.shape(colour)[1:] or (1, 1))
        self.image_3HW = self.image_3HW + share_HW * (colour_3HW * shade_HW - self.image_3HW)

    def darken(self, share_HW: Array, tone: Colour = (0.55, 0.42, 0.38)) -> None:
        """Take what is there some of the way to ``tone`` times it: folds, shadows, the red of lips."""
        self.image_3HW = self.image_3HW * (1.0 - share_HW * (1.0 - np.array(tone)[:, None, None]))

    def shade(self, height_HW: Array) -> Array:
        """Brightness of a surface that stands this far out of the picture (J. H. Lambert, Photometria, 1760); the light
        reaches a little round the corner, as it does on skin.
        """
        down_HW, across_HW = (g / self.pixel for g in np.gradient(height_HW))
        x, y, z = self.photo.light
        facing_HW = (z - x * across_HW - y * down_HW) / np.sqrt(1.0 + across_HW * across_HW + down_HW * down_HW)
        return self.photo.ambient + (1.0 - self.photo.ambient) * np.maximum((facing_HW + 0.3) / 1.3, 0.0)

    def developed(self) -> np.ndarray:
        """The picture uint8 (size, size, 3) as the camera gives it."""
        photo, n = self.photo, self.size
        image_3HW = blurred(self.image_3HW, photo.blur * n * self.fine)
        image_3HW = image_3HW.reshape(3, n, self.fine, n, self.fine).mean(axis=(2, 4))
        image_3HW = image_3HW * photo.exposure * np.array(photo.tint)[:, None, None]
        image_3HW = image_3HW + np.random.default_rng(photo.seed).normal(0.0, photo.grain, image_3HW.shape)
        return np.rint(255 * np.clip(image_3HW, 0.0, 1.0)).astype(np.uint8).transpose(1, 2, 0)


def _turned(x_HW: Array, y_HW: Array, angle: float) -> tuple[Array, Array]:
    c, s = math.cos(angle), math.sin(angle)
    return c * x_HW + s * y_HW, c * y_HW - s * x_HW
