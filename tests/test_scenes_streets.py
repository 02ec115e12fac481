"""Streets against what a dataset of streets must hold, and what the ray caster has for them: skies, suns, wedges.

Shapes: H/W image size, N rays or points, P solids; ``x_3HW`` coordinates or colours first.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_another

from mtlkit import datasets, scenes
from mtlkit.scenes import streets
from mtlkit.scenes.render import Camera, Light, Material, Pose, Scene, Sky, Solid, render
from mtlkit.scenes.shapes import SHAPES
from mtlkit.scenes.trace import NEAR, Viewpoint, blocked, trace, turn

H, W = 96, 192
NAMES = streets.CLASSES
ROAD, SIDEWALK, SKY, PERSON, RIDER = (NAMES.index(n) for n in ("road", "sidewalk", "sky", "person", "rider"))
MOTORCYCLE, BICYCLE = NAMES.index("motorcycle"), NAMES.index("bicycle")


def rays(focal: float, height: int = H, width: int = W) -> np.ndarray:
    """Rays (3, H, W) of a pinhole camera, length 1 along z."""
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return np.stack([x / focal, y / focal, np.ones_like(x)])


def world(shot, made: dict[str, np.ndarray]) -> np.ndarray:
    """The point in the world that each pixel shows, (3, H, W)."""
    point = made["depth"] * rays(shot.focal * W)
    return np.einsum("ij,jhw->ihw", shot.pose.rotation, point) + shot.pose.position[:, None, None]


@pytest.fixture(scope="module", params=[("train", 2), ("test", 0), ("test", 5), ("validation", 8)], ids=str)
def street(request):
    """A street, and its render with flow."""
    shot = streets.compose(*request.param)
    return shot, shot.render(H, W, flow=True)


# --- the data ---------------------------------------------------------------------------------------------------------


def test_the_classes_are_those_of_cityscapes_and_all_occur():
    # train ids of github.com/mcordts/cityscapesScripts, helpers/labels.py
    assert (*NAMES,) == (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    images = np.zeros(19)
    for index in range(48):
        label = streets.compose("test", index).glance(48, 96)[0]
        images += np.bincount(label[label >= 0], minlength=19) > 0
    assert (images >= 4).all(), dict(zip(NAMES, images, strict=True))


def digest(index: int) -> str:
    made = scenes.sample("streets", "test", index, 32, 64, seed=3, flow=True)
    return hashlib.sha256(b"".join(made[key].tobytes() for key in sorted(made))).hexdigest()


def test_the_same_bytes_in_a_new_process():
    assert in_another(digest, 6) == digest(6)


def test_the_same_bytes_for_any_tile():
    shot = streets.compose("train", 9)
    previous = Camera(shot.previous, shot.focal * 64)
    whole, tiled = (render(shot.scene, shot.camera(64), 32, 64, previous, tile=tile) for tile in (12288, 777))
    assert all(whole[key].tobytes() == tiled[key].tobytes() for key in whole)


def test_splits_seeds_and_indices_share_no_street():
    cases = [(split, index, seed) for split in streets.SPLITS for index in range(2) for seed in range(2)]
    assert len({streets.compose(*case).pose.position.tobytes() for case in cases}) == len(cases)


def test_the_dataset_serves_streets(tmp_path):
    data = datasets.build(
        "scenes", "train", root=tmp_path, family="streets", height=32, width=64, train=2, flow=True, workers=1
    )
    sample = data[1]
    assert set(sample) == {
        "image", "semantic", "depth", "normals", "edges", "saliency", "albedo", "flow", "motion", "index",
    }  # fmt: skip
    assert data.tasks["semantic"].class_names == NAMES
    assert ((sample["semantic"] == SKY) == (sample["depth"][0] == 0)).all()


# --- targets agree with each other ------------------------------------------------------------------------------------


def test_the_sky_has_neither_depth_nor_normal_and_all_else_has_both(street):
    _, made = street
    sky = made["semantic"] == SKY
    assert sky.any() and (sky == (made["instance"] == -1)).all()
    for key in ("depth", "normals"):
        assert not made[key][:, sky].any()
    assert not made["motion"][sky].any() and not made["edges"][0][sky].any()
    depth = made["depth"][0][~sky]
    assert depth.min() > 1.0 and depth.max() < 200.0
    normals = made["normals"][:, ~sky]
    assert np.allclose((normals**2).sum(0), 1, atol=1e-5)
    assert ((normals * rays(streets.FOCAL * W)[:, ~sky]).sum(0) < 0).all()


def test_roads_lie_flat_and_nothing_sinks_into_them(street):
    shot, made = street
    z = world(shot, made)[2]
    up = np.einsum("ij,jhw->ihw", shot.pose.rotation, made["normals"])[2]
    road = made["semantic"] == ROAD
    assert np.abs(z[road]).max() < 0.02 and up[road].min() > -1e-6 and np.median(up[road]) > 0.999
    assert np.quantile(z[made["semantic"] == SIDEWALK], 0.95) < 0.13
    assert z[made["depth"][0] > 0].min() > -0.02
    left, right = made["semantic"][-8:, : W // 2], made["semantic"][-8:, W // 2 :]
    assert (left == ROAD).mean() > 0.2 and (right == ROAD).mean() > 0.2


def test_normals_are_those_of_the_depth(street):
    shot, made = street
    point = made["depth"].astype(float) * rays(shot.focal * W)
    across, down = (np.roll(point, -1, axis) - np.roll(point, 1, axis) for axis in (2, 1))
    normal = np.cross(down, across, axis=0)
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 1e-12)
    flat = np.zeros((H, W), dtype=bool)
    flat[2:-2, 2:-2] = made["depth"][0, 2:-2, 2:-2] > 0
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        flat &= np.roll(made["instance"], step, (0, 1)) == made["instance"]
        flat &= (np.roll(made["normals"], step, (1, 2)) * made["normals"]).sum(0) > 0.9999
        flat &= np.roll(made["edges"][0], step, (0, 1)) == 0
    degrees = np.degrees(np.arccos(np.clip((normal * made["normals"]).sum(0), -1, 1)))[flat]
    assert flat.mean() > 0.2 and np.median(degrees) < 0.05 and np.quantile(degrees, 0.95) < 2.0


def test_flow_of_what_stands_still_is_its_point_seen_from_the_previous_camera(street):
    shot, made = street
    back = shot.previous.rotation.T
    then = np.einsum("ij,jhw->ihw", back, world(shot, made) - shot.previous.position[:, None, None])
    far = np.einsum("ij,jhw->ihw", back @ shot.pose.rotation, rays(shot.focal * W))  # infinitely far: only turned
    sky = made["semantic"] == SKY
    then = np.where(sky, far, then)
    flow = shot.focal * W * (then[:2] / then[2] - rays(shot.focal * W)[:2])
    off = np.abs(flow - made["flow"][:2]).max(axis=0)
    assert off[made["motion"] == 0].max() < 2e-3
    assert (off[made["motion"] == 1] > 0.05).mean() > 0.5 or not made["motion"].any()


def test_flow_warps_the_previous_frame_onto_this_one(street):
    shot, made = street
    then = shot.before().render(H, W)
    u, v, seen = made["flow"]
    y, x = np.indices((H, W)) + 0.5
    column, row = (np.clip(np.floor(p).astype(int), 0, n - 1) for p, n in ((x + u, W), (y + v, H)))
    ok = (seen > 0) & (then["instance"][row, column] == made["instance"])  # not where an outline runs between
    assert ok.mean() > 0.85
    warped, still = (np.abs(a - made["albedo"])[:, ok].mean() for a in (then["albedo"][:, row, column], then["albedo"]))
    assert warped < 0.5 * still and warped < 0.04  # the nearest pixel, up to half a pixel aside
    moving = ok & (made["motion"] == 1)
    assert (np.abs(then["depth"][0][row, column] - made["depth"][0])[moving] < 2.0).mean() > 0.97


def test_confidence_says_what_the_previous_frame_showed(street):
    shot, made = street
    u, v, seen = made["flow"]
    x, y = rays(1.0)[0] + u, rays(1.0)[1] + v
    inside = (np.abs(x) < W / 2) & (np.abs(y) < H / 2)
    past = shot.scene.before().solids
    view = Viewpoint(past, [s.pose for s in past], shot.previous)
    towards = np.stack([x / (shot.focal * W), y / (shot.focal * W), np.ones_like(x)])  # from there, to where it was
    z = np.einsum("i,ihw->hw", shot.previous.rotation[:, 2], world(shot, made) - shot.previous.position[:, None, None])
    depth = trace(view, towards.reshape(3, -1))[0].reshape(H, W)
    sky, still = made["semantic"] == SKY, made["motion"] == 0
    shown = inside & (depth > np.where(sky, 1e4, z * (1 - 1e-4) - 1e-4))
    assert 0.8 < shown[still].mean() < 1.0 and sky.any()
    assert (shown == seen.astype(bool))[still].mean() > 0.998  # float32 flow may tip a ray over an outline


def test_motion_marks_whole_road_users_and_nothing_else(street):
    shot, made = street
    moved = {s.instance for s in shot.scene.solids if s.previous is not None}
    assert (made["motion"].astype(bool) == np.isin(made["instance"], list(moved))).all()
    assert {s.label for s in shot.scene.solids if s.instance in moved} <= set(range(PERSON, len(NAMES)))
    for thing in moved:
        steps = {tuple(np.round(s.pose.position - s.was.position, 9)) for s in shot.scene.solids if s.instance == thing}
        assert len(steps) == 1 and 0.04 < math.hypot(*steps.pop()) < 1.3  # rigid, and at a speed of the road


def test_vehicles_drive_forward():
    seen = 0
    for index in range(30):
        bodies = {s.instance: s for s in reversed(streets.compose("train", index).scene.solids)}  # what was built first
        for s in bodies.values():
            if NAMES[s.label] in ("car", "truck", "bus", "train") and s.previous is not None:
                assert s.shape == "box" and (s.pose.position - s.previous.position) @ s.pose.rotation[:, 1] > 0.2
                seen += 1
    assert seen > 50


def test_some_cars_are_parked_and_the_others_keep_to_the_right():
    car, moving, standing = NAMES.index("car"), 0, 0
    for index in range(12):
        for s in streets.compose("train", index).scene.solids:
            if s.label == car and s.previous is not None:
                across, along, _ = s.pose.position - s.previous.position
                assert abs(across) > 0.2 or along * s.pose.position[0] > 0
                moving += 1
            standing += s.label == car and s.previous is None
    assert moving > 50 and standing > 50


# --- composition ------------------------------------------------------------------------------------------------------


def test_the_camera_is_one_of_cityscapes_and_drives_on():
    for index in range(20):
        shot = streets.compose("train", index)
        assert 1.2 <= shot.pose.position[2] <= 1.4
        angle = 2 * math.degrees(math.atan(0.5 / shot.focal))
        assert 48 < angle < 50 and shot.camera(2048).focal == pytest.approx(2262.52)
        step = shot.pose.position - shot.previous.position
        forward = shot.pose.rotation[:, 2]
        assert 0.28 < step @ forward < 1.25 and math.hypot(*(step - (step @ forward) * forward)) < 0.15
        assert abs(math.degrees(math.asin(forward[2]))) < 3 and abs(math.degrees(math.asin(forward[0]))) < 5
        assert np.degrees(np.arccos(np.clip(shot.previous.rotation[:, 2] @ forward, -1, 1))) < 1.0


def footprints(shot, past: bool) -> dict[int, tuple[int, np.ndarray, np.ndarray]]:
    """Every person's, rider's and vehicle's class, and the corners of the box around it in the world."""
    boxes: dict[int, list] = {}
    for s in shot.scene.solids:
        if s.label >= PERSON:
            pose = s.was if past else s.pose
            size = np.array(s.size) + (np.array([0, 0, s.size[0]]) if s.shape == "capsule" else 0.0)
            reach = np.abs(pose.rotation) @ size
            boxes.setdefault(s.instance, [s.label, [], []])
            boxes[s.instance][1].append(pose.position - reach)
            boxes[s.instance][2].append(pose.position + reach)
    return {i: (label, np.min(low, axis=0), np.max(high, axis=0)) for i, (label, low, high) in boxes.items()}


@pytest.mark.parametrize("past", [False, True], ids=["now", "before"])
def test_no_two_road_users_stand_in_each_other(past):
    riding = {(RIDER, BICYCLE), (RIDER, MOTORCYCLE)}
    for index in range(16):
        found = list(footprints(streets.compose("train", index), past).values())
        for k, (label, low, high) in enumerate(found):
            for other, low2, high2 in found[:k]:
                if (max(label, other), min(label, other)) in {(b, a) for a, b in riding}:
                    continue
                common = np.minimum(high, high2) - np.maximum(low, low2)
                assert common.min() < 0.1, (index, NAMES[label], NAMES[other], low, low2)


@settings(max_examples=10, deadline=None)
@given(index=st.integers(0, 10_000), seed=st.integers(0, 3))
def test_any_street_is_worth_looking_at(index, seed):
    shot = streets.compose("validation", index, seed)
    label, instance, depth = shot.glance(32, 64)
    assert depth.min() > 1.0
    assert len(np.unique(label)) >= 6 and (label == ROAD).mean() > 0.1 and (label == SKY).mean() < 0.5
    assert (label[:4] != ROAD).all() and shot.scene.salient is not None
    assert label[instance == shot.scene.salient].min(initial=99) >= PERSON


# --- what the ray caster has for streets: skies, suns, wedges ---------------------------------------------------------

HOME = Pose.look((0.0, 0.0, 0.0), (0.0, 1.0, 0.0))  # at the origin, looking along the world's y
CLOUDS = Sky(7, Material("clouds", (0.3, 0.5, 0.9), (0.9, 0.9, 0.9), 1.0, 3))


def test_the_sky_follows_turns_of_the_camera_and_no_steps():
    scene = Scene((), Light((0.0, 0.0, 5.0)), sky=CLOUDS)
    up = Pose.look((0, 0, 0), (0, 1, 0.5))

    def picture(pose: Pose) -> dict[str, np.ndarray]:
        return render(scene, Camera(pose, 60.0), 48, 64, Camera(up, 60.0))

    here, there = picture(up), picture(Pose(up.rotation, np.array([3.0, 80.0, 2.0])))
    assert all((here[key] == there[key]).all() for key in here)
    assert (here["semantic"] == 7).all() and here["image"].std() > 0.02
    assert np.abs(here["flow"][:2]).max() < 1e-9 and (here["flow"][2] == 1).all()
    assert (picture(Pose.look((0, 0, 0), (0.2, 1, 0.5)))["image"] != here["image"]).any()


def test_a_sun_throws_shadows_side_by_side():
    floor = Solid("plane", (1, 1, 1), Pose.at(0, 0, -1), 0, 0, Material(), casts=False)
    poles = [
        Solid("box", (0.05, 0.05, 0.5), Pose.at(x, 8, -0.5), 1, k, Material()) for k, x in enumerate((-2, 0, 2), 1)
    ]
    # from the left, 45 degrees up: shadows as long as the poles, to the right
    light = Light.sun(math.pi, math.pi / 4, 1.0, 0.2, (1.0, 1.0, 1.0))
    camera = Camera(Pose.look((0, 8 - 1e-3, 20), (0, 8, 0)), 600.0)  # from above
    made = render(Scene((floor, *poles), light), camera, 40, 200)
    dark = (made["image"][0, 20] < 0.2) & (made["instance"][20] == 0)
    x = (np.arange(200) + 0.5 - 100) * 21 / 600  # on the floor
    for foot in (-2, 0, 2):
        assert dark[(x > foot + 0.25) & (x < foot + 0.95)].all()
        assert not dark[(x > foot + 1.1) & (x < foot + 1.85)].any()


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*[st.floats(0.2, 0.9)] * 3),
    place=st.tuples(st.floats(-0.6, 0.6), st.floats(2.5, 5.0), st.floats(-0.6, 0.6)),
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
)
def test_a_wedge_is_the_half_of_a_box_below_its_slope(size, place, angles):
    pose = Pose.at(*place, *angles)
    solid = Solid("wedge", size, pose, 0, 0, Material())
    made = render(Scene((solid,), Light((0.0, 0.0, 5.0))), Camera(HOME, 60.0), 48, 64)

    def outside(share_HW: np.ndarray) -> np.ndarray:
        """Above 0 outside the wedge, at these distances along the rays."""
        points = np.einsum("ij,jhw->ihw", HOME.rotation, share_HW * rays(60.0, 48, 64)) - pose.position[:, None, None]
        p = np.einsum("ji,jhw->ihw", pose.rotation, points)
        faces = [np.abs(a) - s for a, s in zip(p, size, strict=True)]
        return np.max([*faces, (p[2] * size[0] - p[0] * size[2]) / math.hypot(size[0], size[2])], axis=0)

    hit, depth = made["instance"] == 0, made["depth"][0].astype(float)
    assert np.abs(outside(depth))[hit].max(initial=0.0) < 1e-5
    for share in np.linspace(0.05, 0.999, 30):  # nothing was passed on the way, or missed
        assert (outside(np.where(hit, share * depth, share * 9.0)) > -1e-6).all()
    normal = np.einsum("ij,jhw->ihw", HOME.rotation, made["normals"])
    slope = pose.rotation @ (np.array([-size[2], 0, size[0]]) / math.hypot(size[0], size[2]))
    axes = [*pose.rotation.T, *-pose.rotation.T, slope]
    agree = np.max([np.einsum("i,ihw->hw", axis, normal) for axis in axes], axis=0)
    assert (agree[hit] > 1 - 1e-5).sum() >= 0.99 * hit.sum() - 1  # where a ray meets the very edge, either side counts


solids = st.lists(
    st.tuples(
        st.sampled_from(["box", "sphere", "cylinder", "capsule", "wedge", "plane"]),
        st.tuples(*[st.floats(0.05, 1.5)] * 3),
        st.tuples(*[st.floats(-4.0, 4.0)] * 3),
        st.tuples(*[st.floats(-3.1, 3.1)] * 3),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(parts=solids, seed=st.integers(0, 99))
def test_tracing_finds_what_asking_every_solid_finds(parts, seed):
    """Whatever objects, order and batches the solids are asked in."""
    made = []
    for shape, (a, b, c), place, angles, thing in parts:
        size = (a, a, c) if shape in ("cylinder", "capsule") else (a, b, c)
        made += [Solid(shape, size, Pose.at(*place, *angles), 0, thing, Material())] * 2  # the second is never seen
    view = Viewpoint(made, [s.pose for s in made], HOME)
    rays_3N = np.random.default_rng(seed).normal(size=(3, 300))
    best, first = np.full(300, np.inf), np.full(300, -1)
    for i, s in enumerate(made):
        origin, size = (np.array(a)[:, None] for a in (-s.pose.rotation.T @ s.pose.position, s.size))
        near, far = SHAPES[s.shape](origin, turn(s.pose.rotation.T @ HOME.rotation, rays_3N), size)
        t = np.where(near > NEAR, near, far)
        nearer = (near <= far) & (t > NEAR) & (t < best)
        best[nearer], first[nearer] = t[nearer], i
    depth, solid = trace(view, rays_3N)
    close = np.isclose(depth, best, rtol=1e-9) | (np.isinf(depth) & np.isinf(best))
    assert close.mean() > 0.99  # rounding may tip a ray over an outline
    assert (solid[close] == first[close]).mean() > 0.99 and not (solid[solid >= 0] % 2).any()
    assert (blocked(view, rays_3N) == (depth <= 1.0 - NEAR)).all()
