"""How fast rooms are rendered: images a second with two one-thread workers, and the cost of a pixel by image size.

python tests/benchmarks/scenes.py
"""

from __future__ import annotations

import functools
import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

from mtlkit import scenes  # noqa: E402
from mtlkit.datasets import pack  # noqa: E402


def images_per_second(count: int = 192, height: int = 96, width: int = 128) -> float:
    """The whole way into the cache, with the start of the workers."""
    shapes = {name: a.shape for name, a in scenes.compact_sample("rooms", "train", height, width, 0, False, 0).items()}
    fields = {name: pack.Field(scenes.COMPACT[name], shape) for name, shape in shapes.items()}
    produce = functools.partial(scenes.compact_sample, "rooms", "train", height, width, 0, False)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pack.build(Path(folder) / "cache", count, fields, produce, "benchmark", workers=2)
        return count / (time.perf_counter() - start)


def nanoseconds_per_pixel(height: int, width: int, count: int = 12) -> float:
    """Rendering alone, in this process: the median image."""
    shots = [scenes.FAMILIES["rooms"].compose("train", index, 0) for index in range(count)]
    times = []
    for shot in shots:
        start = time.perf_counter()
        shot.render(height, width)
        times.append(time.perf_counter() - start)
    return sorted(times)[count // 2] / (height * width) * 1e9


if __name__ == "__main__":
    speed = images_per_second()
    print(f"96 x 128, two workers: {speed:.1f} images/s (bar 20, ratio {speed / 20:.2f})")
    small, large = nanoseconds_per_pixel(96, 128), nanoseconds_per_pixel(288, 384)
    print(f"ns per pixel: {small:.0f} at 96 x 128, {large:.0f} at 288 x 384 (ratio {large / small:.2f}, bar 1)")
