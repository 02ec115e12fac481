"""Where a ray meets a solid, and which way the surface looks there: the six primitive shapes.

Each solid is convex, so a ray ``o + t d`` meets it in one interval of distances [near, far], and near > far where it
misses. The interval of a box, a wedge or a cylinder is the intersection of its slabs, slope and tube, that of a capsule
the hull of its parts' (A. S. Glassner (ed.), An Introduction to Ray Tracing, 1989, chapter 2). Everything is in the
solid's own ("inner") coordinates.

Only + - * / sqrt and comparisons touch a ray, element by element: its result does not depend on the rays beside it.

Shapes: n rays or points, ``x_3n`` has three rows, one per coordinate; viewpoints ``o`` and sizes are (3, n), one for
each ray or point, or (3, 1), common to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Interval = tuple[Array, Array]

TINY = 1e-300  # keeps 1 / 0 finite without changing any other sum


def dot(a_3n: Sequence, b_3n: Sequence) -> Array:
    """The scalar product of columns, always summed in this order."""
    return a_3n[0] * b_3n[0] + a_3n[1] * b_3n[1] + a_3n[2] * b_3n[2]


def length(x_3n: Sequence) -> Array:
    """Of every column."""
    return np.sqrt(dot(x_3n, x_3n))


def _quadratic(a: Array, b: Array, c: Array) -> Interval:
    """Where a t^2 + 2 b t + c <= 0 (a >= 0)."""
    a = a + TINY
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0.0))
    near, far = (-b - root) / a, (root - b) / a
    return np.where(square < 0.0, np.inf, near), np.where(square < 0.0, -np.inf, far)


def _slab(o: Array, d: Array, half: Array) -> Interval:
    """Where |o + t d| <= half."""
    inverse = 1.0 / (d + TINY)
    middle, reach = -o * inverse, np.abs(half * inverse)
    return middle - reach, middle + reach


def _plane(o: Array, d_3n: Array, size: Sequence[Array]) -> Interval:
    t = -o[2] / (d_3n[2] + TINY)
    return t, t


def _box(o: Array, d_3n: Array, size: Sequence[Array]) -> Interval:
    near, far = _slab(o[0], d_3n[0], size[0])
    for axis in (1, 2):
        low, high = _slab(o[axis], d_3n[axis], size[axis])
        near, far = np.maximum(near, low), np.minimum(far, high)
    return near, far


def _sphere(o: Array, d_3n: Array, size: Sequence[Array]) -> Interval:
    start, way = ([x[i] / size[i] for i in range(3)] for x in (o, d_3n))  # stretched into the unit ball
    return _quadratic(dot(way, way), dot(start, way), dot(start, start) - 1.0)


def _cylinder(o: Array, d_3n: Array, size: Sequence[Array]) -> Interval:
    (x, y, z), (u, v, w) = o, d_3n
    near, far = _quadratic(u * u + v * v, x * u + y * v, x * x + y * y - size[0] * size[0])
    low, high = _slab(z, w, size[2])
    return np.maximum(near, low), np.minimum(far, high)


def _capsule(o: Array, d_3n: Array, size: Sequence[Array]) -> Interval:
    near, far = _cylinder(o, d_3n, size)
    near, far = np.where(near > far, np.inf, near), np.where(near > far, -np.inf, far)
    for end in (-size[2], size[2]):
        low, high = _sphere((o[0], o[1], o[2] - end), d_3n, (size[0],) * 3)
        near, far = np.minimum(near, low), np.maximum(far, high)
    return near, far


def _wedge(o: Array, d_3n: Array, size: Sequence[Array]) -> Interval:
    """The half of a box below the plane that rises from its lower edge at -x to its upper edge at +x."""
    near, far = _box(o, d_3n, size)
    out = o[2] * size[0] - o[0] * size[2]  # above the slope by this, in square metres, at t = 0, and more with t
    rise = d_3n[2] * size[0] - d_3n[0] * size[2] + TINY
    t = -out / rise
    return np.where(rise < 0.0, np.maximum(near, t), near), np.where(rise > 0.0, np.minimum(far, t), far)


# name -> (viewpoints, rays (3, n), half sizes) -> interval (n,), (n,) in units of the ray's length
SHAPES: dict[str, Callable[[Array, Array, Sequence[Array]], Interval]] = {
    "plane": _plane, "box": _box, "sphere": _sphere, "cylinder": _cylinder, "capsule": _capsule,
    "wedge": _wedge,
}  # fmt: skip


def outward(shape: str, p_3n: Array, size: Array) -> Array:
    """Unit outward normals (3, n) at points of the surface."""
    n_3n = np.zeros_like(p_3n)
    if shape == "plane":
        n_3n[2] = 1.0
        return n_3n
    if shape in ("box", "wedge"):  # the side that the point is farthest out of
        beyond_3n = np.stack([np.abs(p_3n[i]) - size[i] for i in range(3)])
        axis = np.argmax(beyond_3n, axis=0)
        columns = np.arange(p_3n.shape[1])
        n_3n[axis, columns] = np.where(p_3n[axis, columns] < 0.0, -1.0, 1.0)
        if shape == "wedge":
            slope_3n = np.stack([-size[2], 0.0 * size[1], size[0]])
            slope_3n = slope_3n / length(slope_3n)
            n_3n = np.where(dot(slope_3n, p_3n) > beyond_3n.max(axis=0), slope_3n, n_3n)
        return n_3n
    if shape == "sphere":
        n_3n = np.stack([p_3n[i] / (size[i] * size[i]) for i in range(3)])
    else:
        n_3n[:2] = p_3n[:2]
        if shape == "capsule":
            n_3n[2] = p_3n[2] - np.clip(p_3n[2], -size[2], size[2])
        else:
            cap = np.abs(p_3n[2]) - size[2] > np.sqrt(p_3n[0] * p_3n[0] + p_3n[1] * p_3n[1]) - size[0]
            n_3n[:2, cap], n_3n[2, cap] = 0.0, np.where(p_3n[2, cap] < 0.0, -1.0, 1.0)
    return n_3n / length(n_3n)
