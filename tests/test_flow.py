"""Optical flow: the coding, Farneback's flow and its confidence against shifts that are known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.datasets import flow

H, W = 64, 96


@pytest.fixture(scope="module")
def texture():
    """A smooth random picture, larger than a frame on all sides."""
    noise = np.random.default_rng(0).uniform(0, 255, (H + 40, W + 40, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, None, 1.5)
    return np.clip((blurred - 127) * 4 + 127, 0, 255).astype(np.uint8)


def frame(texture, x=0, y=0):
    """The part of the picture that a camera sees whose corner is at (x, y) from its place at rest."""
    return np.ascontiguousarray(texture[20 + y : 20 + y + H, 20 + x : 20 + x + W])


@given(st.floats(-400, 400), st.floats(-400, 400), st.floats(0, 1))
def test_the_image_holds_whole_pixels_within_127_and_the_confidence_in_255_steps(u, v, c):
    decoded = flow.decode(flow.encode(np.array([u, v, c]).reshape(3, 1, 1)))
    assert decoded.dtype == np.float32 and decoded.shape == (3, 1, 1)
    assert np.abs(decoded[:2].ravel() - np.clip([u, v], -128, 127)).max() <= 0.5 + 1e-9
    assert abs(decoded[2, 0, 0] - c) <= 0.5 / 255 + 1e-6


def test_every_image_is_read_and_written_without_a_change():
    coded = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert (flow.encode(flow.decode(coded)) == coded).all()


def test_red_is_right_green_is_down_blue_is_confidence():
    coded = flow.encode(np.array([3.0, -7.0, 1.0]).reshape(3, 1, 1))
    assert coded.dtype == np.uint8 and coded.ravel().tolist() == [131, 121, 255]


@settings(deadline=None, max_examples=12)
@given(x=st.integers(-5, 5), y=st.integers(-5, 5))
def test_farneback_finds_a_shift(texture, x, y):
    # what the current frame shows at (j, i) lies at (j - x, i - y) where the corner was moved by (x, y)
    found = flow.estimate(frame(texture), frame(texture, x, y))
    inner = found[:, 12:-12, 12:-12]
    assert found.shape == (3, H, W) and found.dtype == np.float32
    assert np.abs(inner[0] + x).mean() < 0.1 and np.abs(inner[1] + y).mean() < 0.1
    assert inner[2].mean() > 0.97


def test_the_confidence_is_that_of_the_miss(texture):
    current, previous = frame(texture), frame(texture, 5, 3)
    previous[20:40, 30:50] = 255 - previous[20:40, 30:50]
    found = flow.estimate(current, previous)
    missed = flow.miss(found[:2], flow.farneback(previous, current))
    assert np.allclose(found[2], np.exp(-(missed**2) / 4.5), atol=1e-6)
    assert (found[2][np.isinf(missed)] == 0).all() and np.isinf(missed).any()
    assert found[2][missed < 0.15].min() > 0.99 and found[2][missed > 4.6].max() < 0.01


def test_frames_that_have_nothing_in_common_earn_less_confidence(texture):
    other = np.ascontiguousarray(texture[::-1, ::-1][:H, :W])
    assert flow.estimate(frame(texture), other)[2].mean() < 0.75
    assert flow.estimate(frame(texture), frame(texture))[2].min() > 0.99


def test_the_way_there_and_back():
    there, back = np.zeros((2, 2, H, W), np.float32)
    there[0], back[0] = 3.0, -3.0
    missed = flow.miss(there, back)
    assert (missed[:, : W - 3] == 0).all() and np.isinf(missed[:, W - 3 :]).all()  # out of the image on the right
    back[1] = 2.0
    assert (flow.miss(there, back)[:, : W - 3] == 2).all()
    back[:] = 0
    back[0, :, 40:] = 10.0  # read between two pixels: half of 0 and 10
    there[0] = 0.5
    assert flow.miss(there, back)[5, 39] == pytest.approx(0.5 + 5)


def test_the_number_of_threads_changes_nothing(texture):
    before, found = cv2.getNumThreads(), []
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(flow.estimate(frame(texture), frame(texture, 2, 1)))
    finally:
        cv2.setNumThreads(before)
    assert (found[0] == found[1]).all()
