"""A small ray caster: from one scene of simple solids, an image and exactly consistent ground truth for every task.

One ray through the middle of each pixel decides every target; only the image is smoothed along outlines. A surface of
albedo a and unit normal n, at distance d from the light and in its direction l, shows

    a * max(ambient * (1 + 0.15 n_up) + colour * brightness * max(0, n . l) * lit / (1 + d^2 / reach^2), emission)

(J. H. Lambert, Photometria, 1760), where ``lit`` is one hard shadow ray. There is nothing of gloss, of light that
bounces, or of a lens.

A camera has x right, y down, z forward; its rays are (x / focal, y / focal, 1), so that the distance along a ray *is*
the depth along z. Pixel (row i, column j) is sampled at its centre, the place (j + 0.5, i + 0.5).

A pixel's bytes depend neither on the tile it is computed in nor on the number of rays beside it.

Shapes: N rays, n rays that meet one solid, H/W image size; ``x_3N`` has three rows, one per coordinate or colour.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import KitError
from .shapes import TINY, Array, dot, length
from .textures import TEXTURES, Material
from .trace import NEAR, Viewpoint, blocked, trace, turn
from .world import Camera, Light, Pose, Scene, Sky, Solid

# whoever casts a scene of their own needs no other file
__all__ = ["TEXTURES", "VERSION", "Camera", "Light", "Material", "Pose", "Scene", "Shot", "Sky", "Solid", "render"]

VERSION = 1  # of the ray caster's pictures: raise it when any pixel changes, and every cache is made anew
SKY = 1e5  # metres to where the sky is put: beyond every solid, and hidden by those from 0.1 m on
TILE = 12288  # rays at once: 96 x 128 is one tile; some 20 MB of working memory
CREASE = 0.05  # metres of depth between two parts of one object that make an edge
# a rotated grid: four places in a pixel for the pixels that an outline crosses
_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
_NEIGHBOURS = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))  # left and right, above and below


def render(
    scene: Scene,
    camera: Camera,
    height: int,
    width: int,
    previous: Camera | None = None,
    *,
    smooth: bool = True,
    tile: int = TILE,
) -> dict[str, np.ndarray]:
    """Cast a scene: the image, and the truth of every task at the centres of its pixels.

    Args:
        scene: solids and light, in metres.
        camera: where from; its focal length is in pixels of this very image.
        height: rows.
        width: columns.
        previous: the camera one frame ago; with it come ``flow`` and ``motion``.
        smooth: pixels that an outline crosses show the mean of four samples. Only ``image`` knows of it.
        tile: rays at once. Memory grows with it; the result does not depend on it.

    Returns:
        ``image`` float32 (3, H, W), RGB in [0, 1]; ``semantic`` int64 (H, W), -1 unlabelled; ``instance`` int64 (H, W),
        -1 nothing or sky; ``depth`` float32 (1, H, W), metres along z, 0 nothing or sky; ``normals`` float32 (3, H, W),
        unit, camera frame, facing the camera, all 0 likewise; ``albedo`` float32 (3, H, W), the colour without light;
        ``edges`` float32 (1, H, W), 1 on the nearer of two neighbours (left/right, up/down) that show different
        objects, or parts of one object more than 5 cm apart in depth; ``saliency`` float32 (1, H, W), 1 on the object
        that the scene says the picture is about; with ``previous``: ``flow`` float32 (3, H, W): u, v in pixels from
        this frame to the previous one, and confidence, 1 where the point was seen in the previous frame, 0 where it was
        hidden or outside it; ``motion`` int64 (H, W), 1 on objects that moved by themselves; where the scene asks for
        them, ``parts`` int64 (H, W): the parts of persons, 0 elsewhere, and -1 throughout an image that shows no
        person.

    Raises:
        KitError: for a size, focal length or tile that is not positive.
    """
    if min(height, width, tile) < 1 or not camera.focal > 0:
        found = f"{height}, {width}, {tile}, {camera.focal}"
        raise KitError(f"height, width, tile and focal length are above 0, found {found}")
    frame = _Frame(scene, camera, height, width)
    past = None if previous is None else _Past(scene, previous, height, width)
    numbers, solid_HW = _cast(frame, past, tile)
    result = {key: value.reshape(-1, height, width).astype(np.float32) for key, value in numbers.items()}
    result |= _labels(scene, solid_HW, result["depth"][0])
    if smooth:
        _smooth(frame, result["image"], solid_HW, tile)
    if past is not None:
        moved = np.array([s.previous is not None for s in scene.solids] + [False])  # the last one is "nothing"
        result["motion"] = moved[solid_HW].astype(np.int64)
    return result


# --- one ray each: surfaces, light, and the way back to the previous frame --------------------------------------------


@dataclasses.dataclass
class _Hits:
    """What N rays of a camera meet. Points and normals are in the camera frame, ``inner`` in the solid's; nothing hit:
    solid -1, depth 0, normal 0, black or the sky.
    """

    solid_N: NDArray[np.intp]
    depth_N: Array
    point_3N: Array
    normal_3N: Array
    albedo_3N: Array
    inner_3N: Array
    emission_N: Array


def _groups(ids_n: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each id with its places."""
    order = np.argsort(ids_n, kind="stable")
    for where in np.split(order, np.flatnonzero(np.diff(ids_n[order])) + 1):
        if where.size:
            yield int(ids_n[where[0]]), where


class _Frame:
    """One scene before one camera, for one image size."""

    def __init__(self, scene: Scene, camera: Camera, height: int, width: int):
        self.scene, self.camera, self.height, self.width = scene, camera, height, width
        self.view = Viewpoint(scene.solids, [s.pose for s in scene.solids], camera.pose)
        self.lamp = Pose(camera.pose.rotation, np.array(scene.light.position))
        materials: dict[Material, int] = {}
        self.kinds_P = np.array([materials.setdefault(s.material, len(materials)) for s in scene.solids], dtype=int)
        self.materials, self.emission_P = tuple(materials), np.array([s.material.emission for s in scene.solids])
        self.light_31 = (camera.pose.rotation.T @ (self.lamp.position - camera.pose.position))[:, None]

    @functools.cached_property
    def shadow(self) -> Viewpoint:
        """What the light sees."""
        casting = [s for s in self.scene.solids if s.casts]
        return Viewpoint(casting, [s.pose for s in casting], self.lamp)

    def rays(self, x_N: Array, y_N: Array) -> Array:
        """Rays (3, N) of length 1 along z through places of the image, pixels."""
        right, down = (x_N - 0.5 * self.width) / self.camera.focal, (y_N - 0.5 * self.height) / self.camera.focal
        return np.stack([right, down, np.ones_like(right)])

    def sky(self, found: _Hits, rays_3N: Array) -> None:
        """Put the sky where nothing is hit: bright by itself, on a ball of radius ``SKY`` around the camera."""
        where = np.flatnonzero(found.solid_N < 0)
        way_3n = turn(self.camera.pose.rotation, rays_3N[:, where])
        way_3n = way_3n / length(way_3n)
        material = self.scene.sky.material
        found.albedo_3N[:, where] = TEXTURES[material.texture](way_3n, material)
        found.inner_3N[:, where] = SKY * way_3n
        found.emission_N[where] = 1.0

    def hits(self, rays_3N: Array) -> _Hits:
        """The surfaces that these rays meet first."""
        depth_N, solid_N = trace(self.view, rays_3N)
        depth_N = np.where(solid_N < 0, 0.0, depth_N)
        normal_3N, albedo_3N, inner_3N = (np.zeros_like(rays_3N) for _ in range(3))
        found = _Hits(solid_N, depth_N, depth_N * rays_3N, normal_3N, albedo_3N, inner_3N, np.zeros_like(depth_N))
        hit = np.flatnonzero(solid_N >= 0)
        solid_n, rays_3n = solid_N[hit], rays_3N[:, hit]
        inner_3n = inner_3N[:, hit] = self.view.points(solid_n, rays_3n, depth_N[hit])
        normal_3n = self.view.normals(solid_n, inner_3n)
        normal_3N[:, hit] = np.where(dot(normal_3n, rays_3n) > 0.0, -normal_3n, normal_3n)
        found.emission_N[hit] = self.emission_P[solid_n]
        for kind, where in _groups(self.kinds_P[solid_n]):
            material = self.materials[kind]
            albedo_3N[:, hit[where]] = TEXTURES[material.texture](inner_3n[:, where], material)
        if self.scene.sky is not None:
            self.sky(found, rays_3N)
        return found

    def shade(self, found: _Hits) -> Array:
        """RGB (3, N) in [0, 1]."""
        light = self.scene.light
        from_light_3N = found.point_3N - self.light_31
        distance_N = length(from_light_3N)
        cosine_N = np.maximum(dot(-found.normal_3N, from_light_3N), 0.0) / (distance_N + TINY)
        facing = np.flatnonzero(cosine_N > 0.0)
        lit_N = np.zeros_like(cosine_N)
        lit_N[facing] = ~blocked(self.shadow, from_light_3N[:, facing])
        fading_N = 1.0 / (1.0 + distance_N * distance_N / (light.reach * light.reach))
        direct_N = light.brightness * fading_N * cosine_N * lit_N
        up_3 = self.camera.pose.rotation[2]  # the world's z in the camera frame
        ambient_N = light.ambient * (1.0 + 0.15 * dot(found.normal_3N, up_3))
        tint_31 = np.array(light.colour)[:, None]
        return np.clip(found.albedo_3N * np.maximum(ambient_N + tint_31 * direct_N, found.emission_N), 0.0, 1.0)


class _Past:
    """The same scene one frame ago, before the camera of that time."""

    def __init__(self, scene: Scene, camera: Camera, height: int, width: int):
        self.camera, self.height, self.width = camera, height, width
        self.view = Viewpoint(scene.solids, [s.was for s in scene.solids], camera.pose)

    def flow(self, found: _Hits, x_N: Array, y_N: Array) -> Array:
        """u, v, confidence (3, N): how far the points at these places were from there, and whether they were seen."""
        before_3N = np.zeros_like(found.inner_3N)
        sky = found.solid_N < 0  # without a sky, these stay 0, which is unknown
        before_3N[:, ~sky] = self.view.seen(found.solid_N[~sky], found.inner_3N[:, ~sky])
        before_3N[:, sky] = turn(self.camera.pose.rotation.T, found.inner_3N[:, sky])
        known = before_3N[2] > NEAR
        z = np.where(known, before_3N[2], 1.0)
        x = before_3N[0] / z * self.camera.focal + 0.5 * self.width
        y = before_3N[1] / z * self.camera.focal + 0.5 * self.height
        inside = np.flatnonzero(known & (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height))
        seen_N = np.zeros_like(x)
        seen_N[inside] = ~blocked(self.view, before_3N[:, inside])
        return np.stack([np.where(known, x - x_N, 0.0), np.where(known, y - y_N, 0.0), seen_N])


# --- whole images -----------------------------------------------------------------------------------------------------


def _cast(frame: _Frame, past: _Past | None, tile: int) -> tuple[dict[str, Array], NDArray[np.intp]]:
    """Everything that is a number for each ray, (rows, H * W), and the solid that each pixel shows, (H, W)."""
    count = frame.height * frame.width
    rows = {"image": 3, "normals": 3, "albedo": 3, "depth": 1} | ({} if past is None else {"flow": 3})
    numbers = {key: np.zeros((n, count)) for key, n in rows.items()}
    solid = np.full(count, -1)
    for start in range(0, count, tile):
        pixels = np.arange(start, min(start + tile, count))
        x, y = pixels % frame.width + 0.5, pixels // frame.width + 0.5
        found = frame.hits(frame.rays(x, y))
        solid[pixels] = found.solid_N
        made = {"normals": found.normal_3N, "albedo": found.albedo_3N, "depth": found.depth_N}
        made["image"] = frame.shade(found)
        if past is not None:
            made["flow"] = past.flow(found, x, y)
        for key, value in made.items():
            numbers[key][:, pixels] = value
    return numbers, solid.reshape(frame.height, frame.width)


def _of_solids(scene: Scene, attribute: str) -> NDArray[np.int64]:
    """An id of every solid, and -1 (or the label of the sky) for "nothing", which is solid -1."""
    nothing = scene.sky.label if attribute == "label" and scene.sky is not None else -1
    return np.array([getattr(s, attribute) for s in scene.solids] + [nothing], dtype=np.int64)


def _labels(scene: Scene, solid_HW: NDArray[np.intp], depth_HW: np.ndarray) -> dict[str, np.ndarray]:
    """Semantic, instance, edges and saliency from the solid that every pixel shows."""
    instance_HW = _of_solids(scene, "instance")[solid_HW]
    depth_HW = np.where(solid_HW < 0, 1e9, depth_HW)  # nothing is farther than anything
    edges_HW = np.zeros(solid_HW.shape, dtype=np.float32)
    for a, b in _NEIGHBOURS:
        gap = depth_HW[a] - depth_HW[b]
        crossing = (instance_HW[a] != instance_HW[b]) | ((solid_HW[a] != solid_HW[b]) & (np.abs(gap) > CREASE))
        edges_HW[a][crossing & (gap <= 0)] = 1
        edges_HW[b][crossing & (gap > 0)] = 1
    salient_HW = np.zeros_like(edges_HW) if scene.salient is None else (instance_HW == scene.salient).astype(np.float32)
    labels = {
        "semantic": _of_solids(scene, "label")[solid_HW],
        "instance": instance_HW,
        "edges": edges_HW[None],
        "saliency": salient_HW[None],
    }
    if scene.parts:
        parts_HW = np.where(solid_HW < 0, 0, _of_solids(scene, "part")[solid_HW])
        labels["parts"] = parts_HW if parts_HW.any() else np.full_like(parts_HW, -1)
    return labels


def _smooth(frame: _Frame, image_3HW: np.ndarray, solid_HW: NDArray[np.intp], tile: int) -> None:
    """Sample again, four times, the pixels with a neighbour that shows another solid."""
    border_HW = np.zeros(solid_HW.shape, dtype=bool)
    for a, b in _NEIGHBOURS:
        crossing = solid_HW[a] != solid_HW[b]
        border_HW[a] |= crossing
        border_HW[b] |= crossing
    rows, columns = np.nonzero(border_HW)
    count = len(_SUBPIXELS)
    step = max(1, tile // count)
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], columns[start : start + step]
        x = np.concatenate([j + 0.5 + dx for dx, _ in _SUBPIXELS])
        y = np.concatenate([i + 0.5 + dy for _, dy in _SUBPIXELS])
        colours = frame.shade(frame.hits(frame.rays(x, y))).reshape(3, count, -1)
        image_3HW[:, i, j] = 0.25 * (colours[:, 0] + colours[:, 1] + colours[:, 2] + colours[:, 3])


# --- what a family draws ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Shot:
    """What a family draws for one index: a scene and the camera before it, for any image size.

    Attributes:
        scene: solids and light.
        pose: of the camera.
        focal: focal length as a share of the image's width.
        previous: the camera's pose one frame ago.
    """

    scene: Scene
    pose: Pose
    focal: float
    previous: Pose

    def camera(self, width: int) -> Camera:
        """This frame's camera for an image of this width."""
        return Camera(self.pose, self.focal * width)

    def render(self, height: int, width: int, flow: bool = False) -> dict[str, np.ndarray]:
        """``render`` of this shot; ``flow=True`` adds ``flow`` and ``motion``."""
        previous = Camera(self.previous, self.focal * width) if flow else None
        return render(self.scene, self.camera(width), height, width, previous)

    def before(self) -> Shot:
        """The shot one frame ago: everything where it was then. Nothing is known of the frame before that one."""
        return dataclasses.replace(self, scene=self.scene.before(), pose=self.previous)

    def glance(self, height: int = 12, width: int = 16) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Labels, instances (H, W) and depth in metres (H, W; inf is nothing) alone: enough to judge a view."""
        frame = _Frame(self.scene, self.camera(width), height, width)
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        depth, solid = trace(frame.view, frame.rays(columns.ravel(), rows.ravel()))
        ids = (_of_solids(self.scene, key)[solid] for key in ("label", "instance"))
        return tuple(a.reshape(height, width) for a in (*ids, depth))
