"""The family `people`: figures that stand on their feet, parts inside persons, and targets that agree with each other.

Shapes: H/W image size, ``x_3HW`` coordinates or colours first.
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_another

from mtlkit import scenes
from mtlkit.errors import KitError
from mtlkit.scenes import animals, figures, furniture, people, things, vehicles
from mtlkit.scenes.drawing import Draw, Item
from mtlkit.scenes.figures import HEAD, LOWER_ARM, LOWER_LEG, TORSO, UPPER_ARM, UPPER_LEG
from mtlkit.scenes.render import Pose, Solid

H, W = 48, 64
PERSON = people.CLASSES.index("person")
seeds = st.integers(0, 10**6)


def rng(seed: int) -> Draw:
    return Draw(np.random.default_rng(seed))


def lowest(solids: list[Solid]) -> float:
    """Height of the lowest point of these, metres."""

    def low(s: Solid) -> float:
        up = s.pose.rotation[2]
        if s.shape == "sphere":
            return s.pose.position[2] - math.hypot(*(up * s.size))
        if s.shape == "capsule":
            return s.pose.position[2] - abs(up[2]) * s.size[2] - s.size[0]
        return s.pose.position[2] - np.abs(up) @ s.size

    return min(low(s) for s in solids)


# --- figures ----------------------------------------------------------------------------------------------------------


def middle(item: Item, part: int) -> np.ndarray:
    return np.mean([s.pose.position for s in item.solids if s.part == part], axis=0)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, posture=st.sampled_from([figures.standing, figures.walking]))
def test_who_stands_or_walks_has_the_soles_on_the_floor_and_the_head_on_top(seed, posture):
    person = figures.person(rng(seed), 15, posture, stature := rng(seed).span(1.1, 1.9))
    assert abs(lowest(person.solids)) < 0.012
    for side in (-1, 1):  # each foot is on its side
        feet = [s for s in person.solids if s.part == LOWER_LEG and s.pose.position[0] * side > 0]
        assert lowest(feet) < 0.12
    heights = [middle(person, part)[2] for part in (HEAD, TORSO, UPPER_LEG, LOWER_LEG)]
    assert heights == sorted(heights, reverse=True)
    assert middle(person, UPPER_ARM)[2] > middle(person, UPPER_LEG)[2]
    # statures add up: from the soles to the crown, but for what bent knees cost
    crown = max(s.pose.position[2] + s.size[2] for s in person.solids if s.part == HEAD)
    assert 0.93 * stature < crown < 1.03 * stature
    assert person.things == 1 and {s.label for s in person.solids} == {15}
    assert {s.part for s in person.solids} == {HEAD, TORSO, UPPER_ARM, LOWER_ARM, UPPER_LEG, LOWER_LEG}


@settings(max_examples=30, deadline=None)
@given(seed=seeds, seat=st.floats(0.4, 0.55))
def test_who_sits_sits_on_the_seat_with_the_feet_above_the_floor(seed, seat):
    person = figures.person(rng(seed), 15, functools.partial(figures.sitting, seat=seat))
    thighs = lowest([s for s in person.solids if s.part == UPPER_LEG])
    assert -0.06 < thighs - seat < 0.06
    assert lowest(person.solids) > -0.012
    forward = middle(person, LOWER_LEG)[1] - middle(person, TORSO)[1]
    assert 0.2 < forward < 0.7  # the knees point forward, towards +y


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_hands_of_riders_hold_the_bars_and_their_feet_are_on_the_pedals(seed):
    bars, pedals = ((-0.25, 0.3, 1.02), (0.25, 0.3, 1.02)), ((-0.13, 0.04, 0.22), (0.13, -0.16, 0.42))
    riding = functools.partial(figures.riding, saddle=(0, -0.24, 0.93), bars=bars, pedals=pedals, lean=0.3)
    person = figures.person(rng(seed), 15, riding, 1.75)
    for points, part in ((bars, LOWER_ARM), (pedals, LOWER_LEG)):
        for point in points:
            away = [np.linalg.norm(s.pose.position - point) for s in person.solids if s.part == part]
            assert min(away) < 0.13  # the middle of a hand or a foot


coordinate = st.floats(-1.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(st.tuples(coordinate, coordinate, coordinate), st.floats(0.2, 0.5), st.floats(0.2, 0.5), st.floats(0, 6.2))
def test_bones_keep_their_lengths_reach_their_goal_if_they_can_and_bend_the_right_way(goal, first, second, angle):
    distance = math.dist(goal, (0, 0, 0))
    towards = np.array([math.cos(angle), math.sin(angle), 0.5])
    if distance < 0.02 or np.linalg.norm(np.cross(goal, towards)) < 0.1 * distance:
        return
    joint, end = figures.bent(np.zeros(3), goal, first, second, towards)
    assert math.dist(joint, (0, 0, 0)) == pytest.approx(first)
    assert math.dist(joint, end) == pytest.approx(second)
    if 1.05 * abs(first - second) + 0.3 * first < distance < 0.998 * (first + second):
        assert np.allclose(end, goal)
    assert np.linalg.norm(np.cross(end, goal)) < 1e-9 and end @ np.array(goal) > 0
    aside = towards - (towards @ end) / (end @ end) * end
    assert joint @ aside > 0


def test_a_pose_along_an_axis():
    pose = Pose.along((1, 2, 3), (0, 0, 5), (1, 0, 4))
    assert np.allclose(pose.rotation, np.eye(3)) and np.allclose(pose.position, (1, 2, 3))
    pose = Pose.along((0, 0, 0), (1, 2, -1), (0, 1, 1))
    assert np.allclose(pose.rotation @ pose.rotation.T, np.eye(3)) and np.linalg.det(pose.rotation) > 0
    with pytest.raises(KitError, match="give another direction as right"):
        Pose.along((0, 0, 0), (2, 0, 0))


# --- animals and things -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", animals.BUILDS)
def test_quadrupeds_stand_on_the_floor_as_high_as_their_kind(kind):
    low, high = animals.BUILDS[kind].height
    for seed in range(12):
        animal = animals.quadruped(rng(seed), 3, kind, alert=seed % 2 == 0)
        assert -0.02 * high < lowest(animal.solids) < 0.03 * high
        if seed % 2 == 0:
            top = max(s.pose.position[2] for s in animal.solids)
            assert 0.9 * low < top < 1.8 * high  # the ears of a horse are the highest
        assert animal.things == 1 and {s.part for s in animal.solids} == {0}


def test_a_rider_and_a_horse_are_two_things():
    pair = animals.rider(rng(0), 13, 15)
    assert [sorted({s.label for s in pair.solids if s.instance == k}) for k in (0, 1)] == [[13], [15]]
    torso = lowest([s for s in pair.solids if s.part == TORSO])
    assert torso > 1.2  # on its back


def test_things_stand_on_the_ground_and_boats_lie_in_the_water():
    for seed in range(6):
        assert abs(lowest(things.bottle(rng(seed), 5).solids)) < 1e-9
        assert abs(lowest(things.aeroplane(rng(seed), 1).solids)) < 0.02
        assert lowest(things.boat(rng(seed), 4).solids) < -0.1
        assert -0.02 < lowest(animals.bird(rng(seed), 3).solids) < 0.02


def test_shapes_of_other_families_under_our_labels():
    table = furniture.dining(rng(1))
    before = {s.label for s in table.solids}
    table.relabel({furniture.TABLE: 11, furniture.CHAIR: 9})
    assert {furniture.TABLE, furniture.CHAIR} <= before
    assert {s.label for s in table.solids} == {0, 9, 11}
    pair = vehicles.cyclist(rng(2)).relabel(people._VEHICLES)
    assert {people.CLASSES[s.label] for s in pair.solids} == {"person", "bicycle"}


# --- the pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """Forty small pictures with flow, and their shots."""
    shots = [people.compose("test", index) for index in range(40)]
    return [(shot, shot.render(H, W, flow=True)) for shot in shots]


def test_the_sample_contract(made):
    _, sample = made[0]
    assert {key: (a.dtype.name, a.shape) for key, a in sample.items()} == {
        "image": ("float32", (3, H, W)),
        "semantic": ("int64", (H, W)),
        "instance": ("int64", (H, W)),
        "depth": ("float32", (1, H, W)),
        "normals": ("float32", (3, H, W)),
        "albedo": ("float32", (3, H, W)),
        "edges": ("float32", (1, H, W)),
        "saliency": ("float32", (1, H, W)),
        "parts": ("int64", (H, W)),
        "flow": ("float32", (3, H, W)),
        "motion": ("int64", (H, W)),
    }
    for _, sample in made:
        assert 0 <= sample["semantic"].min() and sample["semantic"].max() <= 20
        assert sample["image"].min() >= 0 and sample["image"].max() <= 1
        assert sample["edges"].any() and sample["saliency"].any()


def test_parts_cover_persons_and_nothing_else_and_images_without_persons_have_none(made):
    with_persons = 0
    for _, sample in made:
        person, parts = sample["semantic"] == PERSON, sample["parts"]
        if person.any():
            assert ((parts > 0) == person).all() and parts.min() >= 0 and parts.max() <= 6
            with_persons += 1
        else:
            assert (parts == -1).all()
    assert 15 <= with_persons < 40
    assert set(np.unique([sample["parts"] for _, sample in made])) == set(range(-1, 7))


def rays(focal: float) -> np.ndarray:
    """Rays (3, H, W) of a pinhole camera, length 1 along z."""
    x, y = np.meshgrid(np.arange(W) + 0.5 - W / 2, np.arange(H) + 0.5 - H / 2)
    return np.stack([x / focal, y / focal, np.ones_like(x)])


def test_depth_and_normals_are_valid_together_and_the_sky_has_neither(made):
    skies = 0
    for shot, sample in made:
        sky = sample["instance"] == -1
        skies += sky.mean() > 0.05
        assert (sky == (sample["depth"][0] == 0)).all()
        assert not sample["normals"][:, sky].any() and (sample["semantic"][sky] == 0).all()
        assert not sky.any() or shot.scene.sky is not None
        unit = (sample["normals"] ** 2).sum(axis=0)[~sky]
        assert np.allclose(unit, 1, atol=1e-5)
        assert ((sample["normals"] * rays(shot.focal * W)).sum(axis=0)[~sky] <= 1e-6).all()
        assert sample["depth"].max() < 800  # the ground ends
    assert 10 < skies < 35  # indoors and outdoors


def test_what_stands_still_moves_with_the_camera_alone(made):
    for shot, sample in made:
        ray, turn = rays(shot.focal * W), shot.previous.rotation.T @ shot.pose.rotation
        step = shot.previous.rotation.T @ (shot.pose.position - shot.previous.position)
        depth = sample["depth"]
        then = np.einsum("ij,jhw->ihw", turn, np.where(depth > 0, depth, 1.0) * ray)
        then += np.where(depth > 0, step[:, None, None], 0.0)  # the sky is infinitely far: it only turns
        flow = shot.focal * W * (then[:2] / then[2] - ray[:2])
        still = sample["motion"] == 0
        off = np.abs(flow - sample["flow"][:2]).max(axis=0)
        assert off[still].max() < 0.01
        assert np.median(off[~still]) > 0.05


def test_motion_marks_what_has_moved(made):
    for shot, sample in made:
        moved = {s.instance for s in shot.scene.solids if s.previous is not None}
        assert (sample["motion"].astype(bool) == np.isin(sample["instance"], list(moved))).all()
        assert sample["motion"].any()


def test_every_class_occurs_and_most_pictures_are_of_people():
    images, sizes = np.zeros(21), []
    for index in range(150):
        shot = people.compose("train", index)
        label, instance, depth = shot.glance(24, 32)
        images += np.bincount(label.ravel(), minlength=21) > 0.003 * label.size
        sizes.append((instance == shot.scene.salient).mean())
        assert depth.min() > 0.2
    assert (images >= 2).all(), dict(zip(people.CLASSES, images, strict=True))
    assert 0.45 < images[PERSON] / 150 < 0.8
    assert np.median(sizes) > 0.05 and min(sizes) > 0.0  # the subject is in the picture


@pytest.mark.parametrize("name", people.SETTINGS)
def test_every_setting_can_be_drawn(name, monkeypatch):
    monkeypatch.setattr(people, "SETTINGS", {name: people.SETTINGS[name]})
    shown = set()
    for index in range(4):
        shown |= set(np.unique(people.compose("validation", index).glance(24, 32)[0]))
    assert shown > {0}


# --- the same everywhere ----------------------------------------------------------------------------------------------


def digest(index: int) -> str:
    made = scenes.sample("people", "test", index, 32, 64, seed=3, flow=True)
    return hashlib.sha256(b"".join(made[key].tobytes() for key in sorted(made))).hexdigest()


def test_the_same_bytes_in_a_new_process():
    assert in_another(digest, 6) == digest(6)


def test_splits_seeds_and_indices_share_no_scene():
    drawn = [
        people.compose(split, index, seed).pose.position.tobytes()
        for split in people.SPLITS
        for index in range(3)
        for seed in range(2)
    ]
    assert len(set(drawn)) == len(drawn) == 18


def test_a_larger_image_shows_the_same_scene():
    small, large = (scenes.sample("people", "test", 5, h, w) for h, w in ((32, 64), (96, 192)))
    centre = (slice(1, None, 3), slice(1, None, 3))
    assert (small["semantic"] == large["semantic"][centre]).mean() > 0.995
    assert (small["parts"] == large["parts"][centre]).mean() > 0.995


def test_the_data_set_has_parts_for_people_and_for_no_other_family(tmp_path):
    from mtlkit import datasets

    options = {"root": tmp_path, "height": 32, "width": 64, "train": 6, "workers": 1}
    dataset = datasets.build("scenes", "train", family="people", **options)
    made = scenes.sample("people", "train", 4, 32, 64)
    assert dataset[4]["parts"].dtype.is_floating_point is False
    assert (dataset[4]["parts"].numpy() == made["parts"]).all()
    assert dataset.tasks["semantic"].class_names == people.CLASSES
    with pytest.raises(KitError, match="unknown field 'parts'"):
        datasets.build("scenes", "train", fields=["parts"], **options)
