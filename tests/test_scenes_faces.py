"""Drawn faces: shapes against plane geometry, subjects against what a dataset of faces must hold, and how hard it is to
tell ages and genders against the model that draws them.

Shapes: H/W image size, S subjects, K age groups, ``x_SF`` a row of F numbers for each subject.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_another

from mtlkit.errors import KitError
from mtlkit.scenes import easel, faces, portrait

SUBJECTS = [faces.subject(number) for number in range(1600)]
GROUPS = np.array([s.age_group for s in SUBJECTS])
GENDERS = np.array([s.gender for s in SUBJECTS])
LOOKS, LEAN = np.array([(s.looks, s.lean) for s in SUBJECTS]).T


def of_faces(name: str) -> np.ndarray:
    return np.array([getattr(s.face, name) for s in SUBJECTS])


def of_hair(name: str) -> np.ndarray:
    return np.array([getattr(s.face.hair, name) for s in SUBJECTS])


def a_photo(**changes) -> easel.Photo:
    """A sharp picture without noise, taken from in front."""
    made = faces._photo(faces.Draw(np.random.default_rng(3)), 30.0)
    plain = {"tilt": 0.0, "yaw": 0.0, "pitch": 0.0, "blur": 0.0, "grain": 0.0, "frame": None, "exposure": 1.0}
    return dataclasses.replace(made, **(plain | changes))


# --- drawing in the plane ---------------------------------------------------------------------------------------------


def grid(size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    return tuple(a + 0.5 - size / 2 for a in np.meshgrid(np.arange(size), np.arange(size)))


@settings(max_examples=30, deadline=None)
@given(width=st.floats(5, 40), height=st.floats(5, 40), angle=st.floats(0, 3), x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_an_ellipse_covers_its_area_wherever_it_lies(width, height, angle, x, y):
    a, b = grid()
    a, b = a - x, b - y
    c, s = math.cos(angle), math.sin(angle)
    share = easel.cover(easel.ring(c * a + s * b, c * b - s * a, width, height) - 1.0)
    assert share.sum() == pytest.approx(math.pi * width * height, rel=0.02)
    assert share.min() >= 0 and share.max() <= 1


def test_a_union_holds_both_shapes_and_little_more():
    a, b = grid()
    left, right = easel.ring(a + 12, b, 20, 20) - 1.0, easel.ring(a - 12, b, 20, 20) - 1.0
    both = easel.union(left, right, 0.2)
    inside = (left < 0) | (right < 0)
    assert (both[inside] < 0).all()
    assert (both < 0).sum() < 1.05 * inside.sum()


def test_a_stroke_ends_where_it_should_however_coarse_the_pixels():
    a, b = grid(48)
    share = easel.cover(easel.stroke(a / 9, b / 24 - (a / 24) ** 2, 0.1))
    assert share[np.abs(a) > 11].max() == 0 and share[np.abs(a) < 4].max() == 1


@pytest.mark.parametrize("pixels", [0.0, 0.3, 1.0, 3.3, 6.0])
def test_blur_spreads_a_point_by_its_standard_deviation_and_keeps_the_sum(pixels):
    point = np.zeros((3, 96, 96))
    point[:, 48, 47] = 1.0
    spread = easel.blurred(point, pixels)
    assert np.allclose(spread.sum(axis=(1, 2)), 1.0)
    rows = spread[0].sum(axis=1)
    middle = (rows * np.arange(96)).sum()
    assert middle == pytest.approx(48)
    assert math.sqrt((rows * (np.arange(96) - middle) ** 2).sum()) == pytest.approx(pixels, abs=1e-6)
    assert np.allclose(easel.blurred(np.full((3, 20, 20), 0.4), pixels), 0.4)


def test_noise_fills_its_range_smoothly_and_follows_its_seed():
    a, b = grid()
    made = easel.noise(a / 3, b / 3, 1)
    assert 0 <= made.min() < 0.1 and 0.9 < made.max() < 1
    assert np.abs(np.diff(easel.noise(a / 100, b / 100, 1), axis=0)).max() < 0.05
    assert (made == easel.noise(a / 3, b / 3, 1)).all() and (made != easel.noise(a / 3, b / 3, 2)).any()


# --- portraits --------------------------------------------------------------------------------------------------------


def test_a_small_picture_is_the_mean_of_a_large_one():
    face = SUBJECTS[5].face
    large = portrait.paint(face, a_photo(), 128).astype(float)
    small = portrait.paint(face, a_photo(), 64)
    assert small.dtype == np.uint8 and small.shape == (64, 64, 3)
    assert np.abs(large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)) - small).max() <= 1.01


def where(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The middle (row, column) of what differs between two pictures, as shares of their size."""
    rows, columns = np.nonzero(np.abs(first.astype(int) - second).max(axis=2) > 24)
    assert len(rows) > 3
    return rows.mean() / len(first), columns.mean() / len(first)


def test_what_the_numbers_say_is_where_it_should_be():
    adult = next(s for s in SUBJECTS if 25 < s.looks < 35 and s.face.hair.beard == 0 and s.face.hair.end < 0.3)
    plain = portrait.paint(adult.face, a_photo(place=(0.0, 0.0), scale=1.0), 96)

    def changed(face=adult.face, **changes):
        return where(plain, portrait.paint(face, a_photo(**({"place": (0.0, 0.0), "scale": 1.0} | changes)), 96))

    bearded = dataclasses.replace(adult.face, hair=dataclasses.replace(adult.face.hair, beard=0.9, moustache=0.9))
    rows = {
        "hair": changed(
            dataclasses.replace(adult.face, hair=dataclasses.replace(adult.face.hair, colour=(0.9, 0.1, 0.9)))
        )[0],
        "eyes": changed(closed=1.0)[0],
        "mouth": changed(teeth=1.0, smile=1.0)[0],
        "beard": changed(bearded)[0],
    }
    assert rows["hair"] < rows["eyes"] < rows["mouth"] < rows["beard"] + 0.05
    assert 0.4 < rows["eyes"] < 0.6  # the eyes are half-way down an adult's head
    assert all(0.45 < changed(**c)[1] < 0.55 for c in ({"closed": 1.0}, {"frame": (0.1, 0.1, 0.1)}))
    red = dataclasses.replace(adult.face, iris_colour=(1.0, 0.0, 0.0))
    turned = {yaw: where(*(portrait.paint(f, a_photo(yaw=yaw), 96) for f in (adult.face, red))) for yaw in (-0.3, 0.3)}
    assert turned[0.3][1] > turned[-0.3][1] + 0.05


# --- subjects ---------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 10**9), seed=st.integers(0, 10**6))
def test_everybody_has_a_face_with_everything_in_its_place(number, seed):
    face = faces.subject(number, seed).face
    assert face.hair.line < face.eyes - face.brow
    assert face.eyes < face.nose - 0.15 < face.mouth - 0.25 < face.length - 0.35
    assert face.chin < face.jaw < face.skull and face.neck < face.jaw < face.shoulders
    assert face.apart + face.eye < 0.9 * face.skull and face.eye < face.apart
    assert all(0 <= share <= 1 for share in (*face.lines, face.red, face.hair.grey, face.hair.dense, face.hair.beard))
    assert all(0 < c < 1 for c in (*face.skin, *face.hair.colour, *face.iris_colour))


def test_every_sixteen_subjects_hold_every_group_with_both_genders():
    for start in range(0, len(SUBJECTS), 16):
        block = SUBJECTS[start : start + 16]
        for half in (block[:8], block[8:]):
            assert sorted(s.age_group for s in half) == list(range(8))
        known = {(s.age_group, s.gender) for s in block if s.age_group > 0}
        assert known == {(group, gender) for group in range(1, 8) for gender in "fm"}
    assert set(GENDERS[GROUPS > 0]) == {"f", "m"}
    babies = GENDERS[GROUPS == 0]
    assert (babies == "u").mean() == pytest.approx(faces.UNKNOWN, abs=0.1)
    assert abs((babies == "f").sum() - (babies == "m").sum()) < 40


def test_no_two_seeds_or_numbers_share_a_face():
    made = {faces.subject(number, seed).face for number in range(20) for seed in range(5)}
    assert len(made) == 100


def test_photos_of_a_subject_share_the_face_and_the_labels_alone():
    shots = [faces.draw(11, photo, 32) for photo in range(3)]
    assert len({(group, gender) for _, group, gender in shots}) == 1
    assert shots[0][1:] == (SUBJECTS[11].age_group, SUBJECTS[11].gender)
    assert len({picture.tobytes() for picture, _, _ in shots}) == 3
    assert faces.subject(11) == SUBJECTS[11]


def test_skin_and_eyes_know_neither_age_nor_gender():
    light = of_faces("skin").mean(axis=1)
    assert np.all(np.histogram(light, bins=5)[0] > 0.1 * len(light))  # from light to dark, no shade is rare
    for cue in (LOOKS, LEAN):
        assert abs(np.corrcoef(light, cue)[0, 1]) < 0.08
        assert abs(np.corrcoef(of_faces("iris_colour")[:, 2], cue)[0, 1]) < 0.08
        assert abs(np.corrcoef(of_hair("curl"), cue)[0, 1]) < 0.15  # (long curls are a style)


def test_faces_change_with_the_years_as_faces_do():
    young, grown = LOOKS < 6, LOOKS > 20
    low, width, iris, cheeks = (of_faces(name) for name in ("eyes", "skull", "iris", "cheeks"))
    for cue in (low, width, iris, cheeks):  # low eyes, a round head, large irises, full cheeks
        assert cue[young].mean() > cue[grown].mean() + 1.5 * cue[grown].std()
    ages = [(LOOKS > a) & (LOOKS <= b) for a, b in ((20, 32), (32, 45), (45, 58), (58, 99))]
    lines, grey = of_faces("lines").mean(axis=1), of_hair("grey")
    for cue in (lines, grey):
        assert all(cue[a].mean() < cue[b].mean() for a, b in zip(ages, ages[1:], strict=False))
    assert grey[LOOKS < 25].max() == 0 and 0.05 < (grey[ages[2]] < 0.3).mean() < 0.9


def test_cues_of_gender_overlap():
    f, m = ((GENDERS == g) & (LOOKS > 20) for g in "fm")
    for name in ("jaw", "chin", "brow_width", "lips", "neck"):
        cue = of_faces(name)
        apart = abs(cue[f].mean() - cue[m].mean()) / math.sqrt(0.5 * (cue[f].var() + cue[m].var()))
        assert 0.3 < apart < 2.5, name
    long = (of_hair("end") > 0.4) | (of_hair("knot") > 0)
    assert 0.3 < long[f].mean() < 0.9 and 0.02 < long[m].mean() < 0.4
    beard = np.maximum(of_hair("beard"), of_hair("moustache")) > 0
    assert 0.1 < beard[m].mean() < 0.6 and beard[f].mean() < 0.01 and not beard[LOOKS < 16].any()


# --- how hard it is ---------------------------------------------------------------------------------------------------


def likelihood(looks_S: np.ndarray) -> np.ndarray:
    """p(looks | age group) (K, S), by the model that the docstring of ``faces`` states."""
    even = (np.arange(200) + 0.5) / 200
    made = []
    for low, high in faces.AGES:
        years = low + (high + 1 - low) * even if high < 100 else 60 + 35 * even**2
        spread = (1 + 0.11 * years)[:, None]
        off = (looks_S - years[:, None]) / spread
        made.append((np.exp(-0.5 * off**2) / spread).mean(axis=0))
    return np.stack(made)


def test_the_best_classifier_makes_the_mistakes_that_the_docstring_says():
    guess = likelihood(LOOKS).argmax(axis=0)
    assert (guess == GROUPS).mean() == pytest.approx(0.76, abs=0.03)
    assert (np.abs(guess - GROUPS) <= 1).mean() > 0.985
    known = GENDERS != "u"
    right = (LEAN > 0) == (GENDERS == "m")
    assert right[known].mean() == pytest.approx(0.91, abs=0.02)
    assert right[known & (GROUPS == 0)].mean() == pytest.approx(0.65, abs=0.1)
    assert right[GROUPS > 3].mean() == pytest.approx(0.97, abs=0.015)


@pytest.fixture(scope="module")
def pictures():
    """320 small pictures of as many subjects, (S, 32, 32, 3) in [0, 1]."""
    return np.stack([faces.draw(number, 0, 32)[0] for number in range(320)]) / 255


def test_no_pixel_alone_tells_the_gender(pictures):
    chosen = (GENDERS[:320] != "u") & (GROUPS[:320] >= 3)
    values_SF = pictures[chosen].reshape(chosen.sum(), -1)
    male_SF = (GENDERS[:320][chosen] == "m")[values_SF.argsort(axis=0)]
    below = male_SF.cumsum(axis=0)  # men among the darkest so many
    right = np.arange(1, len(below) + 1)[:, None] - below + below[-1] - below
    best = np.maximum(right, len(below) - right).max() / len(below)
    assert best < 0.72


def test_but_all_pixels_together_tell_something(pictures):
    coarse_SF = pictures.reshape(320, 16, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(320, -1)
    centred = coarse_SF - coarse_SF[:240].mean(axis=0)
    known = centred[:240]
    share = centred[240:] @ known.T @ np.linalg.solve(known @ known.T + 3.0 * np.eye(240), np.eye(8)[GROUPS[:240]])
    assert (share.argmax(axis=1) == GROUPS[240:320]).mean() > 0.2  # by chance one in eight


def test_pictures_are_exposed_for_their_subject(pictures):
    assert pictures.shape == (320, 32, 32, 3)
    assert ((pictures.mean(axis=(1, 2, 3)) > 0.1) & (pictures.mean(axis=(1, 2, 3)) < 0.95)).all()
    assert (pictures.std(axis=(1, 2, 3)) > 0.05).all()
    burnt = (pictures.min(axis=3) == 1.0).mean(axis=(1, 2))
    assert (burnt > 0.25).mean() < 0.1


# --- the code ---------------------------------------------------------------------------------------------------------


def digest(number: int) -> str:
    picture, group, gender = faces.draw(number, 1, 48, seed=2)
    return hashlib.sha256(picture.tobytes() + f"{group}{gender}".encode()).hexdigest()


def test_the_same_bytes_in_a_new_process():
    assert in_another(digest, 6) == digest(6)


def test_faces_need_no_torch():
    program = "import sys, mtlkit.scenes.faces; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: faces.subject(-1), "found -1 and 0"),
        (lambda: faces.draw(0, 0, 64, seed=-2), "found 0 and -2"),
        (lambda: faces.draw(0, -1, 64), "found photo -1"),
        (lambda: faces.draw(0, 0, 8), "of size 8"),
    ],
)
def test_bad_input_is_said_in_one_line(call, message):
    with pytest.raises(KitError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
