"""A drawn head and shoulders: layers of flat shapes from back to front, lit as if they were round.

Nothing here knows of ages, genders or chance: ``Face`` is what a head is like, ``easel.Photo`` how a picture of it is
taken, and ``paint`` draws it. Units and letters are those of ``easel``: x, y in the frame of the head, u, v on its
skin, where everything sits that turns with the face.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from .easel import Easel, Photo, cover, fade, hill, noise, ring, stroke, union
from .shapes import Array
from .textures import Colour

SIDES = (-1.0, 1.0)
WHITE, INK, GREY = (0.90, 0.89, 0.87), (0.07, 0.05, 0.05), (0.78, 0.77, 0.75)
ROSY = (0.95, 0.72, 0.70)
SHORT = 0.4  # hair that ends above this y leaves the ears free


@dataclasses.dataclass(frozen=True)
class Hair:
    """What grows on a head.

    Attributes:
        colour: where it has not turned grey.
        grey: how much of it has, share.
        volume: its thickness above the skull.
        end: y where it ends.
        curl: 0 straight to 1 coiled.
        line: v of the hairline in the middle; above the crown, the top is bald.
        part: u of the parting.
        fringe: how steeply the hairline falls away from the parting; 0 is level.
        temples: how far the hairline recedes beside the middle.
        dense: how much of the scalp it hides, share.
        knot: radius of a knot on the crown; 0 is none.
        beard, moustache: how much of the skin they hide, share.
        seed: of strands and spots.
    """

    colour: Colour
    grey: float
    volume: float
    end: float
    curl: float
    line: float
    part: float
    fringe: float
    temples: float
    dense: float
    knot: float
    beard: float
    moustache: float
    seed: int

    def greyed(self, grey: float, shade: float = 1.0) -> Colour:
        """The colour of a strand that is grey by this share, times a shade."""
        return tuple(shade * (c + grey * (g - c)) for c, g in zip(self.colour, GREY, strict=True))


@dataclasses.dataclass(frozen=True)
class Face:
    """What a head is like.

    Attributes:
        skull, jaw, chin: half widths of the head at the temples, the jaw and the chin.
        length: y of the lowest point of the chin.
        eyes: v of the eyes.
        apart: u of the middle of an eye.
        eye: half width of an eye.
        iris: radius of an iris.
        iris_colour: its colour.
        lid: how far the upper lids hang, share of the opening.
        slant: how much higher the outer corner of an eye is than its middle.
        brow: height of the brows above the eyes.
        brow_width: thickness of a brow.
        ridge, cheeks: how far the bone above the eyes and the cheeks stand out, share.
        nose, nose_width: v of its tip, half width of its wings.
        mouth, mouth_width: v of the mouth, half its width.
        lips: height of the red of each lip.
        ear: half the height of an ear.
        neck, shoulders: half widths.
        skin: colour.
        red: how red lips and cheeks are, share.
        spots: freckles and age spots, share.
        lines: how deep the lines are, shares: forehead, corners of the eyes, under the eyes, nose to mouth, mouth to
            chin.
        hair: on scalp, brows, cheeks and chin.
    """

    skull: float
    jaw: float
    chin: float
    length: float
    eyes: float
    apart: float
    eye: float
    iris: float
    iris_colour: Colour
    lid: float
    slant: float
    brow: float
    brow_width: float
    ridge: float
    cheeks: float
    nose: float
    nose_width: float
    mouth: float
    mouth_width: float
    lips: float
    ear: float
    neck: float
    shoulders: float
    skin: Colour
    red: float
    spots: float
    lines: tuple[float, float, float, float, float]
    hair: Hair


def paint(face: Face, photo: Photo, size: int) -> np.ndarray:
    """A picture uint8 (size, size, 3), RGB."""
    easel = Easel(photo, size, face.skull)
    mane, strands, head = _mane(easel, face), _strands(easel, face.hair), _outline(easel, face)
    easel.over(cover(mane) * min(1.0, 1.5 * face.hair.dense), strands, 0.6)  # what is behind the neck is in the shade
    _body(easel, face)
    for side in SIDES:
        _ear(easel, face, side)
    _skin(easel, face, head)
    for side in SIDES:
        _eye(easel, face, side)
        _brow(easel, face, side)
    _mouth(easel, face)
    if face.hair.beard + face.hair.moustache > 0.0:
        _beard(easel, face, head)
    _hair(easel, face, mane, strands, head)
    if photo.frame is not None:
        _glasses(easel, face, head)
    return easel.developed()


# --- head and shoulders -----------------------------------------------------------------------------------------------


def _body(easel: Easel, face: Face) -> None:
    """Neck and clothes."""
    x, y = easel.body
    shoulder = face.length + 0.75 + 0.32 * face.shoulders
    below = np.maximum(y - face.length, 0.0)
    width = face.neck + 1.1 * below * below
    across = np.minimum(np.abs(x) / width, 1.0)
    light = easel.shade(0.6 * face.neck * np.sqrt(1.0 - 0.9 * across * across))
    shadow = 1.0 - 0.4 * fade((face.length + 0.25 - y) / 0.28)  # of the chin
    bare = union(np.abs(x) - width, ring(x, y - shoulder, face.shoulders, 0.92) - 1.0, 0.2)
    easel.over(cover(np.maximum(bare, face.length - 0.5 - y)), face.skin, light * shadow)
    wide, low, pointed = easel.photo.neckline
    low = low + face.length - y
    hole = pointed * (np.abs(x) / wide - low / 0.5) + (1.0 - pointed) * (ring(x, low - 0.5, wide, 0.5) - 1.0)
    cloth = np.maximum(ring(x, y - shoulder, face.shoulders + 0.06, 0.95) - 1.0, -hole)
    across = np.minimum(np.abs(x) / (face.shoulders + 0.06), 1.0)
    folds = easel.shade(0.5 * np.sqrt(1.0 - 0.9 * across * across))
    easel.over(cover(cloth), easel.texture(easel.photo.cloth, x, y), folds)


def _ear(easel: Easel, face: Face, side: float) -> None:
    """It goes behind the head on the side that the face turns to."""
    x = side * easel.head[0] - 0.97 * face.skull + 0.1 * side * math.sin(easel.photo.yaw)
    y = easel.head[1] - face.eyes - 0.75 * face.ear + 0.3 * x
    lobe = ring(x, y, 0.5 * face.ear, face.ear)
    light = easel.shade(0.1 * np.sqrt(np.maximum(1.05 - lobe * lobe, 0.02)))
    red = tuple(c * f for c, f in zip(face.skin, (1.0, 0.9, 0.88), strict=True))
    easel.over(cover(lobe - 1.0), red, light)
    easel.darken(0.5 * hill((x - 0.1 * face.ear) / (0.3 * face.ear), y / (0.6 * face.ear)))


def _outline(easel: Easel, face: Face) -> Array:
    """The bare head: 0 in its middle, 1 on its outline."""
    (x, y), turn = easel.head, math.sin(easel.photo.yaw)
    skull = ring(x, y + 0.25, face.skull, 0.75)
    jaw = ring(x - 0.1 * turn, y - 0.2, face.jaw, face.length - 0.25)
    chin = ring(x - 0.2 * turn, y - face.length + 0.28, face.chin, 0.28)
    return union(union(skull, jaw, 0.25), chin, 0.2)


def _relief(easel: Easel, face: Face, head_HW: Array) -> Array:
    """How far the face stands out of the picture."""
    u, v = easel.skin
    height = 0.62 * np.sqrt(np.maximum(1.0 - 0.97 * head_HW * head_HW, 0.0))
    bridge = fade((v - face.eyes + 0.1) / (face.nose - face.eyes + 0.1)) * fade((face.nose + 0.07 - v) / 0.1)
    height += 0.17 * bridge * hill(u / (face.nose_width * (0.8 + 0.7 * bridge)))
    height += 0.07 * hill(u / face.nose_width, (v - face.nose + 0.03) / 0.13)
    height += 0.05 * hill(u / (1.2 * face.mouth_width), (v - face.mouth) / 0.2)
    height += 0.05 * hill(u / (1.1 * face.chin), (v - face.length + 0.16) / 0.16)
    for side in SIDES:
        across = side * u - face.apart
        height -= 0.05 * hill(across / 0.24, (v - face.eyes + 0.03) / 0.17)
        height += 0.05 * face.ridge * hill(across / 0.3, (v - face.eyes + face.brow) / 0.12)
        height += 0.06 * face.cheeks * hill((across - 0.1) / 0.3, (v - 0.5 * (face.nose + face.mouth)) / 0.33)
    return height


def _skin(easel: Easel, face: Face, head_HW: Array) -> None:
    u, v = easel.skin
    inside = cover(head_HW - 1.0)
    easel.light_HW = easel.shade(_relief(easel, face, head_HW))
    easel.over(inside, face.skin, easel.light_HW * (0.96 + 0.08 * noise(5 * u, 5 * v, face.hair.seed)))
    spots = fade(5 * (noise(19 * u, 19 * v, face.hair.seed + 1) - 0.78)) * fade(1.5 - 2 * np.abs(v - 0.1))
    easel.darken(0.6 * face.spots * spots * inside)
    for side in SIDES:
        easel.darken(0.6 * face.red * hill((side * u - 0.4) / 0.3, (v - face.nose) / 0.26) * inside, ROSY)
    easel.darken(0.4 * face.red * hill(u / 0.16, (v - face.nose) / 0.13), ROSY)
    crease = np.zeros_like(u)
    for depth, t, off, width in _lines(easel, face):
        soft = fade(1.0 - np.abs(off) / width) * fade(2.0 - 2.0 * np.abs(t))
        crease = np.maximum(crease, min(depth, 1.0) * soft)
    easel.darken(0.5 * crease * inside)
    _nostrils(easel, face)


def _lines(easel: Easel, face: Face) -> Iterator[tuple[float, Array, Array, float]]:
    """What years and smiles write on a skin: depth, along the line from -1 to 1, distance from it, half width."""
    (u, v), smile = easel.skin, max(easel.photo.smile, 0.0)
    forehead, corner, bag, fold, chin = face.lines
    wave = 0.012 * noise(3 * u, 0 * u, face.hair.seed + 2) - 0.12 * u * u
    for i in range(4):
        height = face.eyes - face.brow - 0.1 - 0.09 * i
        yield forehead * (1.0 - 0.15 * i), u / (0.42 - 0.04 * i), v - height + wave, 0.03
    for side in SIDES:
        x = side * u
        yield 0.8 * forehead, (v - face.eyes + face.brow) / 0.09, x - 0.05, 0.026
        away = x - face.apart - face.eye - 0.09
        for i in (-1, 0, 1):
            spread = i * (0.035 + 0.4 * away)
            yield corner * (1.0 + 0.35 * smile), away / 0.09, v - face.eyes - 0.02 - spread, 0.024
        t = (x - face.apart) / (1.15 * face.eye)
        yield bag, t, v - face.eyes - 0.13 + 0.05 * t * t, 0.057
        t = (v - 0.5 * (face.nose + face.mouth) + 0.02) / (0.6 * (face.mouth - face.nose) + 0.07)
        yield fold + 0.4 * smile, t, x - face.nose_width - 0.1 - 0.05 * t - 0.05 * smile, 0.044
        t = (v - face.mouth - 0.13) / 0.1
        yield chin, t, x - face.mouth_width - 0.05 - 0.015 * t, 0.036


def _nostrils(easel: Easel, face: Face) -> None:
    v = easel.skin[1] - face.nose
    easel.darken(0.35 * hill(easel.skin[0] / (1.3 * face.nose_width), (v - 0.07) / 0.06))
    for side in SIDES:
        u = side * easel.skin[0] - 0.5 * face.nose_width
        easel.darken(0.85 * hill(u / (0.36 * face.nose_width), (v - 0.035 - 0.2 * u) / 0.035), (0.25, 0.14, 0.12))
        t = v / 0.075
        wing = fade(1.0 - np.abs(u - 0.52 * face.nose_width + 0.03 * t * t) / 0.025)
        easel.darken(0.4 * wing * fade(2.0 - 2.0 * np.abs(t)))


# --- eyes and mouth ---------------------------------------------------------------------------------------------------


def _eye(easel: Easel, face: Face, side: float) -> None:
    """The white between two lids, iris, pupil, a glint."""
    photo = easel.photo
    u = easel.skin[0] - side * face.apart
    t = u / face.eye
    v = easel.skin[1] - face.eyes + side * face.slant * t
    arch = 1.0 - t * t
    opening = 0.52 * face.eye * (1.0 - face.lid) * (1.0 - 0.3 * max(photo.smile, 0.0)) * (1.0 - photo.closed)
    top, bottom = -opening * arch, (0.42 * opening + 0.12 * face.eye * photo.closed) * arch
    easel.darken(0.25 * hill(t / 1.35, (v + 0.02) / 0.12))
    easel.darken(0.5 * cover(stroke(t / 1.08, v + 0.36 * face.eye * (1.0 - 0.8 * t * t) + 0.5 * opening, 0.014)))
    inside = cover(np.maximum(top - v, v - bottom))
    easel.over(inside, WHITE, 0.85 * np.minimum(easel.light_HW, 1.0) * (0.75 + 0.25 * fade((v - top) / 0.05)))
    x, y = u - 0.4 * photo.gaze * face.eye, v + 0.2 * opening
    disc = ring(x, y, face.iris, face.iris)
    easel.over(inside * cover(disc - 1.0), face.iris_colour, easel.light_HW * (1.15 - 0.55 * disc * disc))
    easel.over(inside * cover(disc - 0.45), INK)
    glint = ring(x - 0.5 * photo.light[0] * face.iris, y - 0.5 * photo.light[1] * face.iris, 0.016, 0.016)
    easel.over(inside * cover(glint - 1.0), WHITE)
    easel.over(0.85 * cover(stroke(t / 1.06, v - top, 0.02)), face.hair.greyed(0.0, 0.5))
    easel.darken(0.45 * cover(stroke(t, v - bottom, 0.01)))


def _brow(easel: Easel, face: Face, side: float) -> None:
    u, v = side * easel.skin[0] - face.apart - 0.02, easel.skin[1] - face.eyes + face.brow
    t = u / (1.35 * face.eye + 0.03)
    off = v + 0.05 * (1.0 - (t - 0.15) * (t - 0.15)) - 0.04 - 0.02 * max(easel.photo.smile, 0.0)
    hairs = 0.6 + 0.5 * noise(45 * u + 30 * v, 12 * v, face.hair.seed + 3)
    share = cover(stroke(t, off, 0.5 * face.brow_width * (1.0 - 0.25 * t)))
    share = share * np.minimum(hairs, 1.0) * min(0.85, 10 * face.brow_width)
    easel.over(share, face.hair.greyed(0.5 * face.hair.grey, 0.75), easel.light_HW)


def _mouth(easel: Easel, face: Face) -> None:
    smile = easel.photo.smile
    u, v = easel.skin[0], easel.skin[1] - face.mouth
    t = u / (face.mouth_width * (1.0 + 0.25 * max(smile, 0.0)))
    arch = 1.0 - t * t
    line = 0.09 * smile * (0.45 - t * t)  # the corners of a smile are up
    gap = 0.13 * easel.photo.teeth * max(smile, 0.0) * np.maximum(arch, 0.0)
    dip = 0.75 + 0.25 * fade(4.0 * np.abs(t))  # in the middle of the upper lip
    upper, lower = line - 0.5 * gap - face.lips * arch * dip, line + gap + 1.15 * face.lips * arch
    lips = cover(np.maximum(upper - v, v - lower))
    easel.darken(0.95 * lips, (0.93, 0.78 - 0.2 * face.red, 0.78 - 0.16 * face.red))
    easel.darken(0.18 * lips * fade((line - v) / 0.03 + 0.5))
    easel.darken(0.3 * hill(t / 0.7, (v - lower - 0.05) / 0.05))
    if easel.photo.teeth > 0.0:
        between = cover(np.maximum(np.maximum(line - 0.5 * gap - v, v - line - gap), np.abs(t) - 1.0))
        easel.over(between, (0.24, 0.09, 0.09), easel.light_HW)
        easel.over(between * cover(v - line - 0.5 * gap) * cover(np.abs(t) - 0.85), WHITE, 0.95 * easel.light_HW)
    easel.over(0.65 * cover(stroke(t, v - line + 0.5 * gap, 0.014)), (0.3, 0.14, 0.13), easel.light_HW)


# --- hair and glasses -------------------------------------------------------------------------------------------------


def _beard(easel: Easel, face: Face, head_HW: Array) -> None:
    """Beard and moustache, from stubble to full."""
    (u, v), hair = easel.skin, face.hair
    grain = 0.55 + 0.7 * noise(40 * u, 30 * v, hair.seed + 4)
    around = ring(u, v - face.mouth - 0.01, 1.15 * face.mouth_width, 2.2 * face.lips + 0.05)
    cheek = face.nose + 0.02 + 0.02 * noise(9 * u, 9 * v, hair.seed) - 0.55 * np.maximum(np.abs(u) - 0.42, 0.0)
    chin = fade((v - cheek) / 0.12) * fade((around - 0.95) / 0.25) * cover(head_HW - 1.0 - 0.03 * hair.beard)
    middle = 0.5 * (face.mouth - 0.8 * face.lips + face.nose + 0.1)
    above = np.minimum(1.7 * hill(u / (1.5 * face.mouth_width), (v - middle - 0.3 * u * u) / 0.12), 1.0)
    share = np.minimum(np.maximum(hair.beard * chin, hair.moustache * above) * grain, 0.96)
    easel.over(share, hair.greyed(0.9 * hair.grey, 0.8), easel.light_HW * (0.7 + 0.5 * grain))


def _ragged(easel: Easel, hair: Hair) -> Array:
    """How far strands stick out."""
    x, y = easel.head
    fine = 8.0 + 10.0 * hair.curl
    return (0.02 + 0.06 * hair.curl) * (noise(fine * x, fine * y, hair.seed + 5) - 0.5)


def _mane(easel: Easel, face: Face) -> Array:
    """All hair of the scalp, as a shape; the face is not yet cut out."""
    (x, y), hair = easel.head, face.hair
    wide = face.skull + hair.volume * (0.5 if hair.end < SHORT else 1.0)
    cap = ring(x, y + 0.25, wide, 0.75 + hair.volume) - 1.0
    tail = np.maximum(np.abs(x) / (wide + hair.volume * np.maximum(y, 0.0)) - 1.0, -0.2 - y)
    sides = 3.0 * np.maximum(np.abs(x) - 0.93 * face.skull, 0.0) if hair.end < SHORT else 0.35 * x * x
    end = y - hair.end + sides - 0.25 * (noise(6 * x, 0 * x, hair.seed + 6) - 0.5)
    mane = np.maximum(np.minimum(cap, tail), end)
    if hair.knot > 0.0:
        height = 1.0 + hair.volume + 0.35 * hair.knot
        mane = np.minimum(mane, ring(x - 0.3 * hair.part, y + height, hair.knot, hair.knot) - 1.0)
    return mane + _ragged(easel, hair)


def _strands(easel: Easel, hair: Hair) -> Array:
    """The colour of the hair (3, H, W), strand by strand; strands run from the parting."""
    x, y = easel.head
    bend = 0.15 * hair.curl * noise(4 * x, 5 * y, hair.seed + 7)
    straight = noise(34 * ((x - hair.part) / np.maximum(y + 1.9, 0.3) + bend), 1.8 * y, hair.seed + 8)
    coils = noise(16 * x, 16 * y, hair.seed + 9)
    strand = straight + hair.curl * (coils - straight)
    grey = np.clip(hair.grey + 0.8 * (straight - 0.5) * (1.0 - np.abs(2.0 * hair.grey - 1.0)), 0.0, 1.0)
    colour, silver = (np.array(hair.greyed(g))[:, None, None] for g in (0.0, 1.0))
    return (colour + grey * (silver - colour)) * (0.72 + 0.5 * strand)


def _hair(easel: Easel, face: Face, mane_HW: Array, strands_3HW: Array, head_HW: Array) -> None:
    """The hair in front: all of it less an opening for the face."""
    (x, y), (u, v), hair = easel.head, easel.skin, face.hair
    line = hair.line + hair.fringe * np.abs(u - hair.part) - hair.temples * hill((np.abs(u) - 0.42) / 0.5)
    side = np.abs(u) / (0.9 * face.skull) - 1.0
    if SHORT <= hair.end < 1.0:
        side = side + 0.25 * np.maximum(v - 0.4, 0.0)  # it closes in below the cheeks
    around = union(v - line, -side, 0.3) + 0.5 * _ragged(easel, hair)  # above the hairline, or beside the face
    around = around + 0.04 * (noise(14 * u, 3 * v, hair.seed + 10) - 0.5)
    shadow = fade(1.0 - np.abs(around - 0.03) / 0.07) * cover(head_HW - 1.0) * cover(mane_HW)
    easel.darken(0.35 * min(1.0, hair.dense) * shadow)
    out = ring(x, y + 0.2, face.skull + hair.volume + 0.05, 0.85 + hair.volume)
    light = easel.shade(0.9 / (1.0 + out * out))
    thin = np.clip(hair.dense * (0.6 + 0.8 * noise(30 * u, 30 * v, hair.seed + 11)), 0.0, 1.0)
    easel.over(cover(np.maximum(mane_HW, around)) * np.maximum(thin, hair.dense), strands_3HW, light)


def _glasses(easel: Easel, face: Face, head_HW: Array) -> None:
    (wide, high, square), frame = easel.photo.lenses, easel.photo.frame
    u, v = easel.skin[0], easel.skin[1] - face.eyes - 0.04
    for side in SIDES:
        x = side * u - face.apart - 0.02
        oval = ring(x, v, wide, high)
        rim = oval + square * (np.maximum(np.abs(x) / wide, np.abs(v) / high) - oval) - 1.0
        easel.over(0.07 * cover(rim), WHITE)
        easel.over(cover(np.abs(rim) - 0.06), frame, np.minimum(easel.light_HW + 0.2, 1.1))
        arm = np.maximum(np.abs(v + 0.3 * high) - 0.015, wide - x)
        easel.over(0.9 * cover(arm) * cover(head_HW - 1.0), frame)
    bridge = np.maximum(np.abs(v + 0.05 - 0.8 * u * u) - 0.018, np.abs(u) - face.apart - 0.02 + wide)
    easel.over(cover(bridge), frame)
