"""The ray caster and its families of scenes: pure functions from (split, index, seed) to an image and the truth of
every task.

The ray caster is ``shapes`` and ``textures``, then ``world`` (what a scene is made of), ``trace`` and ``render``, each
built on those before it. A family is one file with ``CLASSES``, ``VERSION`` and ``compose(split, index, seed) ->
Shot``, named in ``FAMILIES`` below; families share ``drawing`` and the catalogues: ``furniture``, ``figures``,
``animals``, ``things``, ``vehicles``, ``roadside``. Nothing here knows of datasets, files or torch.

``faces`` is no family: it draws portraits in the plane (with ``easel`` and ``portrait``), and what is known of them is
an age group and a gender, nothing for every pixel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from ..registry import Registry
from . import people, render, rooms, streets
from .render import Shot

__all__ = ["COMPACT", "FAMILIES", "Family", "Shot", "compact_sample", "sample"]

# the smallest type that holds each target: pictures are rounded to 1/255, normals to half precision, the rest is exact
COMPACT = {
    "image": "uint8", "semantic": "int8", "depth": "float32", "normals": "float16", "edges": "uint8",
    "saliency": "uint8", "albedo": "uint8", "parts": "int8", "flow": "float32", "motion": "int8",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of scene.

    Attributes:
        classes: names of the semantic classes, by id.
        version: of the family and the renderer together; another version draws other pictures.
        compose: (split, index, seed) -> the scene and its camera.
        parts: names of the parts of persons, by id; empty for a family whose targets have no ``parts``.
    """

    classes: tuple[str, ...]
    version: str
    compose: Callable[[str, int, int], Shot]
    parts: tuple[str, ...] = ()


FAMILIES: Registry[Family] = Registry("scene family")
for _name, _module in (("people", people), ("rooms", rooms), ("streets", streets)):
    _version = f"{_module.VERSION}.{render.VERSION}"
    FAMILIES[_name] = Family(_module.CLASSES, _version, _module.compose, getattr(_module, "PARTS", ()))


def sample(
    family: str, split: str, index: int, height: int, width: int, seed: int = 0, flow: bool = False
) -> dict[str, np.ndarray]:
    """Image ``index`` of a split and its truth, as ``render.render`` returns it. The same bytes in every process.

    Raises:
        KitError: for an unknown family or split, a negative index or seed, a size below 1.
    """
    return FAMILIES[family].compose(split, index, seed).render(height, width, flow)


def compact_sample(
    family: str, split: str, height: int, width: int, seed: int, flow: bool, index: int
) -> dict[str, np.ndarray]:
    """``sample`` in the types of ``COMPACT``, to be stored."""
    made = sample(family, split, index, height, width, seed, flow)
    return {name: _compact(made[name], dtype) for name, dtype in COMPACT.items() if name in made}


def _compact(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "uint8" and values.dtype.kind == "f":
        values = np.rint(values * 255) if values.shape[0] == 3 else values
    return values.astype(dtype)
