"""Rooms: indoor scenes with the 13 classes of NYUv2, drawn at random from a small catalogue of furniture.

A room has a kind (bedroom, living room, study, dining room), four walls, and furniture of that kind along the walls and in the middle. Colours
are typical of a class but overlap (a table, a shelf and a floor share their woods), so that shape and place matter as much as colour. The camera
stands on free floor at eye height and looks at a piece of furniture, the salient object. As in NYUv2's own 13 classes, curtains count as window,
doors as wall, carpets as floor, lamps, plants, pillows and boxes as objects; one small object in ten is unlabelled (-1).

Scene ``index`` of a split depends on (split, index, seed) alone; the image size only decides how finely it is sampled.

Units: metres, radians; the world's x runs along the far wall, y into the room's depth, z up. A piece of furniture is built around its own
origin: its middle on the floor, its back towards -y.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from ..errors import KitError, nearest
from .render import Camera, Colour, Light, Material, Pose, Scene, Solid, render

VERSION = 1  # raise it when any room changes
CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall", "window",
)  # fmt: skip
ID = {name: i for i, name in enumerate(CLASSES)} | {"unlabelled": -1}
SPLITS = {"train": 0, "validation": 1, "test": 2}
