"""Faces with an age group and a gender: drawn portraits, openly a stand-in for the photographs of Adience.

A subject keeps their face in all photos; pose, light, expression, clothes and place are each photo's own. A drawing
shows no truth about people: it has cues of the kind that a classifier would use (proportions, lines, grey hair, the
length of hair, beards), and as much overlap as it takes to make mistakes.

How hard it is, is known. All that age does to a picture goes through one number, ``looks``, the age that a face seems
to have: it is off by a normal error of 1 year and 0.11 more for each year. All that gender does goes through ``looks``
and a second number, ``lean``, normal with standard deviation 1 around -d or d, where d grows from 0.25 at birth to 1.9
at eighteen. So no classifier beats one that is told these numbers, and that one is right about 76 % of ages (99.7 %
within one group) and, of the subjects whose gender is m or f, about 91 % of genders: 65 % of babies', 97 % of adults'.
Skin, eyes, the colour and the curl of hair, pose, place, light and expression depend on neither.

Every eight subjects in a row (0-7, 8-15, ...) hold each age group once, and every sixteen (0-15, ...) hold each with
both genders.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from ..errors import KitError
from .drawing import CLOTHS, LINENS, THINGS, WALLS, Draw
from .easel import Photo
from .figures import SKINS
from .portrait import Face, Hair, paint
from .textures import Colour

VERSION = 1  # raise it when any picture changes
# years, both ends included; the order of Adience's classes
AGES = ((0, 2), (4, 6), (8, 13), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
GENDERS = ("f", "m", "u")
UNKNOWN = 0.43  # the share of the first age group whose gender is "u", as in Adience (1092 of 2519)
_FACES, _ORDER = int.from_bytes(b"face", "big"), 2**32 - 1

IRISES = ((0.25, 0.16, 0.10), (0.25, 0.16, 0.10), (0.36, 0.24, 0.13), (0.40, 0.40, 0.22), (0.36, 0.48, 0.58))
DARK_HAIRS = ((0.08, 0.07, 0.07), (0.14, 0.10, 0.08), (0.22, 0.14, 0.09))
HAIRS = (*DARK_HAIRS, (0.34, 0.22, 0.13), (0.48, 0.32, 0.17), (0.68, 0.52, 0.30), (0.52, 0.24, 0.12))
FRAMES = ((0.10, 0.09, 0.09), (0.35, 0.20, 0.12), (0.55, 0.48, 0.36), (0.52, 0.53, 0.55), (0.25, 0.30, 0.45))
# from the first age at which a line can be seen to that at which it is deep; the order of ``Face.lines``
LINES = ((28, 70), (25, 65), (15, 80), (20, 62), (42, 80))
# styles of hair: end, volume, fringe, curl at least, knot
SHORT = (
    (0.05, 0.05, 0.1, 0.0, 0.0),  # cropped
    (0.1, 0.14, 0.2, 0.0, 0.0),  # fuller on top
    (0.2, 0.2, 0.1, 0.3, 0.0),  # curls
    (0.0, 0.025, 0.0, 0.0, 0.0),  # shorn
)
LONG = (
    (0.75, 0.14, 0.5, 0.0, 0.0),  # to the chin
    (1.3, 0.12, 0.6, 0.0, 0.0),  # to the shoulders
    (1.5, 0.2, 0.5, 0.4, 0.0),  # the same in curls
    (0.1, 0.05, 0.3, 0.0, 0.25),  # in a knot
    (0.1, 0.04, 0.4, 0.0, 0.0),  # tied back: from the front, much like short hair
)
OUTDOORS = ((0.45, 0.60, 0.38), (0.62, 0.74, 0.82), (0.70, 0.66, 0.55), (0.33, 0.44, 0.33))


@dataclasses.dataclass(frozen=True)
class Subject:
    """One person.

    Attributes:
        age_group: class id, an index into ``AGES``.
        gender: one of ``GENDERS``.
        looks: the age that the face seems to have, years.
        lean: which gender it seems to have, in standard deviations; below 0 is f.
        face: what follows from these two numbers and from chance.
    """

    age_group: int
    gender: str
    looks: float
    lean: float
    face: Face


def subject(number: int, seed: int = 0) -> Subject:
    """Person ``number`` and their labels, without a picture.

    Raises:
        KitError: for a negative number or seed.
    """
    if number < 0 or seed < 0:
        raise KitError(f"number and seed of a subject are whole numbers from 0, found {number} and {seed}")
    draw = Draw(np.random.default_rng([_FACES, seed, number]))
    order = np.random.default_rng([_FACES, seed, number // 16, _ORDER]).permutation(8)
    age_group, half = int(order[number % 8]), number // 8 % 2
    sex = 1.0 if (age_group + half) % 2 else -1.0
    years = _years(draw, age_group)
    looks = max(float(draw.rng.normal(years, 1.0 + 0.11 * years)), 0.1)
    lean = float(sex * (0.25 + 1.65 * _growth(looks) ** 2) + draw.rng.normal())
    gender = "u" if age_group == 0 and draw.chance(UNKNOWN) else GENDERS[int(sex > 0)]
    return Subject(age_group, gender, looks, lean, _face(draw, looks, lean))


def draw(number: int, photo: int, size: int, seed: int = 0) -> tuple[np.ndarray, int, str]:
    """One photo of a subject: uint8 (size, size, 3), age group and gender. The same bytes in every process.

    Args:
        number: which subject, from 0.
        photo: which of their photos, from 0.
        size: rows and columns.
        seed: another seed, other people.

    Raises:
        KitError: for a negative number, photo or seed, or a size below 16.
    """
    if photo < 0 or size < 16:
        raise KitError(f"photos are numbered from 0 and have 16 rows or more, found photo {photo} of size {size}")
    person = subject(number, seed)
    shot = _photo(Draw(np.random.default_rng([_FACES, seed, number, photo + 1])), person.looks)
    return paint(person.face, shot, size), person.age_group, person.gender


# --- what a face owes to years, to gender and to chance ---------------------------------------------------------------


def _years(draw: Draw, age_group: int) -> float:
    """Even within a group, but rarer with the years in the last."""
    low, high = AGES[age_group]
    if high == 100:
        return low + 35 * draw.span(0, 1) ** 2
    return draw.span(low, high + 1)


def _growth(years: float) -> float:
    """From 0 at birth to 1 at eighteen and after."""
    return min(math.log1p(years / 2.0) / math.log1p(9.0), 1.0)


def _share(years: float, first: float, last: float) -> float:
    """From 0 until the first age to 1 from the last on."""
    return min(max((years - first) / (last - first), 0.0), 1.0)


def _some(draw: Draw, mean: float, spread: float) -> float:
    """Normal, but never beyond two standard deviations: nobody is a caricature."""
    return mean + spread * min(max(float(draw.rng.normal()), -2.0), 2.0)


def _face(draw: Draw, looks: float, lean: float) -> Face:
    g, old = _growth(looks), _share(looks, 25, 85)
    form = 0.5 * g * g * min(max(lean, -2.5), 2.5)  # what differs between genders differs more with the years
    skin = _skin(draw)
    fair = sum(skin) > 1.6  # light eyes and light hair are found on light skin
    some = functools.partial(_some, draw)
    skull = some(0.80 - 0.1 * g, 0.02)
    return Face(
        skull=skull,
        jaw=skull * min(some(0.865 + 0.03 * form + 0.05 * old, 0.03), 0.98),
        chin=some(0.27 + 0.02 * g + 0.03 * form + 0.03 * old, 0.025),
        length=some(0.86 + 0.13 * g + 0.015 * form, 0.02),
        eyes=some(0.2 - 0.2 * g, 0.02),
        apart=some(0.34 - 0.03 * g, 0.012),
        eye=some(0.17 - 0.025 * g - 0.004 * form, 0.007),
        iris=some(0.088 - 0.018 * g, 0.002),
        iris_colour=draw.colour(IRISES if fair else IRISES[:2], 0.02),
        lid=min(max(some(0.08 + 0.35 * old + 0.02 * form, 0.07), 0.0), 0.5),
        slant=some(0.01 - 0.015 * old, 0.008),
        brow=some(0.19 + 0.02 * g - 0.012 * form, 0.012),
        brow_width=max(some(0.03 + 0.028 * g + 0.009 * form, 0.009), 0.015),
        ridge=some(0.3 + 0.4 * form, 0.2),
        cheeks=some(1.1 - 0.6 * g, 0.2),
        nose=some(0.48 - 0.06 * g + 0.03 * old, 0.018),
        nose_width=some(0.115 + 0.025 * g + 0.006 * form + 0.012 * old, 0.014),
        mouth=some(0.69 - 0.05 * g + 0.01 * old, 0.015),
        mouth_width=some(0.19 + 0.06 * g + 0.006 * form, 0.014),
        lips=max(some(0.052 - 0.004 * form - 0.022 * old, 0.009), 0.018),
        ear=some(0.19 + 0.03 * old, 0.015),
        neck=some(0.3 + 0.1 * g + 0.03 * form, 0.02),
        shoulders=some(0.9 + 0.5 * g + 0.06 * form, 0.06),
        skin=skin,
        red=min(max(some(0.5 - 0.1 * g, 0.2), 0.0), 1.0),
        spots=_share(looks, 3, 10) * max(draw.span(-0.7, 0.5), 0.0) + _share(looks, 50, 95) * draw.span(0, 0.5),
        lines=tuple(_line(draw, looks, *years) for years in LINES),
        hair=_hair(draw, looks, lean, fair),
    )


def _line(draw: Draw, looks: float, first: float, last: float) -> float:
    depth = _some(draw, 1.15 * _share(looks, first, last), 0.16 * _share(looks, 8, 24))
    return min(max(depth, 0.0), 1.0)


def _skin(draw: Draw) -> Colour:
    """Anywhere between the lightest and the darkest, evenly."""
    place = draw.span(0, len(SKINS) - 1)
    first = min(int(place), len(SKINS) - 2)
    light, dark = SKINS[first], SKINS[first + 1]
    hue = draw.span(-0.01, 0.015)
    return tuple(
        a + (place - first) * (b - a) + shift for a, b, shift in zip(light, dark, (hue, 0.0, -hue), strict=True)
    )


def _hair(draw: Draw, looks: float, lean: float, fair: bool) -> Hair:
    colour = draw.colour(HAIRS if fair else DARK_HAIRS, 0.015)
    turned = _some(draw, 55.0, 9.0)  # the age at which half of the hair is grey
    likes_long = 1.0 / (1.0 + math.exp(1.4 * lean + 0.5 + 1.2 * _share(looks, 45, 75)))
    end, volume, fringe, curl, knot = draw.one(LONG if draw.chance(likes_long) else SHORT)
    baby = 1.0 - _share(looks, 0.5, 3.0)
    if baby > 0.0:
        end, knot, volume = min(end, 0.3), 0.0, 0.4 * volume
    curl = max(curl, draw.span(0, 1) ** 2)
    loss = _share(looks, 28, 75) * _share(lean, 0.0, 1.5) * draw.span(0, 1.1)
    low = 0.15 if draw.chance(0.2) else 0.0  # hair on the forehead
    beard, moustache = _beard(draw, looks, lean)
    return Hair(
        colour=colour,
        grey=_share(looks, turned - 18, turned + 18),
        volume=volume * draw.span(0.8, 1.2) * (1.0 + 0.9 * curl),
        end=end + draw.span(-0.05, 0.05),
        curl=curl,
        line=_some(draw, -0.6 + 0.04 * _growth(looks), 0.03) - 1.6 * max(loss - 0.45, 0.0) + low,
        part=draw.span(-0.35, 0.35),
        fringe=fringe * draw.span(0.7, 1.3),
        temples=0.35 * min(loss, 0.6),
        dense=(1.0 - 0.75 * baby) * (1.0 - 0.35 * _share(looks, 50, 90) * draw.span(0, 1)),
        knot=knot,
        beard=beard,
        moustache=moustache,
        seed=draw.whole(0, 9999),
    )


def _beard(draw: Draw, looks: float, lean: float) -> tuple[float, float]:
    """How much beard and moustache hide: none, stubble, or full."""
    grows = _share(lean, 1.2, 2.2) * _share(looks, 16, 22)
    if not draw.chance(0.7 * grows):
        return 0.0, 0.0
    hidden = draw.span(0.8, 1.0) if draw.chance(0.5) else draw.span(0.15, 0.4)
    return draw.one(((hidden, hidden), (hidden, hidden), (hidden, 0.0), (0.0, hidden)))


def _photo(draw: Draw, looks: float) -> Photo:
    """Glasses come with the years; the rest is chance."""
    side, up = draw.span(-0.8, 0.8), draw.span(-0.7, 0.15)
    warm = draw.span(-0.03, 0.08)
    smiles = draw.chance(0.55)
    glasses = draw.chance(0.04 + 0.12 * _share(looks, 5, 15) + 0.3 * _share(looks, 38, 60))
    backgrounds = draw.one((WALLS, WALLS, LINENS, OUTDOORS, CLOTHS))
    texture = draw.one(("speckle", "speckle", "speckle", "painting", "folds"))
    return Photo(
        place=(_some(draw, 0.0, 0.07), _some(draw, 0.06, 0.06)),
        scale=_some(draw, 1.06, 0.06),
        tilt=_some(draw, 0.0, 0.09),
        yaw=_some(draw, 0.0, 0.16),
        pitch=_some(draw, 0.0, 0.08),
        light=_unit(side, up, 0.8),
        ambient=draw.span(0.35, 0.7),
        tint=(1.0 + warm, 1.0, 1.0 - warm),
        exposure=draw.span(0.9, 1.3),
        smile=draw.span(0.2, 1.0) if smiles else draw.span(-0.05, 0.25),
        teeth=draw.span(0.4, 1.0) if smiles and draw.chance(0.6) else 0.0,
        gaze=_some(draw, 0.0, 0.25),
        closed=1.0 if draw.chance(0.03) else 0.0,
        background=draw.material(texture, backgrounds, draw.span(0.5, 1.5), draw.span(0.7, 0.95)),
        cloth=draw.cloth(CLOTHS + LINENS + THINGS),
        neckline=(draw.span(0.3, 0.6), draw.span(0.2, 0.5), 1.0 if draw.chance(0.4) else 0.0),
        frame=draw.one(FRAMES) if glasses else None,
        lenses=(draw.span(0.2, 0.25), draw.span(0.14, 0.2), draw.span(0.0, 0.8)),
        blur=draw.span(0.0, 0.004) if draw.chance(0.8) else draw.span(0.004, 0.008),
        grain=draw.span(0.005, 0.03),
        seed=draw.whole(0, 2**31),
    )


def _unit(*direction: float) -> tuple[float, float, float]:
    length = math.sqrt(sum(a * a for a in direction))
    return tuple(a / length for a in direction)
