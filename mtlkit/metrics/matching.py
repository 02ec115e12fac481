"""One-to-one matching of predicted with true pixels that are near each other, of maximum cardinality.

The evaluation of Berkeley's boundaries (BSDS, Martin, Fowlkes and Malik, IEEE TPAMI 26(5), 2004: ``correspondPixels``)
solves an assignment of least cost instead, in which a pixel may stay alone for a price: it minimises distances too,
and need not find as many pairs as there can be. How far its counts differ from those here is unconfirmed.

``scipy.sparse.csgraph.maximum_bipartite_matching`` finds the same number of pairs, but takes seconds for some of these
graphs, in every order of their rows and columns that was tried. Here the nearest pairs come first, and only what they
leave over is searched for augmenting paths, all at once (breadth first from every free pixel; a phase ends when each
has found a path or none; Hopcroft and Karp, SIAM J. Comput. 2(4), 1973). When a phase finds none the matching is a
maximum (Berge). Nothing is drawn: the same maps give the same pairs.

Shapes: H/W size, N predicted pixels, G true pixels, E pairs that are near enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse

NONE = -1


def match(prediction_HW: np.ndarray, truth_HW: np.ndarray, radius: float) -> np.ndarray:
    """Which predicted pixel goes with which true one.

    Args:
        prediction_HW: what is not 0 is predicted; thin it before, or a broad line counts as many.
        truth_HW: of the same size; what is not 0 is true.
        radius: pixels, >= 0; two pixels are near where their centres are no farther apart (Euclidean).

    Returns:
        int64 (pairs, 2): flat indices of the predicted and of the true pixel. No pixel occurs twice in a column, and no
        matching has more rows.

    >>> match(np.array([[1, 1, 0, 0]]), np.array([[0, 1, 0, 1]]), 1).tolist()
    [[1, 1]]
    """
    pixels_N = np.flatnonzero(prediction_HW)
    truth = Truth(truth_HW, radius)
    mate_N = truth.mates([pixels_N])
    return np.stack([pixels_N[mate_N != NONE], truth.pixels_G[mate_N[mate_N != NONE]]], axis=1)


class Truth:
    """The true pixels of an image, ready to be matched with one prediction after another.

    Args:
        truth_HW: what is not 0 is true.
        radius: pixels; see ``match``.
    """

    def __init__(self, truth_HW: np.ndarray, radius: float) -> None:
        height, width = truth_HW.shape
        self.pixels_G = np.flatnonzero(truth_HW)
        reach = int(radius)
        padded = np.pad(truth_HW != 0, reach)  # so that a step over the border does not come out on the other side
        self.width, self.padded_width, self.reach = width, width + 2 * reach, reach
        self.index = np.full(padded.size, NONE)
        self.index[padded.ravel()] = np.arange(len(self.pixels_G))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        near = np.hypot(y, x) <= radius
        by_distance = np.argsort(np.hypot(y, x)[near], kind="stable")
        self.steps = (y[near] * self.padded_width + x[near])[by_distance]
        self.near = self._near(padded.size)

    def _near(self, size: int) -> scipy.sparse.csr_array:
        """For every pixel of the padded image the true pixels that are near it: row -> column indices."""
        here = np.flatnonzero(self.index != NONE)
        pixel_E = (here + self.steps[:, None]).ravel()
        true_E = np.tile(np.arange(len(here)), len(self.steps))
        return scipy.sparse.csr_array((np.ones(len(pixel_E), bool), (pixel_E, true_E)), shape=(size, len(here)))

    def mates(self, predictions: Sequence[np.ndarray]) -> np.ndarray:
        """Match several predictions, each by itself.

        Args:
            predictions: of each map the flat indices of its pixels.

        Returns:
            int64 (N,): the true pixel that goes with each predicted one (map after map), an index into ``pixels_G``;
            -1 where there is none.
        """
        map_N = np.repeat(np.arange(len(predictions)), [len(pixels) for pixels in predictions])
        y_N, x_N = np.divmod(np.concatenate(predictions), self.width)
        place_N = (y_N + self.reach) * self.padded_width + x_N + self.reach
        counts_N = np.diff(self.near.indptr)[place_N]
        mate_N = np.full(len(place_N), NONE)
        hopeful = np.flatnonzero(counts_N)
        mate_N[hopeful] = self._maximum(place_N[hopeful], map_N[hopeful] * len(self.pixels_G), len(predictions))
        return mate_N

    def _maximum(self, place_N: np.ndarray, offset_N: np.ndarray, maps: int) -> np.ndarray:
        """The same for pixels with at least one true pixel near; the true ones of map m are numbered from m x G."""
        mate_N, mate_of_true = self._nearest_first(place_N, offset_N, maps)
        graph = self.near[place_N]
        indices = graph.indices + np.repeat(offset_N, np.diff(graph.indptr))
        graph = scipy.sparse.csr_array((graph.data, indices, graph.indptr), shape=(len(place_N), len(mate_of_true)))
        grow_from_true = np.count_nonzero(mate_of_true[np.unique(indices)] == NONE) < np.count_nonzero(mate_N == NONE)
        if grow_from_true:
            complete(graph.T.tocsr(), mate_of_true, mate_N)
        else:
            complete(graph, mate_N, mate_of_true)
        return np.where(mate_N == NONE, NONE, mate_N - offset_N)

    def _nearest_first(self, place_N: np.ndarray, offset_N: np.ndarray, maps: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs by growing distance, as long as both are free."""
        mate_N, mate_of_true = np.full(len(place_N), NONE), np.full(maps * len(self.pixels_G), NONE)
        free = np.arange(len(place_N))
        for step in self.steps:  # pairs one step apart have no pixel in common, so they do not compete
            true = self.index[place_N[free] + step]
            fits = true != NONE
            row, true = free[fits], true[fits] + offset_N[free[fits]]
            open_ = mate_of_true[true] == NONE
            mate_N[row[open_]], mate_of_true[true[open_]] = true[open_], row[open_]
            free = free[mate_N[free] == NONE]
        return mate_N, mate_of_true


def complete(graph: scipy.sparse.csr_array, mate_of_row: np.ndarray, mate_of_column: np.ndarray) -> None:
    """Make a matching one of maximum cardinality, in place: each row's column, each column's row, -1 where none.

    It takes least time from the side that has fewer without a mate.
    """
    while True:
        parent, end = _grow(graph, mate_of_row, mate_of_column)
        column = end[end != NONE]
        if not len(column):
            return
        while len(column):  # along every path, from its end back to its root, which has no mate yet
            row = parent[column]
            before = mate_of_row[row]
            mate_of_row[row], mate_of_column[column] = column, row
            column = before[before != NONE]


def _grow(
    graph: scipy.sparse.csr_array, mate_of_row: np.ndarray, mate_of_column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Trees from every row without a mate that have no column in common: from which row each column is reached, and at
    which column without a mate each root's tree ends; -1 where none.
    """
    parent, end = np.full(len(mate_of_column), NONE), np.full(len(mate_of_row), NONE)
    frontier = root = np.flatnonzero(mate_of_row == NONE)
    while len(frontier):
        which, column = _neighbours(graph, frontier)
        new = parent[column] == NONE
        which, column = which[new], column[new]
        parent[column] = frontier[which]
        won = parent[column] == frontier[which]  # of several that reach one column the last keeps it
        which, column = which[won], column[won]
        partner = mate_of_column[column]
        found = partner == NONE
        end[root[which[found]]] = column[found]
        frontier, root = partner[~found], root[which[~found]]
        searching = end[root] == NONE
        frontier, root = frontier[searching], root[searching]
    return parent, end


def _neighbours(graph: scipy.sparse.csr_array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every edge of these rows: (which of ``rows``, column)."""
    start = graph.indptr[rows]
    count = graph.indptr[rows + 1] - start
    which = np.repeat(np.arange(len(rows)), count)
    edge = np.arange(len(which)) + np.repeat(start - (np.cumsum(count) - count), count)
    return which, graph.indices[edge]
