"""Where the labels of a map meet, as lines one pixel wide: how ASTMT makes the edges of PASCAL_MT.

Shapes: H/W size.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# A pixel's eight neighbours x1 ... x8, as (row, column) of a 3 x 3 square: from the east on, counter-clockwise.
_AROUND = ((1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2))


def boundaries(labels_HW: np.ndarray) -> NDArray[np.bool_]:
    """``thin`` of the pixels at which the Laplacian of the labels is not 0.

    The Laplacian is 4 times a pixel less its four neighbours, with the image mirrored at its border. It knows label ids
    as numbers alone: where they balance, as in a 2 between a 1 and a 3, it is 0 although three labels meet.

    Args:
        labels_HW: ids, whole numbers.
    """
    return thin(ndimage.laplace(labels_HW.astype(np.int64), mode="mirror") != 0)


def thin(shape_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A shape without its outer pixels, until what is left is lines; pieces stay in one piece (eight neighbours).

    Z. Guo and R. W. Hall, "Parallel Thinning with Two-Subiteration Algorithms", Communications of the ACM 32 (3), 1989,
    as ``bwmorph(x, 'thin', Inf)`` of MATLAB and ``skimage.morphology.thin`` have it: pixels go in two turns, all of a
    turn at once.
    """
    shape_HW = shape_HW.astype(bool)
    height, width = shape_HW.shape
    while True:
        before = shape_HW
        for goes in _tables():
            padded = np.pad(shape_HW, 1).astype(np.uint8)
            around_HW = sum(padded[i : i + height, j : j + width] << n for n, (i, j) in enumerate(_AROUND))
            shape_HW = shape_HW & ~goes[around_HW]
        if (shape_HW == before).all():
            return shape_HW


@functools.cache
def _tables() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each turn: whether a pixel goes, by its neighbours as the bits of a byte, x1 the lowest."""
    x = [None, *((np.arange(256) >> n & 1).astype(bool) for n in range(8))]
    x.append(x[1])  # x9 is x1 again
    crossings = sum(~x[k - 1] & (x[k] | x[k + 1]) for k in (2, 4, 6, 8))
    pairs = [sum(x[k] | x[k + 1] for k in start) for start in ((1, 3, 5, 7), (2, 4, 6, 8))]
    fewer = np.minimum(*pairs)
    border = (crossings == 1) & (fewer >= 2) & (fewer <= 3)
    return border & ~((x[2] | x[3] | ~x[8]) & x[1]), border & ~((x[6] | x[7] | ~x[4]) & x[5])
