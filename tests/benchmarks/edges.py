"""How long it takes to measure boundaries: images of 320 x 480 at 101 thresholds, by processes, and one small image.

The truth is of rendered scenes. A prediction is either ``trained``: the true lines moved and blurred, texture that
looks like lines, and a confidence that varies; or ``noisy``: texture everywhere, so that at many thresholds there are
many more predicted than true pixels (the longest matching); or ``broad``: a map as smooth as a network gives before it
has learnt lines (the longest thinning).

Processor seconds are those of all processes together: where the machine has other work, they say what wall seconds
would be.

python tests/benchmarks/edges.py [images] [processes]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
from scipy import ndimage  # noqa: E402

from mtlkit import scenes  # noqa: E402
from mtlkit.metrics import edges  # noqa: E402

SCENES = 10  # that are rendered; the predictions for each differ

Prediction = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def texture(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Smooth noise of mean zero and variance one."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return field / field.std()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def trained(truth_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shape = truth_HW.shape
    moved = [axis + texture(rng, shape, 8) for axis in np.mgrid[: shape[0], : shape[1]]]
    lines = ndimage.gaussian_filter(ndimage.map_coordinates(truth_HW, moved, order=1), rng.uniform(1.5, 3))
    return sigmoid(8 * lines / lines.max() - 4 + 1.2 * texture(rng, shape, rng.uniform(2, 4)) + texture(rng, shape, 20))


def noisy(truth_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sigmoid(2 * texture(rng, truth_HW.shape, 1) + 3 * truth_HW - 1)


def broad(truth_HW: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sigmoid(2 * texture(rng, truth_HW.shape, 40))


def pairs_of(kind: Prediction, truths: list[np.ndarray], count: int) -> list[edges.Pair]:
    return [(kind(truths[i % len(truths)], np.random.default_rng(i)), truths[i % len(truths)]) for i in range(count)]


def truths_of(height: int, width: int) -> list[np.ndarray]:
    return [scenes.sample("people", "test", i, height, width)["edges"][0] for i in range(SCENES)]


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Of the wall, and of the processor with the children that have ended."""

    def processor() -> float:
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system

    wall, cpu = time.perf_counter(), processor()
    run()
    return time.perf_counter() - wall, processor() - cpu


if __name__ == "__main__":
    count, jobs = (*map(int, sys.argv[1:]), *(100, 2)[len(sys.argv) - 1 :])
    large, small = truths_of(320, 480), truths_of(96, 128)
    for kind in (trained, noisy, broad):
        pairs = pairs_of(kind, large, count)
        wall, cpu = seconds(lambda pairs=pairs: edges.edge_counts_of(pairs, jobs=jobs))
        each = cpu / count / len(edges.SEISM) * 1e3
        print(
            f"{kind.__name__}: {count} images of 320 x 480, {jobs} processes: {wall:.0f} s (bar 90 of 100 images), "
            f"processor {cpu:.0f} s, {each:.1f} ms for each threshold",
            flush=True,
        )
        pairs = pairs_of(kind, small, SCENES)
        _, cpu = seconds(lambda pairs=pairs: edges.edge_counts_of(pairs, jobs=1, progress=False))
        print(f"{kind.__name__}: 96 x 128: processor {cpu / SCENES * 1e3:.0f} ms for each image", flush=True)
