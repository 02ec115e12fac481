"""Surface normals from a depth map, or from the colours that some datasets store them as.

From depth: a plane through the neighbours of every pixel, fitted in inverse depth.

A plane n . X = d seen by a pinhole camera, X = Z (u, v, 1), has the inverse depth 1 / Z = n . (u, v, 1) / d, which is
linear in the place (u, v) on the image. A least-squares fit of a u + b v + c to 1 / Z in a window is therefore exact on
planes at any slant, and (a, b, c) has the direction of the normal. The error of a Kinect is about even in inverse
depth, and grows with Z^2 in depth (K. Khoshelham and S. O. Elberink, "Accuracy and Resolution of Kinect Depth Data",
Sensors, 2012), so this is where a fit without weights belongs. Neighbours whose depth differs by more than ``JUMP`` lie
on another surface and do not count.

Shapes: H/W size of the depth map, h/w number of rows and columns asked for, K places of the window, N pixels of a row.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .ranges import NO_DIRECTION

STEP, REACH = 2, 5  # a window of 11 x 11 places, every second pixel: 21 x 21 pixels
JUMP = 0.05  # as a share of the pixel's own depth
FEWEST = 15  # places of the window that lie on the pixel's surface, of 121
_FLAT = 1e-3  # of the places' spread: below, they lie on a line, which is in many planes


@dataclasses.dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera in pixels: focal lengths, and the place of its axis; the first pixel's centre is (0, 0)."""

    fx: float
    fy: float
    cx: float
    cy: float


def from_colours(colours_HW3: np.ndarray) -> np.ndarray:
    """Unit vectors from 8-bit colours 255 (n + 1) / 2, float64 (H, W, 3); all-zero where one is shorter than
    ``ranges.NO_DIRECTION``.
    """
    vectors_HW3 = colours_HW3 / 127.5 - 1
    length_HW1 = np.linalg.norm(vectors_HW3, axis=-1, keepdims=True)
    known_HW1 = length_HW1 > NO_DIRECTION
    return np.where(known_HW1, vectors_HW3 / np.where(known_HW1, length_HW1, 1), 0)


def to_colours(vectors_HW3: np.ndarray) -> np.ndarray:
    """Unit vectors as 8-bit colours 255 (n + 1) / 2, uint8 (H, W, 3); all-zero becomes grey."""
    return np.rint((vectors_HW3 + 1) * 127.5).astype(np.uint8)


def from_depth(
    depth_HW: np.ndarray, camera: Intrinsics, rows_h: np.ndarray | None = None, columns_w: np.ndarray | None = None
) -> np.ndarray:
    """Normals float32 (h, w, 3) in the frame x right, y down, z forward, facing the camera; all-zero where the depth is
    invalid or the window shows too little of the pixel's surface.

    Args:
        depth_HW: metres along z; 0 invalid.
        camera: that took it.
        rows_h: the rows to compute; None is all.
        columns_w: the columns to compute; None is all.
    """
    height, width = depth_HW.shape
    rows_h = np.arange(height) if rows_h is None else rows_h
    columns_w = np.arange(width) if columns_w is None else columns_w
    inverse_HW = np.zeros(depth_HW.shape, dtype=np.float32)
    np.divide(1.0, depth_HW, out=inverse_HW, where=depth_HW > 0)
    side = 2 * STEP * REACH + 1
    windows = sliding_window_view(np.pad(inverse_HW, STEP * REACH), (side, side))[:, :, ::STEP, ::STEP]
    u_w = ((columns_w - camera.cx) / camera.fx).astype(np.float32)
    normals = np.zeros((len(rows_h), len(columns_w), 3), dtype=np.float32)
    for i, row in enumerate(rows_h):
        around_KN = windows[row, columns_w].reshape(len(columns_w), -1).T
        plane_3N = _fit(around_KN, inverse_HW[row, columns_w], camera)
        # from a plane through the pixel's own place to one over the whole image
        plane_3N[2] -= plane_3N[0] * u_w + plane_3N[1] * ((row - camera.cy) / camera.fy)
        length_N = np.linalg.norm(plane_3N, axis=0)
        # 1 / Z is above 0 on the pixel's ray, so minus this vector faces the camera
        np.divide(-plane_3N.T, length_N[:, None], out=normals[i], where=length_N[:, None] > 0)
    return normals


def _fit(around_KN: np.ndarray, own_N: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """a, b and the fitted inverse depth at the pixel's own place, (3, N); all 0 where there is no fit."""
    offset = STEP * np.arange(-REACH, REACH + 1, dtype=np.float32)
    v_K, u_K = (grid.ravel() for grid in np.meshgrid(offset / camera.fy, offset / camera.fx, indexing="ij"))
    basis_6K = np.stack([np.ones_like(u_K), u_K, v_K, u_K * u_K, u_K * v_K, v_K * v_K])
    with np.errstate(all="ignore"):
        # |z - own| <= JUMP own, in inverse depth
        same_KN = (around_KN > 0) & (np.abs(own_N - around_KN) <= JUMP * around_KN)
        same_KN = same_KN.astype(np.float32)
        count, u, v, uu, uv, vv = basis_6K @ same_KN
        w, uw, vw = basis_6K[:3] @ (same_KN * (around_KN - own_N))
        u, v, uu, uv, vv, w, uw, vw = (total / count for total in (u, v, uu, uv, vv, w, uw, vw))
        uu, uv, vv, uw, vw = uu - u * u, uv - u * v, vv - v * v, uw - u * w, vw - v * w
        spread = uu * vv - uv * uv
        a, b = (uw * vv - vw * uv) / spread, (vw * uu - uw * uv) / spread
        good_N = (own_N > 0) & (count >= FEWEST) & (spread > (_FLAT * (uu + vv)) * (uu + vv))
        return np.where(good_N, np.stack([a, b, own_N + w - a * u - b * v]), 0).astype(np.float32)
