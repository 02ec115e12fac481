"""The ray caster against geometry that is known exactly, and rooms against what a dataset of rooms must hold.

Shapes: H/W image size, N pixels, ``x_3HW`` coordinates or colours first.
"""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_another

from mtlkit import scenes
from mtlkit.errors import KitError
from mtlkit.scenes import rooms
from mtlkit.scenes.render import TEXTURES, Camera, Light, Material, Pose, Scene, Solid, render

H, W = 48, 64
LIGHT = Light((0.0, 0.0, 5.0))
HOME = Pose.look((0.0, 0.0, 0.0), (0.0, 1.0, 0.0))  # at the origin, looking along the world's y


def picture(*solids: Solid, focal: float = 60.0, light: Light = LIGHT, **options) -> dict[str, np.ndarray]:
    return render(Scene(solids, light), Camera(HOME, focal), H, W, **options)


def solid(shape: str, size: tuple[float, float, float], pose: Pose, instance: int = 0, **options) -> Solid:
    return Solid(shape, size, pose, options.pop("label", 0), instance, options.pop("material", Material()), **options)


def rays(focal: float, height: int = H, width: int = W) -> np.ndarray:
    """Rays (3, H, W) of a pinhole camera, length 1 along z."""
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return np.stack([x / focal, y / focal, np.ones_like(x)])


# --- solids against their distance functions -------------------------------------------------------------------------


def distance(shape: str, p_3N: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    """Negative inside, 0 on the surface, positive outside (for the ellipsoid: of that sign only)."""
    x, y, z = p_3N
    if shape == "box":
        return np.max([np.abs(a) - s for a, s in zip(p_3N, size, strict=True)], axis=0)
    if shape == "sphere":
        return np.sqrt(sum((a / s) ** 2 for a, s in zip(p_3N, size, strict=True))) - 1
    if shape == "cylinder":
        return np.maximum(np.hypot(x, y) - size[0], np.abs(z) - size[2])
    return np.sqrt(x**2 + y**2 + (z - np.clip(z, -size[2], size[2])) ** 2) - size[0]


angle = st.floats(-3.1, 3.1)
length = st.floats(0.1, 0.9)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(["box", "sphere", "cylinder", "capsule"]),
    size=st.tuples(length, length, length),
    place=st.tuples(st.floats(-0.8, 0.8), st.floats(2.5, 5.0), st.floats(-0.8, 0.8)),
    turn=st.tuples(angle, angle, angle),
)
def test_a_ray_stops_where_it_first_meets_the_surface_and_the_normal_points_out(shape, size, place, turn):
    if shape in ("cylinder", "capsule"):
        size = (size[0], size[0], size[2])
    pose = Pose.at(*place, *turn)
    made = picture(solid(shape, size, pose))

    def inner(depth_HW):
        world = np.einsum("ij,jhw->ihw", HOME.rotation, depth_HW * rays(60.0)) - pose.position[:, None, None]
        return np.einsum("ji,jhw->ihw", pose.rotation, world)

    depth = made["depth"][0].astype(float)
    hit = made["instance"] == 0
    assert np.abs(distance(shape, inner(depth), size))[hit].max(initial=0.0) < 1e-5
    for share in np.linspace(0.05, 0.999, 40):  # nothing was passed on the way, or missed
        assert (distance(shape, inner(np.where(hit, share * depth, share * 9.0)), size) > -1e-6).all()
    step = 1e-4  # walking out along the normal leaves the solid, walking in enters it
    world_normal = np.einsum("ij,jhw->ihw", HOME.rotation, made["normals"])
    out = step * np.einsum("ji,jhw->ihw", pose.rotation, world_normal)
    assert (distance(shape, inner(depth) + out, size) > 0)[hit].all()
    assert (distance(shape, inner(depth) - out, size) < 1e-6)[hit].all()  # (0 where a ray meets the very edge of a box)
    assert ((made["normals"] * rays(60.0)).sum(axis=0)[hit] < 0).all()


def test_a_sphere_before_the_camera_is_its_distance_less_its_radius_away():
    made = render(Scene((solid("sphere", (1, 1, 1), Pose.at(0, 5, 0)),), LIGHT), Camera(HOME, 60.0), 49, 65)
    assert made["depth"][0, 24, 32] == pytest.approx(4.0, abs=1e-6)
    assert made["normals"][:, 24, 32] == pytest.approx([0, 0, -1], abs=1e-6)


def test_depth_is_along_z_and_a_wall_head_on_has_normal_minus_z():
    wall = solid("plane", (1, 1, 1), Pose.at(0, 3, 0, roll=math.pi / 2))
    floor = solid("plane", (1, 1, 1), Pose.at(0, 0, -1.5))
    made = picture(wall)
    assert np.allclose(made["depth"], 3.0)
    assert np.allclose(made["normals"], np.array([0, 0, -1])[:, None, None], atol=1e-6)
    made = picture(floor)
    below = made["instance"] == 0
    assert np.allclose(made["normals"][:, below], np.array([0, -1, 0])[:, None], atol=1e-6)  # y is down: up is -y
    assert np.allclose(made["depth"][0][below], (1.5 / rays(60.0)[1])[below], rtol=1e-5)


def test_where_nothing_is_hit_there_is_no_target():
    made = picture(solid("sphere", (0.5, 0.5, 0.5), Pose.at(0, 4, 0)))
    nothing = made["instance"] == -1
    assert nothing.any() and (made["semantic"][nothing] == -1).all()
    assert not made["edges"][0][nothing].any() and made["edges"].any()  # outlines belong to the sphere
    assert not made["depth"][0][nothing].any() and not made["normals"][:, nothing].any()


def test_small_things_far_away_are_not_lost():
    grid = [(x, z) for x in range(-6, 7) for z in range(-4, 5)]
    spots = [solid("sphere", (0.02,) * 3, Pose.at(0.5 * x, 200.0, 0.5 * z), i) for i, (x, z) in enumerate(grid)]
    made = picture(*spots, focal=1500.0 * 4)
    ray = rays(6000.0)
    for i, (x, z) in enumerate(grid):
        centre = np.array([0.5 * x, -0.5 * z, 200.0])
        along = (ray * centre[:, None, None]).sum(0)
        meets = along**2 >= (centre @ centre - 0.02**2) * (ray**2).sum(0)
        assert ((made["instance"] == i) == meets).all()


# --- light, outlines -------------------------------------------------------------------------------------------------


def test_what_stands_before_the_light_throws_a_shadow():
    floor = solid("plane", (1, 1, 1), Pose.at(0, 0, -1.5), casts=False)
    light = Light((0.0, 6.0, 3.0), 1.0, 0.3)
    ball = solid("sphere", (0.4,) * 3, Pose.at(0, 6, 1.2), 1)
    bright, dark = picture(floor, light=light, focal=40.0), picture(floor, ball, light=light, focal=40.0)
    row, column = round(H / 2 + 40 * 1.5 / 6 - 0.5), W // 2  # the floor just below the light
    assert dark["instance"][row, column] == 0
    assert dark["image"][0, row, column] == pytest.approx(0.5 * 0.3 * 1.15, rel=1e-3)  # only the ambient part
    assert bright["image"][0, row, column] > 2 * dark["image"][0, row, column]
    without = picture(floor, solid("sphere", (0.4,) * 3, Pose.at(0, 6, 1.2), 1, casts=False), light=light, focal=40.0)
    assert without["image"][0, row, column] == bright["image"][0, row, column]


def test_brightness_is_the_cosine_law():
    floor = solid("plane", (1, 1, 1), Pose.at(0, 0, -1.5), casts=False)
    made = picture(floor, light=Light((0.0, 4.0, 2.0), 1.0, 0.0, 3.0))
    hit = made["instance"] == 0
    point = (made["depth"] * rays(60.0))[:, hit]
    away = np.array([0.0, -2.0, 4.0])[:, None] - point
    length = np.sqrt((away**2).sum(0))
    assert np.allclose(made["image"][0][hit], 0.5 * 3.5 / length / (1 + length**2 / 9), atol=1e-5)


def test_edges_run_along_the_nearer_object_and_saliency_is_the_chosen_one():
    back = solid("box", (2.0, 0.1, 2.0), Pose.at(0, 6, 0), 1)
    front = solid("box", (0.5, 0.1, 0.5), Pose.at(0, 3, 0), 2)
    scene = Scene((back, front), LIGHT, salient=2)
    made = render(scene, Camera(HOME, 60.0), H, W)
    edges, instance = made["edges"][0].astype(bool), made["instance"]
    assert set(made["edges"].ravel()) == {0.0, 1.0}
    assert (made["saliency"][0].astype(bool) == (instance == 2)).all()
    rim = np.zeros_like(edges)
    mine = instance == 2
    inside = mine[1:-1, 1:-1] & mine[2:, 1:-1] & mine[:-2, 1:-1] & mine[1:-1, 2:] & mine[1:-1, :-2]
    rim[1:-1, 1:-1] = mine[1:-1, 1:-1] & ~inside
    assert (edges[mine] == rim[mine]).all()


def test_parts_of_one_object_apart_in_depth_make_an_edge_parts_that_touch_do_not():
    left = solid("box", (0.5, 0.2, 1.0), Pose.at(-0.5, 4, 0), 1)
    touching = picture(left, solid("box", (0.5, 0.2, 1.0), Pose.at(0.5, 4, 0), 1))
    apart = picture(left, solid("box", (0.5, 0.2, 1.0), Pose.at(0.5, 4.6, 0), 1))
    middle = (slice(None), slice(H // 2 - 4, H // 2 + 4), slice(W // 2 - 2, W // 2 + 2))
    assert not touching["edges"][middle].any()
    assert apart["edges"][middle].any()


def test_smoothing_touches_outlines_alone_and_no_target():
    shot = rooms.compose("train", 0)
    rough = render(shot.scene, shot.camera(W), H, W, smooth=False)
    smooth = render(shot.scene, shot.camera(W), H, W)
    assert all((rough[key] == smooth[key]).all() for key in rough if key != "image")
    changed = (rough["image"] != smooth["image"]).any(axis=0)
    assert 0 < changed.mean() < 0.5


@pytest.mark.parametrize("texture", sorted(TEXTURES))
def test_textures_stay_between_black_and_white_and_follow_their_seed(texture):
    def material(seed):
        return Material(texture, (0.8, 0.6, 0.4), (0.3, 0.2, 0.1), 0.1, seed)

    pose = Pose.at(0, 3, 0, yaw=0.5, roll=0.7)
    first, again, other = (
        picture(solid("box", (1, 0.5, 1), pose, material=material(seed)))["albedo"] for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert first.min() >= 0 and first.max() <= 1
    assert (first != other).any() == (texture not in ("plain", "checker", "stripes"))


# --- rooms: geometry -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("train", 1), ("test", 4), ("test", 7)], ids=str)
def room(request):
    """A room, and its render with flow at 96 x 128."""
    shot = rooms.compose(*request.param)
    return shot, shot.render(96, 128, flow=True)


def flat(made: dict[str, np.ndarray], reach: int = 2) -> np.ndarray:
    """Pixels (H, W) all of whose neighbours lie on nearly the same plane of the same object."""
    height, width = made["instance"].shape
    ok = np.zeros((height, width), dtype=bool)
    ok[reach:-reach, reach:-reach] = True
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            ok &= np.roll(made["instance"], (dy, dx), (0, 1)) == made["instance"]
            ok &= (np.roll(made["normals"], (dy, dx), (1, 2)) * made["normals"]).sum(0) > 0.9999
            ok &= np.roll(made["edges"][0], (dy, dx), (0, 1)) == 0
    return ok


def test_normals_from_depth_agree_with_the_rendered_ones(room):
    shot, made = room
    point = made["depth"].astype(float) * rays(shot.focal * 128, 96, 128)
    across = np.roll(point, -1, 2) - np.roll(point, 1, 2)
    down = np.roll(point, -1, 1) - np.roll(point, 1, 1)
    normal = np.cross(down, across, axis=0)
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 1e-12)
    ok = flat(made)
    assert ok.mean() > 0.3
    degrees = np.degrees(np.arccos(np.clip((normal * made["normals"]).sum(0), -1, 1)))[ok]
    # a few parallel planes of one object a little apart (a cushion on its seat) remain
    assert np.median(degrees) < 0.05 and np.quantile(degrees, 0.98) < 1.0


@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 10_000))
def test_zooming_by_focal_length_leaves_depth_unchanged(index):
    shot = rooms.compose("train", index)
    once = render(shot.scene, Camera(shot.pose, 60.0), H, W, smooth=False)
    # with an odd factor, the middle of every pixel is the middle of a pixel of the zoomed image as well
    zoomed = render(shot.scene, Camera(shot.pose, 180.0), H, W, smooth=False)
    crop = (slice(H // 2 - H // 6, H // 2 + H // 6), slice(W // 2 - 10, W // 2 + 10))
    inner = (slice(1, None, 3), slice((W // 2 - 30) + 1, (W // 2 + 30), 3))
    same = zoomed["instance"][inner] == once["instance"][crop]
    assert same.mean() > 0.995  # rounding may tip a ray over an outline
    assert np.allclose(zoomed["depth"][0][inner][same], once["depth"][0][crop][same], rtol=1e-4)
    assert np.allclose(zoomed["normals"][:, *inner][:, same], once["normals"][:, *crop][:, same], atol=1e-3)


def test_a_larger_image_shows_the_same_room():
    small = scenes.sample("rooms", "test", 5, 32, 64)
    large = scenes.sample("rooms", "test", 5, 96, 192)
    centre = (slice(1, None, 3), slice(1, None, 3))
    assert (small["semantic"] == large["semantic"][centre]).mean() > 0.995
    assert np.median(np.abs(small["depth"][0] - large["depth"][0][centre])) < 1e-5


def bilinear(image_CHW: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (C, H, W) at places x, y in pixels (centres at + 0.5), and the indices of their neighbours (4, H, W)."""
    height, width = image_CHW.shape[-2:]
    x, y = np.clip(x - 0.5, 0, width - 1.001), np.clip(y - 0.5, 0, height - 1.001)
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    corners = np.stack([i * width + j, i * width + j + 1, (i + 1) * width + j, (i + 1) * width + j + 1])
    u, v = x - j, y - i
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
    return (image_CHW.reshape(len(image_CHW), -1)[:, corners] * weights).sum(axis=1), corners


def test_flow_warps_the_previous_frame_onto_this_one(room):
    shot, now = room
    before = shot.before().render(96, 128)
    u, v, confidence = now["flow"]
    x, y = np.meshgrid(np.arange(128) + 0.5, np.arange(96) + 0.5)
    assert set(np.unique(confidence)) <= {0.0, 1.0} and confidence.mean() > 0.75
    assert np.hypot(u, v)[confidence > 0].mean() > 0.5  # there is something to warp
    depth, corners = bilinear(before["depth"], x + u, y + v)
    whole = (before["instance"].ravel()[corners] == now["instance"]).all(
        axis=0
    )  # the four neighbours show the same thing
    ok = (confidence > 0) & whole
    assert ok.mean() > 0.6
    for key in ("image", "albedo"):
        warped = np.abs(bilinear(before[key], x + u, y + v)[0] - now[key])[:, ok].mean()
        still = np.abs(before[key] - now[key])[:, ok].mean()
        assert warped < 0.02 and warped < 0.75 * still
    # a seen point lies on the surface that the previous frame shows; where it is hidden, something nearer is shown
    point = np.einsum("ij,jhw->ihw", shot.pose.rotation, now["depth"] * rays(shot.focal * 128, 96, 128))
    world = point + shot.pose.position[:, None, None]
    z = np.einsum("i,ihw->hw", shot.previous.rotation[:, 2], world - shot.previous.position[:, None, None])
    static = (now["motion"] == 0) & ok & flat(now)
    assert np.quantile(np.abs(depth[0] - z)[static] / z[static], 0.98) < 0.01
    inside = (x + u > 1) & (x + u < 127) & (y + v > 1) & (y + v < 95)
    hidden = (confidence == 0) & inside & (now["motion"] == 0)
    if hidden.sum() > 20:
        assert (before["depth"].ravel()[corners].min(axis=0) < z - 1e-3)[hidden].mean() > 0.9


def test_motion_marks_whole_objects_and_still_ones_only_move_with_the_camera(room):
    shot, now = room
    moved = {s.instance for s in shot.scene.solids if s.previous is not None}
    assert moved and (now["motion"].astype(bool) == np.isin(now["instance"], list(moved))).all()
    assert now["motion"].any()
    ray = rays(shot.focal * 128, 96, 128)
    turn = shot.previous.rotation.T @ shot.pose.rotation
    step = shot.previous.rotation.T @ (shot.pose.position - shot.previous.position)
    then = np.einsum("ij,jhw->ihw", turn, now["depth"] * ray) + step[:, None, None]
    flow = shot.focal * 128 * (then[:2] / then[2] - ray[:2])
    off = np.abs(flow - now["flow"][:2]).max(axis=0)
    assert off[now["motion"] == 0].max() < 1e-3
    assert np.median(off[now["motion"] == 1]) > 0.3


# --- rooms: the data -------------------------------------------------------------------------------------------------


def test_the_sample_contract():
    made = scenes.sample("rooms", "train", 2, 64, 96, flow=True)
    assert {key: (a.dtype.name, a.shape) for key, a in made.items()} == {
        "image": ("float32", (3, 64, 96)),
        "semantic": ("int64", (64, 96)),
        "instance": ("int64", (64, 96)),
        "depth": ("float32", (1, 64, 96)),
        "normals": ("float32", (3, 64, 96)),
        "albedo": ("float32", (3, 64, 96)),
        "edges": ("float32", (1, 64, 96)),
        "saliency": ("float32", (1, 64, 96)),
        "flow": ("float32", (3, 64, 96)),
        "motion": ("int64", (64, 96)),
    }
    for key in ("image", "albedo"):
        assert made[key].min() >= 0 and made[key].max() <= 1
    assert np.allclose((made["normals"] ** 2).sum(0), 1, atol=1e-5)
    assert 0.2 < made["depth"].min() and made["depth"].max() < 10
    assert -1 <= made["semantic"].min() and made["semantic"].max() <= 12
    still = scenes.sample("rooms", "train", 2, 64, 96)
    assert all((still[key] == made[key]).all() for key in still) and set(made) - set(still) == {"flow", "motion"}


def test_every_class_of_nyuv2_is_in_48_test_images():
    assert rooms.CLASSES == (
        "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
        "window",
    )  # fmt: skip
    images = np.zeros(13)
    for index in range(48):
        label = rooms.compose("test", index).glance(48, 64)[0]
        images += np.bincount(label[label >= 0], minlength=13) > 15  # half a per cent of the image
    assert (images >= 4).all(), dict(zip(rooms.CLASSES, images, strict=True))


def test_rooms_are_seen_from_free_floor_and_show_more_than_walls():
    for index in range(60):
        shot = rooms.compose("train", index)
        label, instance, depth = shot.glance(24, 32)
        assert depth.min() > 0.25 and np.isfinite(depth).all()  # the room is closed
        assert (label == 11).mean() < 0.85 and len(np.unique(label)) >= 5
        assert (instance == shot.scene.salient).any()
        assert 1.3 <= shot.pose.position[2] <= 1.7


def digest(index: int) -> str:
    made = scenes.sample("rooms", "test", index, 64, 96, seed=3, flow=True)
    return hashlib.sha256(b"".join(made[key].tobytes() for key in sorted(made))).hexdigest()


def test_the_same_bytes_in_a_new_process():
    assert in_another(digest, 6) == digest(6)


@pytest.mark.parametrize("tile", [61, 1000, 10**6])
def test_the_same_bytes_for_any_tile(tile):
    shot = rooms.compose("train", 9)
    previous = Camera(shot.previous, shot.focal * W)
    whole = render(shot.scene, shot.camera(W), H, W, previous)
    tiled = render(shot.scene, shot.camera(W), H, W, previous, tile=tile)
    assert all(whole[key].tobytes() == tiled[key].tobytes() for key in whole)


def test_splits_seeds_and_indices_share_no_scene():
    seen = set()
    for split in rooms.SPLITS:
        for index in range(3):
            for seed in range(3):
                shot = rooms.compose(split, index, seed)
                seen.add(shot.pose.position.tobytes())
    assert len(seen) == 27


def test_scenes_need_no_torch():
    program = "import sys, mtlkit.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scenes.sample("romms", "train", 0, 32, 32), "did you mean 'rooms'"),
        (lambda: scenes.sample("rooms", "tset", 0, 32, 32), "did you mean 'test'"),
        (lambda: scenes.sample("rooms", "train", -1, 32, 32), "found -1 and 0"),
        (lambda: scenes.sample("rooms", "train", 0, 0, 32), "above 0, found 0"),
        (lambda: solid("sphre", (1, 1, 1), HOME), "did you mean 'sphere'"),
        (lambda: solid("box", (1, 0, 1), HOME), "sizes above 0"),
        (lambda: Material("chekcer"), "did you mean 'checker'"),
        (lambda: Pose.look((0, 0, 0), (0, 0, 1)), "straight up or down"),
    ],
)
def test_bad_input_is_said_in_one_line(call, message):
    with pytest.raises(KitError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
