"""How boundaries are measured: odsF, oisF and AP, without MATLAB.

The measure of BSDS (Martin, Fowlkes and Malik, IEEE TPAMI 26(5), 2004; Arbelaez, Maire, Fowlkes and Malik, IEEE TPAMI
33(5), 2011) as ASTMT (Maninis, Radosavovic and Kokkinos, CVPR 2019) takes it from the package *seism* (Pont-Tuset and
Marques): at every threshold the map of what is predicted is thinned, without suppressing non-maxima before, and its
pixels are matched one to one with those of the thinned truth within a share of the image's diagonal. Where the numbers
may differ from the published ones: see ``matching``, and what is marked unconfirmed here.

An ignored pixel (-1) is no true pixel, and what is predicted on it is dropped: after thinning, so that it does not move
a line beside it, and before matching, so that it takes no true pixel from another. It counts nowhere.

Shapes: B batch, H/W size, I images, T thresholds. The last axis 4 is (matched predicted pixels, predicted pixels,
matched true pixels, true pixels).
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import KitError
from .base import TaskMetric
from .functional import WIDE, eight_bits
from .matching import NONE, Truth
from .thinning import MAPS, thin, thin_stack

HUNDREDTHS = tuple(k / 100 for k in range(1, 100))  # of the multi-task survey (Vandenhende et al., TPAMI 2021)
SEISM = (0.001, *HUNDREDTHS, 0.999)
WAITING = 64  # images that are being counted while the next are predicted

Pair = tuple[np.ndarray, np.ndarray]  # probability and truth, both (H, W)

_pool: ProcessPoolExecutor | None = None  # of ``counting_in``


def edge_counts(
    probability_HW: np.ndarray,
    truth_HW: np.ndarray,
    thresholds: Sequence[float] = SEISM,
    max_distance: float = 0.0075,
) -> np.ndarray:
    """Count one image at every threshold.

    Args:
        probability_HW: in [0, 1]; a pixel is predicted where it is at least the threshold. NaN never is.
        truth_HW: above 0 is a boundary, 0 is none, below 0 is ignored. It is thinned here.
        thresholds: ascending, above 0.
        max_distance: how far apart two matched pixels may be, as a share of the image's diagonal.

    Returns:
        int64 (T, 4).

    Raises:
        KitError: maps of different size or not (H, W), thresholds out of order.
    """
    _check(probability_HW, truth_HW, thresholds)
    truth = Truth(thin(truth_HW > 0), max_distance * np.hypot(*truth_HW.shape))
    # how many thresholds each pixel reaches; two thresholds with no pixel between them have the same map
    level_HW = np.searchsorted(thresholds, np.nan_to_num(probability_HW.astype(np.float64), nan=0.0), side="right")
    levels, rank = np.unique(np.append(level_HW, 0), return_inverse=True)
    rank_HW = rank[:-1].reshape(truth_HW.shape)
    counted = [np.zeros((0, 2), np.int64)]
    for first in range(1, len(levels), MAPS):
        maps = min(MAPS, len(levels) - first)
        set_bits = (1 << np.arange(maps + 1)) - 1  # a pixel that reaches n of these maps has the n lowest bits
        stack_HW = thin_stack(set_bits.astype(np.uint8)[np.clip(rank_HW - first + 1, 0, maps)])
        stack_HW[truth_HW < 0] = 0
        counted.append(_matched(truth, [np.flatnonzero(stack_HW >> bit & 1) for bit in range(maps)]))
    counted.append(np.zeros((1, 2), np.int64))  # above the highest level nothing is predicted
    hits_T, predicted_T = np.concatenate(counted)[np.searchsorted(levels[1:], np.arange(1, len(thresholds) + 1))].T
    return np.stack([hits_T, predicted_T, hits_T, np.full_like(hits_T, len(truth.pixels_G))], axis=1)


def _check(probability_HW: np.ndarray, truth_HW: np.ndarray, thresholds: Sequence[float]) -> None:
    if probability_HW.shape != truth_HW.shape or truth_HW.ndim != 2:
        found = f"{probability_HW.shape} and {truth_HW.shape}"
        raise KitError(f"edges: expected a probability and a truth of one size (H, W), found {found}; resize one")
    if not len(thresholds) or thresholds[0] <= 0 or (np.diff(thresholds) <= 0).any():
        raise KitError(f"edges: expected thresholds that rise from above 0, found {list(thresholds)[:5]}; sort them")


def _matched(truth: Truth, predictions: list[np.ndarray]) -> np.ndarray:
    """Of each thinned map the pairs and the pixels: int64 (maps, 2)."""
    sizes = [len(pixels) for pixels in predictions]
    paired = np.split(truth.mates(predictions) != NONE, np.cumsum(sizes)[:-1])
    return np.array([[hits.sum(), size] for hits, size in zip(paired, sizes, strict=True)], dtype=np.int64)


def edge_counts_of(
    pairs: Sequence[Pair],
    thresholds: Sequence[float] = SEISM,
    max_distance: float = 0.0075,
    jobs: int = 2,
    progress: bool = True,
) -> np.ndarray:
    """Count many images, several at once; the same numbers as one after the other.

    Args:
        pairs: (probability, truth) of each image; see ``edge_counts``.
        thresholds: as there.
        max_distance: as there.
        jobs: see ``counting_in``.
        progress: a bar where it takes more than two seconds.

    Returns:
        int64 (I, T, 4).
    """
    with counting_in(min(jobs, len(pairs))):
        counts = _count_all(pairs, thresholds, max_distance)
        found = list(tqdm(counts, "matching edges", len(pairs), unit="image", delay=2, disable=not progress))
    return np.stack(found) if found else np.zeros((0, len(thresholds), 4), np.int64)


@contextlib.contextmanager
def counting_in(jobs: int) -> Iterator[None]:
    """Inside it images are counted by so many processes, also by accumulators; the numbers stay the same.

    It pays where many images of full size are measured: each process first takes the seconds that it takes to import
    torch. The script that asks for it needs the usual ``if __name__ == "__main__":``. A process that may have no
    children itself (a worker of Dask) counts alone, and so does one that is inside already.
    """
    global _pool
    if jobs <= 1 or _pool is not None or multiprocessing.current_process().daemon:
        yield
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as _pool:
        try:
            yield
        finally:
            _pool = None


def _count_all(pairs: Iterable[Pair], thresholds: Sequence[float], max_distance: float) -> Iterator[np.ndarray]:
    count = partial(_count_pair, thresholds=thresholds, max_distance=max_distance)
    return map(count, pairs) if _pool is None else _pool.map(count, pairs)


def _count_pair(pair: Pair, thresholds: Sequence[float], max_distance: float) -> np.ndarray:
    return edge_counts(*pair, thresholds, max_distance)


def f_measure(counts_4: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision P, recall R and F = 2PR/(P+R) of counts (..., 4): each (...), 0 where there is nothing to divide by."""
    hits, predicted, found, true = np.moveaxis(np.asarray(counts_4, np.float64), -1, 0)
    precision, recall = hits / np.maximum(predicted, 1), found / np.maximum(true, 1)
    total = precision + recall
    return precision, recall, 2 * precision * recall / np.where(total == 0, 1, total)


def best_counts(counts_T4: np.ndarray) -> np.ndarray:
    """The counts (4,) of an image at the threshold that is best for it: the highest of those with the largest F."""
    f_T = f_measure(counts_T4)[2]
    return counts_T4[len(f_T) - 1 - f_T[::-1].argmax()]


def edge_scores(counts_IT4: np.ndarray) -> dict[str, float]:
    """Three fractions from the counts of images.

    ``ods_f`` is F of all images' counts together at the one threshold that is best for them; ``ois_f`` that of the
    counts that each image has at its own best threshold (of equal ones the highest; unconfirmed), which need not be
    larger; ``ap`` the mean of the precision over recalls 0, 0.01, ..., 1 on straight lines between the thresholds, 0
    outside the recalls that there are, as the sum divided by 100. So a prediction of zeros and ones, which has one
    recall, has next to no AP, however good. Of thresholds with equal recall the best precision counts (unconfirmed).

    NaN where no image has a true pixel.

    >>> scores = edge_scores(np.array([[[3, 4, 3, 6], [2, 2, 2, 6]], [[0, 9, 0, 1], [0, 0, 0, 1]]]))
    >>> {name: round(value, 3) for name, value in scores.items()}
    {'ods_f': 0.444, 'ois_f': 0.545, 'ap': 0.088}
    """
    counts_IT4 = np.asarray(counts_IT4)
    best = [best_counts(counts_T4) for counts_T4 in counts_IT4]
    return _scores(counts_IT4.sum(axis=0), np.sum(best, axis=0) if best else np.zeros(4))


def _scores(total_T4: np.ndarray, best_4: np.ndarray) -> dict[str, float]:
    if not total_T4[:, 3].any():
        return dict.fromkeys(("ods_f", "ois_f", "ap"), float("nan"))
    precision_T, recall_T, f_T = f_measure(total_T4)
    recalls = np.unique(recall_T)
    best = [precision_T[recall_T == recall].max() for recall in recalls]
    curve = np.interp(np.arange(101) / 100, recalls, best, left=0.0, right=0.0)
    return {"ods_f": float(f_T.max()), "ois_f": float(f_measure(best_4)[2]), "ap": float(curve.sum() / 100)}


class PooledEdges(TaskMetric):
    """odsF, oisF and AP over the split, fractions: at 99 thresholds, the probabilities as they are.

    It is counted on the CPU, image by image; see ``counting_in``.

    Args:
        max_distance: see ``edge_counts``: 0.0075 on PASCAL-Context, 0.011 on NYUD.
    """

    task = "edges"
    thresholds = HUNDREDTHS
    counts_T4: Tensor
    best_4: Tensor

    def __init__(self, max_distance: float) -> None:
        super().__init__()
        self.max_distance = max_distance
        self._pending: collections.deque[Future] = collections.deque()  # of ``counting_in``
        self._add_sums("counts_T4", shape=(len(self.thresholds), 4), dtype=torch.int64)
        self._add_sums("best_4", shape=(4,), dtype=torch.int64)

    def _add(self, prediction: Tensor, target: Tensor) -> None:
        maps = (self._stored(prediction.float().cpu())[:, 0].numpy(), target.float().cpu()[:, 0].numpy())
        count = partial(_count_pair, thresholds=self.thresholds, max_distance=self.max_distance)
        for pair in zip(*maps, strict=True):
            if _pool is None:
                self._sum(count(pair))
            else:  # images of different sizes come one by one, so the next ones do not wait for this
                self._pending.append(_pool.submit(count, pair))
        while len(self._pending) > WAITING:
            self._sum(self._pending.popleft().result())

    def _sum(self, counts_T4: np.ndarray) -> None:
        self.counts_T4 += torch.from_numpy(counts_T4).to(self.counts_T4.device)
        self.best_4 += torch.from_numpy(best_counts(counts_T4)).to(self.best_4.device)

    def _finish(self) -> None:
        while self._pending:
            self._sum(self._pending.popleft().result())

    def sync(self, *args: Any, **options: Any) -> None:
        self._finish()  # before states are added up over processes
        super().sync(*args, **options)

    def reset(self) -> None:
        self._pending = collections.deque()
        super().reset()

    def _stored(self, probability_B1HW: Tensor) -> Tensor:
        return probability_B1HW

    def compute(self) -> dict[str, Tensor]:
        self._finish()
        scores = _scores(self.counts_T4.cpu().numpy(), self.best_4.cpu().numpy())
        return {name: torch.tensor(value, dtype=WIDE) for name, value in scores.items()}


class AstmtEdges(PooledEdges):
    """The same at the 101 thresholds of seism, from probabilities as ASTMT's code writes them to a picture of 8 bits:
    cut down to whole 255ths.
    """

    thresholds = SEISM

    def _stored(self, probability_B1HW: Tensor) -> Tensor:
        return eight_bits(probability_B1HW).double() / 255
