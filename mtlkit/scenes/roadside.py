"""A catalogue of what stands along a street, by the classes of Cityscapes: houses, walls, fences, lamps, traffic
lights, signs, trees and hedges.

As in Cityscapes, trunks count as vegetation, lamps and posts as pole, grass as terrain. Each function draws one thing
at random. It stands around its own origin on the ground and faces +y; what is long (a wall, a hedge) runs along x.

Units: metres, radians. Common names: ``w``, ``d``, ``h`` whole width, depth and height, ``r`` radius, ``z`` height
above the ground.
"""

from __future__ import annotations

import dataclasses
import math

from .drawing import Draw, Item
from .textures import STOREY, Material
from .vehicles import (
    BLACK,
    BUILDING,
    FENCE,
    GLASS,
    LIVERIES,
    POLE,
    STEEL,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    VEGETATION,
    WALL,
)
from .world import Pose

PLASTERS = (
    (0.84, 0.79, 0.67), (0.78, 0.70, 0.55), (0.74, 0.58, 0.46), (0.86, 0.84, 0.80), (0.66, 0.68, 0.66),
    (0.70, 0.45, 0.36), (0.60, 0.40, 0.33), (0.80, 0.72, 0.42), (0.62, 0.68, 0.74),
)  # fmt: skip
CONCRETES = ((0.62, 0.61, 0.58), (0.70, 0.68, 0.64), (0.55, 0.55, 0.55))
BRICKS = ((0.55, 0.28, 0.20), (0.62, 0.42, 0.30), (0.66, 0.62, 0.54))
ROOFS = ((0.48, 0.22, 0.16), (0.30, 0.20, 0.18), (0.26, 0.27, 0.30), (0.56, 0.30, 0.20))
WINDOWS = ((0.20, 0.26, 0.32), (0.28, 0.33, 0.38), (0.15, 0.18, 0.22))
LEAVES = ((0.30, 0.46, 0.17), (0.36, 0.52, 0.20), (0.26, 0.42, 0.21), (0.48, 0.54, 0.22))
BARKS = ((0.34, 0.27, 0.21), (0.42, 0.37, 0.31))
TIMBERS = ((0.46, 0.34, 0.23), (0.60, 0.48, 0.34), (0.82, 0.81, 0.77), (0.33, 0.38, 0.34))
INK = (0.10, 0.10, 0.11)
RED, BLUE, YELLOW, WHITE = ((0.75, 0.08, 0.08), (0.08, 0.25, 0.62), (0.92, 0.75, 0.10), (0.93, 0.93, 0.92))


def _plain(colour: tuple[float, float, float], emission: float = 0.0) -> Material:
    return Material("plain", colour, emission=emission)


# --- houses -----------------------------------------------------------------------------------------------------------


def _front(draw: Draw) -> Material:
    """Plaster with windows."""
    return draw.mixture("facade", PLASTERS, WINDOWS, (1.9, 2.6), 0.03)


def _body(item: Item, front: Material, pairs: int, storeys: int, d: float, base: float = 0.0) -> tuple[float, float]:
    """A block with this many pairs of windows and storeys above ``base``; its width and its top.

    Windows are counted from the middle of the block, so it reaches as far below the ground as that needs.
    """
    w, each = 2 * pairs * front.scale, STOREY * front.scale
    low = base - each * (storeys % 2)
    top = base + storeys * each
    item.box((0, 0, low), (w, d, top - low), front)
    return w, top


def town_house(draw: Draw, shop: bool) -> Item:
    """One of a closed row; perhaps with a shop below."""
    front, d = _front(draw), 12.0
    base = 3.6 if shop else 0.8
    item = Item(0, d, 0).begin(BUILDING)
    item.width, top = _body(item, front, draw.whole(2, 4), draw.whole(2, 5), d, base)
    w = item.width
    plinth = draw.plain(CONCRETES)
    item.box((0, 0, 0), (w, d + 0.1, base), plinth)
    if shop:
        _shop(draw, item, w, d / 2 + 0.05, base)
    else:
        item.box((draw.span(-0.3, 0.3) * w, d / 2 + 0.05, 0.1), (1.2, 0.1, 2.3), draw.plain(TIMBERS))
    item.box((0, 0, top - 0.25), (w, d + 0.5, 0.3), _plain(tuple(min(1.15 * c, 0.95) for c in front.colour)))
    if draw.chance(0.6):
        run, rise, roof = d / 2 + 0.2, draw.span(2.0, 3.5), draw.material("planks", ROOFS, 0.3, 0.8)
        item.wedge((0, run / 2, top), (run, w, rise), roof, yaw=-math.pi / 2)
        item.wedge((0, -run / 2, top), (run, w, rise), roof, yaw=math.pi / 2)
        top += rise
    item.height = top
    return item


def _shop(draw: Draw, item: Item, w: float, y: float, h: float) -> None:
    """Windows, a door, a lettered band and perhaps an awning before the ground floor."""
    panes = max(2, round(w / 3.2))
    each, lit = w / panes, 0.0 if draw.chance(0.5) else draw.span(0.4, 0.7)
    goods = draw.mixture("painting", WINDOWS, (*LIVERIES, (0.8, 0.75, 0.6)), 0.8, emission=lit)
    for i in range(panes):
        x = (i - (panes - 1) / 2) * each
        if i == panes // 2:
            item.box((x, y, 0.1), (1.3, 0.08, 2.3), GLASS)
        else:
            item.box((x, y, 0.55), (each - 0.5, 0.08, 1.9), goods)
    sign = draw.colour((*LIVERIES, (0.2, 0.2, 0.22), (0.85, 0.84, 0.8)), 0.05)
    item.box((0, y, h - 0.85), (w - 0.4, 0.14, 0.6), _plain(sign))
    letters = Material("stripes", INK if sum(sign) > 1.6 else WHITE, sign, 0.5)
    item.box((draw.span(-0.15, 0.15) * w, y + 0.08, h - 0.72), (0.35 * w, 0.02, 0.34), letters)
    if draw.chance(0.4):
        cloth = draw.mixture("stripes", LIVERIES, (WHITE,), 0.7)
        item.wedge((0, y + 0.55, h - 1.25), (1.1, w - 1.0, 0.5), cloth, yaw=-math.pi / 2)


def cottage(draw: Draw) -> Item:
    """A house with a garden around it: a gabled roof, a door, a chimney."""
    front, d = _front(draw), draw.span(8.0, 10.0)
    item = Item(0, d, 0).begin(BUILDING)
    w, top = _body(item, front, draw.whole(2, 3), draw.whole(1, 2), d, 0.4)
    roof = draw.material("planks", ROOFS, 0.3, 0.8)
    rise = draw.span(2.4, 3.6)
    if draw.chance(0.5):  # the ridge runs along the street
        run, long, turns = d / 2 + 0.4, w + 0.6, (-math.pi / 2, math.pi / 2)
    else:
        run, long, turns = w / 2 + 0.4, d + 0.6, (0.0, math.pi)
    for yaw in turns:
        x, y = -math.cos(yaw) * run / 2, -math.sin(yaw) * run / 2
        item.wedge((x, y, top), (run, long, rise), roof, yaw=yaw)
    item.box((0.25 * w, -0.1 * d, top + 0.3 * rise), (0.6, 0.6, 0.9 * rise), draw.plain(BRICKS))
    item.box((draw.span(-0.1, 0.1) * w, d / 2, 0), (1.1, 0.12, 2.3), draw.plain(TIMBERS))
    item.box((0, d / 2 + 0.4, 0), (2.0, 0.8, 0.2), draw.plain(CONCRETES))
    item.width, item.height = w, top + rise
    return item


def works(draw: Draw) -> Item:
    """A hall with gates."""
    w, d, h = draw.span(18.0, 32.0), 16.0, draw.span(6.0, 9.5)
    item = Item(w, d, h).begin(BUILDING)
    item.box((0, 0, 0), (w, d, h), draw.material("stripes", (*CONCRETES, *PLASTERS), draw.span(0.5, 1.2), 0.92))
    item.box((0, 0, h - 0.1), (w + 0.3, d + 0.3, 0.35), draw.plain(ROOFS))
    item.box((0, d / 2, h - 2.0), (w - 1.5, 0.06, 1.0), Material("doors", GLASS.colour, (0.4, 0.42, 0.42), 1.5))
    gate = draw.material("stripes", LIVERIES, 0.3, 0.85)
    for i in range(max(2, round(w / 8))):
        item.box((-w / 2 + 4 + 8 * i, d / 2, 0), (3.6, 0.1, 3.9), gate)
    return item


def block(draw: Draw, w: float) -> Item:
    """A plain block of flats for the background, about this wide."""
    front, d = _front(draw), 12.0
    item = Item(0, d, 0).begin(BUILDING)
    item.width, top = _body(item, front, max(2, round(w / 2 / front.scale)), draw.whole(3, 6), d)
    item.box((0, 0, top), (item.width + 0.3, d + 0.3, 0.5), draw.plain((*ROOFS, *CONCRETES)))
    item.height = top
    return item


# --- walls and fences -------------------------------------------------------------------------------------------------


def wall(draw: Draw, w: float, h: float) -> Item:
    """A free-standing wall of stones, bricks or concrete, with a coping."""
    item = Item(w, 0.4, h).begin(WALL)
    texture, palette, scale = draw.one(
        (("planks", BRICKS, 0.3), ("speckle", CONCRETES, 0.8), ("planks", CONCRETES, 0.5))
    )
    face = draw.material(texture, palette, scale, 0.72)
    item.add("box", (w / 2, h / 2, 0.16), Pose.at(0, 0, h / 2, roll=math.pi / 2), face)
    return item.box((0, 0, h), (w, 0.42, 0.09), draw.plain(CONCRETES))


def fence(draw: Draw, w: float, h: float) -> Item:
    """Boards, or rails between posts that one can look through."""
    item = Item(w, 0.15, h).begin(FENCE)
    if draw.chance(0.5):
        boards = draw.material("stripes", TIMBERS, draw.span(0.2, 0.3), 0.62)
        item.box((0, 0, 0.08), (w, 0.05, h - 0.08), boards)
        every, post = 3.0, draw.plain(TIMBERS)
    else:
        every, post = 1.6, draw.one((STEEL, BLACK, draw.plain(TIMBERS)))
        for z in (0.3, 0.62, 0.94):
            item.box((0, 0, z * h - 0.04), (w, 0.05, 0.09), post)
    count = max(2, round(w / every) + 1)
    for i in range(count):
        item.box(((i / (count - 1) - 0.5) * (w - 0.1), 0, 0), (0.1, 0.1, h + 0.06), post)
    return item


def railing(draw: Draw, w: float, h: float) -> Item:
    """Close iron bars between two rails."""
    item, iron = Item(w, 0.1, h).begin(FENCE), draw.one((STEEL, BLACK))
    for z in (0.12, h - 0.05):
        item.box((0, 0, z), (w, 0.05, 0.06), iron)
    count = round(w / 0.28)
    for i in range(count + 1):
        item.box(((i / count - 0.5) * (w - 0.05), 0, 0), (0.045, 0.045, h), iron)
    return item


# --- poles, lights, signs ---------------------------------------------------------------------------------------------


def lamp(draw: Draw) -> Item:
    """A street lamp; its arm reaches towards +y."""
    h, reach = draw.span(5.5, 8.0), draw.span(0.8, 1.8)
    item = Item(0.4, 0.4, h).begin(POLE)
    paint = draw.one((STEEL, _plain((0.22, 0.26, 0.24)), _plain((0.42, 0.43, 0.44))))
    item.rod((0, 0, 0), 0.13, 0.9, paint).rod((0, 0, 0.9), 0.085, h - 0.9, paint)
    item.tube((0, 0, h), (0, reach, h + 0.25), 0.05, paint)
    return item.ball((0, reach + 0.25, h + 0.25), (0.14, 0.36, 0.09), paint)


def bollard(draw: Draw) -> Item:
    """A low post at the kerb."""
    item = Item(0.2, 0.2, 0.95).begin(POLE)
    item.rod((0, 0, 0), 0.075, 0.9, draw.one((STEEL, BLACK))).rod((0, 0, 0.62), 0.08, 0.1, _plain(WHITE))
    return item.ball((0, 0, 0.9), (0.075, 0.075, 0.06), BLACK)


def signal(draw: Draw, lit: int, arm: float = 0.0) -> Item:
    """A traffic light (``lit``: 0 red, 1 amber, 2 green) on a pole; with an ``arm`` of this length, a second one hangs
    from it to the left of the pole, as one sees it.
    """
    item = Item(0.4, 0.4, 3.4).begin(POLE)
    item.rod((0, 0, 0), 0.08, 5.6 if arm else 3.3, STEEL)
    if arm:
        item.tube((0, 0, 5.5), (arm, 0, 5.7), 0.06, STEEL)
    for x, z in ((0.0, 2.35), (arm, 4.75))[: 2 if arm else 1]:
        item.begin(TRAFFIC_LIGHT).box((x, 0.16, z), (0.34, 0.24, 1.02), BLACK)
        item.box((x, 0.04, z - 0.08), (0.52, 0.03, 1.18), BLACK)
        for i, colour in enumerate(((0.95, 0.12, 0.10), (0.96, 0.66, 0.10), (0.10, 0.80, 0.42))):
            glass = _plain(colour, 1.0) if i == lit else _plain(tuple(0.22 * c for c in colour))
            item.disc((x, 0.28, z + 0.82 - 0.31 * i), 0.125, 0.06, glass, roll=math.pi / 2)
    return item


def sign(draw: Draw) -> Item:
    """A traffic sign on its pole: a disc, a square, a diamond, a triangle or a board."""
    item, z = Item(0.6, 0.3, 2.8).begin(POLE), 2.35
    item.rod((0, -0.06, 0), 0.045, 2.8, STEEL)
    kind, r = draw.whole(0, 4), draw.span(0.34, 0.42)
    item.begin(TRAFFIC_SIGN)
    if kind == 0:
        rim, face = draw.one(((RED, WHITE), (RED, RED), (BLUE, BLUE)))
        item.disc((0, 0, z), r, 0.04, _plain(rim), roll=math.pi / 2)
        item.disc((0, 0.02, z), 0.74 * r, 0.03, _plain(face), roll=math.pi / 2)
        if rim == face:  # no entry, or a way to go
            item.box((0, 0.03, z - 0.07), (1.2 * r, 0.03, 0.14), _plain(WHITE))
    elif kind == 1:
        item.box((0, 0, z - r), (2 * r, 0.04, 2 * r), _plain(BLUE))
        item.box((0, 0.02, z - 0.45 * r), (0.9 * r, 0.03, 0.9 * r), _plain(WHITE))
    elif kind == 2:
        for half, colour, y in ((r, WHITE, 0.0), (0.78 * r, YELLOW, 0.02)):
            item.add("box", (half, 0.02, half), Pose.at(0, y, z, pitch=math.pi / 4), _plain(colour))
    elif kind == 3:
        for share, colour, y in ((1.0, RED, 0.0), (0.62, WHITE, 0.015)):
            _triangle(item, share * 1.2 * r, y, z - (0.2 + 0.4 * share) * r, _plain(colour))
    else:
        w = draw.span(0.9, 1.5)
        board = _plain(draw.one((YELLOW, BLUE, WHITE)))
        item.box((0, 0, z - 0.35), (w, 0.04, 0.75), board)
        text = Material("stripes", WHITE if board.colour == BLUE else INK, board.colour, 0.14)
        for up in (0.1, -0.22):
            item.box((0, 0.02, z + up), (0.75 * w, 0.02, 0.16), text)
    return item


def _triangle(item: Item, r: float, y: float, z: float, material: Material) -> None:
    """Standing on a side of 2 r, its foot at this height."""
    for x, yaw in ((-r / 2, 0.0), (r / 2, math.pi)):
        item.wedge((x, y, z), (r, 0.03, 1.7 * r), material, yaw=yaw)


def litter(draw: Draw) -> Item:
    """What Cityscapes leaves unlabelled: a bin, a bench, an electricity box, rubbish sacks."""
    item, kind = Item(0.6, 0.6, 1.0).begin(-1), draw.whole(0, 3)
    if kind == 0:
        item.rod((0, 0, 0.1), 0.24, 0.75, draw.plain((*LIVERIES, (0.3, 0.32, 0.3)))).rod(
            (0, 0, 0.85), 0.27, 0.06, BLACK
        )
    elif kind == 1:
        timber = draw.plain(TIMBERS)
        item.box((0, 0, 0.42), (1.6, 0.45, 0.06), timber).box((0, -0.22, 0.55), (1.6, 0.05, 0.35), timber, roll=0.15)
        for x in (-0.65, 0.65):
            item.box((x, 0, 0), (0.08, 0.4, 0.42), BLACK)
    elif kind == 2:
        item.box((0, 0, 0), (0.9, 0.4, 1.2), draw.plain(((0.52, 0.55, 0.52), (0.45, 0.48, 0.42))))
    else:
        for i in range(draw.whole(2, 4)):
            size = draw.span(0.2, 0.3)
            sack = draw.plain(((0.12, 0.12, 0.13), (0.75, 0.68, 0.2)))
            item.ball((0.4 * (i - 1), draw.span(-0.1, 0.1), 0.7 * size), (size, 0.9 * size, 0.9 * size), sack)
    return item


# --- plants -----------------------------------------------------------------------------------------------------------


def _leaves(draw: Draw, scale: float = 0.3) -> Material:
    return draw.material("speckle", LEAVES, scale, 0.5)


def tree(draw: Draw, r: float, lobes: int = 5) -> Item:
    """A tree whose crown stays within ``r`` of its trunk, from 2.6 m up."""
    h = draw.span(2.0, 3.2) * r
    item, leaves = Item(0.5, 0.5, 2.6 + h).begin(VEGETATION), _leaves(draw)
    bark = draw.material("speckle", BARKS, 0.12, 0.7)
    item.rod((0, 0, 0), 0.09 + 0.05 * r, 2.9, bark)
    if draw.chance(0.2):
        return item.ball((0, 0, 2.3 + 0.62 * h), (0.6 * r, 0.6 * r, 0.62 * h), leaves)
    item.ball((0, 0, 2.7 + h / 2), (0.72 * r, 0.72 * r, h / 2), leaves)
    for i in range(lobes - 1):
        around, size = 2.4 * i + draw.span(0, 0.7), draw.span(0.42, 0.55) * r
        away, z = r - size, 2.6 + size + draw.span(0.0, 0.55) * (h - 2 * size)
        shade = dataclasses.replace(leaves, colour=tuple(c * draw.span(0.85, 1.15) for c in leaves.colour))
        item.ball((away * math.cos(around), away * math.sin(around), z), (size, size, 0.85 * size), shade)
    return item


def bush(draw: Draw, r: float) -> Item:
    """Two or three round shrubs."""
    item, leaves = Item(2 * r, 2 * r, 1.6 * r).begin(VEGETATION), _leaves(draw, 0.2)
    item.ball((0, 0, 0.5 * r), (0.8 * r, 0.8 * r, 0.9 * r), leaves)
    for i in range(draw.whole(1, 2)):
        x, size = (0.5 - i) * r, draw.span(0.45, 0.55) * r
        item.ball((x, draw.span(0.1, 0.35) * r, 0.4 * r), (size, size, 0.8 * size), leaves)
    return item


def hedge(draw: Draw, w: float, h: float) -> Item:
    """A clipped hedge."""
    leaves = _leaves(draw, 0.18)
    item = Item(w, 0.7, h).begin(VEGETATION).box((0, 0, 0), (w, 0.6, h - 0.2), leaves)
    return item.bar((0, 0, h - 0.28), 0.3, w - 0.6, leaves, pitch=math.pi / 2)


def wood(draw: Draw, w: float) -> Item:
    """The edge of a wood, for the background."""
    item, leaves, h = Item(w, 12.0, 14.0).begin(VEGETATION), _leaves(draw, 0.9), draw.span(5.0, 8.0)
    count = max(3, round(w / 6))
    for i in range(count):
        x, up = ((i + 0.5) / count - 0.5) * w, draw.span(0.8, 1.3) * h
        shade = dataclasses.replace(leaves, colour=tuple(c * draw.span(0.85, 1.15) for c in leaves.colour))
        item.ball((x, draw.span(-2, 2), 0.2 * up), (draw.span(0.6, 0.9) * w / count, 4.0, up), shade)
    return item
