"""Animals from capsules and ellipsoids: dogs, cats, horses, cows, sheep, and birds.

An animal stands around its own origin on the floor and looks towards +y. The quadrupeds are one drawing with a table of
proportions; lengths in it are shares of the height at the withers.

Units: metres, radians. Points are (x, y, z).
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from . import figures
from .drawing import Draw, Item
from .figures import SIDES, Point, bent
from .shapes import Array
from .textures import Colour, Material
from .world import Pose

BLACK = Material("plain", (0.06, 0.05, 0.05))
HORN = Material("plain", (0.80, 0.75, 0.62))
PLUMES = ((0.90, 0.90, 0.88), (0.45, 0.47, 0.50), (0.15, 0.15, 0.17), (0.45, 0.33, 0.22), (0.30, 0.38, 0.30))
BEAKS = ((0.90, 0.60, 0.15), (0.25, 0.22, 0.20), (0.80, 0.35, 0.20))


@dataclasses.dataclass(frozen=True)
class Build:
    """Proportions of a quadruped.

    Attributes:
        height: at the withers, from and to, metres.
        length: from the hips to the shoulders.
        girth: radius of the trunk at its ends and in the middle.
        leg: radius of a lower leg, of an upper front leg, of a thigh.
        neck: length, radius, and how far it rises above the level, radians.
        head: half its width, length and height.
        muzzle: half length and radius.
        ear: half width and half height, and how often it hangs.
        tail: length, and how far it rises above the level, radians.
        coats: colours.
        patches: size of the spots of a second colour, metres, and that colour as a share of the first.
        lowers: how often the head is down at the grass.
        sits: how often it sits.
    """

    height: tuple[float, float]
    length: float
    girth: tuple[float, float]
    leg: tuple[float, float, float]
    neck: tuple[float, float, float]
    head: tuple[float, float, float]
    muzzle: tuple[float, float]
    ear: tuple[float, float, float]
    tail: tuple[float, float]
    coats: tuple[Colour, ...]
    patches: tuple[float, float]
    lowers: float = 0.0
    sits: float = 0.0


BUILDS = {
    "dog": Build(
        (0.38, 0.66), 0.78, (0.185, 0.15), (0.042, 0.06, 0.09), (0.24, 0.11, 0.8), (0.12, 0.16, 0.125), (0.14, 0.065),
        (0.045, 0.1, 0.5), (0.42, 0.6),
        ((0.55, 0.38, 0.2), (0.14, 0.12, 0.11), (0.78, 0.7, 0.56), (0.4, 0.25, 0.15), (0.85, 0.84, 0.8)),
        (0.09, 0.6), lowers=0.1, sits=0.3,
    ),
    "cat": Build(
        (0.25, 0.31), 0.92, (0.18, 0.175), (0.045, 0.065, 0.1), (0.13, 0.12, 0.7), (0.2, 0.17, 0.17), (0.06, 0.08),
        (0.06, 0.1, 0.0), (0.85, 0.9),
        ((0.85, 0.55, 0.25), (0.13, 0.12, 0.12), (0.55, 0.53, 0.5), (0.9, 0.88, 0.84), (0.45, 0.36, 0.27)),
        (0.03, 0.55), sits=0.45,
    ),
    "horse": Build(
        (1.4, 1.65), 0.7, (0.175, 0.185), (0.03, 0.048, 0.075), (0.46, 0.1, 0.9), (0.068, 0.15, 0.09), (0.17, 0.055),
        (0.022, 0.055, 0.0), (0.45, -1.2),
        ((0.42, 0.24, 0.13), (0.26, 0.16, 0.1), (0.16, 0.13, 0.12), (0.75, 0.73, 0.7), (0.62, 0.42, 0.22)),
        (0.3, 0.85), lowers=0.25,
    ),
    "cow": Build(
        (1.25, 1.45), 0.82, (0.215, 0.25), (0.036, 0.055, 0.08), (0.26, 0.125, 0.35), (0.088, 0.14, 0.09),
        (0.13, 0.075), (0.035, 0.07, 1.0), (0.5, -1.4),
        ((0.88, 0.86, 0.82), (0.45, 0.26, 0.15), (0.72, 0.52, 0.33), (0.16, 0.14, 0.13)),
        (0.35, 0.3), lowers=0.35,
    ),
    "sheep": Build(
        (0.62, 0.76), 0.58, (0.27, 0.32), (0.038, 0.05, 0.06), (0.16, 0.14, 0.6), (0.1, 0.15, 0.11), (0.11, 0.07),
        (0.04, 0.09, 1.0), (0.14, -0.9),
        ((0.9, 0.87, 0.78), (0.82, 0.78, 0.7), (0.86, 0.85, 0.83)),
        (0.05, 0.82), lowers=0.45,
    ),
}  # fmt: skip


def quadruped(draw: Draw, label: int, kind: str, alert: bool = False) -> Item:
    """One of ``BUILDS``, standing, walking, grazing or sitting; if ``alert``, on its legs with the head up."""
    build = BUILDS[kind]
    h = draw.span(*build.height)
    size, contrast = build.patches
    coat = draw.material("speckle", build.coats, size, contrast)
    limb = draw.plain(((0.13, 0.12, 0.11), (0.6, 0.55, 0.48))) if kind == "sheep" else coat
    sits, down = (draw.chance(share) and not alert for share in (build.sits, build.lowers))
    item = Item(0.5 * h, (build.length + 0.7) * h, 1.3 * h).begin(label)
    shoulder, hip = _trunk(item, build, h, draw.span(0.75, 0.95) if sits else 0.0, coat)
    _legs(item, draw, build, h, shoulder, hip, sits, limb)
    head = _neck(item, draw, build, h, shoulder, down and not sits, coat)
    _head(item, build, h, head, limb, draw.chance(build.ear[2]))
    if kind == "cow":
        _horns(item, h, head)
    if kind == "horse":
        _mane(item, build, h, shoulder, head)
    _tail(item, build, h, hip, sits, BLACK if kind == "horse" else coat)
    return item


def _trunk(item: Item, build: Build, h: float, pitch: float, coat: Material) -> tuple[Array, Array]:
    """The trunk, raised in front by ``pitch``; returns where shoulders and hips are."""
    ends, middle = (g * h for g in build.girth)
    along = np.array([0.0, math.cos(pitch), math.sin(pitch)]) * build.length * h
    if pitch:
        hip = np.array([0.0, -0.3 * build.length * h, 0.9 * ends])
    else:
        hip = np.array([0.0, -build.length * h / 2, h - ends])
    shoulder = hip + along
    for point, share in ((hip, 0.95), (shoulder, 1.0)):
        item.ball(point, (0.85 * share * ends, 1.05 * share * ends, share * ends), coat)
    size = (0.9 * middle, middle, 0.62 * build.length * h)
    item.add("sphere", size, Pose.along((shoulder + hip) / 2 - (0, 0, 0.02 * h), along), coat)
    return shoulder, hip


def _legs(
    item: Item, draw: Draw, build: Build, h: float, shoulder: Array, hip: Array, sits: bool, coat: Material
) -> None:
    shank, arm, thigh = (r * h for r in build.leg)
    for side in SIDES:
        for joint, thick in ((shoulder, arm), (hip, thigh)):
            behind = joint is hip
            top = joint + (0.55 * side * build.girth[0] * h, 0.0, -0.2 * build.girth[0] * h)
            step = 0.0 if sits else draw.span(-0.13, 0.13) * h
            foot = np.array([0.9 * top[0], top[1] + step, shank])
            if sits and behind:  # folded: thigh and foot lie on the floor
                knee, foot = top + (0.3 * side * thigh, 0.3 * h, -0.4 * thigh), foot + (0.0, 0.34 * h, 0.0)
            else:
                way = foot - top
                bone = (0.515 if behind else 0.502) * math.sqrt(way @ way)
                knee, foot = bent(top, foot, bone, bone, (0.0, -1.0 if behind else 1.0, 0.0))
            item.tube(top, knee, thick, coat).tube(knee, foot, shank, coat)
            item.ball(foot + (0.0, 0.4 * shank, -0.15 * shank), (1.25 * shank, 1.7 * shank, 0.85 * shank), coat)


def _neck(item: Item, draw: Draw, build: Build, h: float, shoulder: Array, down: bool, coat: Material) -> Pose:
    """The neck; returns the head's pose: y forward."""
    length, radius, lift = build.neck
    angle, sway = -0.75 if down else lift + draw.span(-0.15, 0.1), draw.span(-0.35, 0.35)
    way = np.array([math.sin(sway) * math.cos(angle), math.cos(sway) * math.cos(angle), math.sin(angle)])
    root = shoulder + (0.0, 0.3 * build.girth[0] * h, 0.3 * build.girth[0] * h)
    top = root + length * h * way
    item.tube(root, (root + top) / 2, 1.15 * radius * h, coat).tube((root + top) / 2, top, 0.85 * radius * h, coat)
    nod = -1.0 if down else -0.3 - 0.4 * (lift > 0.85)
    return Pose.at(*top, yaw=-sway) @ Pose.at(0, 0, 0, roll=nod)


def _head(item: Item, build: Build, h: float, head: Pose, coat: Material, hangs: bool) -> None:
    w, half, tall = (a * h for a in build.head)
    long, r = (a * h for a in build.muzzle)
    wide, high = (a * h for a in build.ear[:2])

    def ball(place: Point, size: Point, material: Material, **turn: float) -> None:
        item.add("sphere", tuple(size), head @ Pose.at(*place, **turn), material)

    ball((0, 0.35 * half, 0), (w, half, tall), coat)
    tip = 1.2 * half + long
    ball((0, tip - long, -0.25 * tall), (r, 1.15 * long, 0.95 * r), coat)
    ball((0, tip + 0.05 * long, -0.15 * tall), (0.5 * r, 0.14 * long, 0.4 * r), BLACK)
    for side in SIDES:
        ball((0.6 * w * side, 0.95 * half, 0.35 * tall), (0.15 * w, 0.15 * w, 0.15 * w), BLACK)
        if hangs:
            ball((side * (w + 0.4 * high), -0.1 * half, 0.3 * tall), (high, 0.6 * wide, wide), coat, pitch=0.5 * side)
        else:
            ball((0.6 * w * side, 0, 0.85 * tall + 0.4 * high), (wide, 0.4 * wide, high), coat, pitch=0.25 * side)


def _horns(item: Item, h: float, head: Pose) -> None:
    for side in SIDES:
        points = ((0.045 * side * h, 0.0, 0.07 * h), (0.12 * side * h, 0.02 * h, 0.16 * h))
        item.tube(*(head.rotation @ p + head.position for p in points), 0.015 * h, HORN)


def _mane(item: Item, build: Build, h: float, shoulder: Array, head: Pose) -> None:
    """Along the back of the neck, and a tuft between the ears."""
    radius, neck = build.neck[1] * h, head.position - shoulder
    back = np.cross(np.cross(neck, (0.0, -0.5, 1.0)), neck)  # across the neck, upwards
    top = head.position + 0.8 * radius * back / math.sqrt(back @ back)
    tuft = head.rotation @ (0, 0.5 * build.head[1] * h, build.head[2] * h) + head.position
    item.tube(shoulder + (0, -0.3 * radius, 0.9 * build.girth[0] * h), top, 0.45 * radius, BLACK)
    item.tube(top, tuft, 0.3 * radius, BLACK)


def _tail(item: Item, build: Build, h: float, hip: Array, sits: bool, coat: Material) -> None:
    """In two straight pieces."""
    length, lift = build.tail
    lift, r = (0.1 if sits else lift), 0.75 * build.leg[0] * h
    point = hip + (0.0, -0.85 * build.girth[0] * h, 0.0 if sits else 0.5 * build.girth[0] * h)
    for angle in (0.6 * lift, lift):
        after = point + 0.5 * length * h * np.array([0.15, -math.cos(angle), math.sin(angle)])
        after[2] = max(after[2], r)
        item.tube(point, after, r, coat)
        point = after


def bird(draw: Draw, label: int, flies: bool = False) -> Item:
    """A bird between a pigeon and a goose: on its legs, or with spread wings around its origin."""
    h = draw.span(0.3, 0.6)
    plume = draw.material("speckle", PLUMES, 0.03, 0.8)
    wing = draw.material("speckle", PLUMES, 0.03, 0.7)
    beak = draw.plain(BEAKS)
    item = Item((1.8 if flies else 0.4) * h, 1.2 * h, h).begin(label)
    body = Pose.at(0, 0, 0 if flies else 0.5 * h, roll=0.1 if flies else 0.4)

    def ball(place: Point, size: Point, material: Material, **turn: float) -> None:
        item.add("sphere", tuple(a * h for a in size), body @ Pose.at(*(a * h for a in place), **turn), material)

    ball((0, 0, 0), (0.16, 0.34, 0.17), plume)
    ball((0, -0.42, 0.0), (0.08, 0.2, 0.025), wing)
    for side in SIDES:
        if flies:
            beat = draw.span(0.1, 0.5)
            ball((0.45 * side, 0.02, 0.12 + 0.3 * beat), (0.42, 0.13, 0.03), wing, pitch=-side * beat)
        else:
            ball((0.13 * side, -0.08, 0.03), (0.05, 0.32, 0.12), wing)
            item.tube((0.06 * side * h, 0, 0.4 * h), (0.07 * side * h, 0.04 * h, 0.02 * h), 0.018 * h, beak)
            item.ball((0.07 * side * h, 0.08 * h, 0.015 * h), (0.05 * h, 0.08 * h, 0.015 * h), beak)
    _bird_head(item, draw, body, h, flies, plume, beak)
    return item


def _bird_head(item: Item, draw: Draw, body: Pose, h: float, flies: bool, plume: Material, beak: Material) -> None:
    neck = draw.span(0.08, 0.3)
    root = body.rotation @ (0, 0.26 * h, 0.08 * h) + body.position
    top = root + (np.array([0.0, 0.9, 0.15]) if flies else np.array([0.0, 0.3, 0.95])) * neck * h
    item.tube(root, top, 0.075 * h, plume)
    head = Pose.at(*top, yaw=0.0 if flies else draw.span(-0.7, 0.7)) @ Pose.at(0, 0.05 * h, 0.05 * h)
    item.add("sphere", (0.095 * h, 0.12 * h, 0.1 * h), head, plume)
    item.add("sphere", (0.03 * h, 0.11 * h, 0.025 * h), head @ Pose.at(0, 0.16 * h, -0.02 * h), beak)
    for side in SIDES:
        item.add("sphere", (0.02 * h,) * 3, head @ Pose.at(0.08 * side * h, 0.05 * h, 0.03 * h), BLACK)


def rider(draw: Draw, horse: int, person: int) -> Item:
    """A saddled horse, and a person on it; two things, of these classes."""
    mount = quadruped(draw, horse, "horse", alert=True)
    h = mount.height / 1.3
    leather = draw.plain(((0.20, 0.12, 0.08), (0.10, 0.09, 0.09)))
    mount.ball((0, 0, 0.965 * h), (0.13 * h, 0.17 * h, 0.04 * h), leather)
    posture = functools.partial(
        figures.riding,
        saddle=(0, -0.01 * h, h),
        bars=tuple((0.05 * side * h, 0.28 * h, 1.12 * h) for side in SIDES),
        pedals=tuple((0.24 * side * h, 0.06 * h, 0.45 * h) for side in SIDES),
        lean=0.05,
        knees=0.7,
    )
    pair = Item(mount.width, mount.depth, 1.6 * h).put(mount, 0, 0)
    return pair.put(figures.person(draw, person, posture, draw.span(1.55, 1.85)), 0, 0)
