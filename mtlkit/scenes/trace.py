"""What rays from one point meet first, and how far away.

Every ray of the renderer starts in one point (the camera, the light, or the camera of the previous frame), so one
function, ``trace``, serves the view, the shadow and the visibility in the previous frame.

Which solids a ray cannot meet is decided beforehand by one matrix product. A ray from the origin in the unit direction
r passes through a ball around c that does not hold the origin if and only if r . c >= sqrt(|c|^2 - radius^2). The test
has a margin, and all else is computed ray by ray, so a ray's result does not depend on the rays beside it.

Shapes: N rays, n rays that may meet one solid, P solids; ``x_3N`` has three rows, one per coordinate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .shapes import SHAPES, Array, dot, length
from .world import Pose, Solid

NEAR = 1e-6  # metres (or share of a shadow ray): nearer hits are the surface itself


def turn(rotation: Array, x_3N: Array) -> Array:
    """rotation @ x, written out so that a ray's sum does not depend on its neighbours."""
    return np.stack([dot(row, x_3N) for row in rotation])


class Viewpoint:
    """Solids as seen from one point: how to get from its frame into each solid's inner one, and balls around them.

    Args:
        solids: what there is to see.
        poses: where each of them stands (now, or one frame ago).
        frame: the viewpoint; rays are given in its axes.
    """

    def __init__(self, solids: Sequence[Solid], poses: Sequence[Pose], frame: Pose):
        self.solids = solids
        rotations_P33 = np.array([p.rotation for p in poses]).reshape(-1, 3, 3)
        apart_P3 = frame.position - np.array([p.position for p in poses]).reshape(-1, 3)
        self.turns_P33 = np.einsum("pji,jk->pik", rotations_P33, frame.rotation)  # frame -> inner
        self.origins_P3 = np.einsum("pji,pj->pi", rotations_P33, apart_P3)  # the viewpoint, inner
        centres_P3 = -apart_P3 @ frame.rotation
        away_P = np.sqrt((centres_P3 * centres_P3).sum(axis=1))
        radii_P = 1.01 * np.array([s.radius for s in solids]) + 2e-3 * away_P  # the margins cover float32
        square_P = away_P**2 - radii_P**2
        least_P = np.where(square_P > 0.0, np.sqrt(np.maximum(square_P, 0.0)), -np.inf)
        self.centres_P3, self.least_P = centres_P3.astype(np.float32), least_P.astype(np.float32)

    def candidates(self, rays_3N: Array) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Each solid with the rays that pass through the ball around it."""
        unit_3N = (rays_3N / length(rays_3N)).astype(np.float32)
        for i, inside_N in enumerate(self.centres_P3 @ unit_3N >= self.least_P[:, None]):
            chosen = np.flatnonzero(inside_N)
            if chosen.size:
                yield i, chosen


def trace(view: Viewpoint, rays_3N: Array) -> tuple[Array, NDArray[np.intp]]:
    """Distance (N,) in units of the ray's length, inf where nothing is hit, and the solid that is hit (N,), -1 where
    none.
    """
    best_N = np.full(rays_3N.shape[1], np.inf)
    solid_N = np.full(rays_3N.shape[1], -1)
    for i, chosen in view.candidates(rays_3N):
        solid = view.solids[i]
        near, far = SHAPES[solid.shape](view.origins_P3[i], turn(view.turns_P33[i], rays_3N[:, chosen]), solid.size)
        t = np.where(near > NEAR, near, far)
        nearer = (near <= far) & (t > NEAR) & (t < best_N[chosen])
        where = chosen[nearer]
        best_N[where], solid_N[where] = t[nearer], i
    return best_N, solid_N
