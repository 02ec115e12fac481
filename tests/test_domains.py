"""The drawn domains: each looks like itself, its classes can be told apart, and the same picture is always the same."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import in_another

from mtlkit.datasets.visual_decathlon import SETS
from mtlkit.errors import KitError
from mtlkit.scenes.domains import DOMAINS, SIDE, picture
from mtlkit.scenes.sketches import Sketch, area, box, disc, line

NAMES = list(DOMAINS)


def pictures(domain, split, count):
    """The first pictures of a split, and their class ids."""
    made = [picture(domain, split, index) for index in range(count)]
    return [image for image, _ in made], np.array([label for _, label in made])


def middle(image):
    top, left = ((n - SIDE) // 2 for n in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE].astype(float)


def coarse(image):
    """12 x 12 means, without brightness and contrast."""
    means = middle(image).reshape(12, 6, 12, 6, 3).mean((1, 3)).ravel()
    return (means - means.mean()) / np.linalg.norm(means - means.mean())


def grain(image):
    """How much of the picture runs in each direction, from the strongest on: the same wherever and however it lies."""
    energy = np.abs(np.fft.fft2(middle(image).mean(-1))) ** 2
    y, x = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    kept = (np.hypot(x, y) > 0) & (np.hypot(x, y) < 0.25)
    sector = (np.arctan2(y, x) % np.pi / np.pi * 18).astype(int) % 18
    shares = np.bincount(sector[kept], energy[kept], 18) / energy[kept].sum()
    return np.roll(shares, -shares.argmax())


def nearest(images, labels, others, look):
    """The classes of the pictures that look most alike."""
    known, asked = (np.array([look(image) for image in several]) for several in (images, others))
    return labels[((asked[:, None] - known) ** 2).sum(-1).argmin(1)]


def test_the_domains_are_the_ten_sets():
    assert set(NAMES) == set(SETS)
    for name, domain in DOMAINS.items():
        assert list(domain.classes) == sorted(set(domain.classes)) and 2 <= len(domain.classes) <= SETS[name].classes


@pytest.mark.parametrize("domain", NAMES)
def test_classes_can_be_learned_and_are_not_given_away(domain):
    classes = len(DOMAINS[domain].classes)
    (images, labels), (others, hidden) = pictures(domain, "train", 12 * classes), pictures(domain, "test", 4 * classes)
    assert (np.bincount(labels) == 12).all()
    accuracy = (nearest(images, labels, others, grain if domain == "dtd" else coarse) == hidden).mean()
    assert accuracy > (0.8 if classes == 2 else 3 / classes)
    brightness = (nearest(images, labels, others, lambda image: [image.mean(), image.std()]) == hidden).mean()
    assert brightness < accuracy - 0.1, "brightness and contrast alone must not tell the class"


@pytest.mark.parametrize("domain", NAMES)
def test_a_domain_has_the_mean_colour_of_the_real_set(domain):
    images, _ = pictures(domain, "train", 36)
    mean = np.mean([image.reshape(-1, 3).mean(0) for image in images], axis=0) / 255
    assert np.abs(mean - SETS[domain].mean).max() < 0.12
    assert all(min(image.shape[:2]) == SIDE and image.dtype == np.uint8 for image in images)
    grey = all((image == image[..., :1]).all() for image in images)
    assert grey == (domain in ("daimlerpedcls", "omniglot"))


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(NAMES), st.sampled_from(["train", "validation", "test"]), st.integers(0, 10**6), st.integers(0, 99)
)
def test_a_picture_depends_on_its_arguments_alone(domain, split, index, seed):
    (image, label), (again, _) = picture(domain, split, index, seed), picture(domain, split, index, seed)
    assert (image == again).all() and label == index % len(DOMAINS[domain].classes)
    for other in (
        (split, index + 1, seed),
        (split, index, seed + 1),
        ("train" if split == "test" else "test", index, seed),
    ):
        changed, _ = picture(domain, *other)
        assert changed.shape != image.shape or (changed != image).any()


def digest():
    return hashlib.sha256(b"".join(picture(d, "train", 7)[0].tobytes() for d in DOMAINS)).hexdigest()


def test_another_process_draws_the_same_bytes():
    assert in_another(digest) == digest()


@pytest.mark.parametrize("wrong", [("svnh", "train", 0), ("svhn", "val", 0), ("svhn", "train", -1)])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(KitError):
        picture(*wrong)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "area_of"),
    [
        (disc((1, 1, 1), 0.1, -0.2, 0.5), np.pi * 0.25),
        (disc((1, 1, 1), 0, 0, 0.8, 0.4), np.pi * 0.32),
        (box((1, 1, 1), -0.5, -0.25, 0.5, 0.75), 1.0),
        (area((1, 1, 1), (-0.8, -0.8), (0.8, -0.8), (0, 0), (0.8, 0.8), (-0.8, 0.8)), 1.92),  # with a notch
        (line((1, 1, 1), 0.2, (-0.5, 0), (0.5, 0)), 0.2 + np.pi * 0.01),
    ],
)
def test_a_shape_covers_its_area_wherever_it_lies(part, area_of):
    for place in ({}, {"turn": 0.7}, {"x": 0.1, "turn": 2.0, "flip": True}, {"scale": 0.5}):
        painted = Sketch(120, 160).move(**place).add([part]).image_3HW
        expected = area_of * place.get("scale", 1) ** 2
        assert painted.sum() / 3 * (2 / 120) ** 2 == pytest.approx(expected, rel=0.02)


def test_a_thing_is_moved_turned_and_mirrored():
    def middle(**place):
        share_HW = Sketch(80, 80).move(**place).add([disc((1, 1, 1), 0.5, 0, 0.1)]).image_3HW[0]
        y, x = np.mgrid[:80, :80] / 40 - 79 / 80
        return np.round([(x * share_HW).sum() / share_HW.sum(), (y * share_HW).sum() / share_HW.sum()], 2).tolist()

    assert middle() == [0.5, 0.0]
    assert middle(turn=np.pi / 2) == [0.0, 0.5]  # clockwise
    assert middle(flip=True) == [-0.5, 0.0]
    assert middle(x=0.1, y=-0.2, scale=0.5) == [0.35, -0.2]
