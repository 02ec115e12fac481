"""What rays from one point meet first, and how far away.

Every ray of the renderer starts in one point (the camera, the light, or the camera of the previous frame), so two
functions, ``trace`` and ``blocked``, serve the view, the shadow and the visibility in the previous frame.

Which solids a ray cannot meet is decided beforehand, for objects and then for their solids, by one matrix product. A
ray from the origin in the unit direction r passes through a ball around c that does not hold the origin if and only if
r . c >= sqrt(|c|^2 - radius^2), and it enters it no nearer than |c| - radius. Objects are taken from near to far, so
that what lies behind a hit that is already known is not asked. The tests have a margin; what is left is a list of pairs
of a solid and a ray, and all else is computed pair by pair, so a ray's result does not depend on the rays beside it.

Shapes: N rays, n rays that may meet one object, P solids, k solids of one object, M pairs of a solid and a ray;
``x_3N`` has three rows, one per coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .shapes import SHAPES, Array, dot, length, outward
from .world import Pose, Solid

NEAR = 1e-6  # metres (or share of a shadow ray): nearer hits are the surface itself
BATCH = 16384  # pairs at once, about: enough to make numpy's calls cheap, few enough for the processor's cache
MANY = 1024  # rays that meet one solid: that is a batch of its own

Indices = NDArray[np.intp]


_SHAPES = tuple(SHAPES)


def turn(rotation: Array, x_3N: Array) -> Array:
    """rotation @ x, written out so that a ray's sum does not depend on its neighbours."""
    return np.stack([dot(row, x_3N) for row in rotation])


class _Balls:
    """Balls as seen from the origin, a little too large: the margin covers the rounding of ``dtype``."""

    def __init__(self, centres_P3: Array, radii_P: Array, dtype: type):
        away_P = length(centres_P3.T)
        # r . c is off by a few eps |c|; next to the outline, that is worth sqrt(2 eps) |c| of the radius
        radii_P = 1.001 * radii_P + 5.0 * math.sqrt(np.finfo(dtype).eps) * away_P
        square_P = away_P**2 - radii_P**2
        least_P = np.where(square_P > 0.0, np.sqrt(np.maximum(square_P, 0.0)), -np.inf)
        self.centres_P3, self.least_P = centres_P3.astype(dtype), least_P.astype(dtype)
        self.near_P = away_P - radii_P

    def met(self, which: Indices, unit_3n: Array) -> NDArray[np.bool_]:
        """Which of these balls (rows) each ray passes through."""
        return self.centres_P3[which] @ unit_3n.astype(self.centres_P3.dtype) >= self.least_P[which, None]


class Viewpoint:
    """Solids as seen from one point: how to get from its frame into each solid's inner one, and balls around them.

    Args:
        solids: what there is to see.
        poses: where each of them stands (now, or one frame ago).
        frame: the viewpoint; rays are given in its axes.
    """

    def __init__(self, solids: Sequence[Solid], poses: Sequence[Pose], frame: Pose):
        rotations_P33 = np.array([p.rotation for p in poses]).reshape(-1, 3, 3)
        apart_P3 = frame.position - np.array([p.position for p in poses]).reshape(-1, 3)
        turns_P33 = np.einsum("pji,jk->pik", rotations_P33, frame.rotation)  # frame -> inner
        origins_P3 = np.einsum("pji,pj->pi", rotations_P33, apart_P3)  # the viewpoint, inner
        sizes_P3 = np.array([s.size for s in solids]).reshape(-1, 3)
        self._turns_33P, self._origins_3P, self._sizes_3P = (
            np.ascontiguousarray(np.moveaxis(a, 0, -1)) for a in (turns_P33, origins_P3, sizes_P3)
        )
        self.count = len(solids)
        self._shapes_P = np.array([_SHAPES.index(s.shape) for s in solids], dtype=int)
        centres_P3, radii_P = -apart_P3 @ frame.rotation, np.array([s.radius for s in solids])
        self._balls = _Balls(centres_P3, radii_P, np.float64)
        things_P = np.array([s.instance for s in solids])
        order_P = np.argsort(things_P, kind="stable")
        starts = np.flatnonzero(np.diff(things_P[order_P], prepend=things_P.min(initial=0) - 1))
        self._members = np.split(order_P, starts[1:])
        counts = np.diff(starts, append=self.count)
        middles = np.add.reduceat(centres_P3[order_P], starts) / counts[:, None]
        apart_P = length((centres_P3[order_P] - np.repeat(middles, counts, axis=0)).T)
        self._objects = _Balls(middles, np.maximum.reduceat(apart_P + radii_P[order_P], starts), np.float32)

    def _pairs(self, rays_3N: Array, best_N: Array) -> Iterator[tuple[Indices, Indices]]:
        """Solids and rays that pass through the ball around them, (M,) each, in batches from near to far. Where one
        solid is met by many rays, the batch is of that solid alone, (1,).
        """
        size_N = length(rays_3N)
        unit_3N = rays_3N / size_N
        order = np.argsort(self._objects.near_P, kind="stable")
        solids, rays, count = [], [], 0
        for thing, met_N in zip(order, self._objects.met(order, unit_3N), strict=True):
            chosen = np.flatnonzero(met_N)
            reach_n = best_N[chosen] * size_N[chosen]
            chosen = chosen[reach_n >= self._objects.near_P[thing]]
            if not chosen.size:
                continue
            members, reach_n = self._members[thing], best_N[chosen] * size_N[chosen]
            met_kn = self._balls.met(members, unit_3N.take(chosen, axis=1))
            met_kn &= reach_n >= self._balls.near_P[members, None]
            for row in np.flatnonzero(met_kn.sum(axis=1) > MANY):
                yield members[row : row + 1], chosen[met_kn[row]]
                met_kn[row] = False
            row_M, column_M = np.nonzero(met_kn)
            solids.append(members[row_M])
            rays.append(chosen[column_M])
            count += row_M.size
            if count > BATCH:
                yield np.concatenate(solids), np.concatenate(rays)
                solids, rays, count = [], [], 0
        if count:
            yield np.concatenate(solids), np.concatenate(rays)

    def crossings(self, rays_3N: Array, best_N: Array) -> Iterator[tuple[Indices, Indices, Array]]:
        """Solids, rays that meet them, and where, in units of the ray's length: (M,) each, in batches.

        ``best_N`` is how far to look along each ray, in these units; the caller lowers it as it goes.
        """
        for solid_M, ray_M in self._pairs(rays_3N, best_N):
            for name, which in self._by_shape(solid_M):
                i, j = solid_M[which], ray_M if solid_M.size == 1 else ray_M[which]
                way_3M = rays_3N.take(j, axis=1)
                origin_3M, size_3M = self._origins_3P.take(i, axis=1), self._sizes_3P.take(i, axis=1)
                near, far = SHAPES[name](origin_3M, self._inward(i, way_3M), size_3M)
                t_M = np.where(near > NEAR, near, far)
                hit = np.flatnonzero((near <= far) & (t_M > NEAR))
                yield np.broadcast_to(i, t_M.shape)[hit], j[hit], t_M[hit]

    def points(self, solid_M: Indices, rays_3M: Array, t_M: Array) -> Array:
        """Where rays are at these distances, in the inner coordinates of a solid each, (3, M)."""
        return self._origins_3P.take(solid_M, axis=1) + t_M * np.stack(self._inward(solid_M, rays_3M))

    def seen(self, solid_M: Indices, inner_3M: Array) -> Array:
        """The other way round: where points of the solids are in the frame, (3, M)."""
        return self._outward(solid_M, inner_3M - self._origins_3P.take(solid_M, axis=1))

    def normals(self, solid_M: Indices, inner_3M: Array) -> Array:
        """Outward unit normals of the solids at these points of their surfaces, in the frame, (3, M)."""
        normal_3M = np.zeros_like(inner_3M)
        for name, which in self._by_shape(solid_M):
            size_3M = self._sizes_3P.take(solid_M[which], axis=1)
            normal_3M[:, which] = outward(name, inner_3M[:, which], size_3M)
        return self._outward(solid_M, normal_3M)

    def _by_shape(self, solid_M: Indices) -> Iterator[tuple[str, Indices]]:
        """Which of these solids have which shape."""
        shape_M = self._shapes_P[solid_M]
        for shape in np.flatnonzero(np.bincount(shape_M)):
            yield _SHAPES[shape], np.flatnonzero(shape_M == shape)

    def _inward(self, solid_M: Indices, way_3M: Array) -> list[Array]:
        """Directions in the axes of a solid each; every sum is of its own pair."""
        return [dot(row_3P.take(solid_M, axis=1), way_3M) for row_3P in self._turns_33P]

    def _outward(self, solid_M: Indices, way_3M: Array) -> Array:
        return np.stack([dot(self._turns_33P[:, c].take(solid_M, axis=1), way_3M) for c in range(3)])


def trace(view: Viewpoint, rays_3N: Array) -> tuple[Array, Indices]:
    """Distance (N,) in units of the ray's length, inf where nothing is hit, and the solid that is hit (N,), -1 where
    none; of solids at the same distance, the first.
    """
    best_N = np.full(rays_3N.shape[1], np.inf)
    solid_N = np.full(rays_3N.shape[1], view.count)
    for i, j, t_M in view.crossings(rays_3N, best_N):
        before_M = best_N[j]
        np.minimum.at(best_N, j, t_M)
        solid_N[j[best_N[j] < before_M]] = view.count  # the solids hit so far lie farther away
        first = t_M == best_N[j]
        np.minimum.at(solid_N, j[first], i[first])
    return best_N, np.where(np.isinf(best_N), -1, solid_N)


def blocked(view: Viewpoint, rays_3N: Array) -> NDArray[np.bool_]:
    """Whether something lies between the viewpoint and the ray's end (N,)."""
    best_N = np.full(rays_3N.shape[1], 1.0 - NEAR)
    for _, j, t_M in view.crossings(rays_3N, best_N):
        best_N[j[t_M <= 1.0 - NEAR]] = -np.inf
    return best_N < 0.0
