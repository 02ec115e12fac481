"""Thinning: a binary map becomes lines one pixel wide that keep its pieces together, and its holes open.

The method of Guo and Hall ("Parallel thinning with two-subiteration algorithms", Communications of the ACM 32(3),
1989) as Lam, Lee and Suen give it (IEEE TPAMI 14(9), 1992), repeated until nothing changes: what MATLAB's
``bwmorph(map, "thin", Inf)`` and scikit-image's ``thin`` do. Beyond the border everything is 0.

What happens to a pixel depends on its eight neighbours alone, as a table of 256 answers. Here the table is a formula
over the bits of a byte, so that one pass thins eight maps: the cost of an image is that of its slowest map of eight.

Shapes: H/W size, P pixels of the image with a border of one.
"""

from __future__ import annotations

import numpy as np

MAPS = 8  # that are thinned at once, one for each bit


def thin(binary_HW: np.ndarray) -> np.ndarray:
    """One map, thinned: bool (H, W). Whatever is not 0 is set.

    >>> thin(np.ones((3, 7))).astype(int)
    array([[0, 0, 0, 0, 0, 0, 0],
           [0, 1, 1, 1, 1, 1, 0],
           [0, 0, 0, 0, 0, 0, 0]])
    """
    return thin_stack((np.asarray(binary_HW) != 0).astype(np.uint8)) != 0


def thin_stack(stack_HW: np.ndarray) -> np.ndarray:
    """Eight maps, thinned, each as if it were alone: bit k of the uint8 (H, W) is map k."""
    height, width = stack_HW.shape
    padded = np.zeros((height + 2, width + 2), dtype=np.uint8)
    padded[1:-1, 1:-1] = stack_HW
    flat_P, border = padded.ravel(), width + 3
    inside, moving = flat_P[border : len(flat_P) - border], True
    while moving and inside.size:
        moving = False
        for north_east in (True, False):
            gone = _deletable(flat_P, width + 2, north_east)
            if gone.any():
                inside ^= gone  # what can go is set
                moving = True
    return padded[1:-1, 1:-1].copy()


def _deletable(flat_P: np.ndarray, width: int, north_east: bool) -> np.ndarray:
    """Bits of the pixels that one sub-iteration deletes, from the second row's second pixel to the last but one's last
    but one. (A border pixel between two rows is never set, so it is never deleted.)
    """
    first, count = width + 1, len(flat_P) - 2 * (width + 1)
    steps = (0, 1, 1 - width, -width, -width - 1, -1, width - 1, width, width + 1)
    here, e, ne, n, nw, w, sw, s, se = (flat_P[first + step : first + step + count] for step in steps)
    # the eight neighbours in pairs, in the two ways to pair them round the circle
    before = e | ne, n | nw, w | sw, s | se
    after = ne | n, nw | w, sw | s, se | e
    one_piece = _exactly_one(after[0] & ~e, after[1] & ~n, after[2] & ~w, after[3] & ~s)
    (two, four), (two_too, four_too) = _two_and_four(*before), _two_and_four(*after)
    outer = (ne | n | ~se) & e if north_east else (sw | s | ~nw) & w
    return here & one_piece & two & two_too & ~(four & four_too) & ~outer


def _exactly_one(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """One of four: an odd number, and not three (which would hold a whole pair)."""
    return (a ^ b ^ c ^ d) & ~((a & b) | (c & d))


def _two_and_four(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At least two of four, and all four."""
    left, right = a & b, c & d
    return left | right | ((a | b) & (c | d)), left & right
