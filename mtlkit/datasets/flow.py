"""Optical flow: its coding as an image of 8 bits, and its estimation from two frames.

    red      u' = u + 128      how far to the right the point was in the previous frame, pixels
    green    v' = v + 128      how far down
    blue     255 c             confidence c in [0, 1]

This is the image of the two-stream network of edgeai (Texas Instruments, edgeai-torchvision, r8.0): the offset of 128
and the order of the channels are those of its code, which calls a confidence above 128 reliable. Values are whole
pixels of the flow image, -128 ... 127: what is smaller than half a pixel is lost, what is larger is cut.

Flow is that of G. Farneback, "Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003, by OpenCV.
Confidence compares it with the flow back: e = |f + b(x + f)| is the distance by which a way there and back misses its
start, and c = exp(-e^2 / (2 * 1.5^2)), 0 where x + f lies outside the image.

Unconfirmed: whether u, v have a gain before 128 is added; their direction; the parameters of Farneback's method (here
those of OpenCV's example) and the formula of the confidence. What stands here is mtlkit's own.

Shapes: H/W size, ``flow_3HW`` = (u, v, c), ``flow_2HW`` = (u, v).
"""

from __future__ import annotations

import cv2
import numpy as np

OFFSET = 128
METHOD = f"Farneback's method, OpenCV {cv2.__version__}"
SPREAD = 1.5  # pixels: the standard deviation in the confidence
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}


def encode(flow_3HW: np.ndarray) -> np.ndarray:
    """u, v in pixels and confidence in [0, 1] -> uint8 (H, W, 3), RGB."""
    levels_3HW = np.stack([flow_3HW[0] + OFFSET, flow_3HW[1] + OFFSET, 255 * flow_3HW[2]])
    return np.rint(np.clip(levels_3HW, 0, 255)).astype(np.uint8).transpose(1, 2, 0)


def decode(coded_HW3: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), RGB -> float32 (3, H, W): u, v in pixels, confidence in [0, 1].

    >>> decode(np.array([[[128, 125, 255]]], dtype=np.uint8)).ravel().tolist()
    [0.0, -3.0, 1.0]
    """
    coded_3HW = coded_HW3.transpose(2, 0, 1).astype(np.float32)
    return np.stack([coded_3HW[0] - OFFSET, coded_3HW[1] - OFFSET, coded_3HW[2] / np.float32(255)])


def farneback(frame_HW3: np.ndarray, other_HW3: np.ndarray) -> np.ndarray:
    """Flow (2, H, W), float32, from each pixel of a frame to where its point is in another; both RGB, uint8."""
    frame_HW, other_HW = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (frame_HW3, other_HW3))
    return cv2.calcOpticalFlowFarneback(frame_HW, other_HW, None, **FARNEBACK).transpose(2, 0, 1)


def miss(forward_2HW: np.ndarray, backward_2HW: np.ndarray) -> np.ndarray:
    """How far the way there and back misses its start, pixels (H, W); infinite where it leaves the image."""
    height, width = forward_2HW.shape[1:]
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    x_HW, y_HW = x_HW + forward_2HW[0], y_HW + forward_2HW[1]
    inside_HW = (x_HW >= -0.5) & (x_HW < width - 0.5) & (y_HW >= -0.5) & (y_HW < height - 0.5)
    back_HW2 = cv2.remap(
        np.ascontiguousarray(backward_2HW.transpose(1, 2, 0)), x_HW, y_HW, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE
    )
    return np.where(inside_HW, np.hypot(*(forward_2HW + back_HW2.transpose(2, 0, 1))), np.inf)


def estimate(current_HW3: np.ndarray, previous_HW3: np.ndarray) -> np.ndarray:
    """u, v, confidence (3, H, W), float32, from the current frame to the previous one; both RGB, uint8."""
    forward_2HW, backward_2HW = farneback(current_HW3, previous_HW3), farneback(previous_HW3, current_HW3)
    confidence_HW = np.exp(-(miss(forward_2HW, backward_2HW) ** 2) / (2 * SPREAD**2))
    return np.concatenate([forward_2HW, confidence_HW[None]]).astype(np.float32)
