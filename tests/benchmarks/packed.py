"""How fast a sample of NYUv2 at its full size is read: four float64 files by np.load against the packed cache, with and
without augmentation, alternately in one process on one thread. Both are read before, so that no disk is measured.

python tests/benchmarks/packed.py [images]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from mtlkit import transforms  # noqa: E402
from mtlkit.datasets import nyuv2, packed  # noqa: E402

Sample = dict[str, Tensor]
NAMES = {"image": "image", "label": "semantic", "depth": "depth", "normal": "normals"}


def load(root: Path, index: int) -> Sample:
    """By hand, as the released loader does: (C, H, W) of float64, labels too."""
    stored = {field: np.load(root / "train" / field / f"{index}.npy", allow_pickle=False) for field in NAMES}
    return {NAMES[f]: torch.from_numpy(np.moveaxis(a, -1, 0) if a.ndim == 3 else a) for f, a in stored.items()}


def final(sample: Sample) -> Sample:
    """The types of the sample contract, contiguous."""
    types = {"semantic": torch.int64}
    return {name: x.to(types.get(name, torch.float32)).contiguous() for name, x in sample.items()}


def compare(title: str, ways: dict[str, Callable[[int], Sample]], count: int, rounds: int = 5) -> None:
    """Milliseconds of the processor for an image: the median over rounds in which the ways take turns. The last way is
    the packed one.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for index in range(count):
                way(index)
            times[name].append((time.process_time() - start) / count * 1e3)
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}  # the first round warms up
    last = medians[list(ways)[-1]]
    print(title)
    for name, median in medians.items():
        print(f"    {name:<48} {median:6.2f} ms  {median / last:5.1f} times the packed one")


def main(count: int) -> None:
    torch.set_num_threads(1)
    augment = transforms.AUGMENTATIONS.build("mtan")

    def changed(sample: Sample, index: int) -> Sample:
        return augment(sample, transforms.generator(index))

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MTLKIT_CACHE"] = str(Path(folder) / "cache")
        root = Path(folder) / "nyuv2"
        nyuv2.NYUv2.write_sample(root, count)
        read, made = nyuv2.NYUv2("train", root=root), packed.make("nyuv2", "train", root=root)
        ways = {
            "np.load, float32": lambda i: final(load(root, i)),
            "the unpacked reader": lambda i: read[i],
            "packed": lambda i: made[i],
        }
        compare(f"{count} images of 288 x 384, without augmentation (bar 5)", ways, count)
        ways = {
            "np.load, augmented in float64 as released, float32": lambda i: final(changed(load(root, i), i)),
            "np.load, float32, augmented": lambda i: changed(final(load(root, i)), i),
            "augmentation alone": lambda i, kept=made[0]: changed(kept, i),
            "packed, augmented": lambda i: changed(made[i], i),
        }
        compare("with augmentation mtan (bar 2)", ways, count)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 64)
