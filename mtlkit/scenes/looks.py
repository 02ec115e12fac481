"""Looks of a handwritten digit: the same shape with other brightness, contours, textures and colours. Pure functions.

Shapes: N digits, H/W size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

INK = 16  # the brightest pixel of a digit as it is stored

Array = np.ndarray


def enlarge(digits_NHW: Array, size: int) -> Array:
    """Digits with pixels 0 ... 16, framed by one pixel of black and enlarged to (N, size, size) in [0, 1], bilinear."""
    framed_NHW = np.pad(digits_NHW, ((0, 0), (1, 1), (1, 1))).astype(np.float32) / INK
    pixels = framed_NHW.shape[-1]
    places = np.clip((np.arange(size) + 0.5) * pixels / size - 0.5, 0, pixels - 1)
    weight = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(pixels))).astype(np.float32)  # (size, pixels)
    return weight @ framed_NHW @ weight.T


def _grey(x_HW: Array) -> Array:
    return np.broadcast_to(x_HW, (3, *x_HW.shape))


def _plain(digit_HW: Array, rng: np.random.Generator) -> Array:
    """White on black."""
    return _grey(digit_HW)


def _negative(digit_HW: Array, rng: np.random.Generator) -> Array:
    """Black on white."""
    return _grey(1 - digit_HW)


def _mirror(digit_HW: Array, rng: np.random.Generator) -> Array:
    """White on black, left and right exchanged: what is a 2 elsewhere looks much like an S."""
    return _grey(digit_HW[:, ::-1])


def _outline(digit_HW: Array, rng: np.random.Generator) -> Array:
    """Where brightness changes, and nothing else."""
    slope_HW = np.hypot(*np.gradient(digit_HW))
    return _grey(slope_HW / max(slope_HW.max(), 1e-6))


def _stripes(digit_HW: Array, rng: np.random.Generator) -> Array:
    """Stripes that run one way in the digit and the other way around it: its mean brightness tells nothing."""
    rows, columns = np.indices(digit_HW.shape)
    down, up = (
        0.5 + 0.5 * np.sin(np.pi / 2 * way + rng.uniform(0, 2 * np.pi)) for way in (rows + columns, rows - columns)
    )
    return _grey(np.where(digit_HW > 0.5, down, up))


def _colours(digit_HW: Array, rng: np.random.Generator) -> Array:
    """A bright colour on a dark one or the other way round, with noise."""
    paper_3, ink_3 = rng.permutation(np.stack([rng.uniform(0, 0.45, 3), rng.uniform(0.55, 1, 3)]))
    mixed_3HW = paper_3[:, None, None] * (1 - digit_HW) + ink_3[:, None, None] * digit_HW
    return np.clip(mixed_3HW + rng.normal(0, 0.08, mixed_3HW.shape), 0, 1)


# name -> (enlarged digit (H, W) in [0, 1], source of chance) -> picture (3, H, W) in [0, 1]
LOOKS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "plain": _plain,
    "negative": _negative,
    "mirror": _mirror,
    "outline": _outline,
    "stripes": _stripes,
    "colours": _colours,
}
