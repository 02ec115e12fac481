"""Geometry: what a transform makes of a render is what a changed camera renders.

A camera may be mirrored or rolled through its pose, and have a longer lens. ``parts`` holds the number of each pixel
in some of these tests, so that a result says where it was read from.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtlkit import scenes
from mtlkit.errors import KitError
from mtlkit.scenes.render import Camera, Pose, render
from mtlkit.transforms import Pad, Resize, ScaleCrop, ScaleRotate, Warp, generator, horizontal_flip

FAMILIES = st.sampled_from(sorted(scenes.FAMILIES))
INDEX = st.integers(0, 20)
# edges lie on the nearer of two neighbours, so they are as wide as a pixel, whichever size a pixel has
EVERY = ("image", "semantic", "depth", "normals", "albedo", "edges", "saliency", "flow", "motion", "parts")


def shot(family, index, height, width, change=None, lens=1.0):
    """A render before a camera whose axes are changed, and whose lens is longer; without smoothed outlines, whose four
    samples lie otherwise in a mirror.
    """
    made = scenes.FAMILIES[family].compose("train", index, 0)
    now, before = (
        Camera(Pose(pose.rotation if change is None else pose.rotation @ change, pose.position), made.focal * 64 * lens)
        for pose in (made.pose, made.previous)
    )
    fields = render(made.scene, now, height, width, before, smooth=False)
    return {name: torch.from_numpy(value) for name, value in fields.items() if name in EVERY}


def agree(made, expected, names=EVERY, at=(...,), but=0.0):
    """Equal at these pixels, to the rounding of float32; ``but`` is the share of pixels on which rays may disagree."""
    for name in expected:
        if name in names:
            mine, theirs = made[name][(..., *at)].double(), expected[name][(..., *at)].double()
            differs = (mine - theirs).abs() > 1e-4 * (1 + theirs.abs())
            assert differs.float().mean() <= but, name


# --- a changed camera -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(family=FAMILIES, index=INDEX)
def test_a_flip_is_what_a_mirrored_camera_sees(family, index):
    plain = shot(family, index, 48, 64)
    agree(horizontal_flip(plain), shot(family, index, 48, 64, np.diag([-1.0, 1.0, 1.0])), set(EVERY) - {"edges"})


@settings(deadline=None, max_examples=12)
@given(family=FAMILIES, index=INDEX, quarters=st.integers(1, 3))
def test_a_turn_is_what_a_rolled_camera_sees(family, index, quarters):
    """By right angles, at which pixels fall upon pixels. A picture that turns counter-clockwise is one of a camera
    that rolls clockwise: its new axis to the right is the old one downwards.
    """
    roll = np.linalg.matrix_power(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), quarters)
    plain = shot(family, index, 64, 64)
    made = ScaleRotate().carry(plain, Warp((64, 64), (64, 64), angle=90.0 * quarters))
    # a ray along a border of two solids may fall to the other one
    agree(made, shot(family, index, 64, 64, roll), set(EVERY) - {"edges"}, but=0.003)
    assert torch.equal(made["image"], torch.rot90(plain["image"], quarters, (1, 2)))
    assert torch.equal(made["semantic"], torch.rot90(plain["semantic"], quarters))


@settings(deadline=None, max_examples=12)
@given(family=FAMILIES, index=INDEX, data=st.data())
def test_a_zoom_by_three_is_what_a_longer_lens_sees(family, index, data):
    """Every third pixel of the result lies upon one of the picture. A part beside the middle is compared with that
    part of a picture of three times the size.
    """
    row, column = data.draw(st.integers(0, 32)), data.draw(st.integers(0, 44))
    made = ScaleCrop().carry(shot(family, index, 48, 66), zoomed((48, 66), row, column))
    large = shot(family, index, 144, 198, lens=3)
    part = {name: value[..., 3 * row : 3 * row + 48, 3 * column : 3 * column + 66] for name, value in large.items()}
    same = {"semantic", "depth", "normals", "albedo", "saliency", "flow", "motion", "parts"}
    agree(made, part, same | {"image"}, (slice(1, None, 3), slice(1, None, 3)), but=0.003)


@settings(deadline=None, max_examples=6)
@given(family=FAMILIES, index=INDEX)
def test_the_middle_enlarged_is_the_same_camera_with_a_longer_lens(family, index):
    made = ScaleCrop(3.0, 3.0).carry(shot(family, index, 48, 66), zoomed((48, 66), 16, 22))
    longer = shot(family, index, 48, 66, lens=3)
    # what was seen in the previous picture may lie outside that of the longer lens
    made["flow"][2], longer["flow"][2] = 0, 0
    names = {"image", "semantic", "depth", "normals", "albedo", "flow", "motion"}
    agree(made, longer, names, (slice(1, None, 3), slice(1, None, 3)), but=0.003)


def zoomed(whole, row, column):
    """The third of a picture whose upper left pixel is this, enlarged to the whole."""
    offset = tuple(start + n / 6 - n / 2 for start, n in zip((row, column), whole, strict=True))
    return Warp(whole, whole, zoom=(3.0, 3.0), offset=offset)


@settings(deadline=None, max_examples=6)
@given(family=FAMILIES, index=INDEX)
def test_a_crop_in_pixels_is_a_part_bit_for_bit(family, index):
    plain = shot(family, index, 48, 64)
    made = ScaleCrop().carry(plain, Warp((48, 64), (24, 32)))
    for name in set(plain) - {"normals"}:
        assert torch.equal(made[name], plain[name][..., 12:36, 16:48]), name
    assert torch.allclose(made["normals"], plain["normals"][..., 12:36, 16:48], atol=1e-6)


def test_no_turn_and_no_scale_is_the_identity():
    plain = shot("people", 1, 48, 64)
    for same in (ScaleRotate(0.0, 1.0, 1.0), ScaleCrop(1.0, 1.0), Resize(48, 64), Pad(16)):
        made = same(plain, generator(3))
        assert all(torch.equal(made[name], plain[name]) for name in plain), same


# --- any angle, zoom and place ----------------------------------------------------------------------------------------


@st.composite
def warps(draw, square=False):
    whole = (draw(st.integers(4, 30)), draw(st.integers(4, 30)))
    size = (draw(st.integers(4, 30)), draw(st.integers(4, 30)))
    down = draw(st.floats(0.5, 3.0))
    across = down if square else draw(st.floats(0.5, 3.0))
    offset = (draw(st.floats(-8, 8)), draw(st.floats(-8, 8)))
    return Warp(whole, size, draw(st.floats(-180, 180)), (down, across), offset)


def numbered(whole):
    """(row, column, number) of every pixel."""
    rows, columns = torch.meshgrid(torch.arange(whole[0]), torch.arange(whole[1]), indexing="ij")
    return rows, columns, rows * whole[1] + columns


def forward(warp, y, x):
    """Where places of the picture lie in the result: (down, right), by the definition."""
    angle = math.radians(warp.angle)
    y, x = y - warp.whole[0] / 2, x - warp.whole[1] / 2
    right = math.cos(angle) * x + math.sin(angle) * y - warp.offset[1]
    down = math.cos(angle) * y - math.sin(angle) * x - warp.offset[0]
    return warp.size[0] / 2 + warp.zoom[0] * down, warp.size[1] / 2 + warp.zoom[1] * right


@settings(deadline=None, max_examples=60)
@given(warp=warps())
def test_every_pixel_shows_the_pixel_that_lies_nearest(warp):
    _, _, number = numbered(warp.whole)
    made = ScaleRotate().move("parts", number, warp)
    rows, columns = made // warp.whole[1], made % warp.whole[1]
    down, right = forward(warp, rows + 0.5, columns + 0.5)
    i, j, _ = numbered(warp.size)
    # half a pixel of the picture, turned and enlarged
    reach = 0.5 * max(warp.zoom) * math.sqrt(2) + 1e-6
    apart = torch.hypot(down - i - 0.5, right - j - 0.5)[made >= 0]
    assert (apart <= reach).all()


@settings(deadline=None, max_examples=60)
@given(warp=warps())
@example(warp=Warp((10, 12), (10, 12), offset=(0.05, 0.05)))
def test_the_image_is_read_between_pixels(warp):
    """A picture of rows and columns, which bilinear interpolation reads off exactly."""
    height, width = warp.whole
    rows, columns, _ = numbered(warp.whole)
    made = ScaleRotate().move("image", torch.stack([rows / height, columns / width, rows / height]).float(), warp)
    y, x = made[0] * height + 0.5, made[1] * width + 0.5
    down, right = forward(warp, y, x)
    i, j, _ = numbered(warp.size)
    away = warp.inside.clone()  # from the border, at which the last pixel is repeated
    for place, n in ((y, height), (x, width)):
        away &= (place > 0.51) & (place < n - 0.51)
    assert torch.allclose(down[away], i[away] + 0.5, atol=2e-3) and torch.allclose(
        right[away], j[away] + 0.5, atol=2e-3
    )


@settings(deadline=None, max_examples=60)
@given(warp=warps(), seed=st.integers(0, 1000))
def test_nothing_beyond_the_border_counts(warp, seed):
    random = torch.Generator().manual_seed(seed)
    rows, _, number = numbered(warp.whole)
    sample = {
        "image": torch.rand(3, *warp.whole, generator=random) + 0.001,
        "semantic": rows % 3,
        "parts": number,
        "edges": (rows % 2)[None].float(),
        "saliency": torch.ones(1, *warp.whole),
        "depth": torch.full((1, *warp.whole), 2.0),
        "disparity": torch.full((1, *warp.whole), 2.0),
        "normals": torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1).expand(3, *warp.whole),
        "flow": torch.ones(3, *warp.whole),
    }
    made = ScaleRotate().carry(sample, warp)
    inside = made["parts"] >= 0
    down, right = (torch.stack(place) for place in zip(*(forward(warp, *p) for p in corners(warp.whole)), strict=True))
    if not (down.min() < warp.size[0] and down.max() > 0 and right.min() < warp.size[1] and right.max() > 0):
        assert not inside.any()  # the picture lies beside the result
    assert torch.equal(made["semantic"] >= 0, inside)
    for name in ("edges", "saliency"):
        assert torch.equal(made[name][0] >= 0, inside) and (made[name][0][~inside] == -1).all()
    for name in ("image", "depth", "disparity", "normals", "flow"):
        assert torch.equal((made[name] != 0).any(0), inside), name
    assert (made["flow"][2][inside] == 1).all()


def corners(whole):
    return [(torch.tensor(float(y)), torch.tensor(float(x))) for y in (0, whole[0]) for x in (0, whole[1])]


@settings(deadline=None, max_examples=60)
@given(warp=warps(), seed=st.integers(0, 1000))
def test_nothing_bleeds_out_of_invalid_pixels(warp, seed):
    valid = torch.rand(warp.whole, generator=torch.Generator().manual_seed(seed)) < 0.5
    there = ScaleRotate().move("parts", torch.where(valid, 1, -1), warp) == 1
    made = ScaleRotate().carry(
        {
            "image": torch.zeros(3, *warp.whole),
            "semantic": torch.where(valid, 4, -1),
            "depth": 3.0 * valid[None],
            "edges": torch.where(valid, 1.0, -1.0)[None],
            "normals": torch.tensor([0.48, 0.36, -0.8]).view(3, 1, 1) * valid,
        },
        warp,
    )
    assert torch.equal(made["semantic"], torch.where(there, 4, -1))
    assert torch.equal(made["depth"], 3.0 * there[None])
    assert torch.equal(made["edges"], torch.where(there, 1.0, -1.0)[None])
    cosine, sine = math.cos(math.radians(warp.angle)), math.sin(math.radians(warp.angle))
    turned = torch.tensor([0.48 * cosine + 0.36 * sine, 0.36 * cosine - 0.48 * sine, -0.8])
    assert torch.allclose(made["normals"], turned.view(3, 1, 1) * there, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    warp=warps(square=True),
    slant=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    zoom=st.sampled_from(["focal", "depth"]),
)
def test_depth_and_normals_stay_those_of_one_plane(warp, slant, zoom):
    """The points that depth and the changed camera give lie on a plane with the changed normal. A longer lens has the
    rays of before; with the lens of before, rays spread by the scale, and depth is divided by it.
    """
    normal = torch.tensor([*slant, -1.0], dtype=torch.float64)
    normal = normal / normal.norm()
    height, width = warp.whole
    rows, columns, number = numbered(warp.whole)
    x, y = ((columns + 0.5) / width - 0.5).double(), ((rows + 0.5 - height / 2) / width).double()
    facing = normal[0] * x + normal[1] * y + normal[2]
    depth = torch.where(facing < -0.05, -2.0 / facing, 0.0)  # n . P = -2; 0 where the plane is out of sight
    sample = {"image": torch.zeros(3, height, width), "parts": number, "depth": depth[None].float()}
    sample["normals"] = (normal[:, None, None] * (depth > 0)).float()
    made = ScaleCrop(zoom=zoom).carry(sample, warp)
    valid = made["depth"][0] > 0
    assert torch.equal(valid, (made["normals"] != 0).any(0))
    seen = made["parts"].clamp_min(0)
    spread = warp.zoom[0] if zoom == "depth" else 1.0
    angle = math.radians(warp.angle)
    x, y = spread * x.flatten()[seen], spread * y.flatten()[seen]
    ray = torch.stack([
        math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x, torch.ones_like(x)
    ])  # fmt: skip
    offsets = (made["normals"].double() * ray * made["depth"].double()).sum(0)[valid]
    assert torch.allclose(offsets, offsets[:1], rtol=1e-4) and (offsets < 0).all()


@settings(deadline=None, max_examples=60)
@given(warp=warps(), flow=st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_flow_leads_where_the_other_picture_shows_the_point(warp, flow):
    u, v = flow
    made = ScaleRotate().move("flow", torch.tensor([u, v, 0.5]).view(3, 1, 1).expand(3, *warp.whole), warp)
    here, there = forward(warp, 1.0, 2.0), forward(warp, 1.0 + v, 2.0 + u)
    expected = torch.tensor([there[1] - here[1], there[0] - here[0], 0.5])
    assert torch.allclose(made[:, warp.inside], expected[:, None].expand(3, int(warp.inside.sum())), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), zoom=st.sampled_from(["focal", "depth"]))
def test_disparity_grows_with_the_picture_whichever_way_depth_is_read(seed, zoom):
    """An inverse depth at a longer lens (f b / Z, f grows), and of a nearer scene (Z shrinks), is the same."""
    depth = 1 + torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(seed))
    augment = ScaleCrop(zoom=zoom)
    scale = augment.draw((20, 30), generator(seed)).zoom[0]
    made = augment({"image": torch.zeros(3, 20, 30), "depth": depth, "disparity": 6 / depth}, generator(seed))
    assert 1 <= scale <= 1.5
    product = (made["depth"] * made["disparity"]).flatten()
    assert torch.allclose(product, torch.tensor(6 * scale if zoom == "focal" else 6.0), rtol=1e-5)


# --- what is drawn ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), sizes=st.tuples(*[st.integers(8, 60)] * 4), scale=st.floats(1.0, 3.0))
def test_a_crop_that_fits_stays_in_the_picture(seed, sizes, scale):
    whole, size = sizes[:2], tuple(min(n, w) for n, w in zip(sizes[2:], sizes[:2], strict=True))
    warp = ScaleCrop(scale, scale, height=size[0], width=size[1]).draw(whole, generator(seed))
    assert warp.size == size and warp.inside.all()


def test_crops_lie_everywhere_in_the_picture():
    offsets = np.array([ScaleCrop(2.0, 2.0).draw((20, 30), generator(seed)).offset for seed in range(200)])
    assert np.allclose(offsets.min(0), (-5, -7.5), atol=0.5) and np.allclose(offsets.max(0), (5, 7.5), atol=0.5)


def test_a_picture_that_is_too_small_lies_whole_in_the_crop():
    image = torch.ones(3, 10, 20)
    for seed in range(5):
        made = ScaleCrop(1.0, 1.0, height=16, width=32)({"image": image}, generator(seed))["image"]
        assert made.shape == (3, 16, 32) and made[0].sum() == pytest.approx(200, abs=25)


def test_angles_and_scales_fill_their_ranges():
    drawn = [ScaleRotate().draw((8, 8), generator(seed)) for seed in range(500)]
    angles, scales = [w.angle for w in drawn], [w.zoom[0] for w in drawn]
    assert -20 <= min(angles) < -19 and 19 < max(angles) <= 20
    assert 0.75 <= min(scales) < 0.76 and 1.24 < max(scales) <= 1.25
    assert all(w.offset == (0, 0) and w.zoom[0] == w.zoom[1] for w in drawn)


# --- a fixed size -----------------------------------------------------------------------------------------------------


def test_padding_keeps_the_picture_where_it_is():
    plain = shot("rooms", 2, 40, 60)
    made = Pad(32)(plain, generator(0))
    for name, value in made.items():
        assert value.shape[-2:] == (64, 64)
        assert torch.allclose(value[..., :40, :60].float(), plain[name].float(), atol=1e-6), name
    assert (made["semantic"][40:] == -1).all() and (made["depth"][..., 60:] == 0).all()


@settings(deadline=None, max_examples=20)
@given(size=st.tuples(st.integers(4, 60), st.integers(4, 60)))
def test_stretching_keeps_every_region_where_it_is(size):
    rows, columns, _ = numbered((30, 40))
    sample = {
        "image": torch.stack([rows / 30, columns / 40, columns / 40]).float(),
        "semantic": rows,
        "flow": torch.tensor([4.0, 3.0, 1.0]).view(3, 1, 1).expand(3, 30, 40),
    }
    made = Resize(*size)(sample, generator(0))
    assert made["image"].shape == (3, *size)
    assert (made["image"][0] * 30 - made["semantic"]).abs().max() <= 0.5 + 0.5 * 30 / size[0]
    assert made["flow"][:, 0, 0].tolist() == pytest.approx([4 * size[1] / 40, 3 * size[0] / 30, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleCrop(smallest=1.5, largest=1.0), "from smallest to largest"),
        (lambda: ScaleCrop(smallest=0.0), "above 0"),
        (lambda: ScaleCrop(height=-3), "found -3 and 0"),
        (lambda: ScaleRotate(degrees=200.0), "0 to 180 degrees, found 200"),
        (lambda: Resize(-1, 4), "found -1 and 4"),
        (lambda: Pad(0), "above 0, found 0"),
        (lambda: ScaleCrop()({"image": torch.zeros(3, 8, 8), "dpeth": torch.zeros(1, 8, 8)}, generator(0)), "'depth'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(make, message):
    with pytest.raises(KitError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_warp_of_another_size_is_not_still():
    assert Warp((4, 4), (4, 4)).still
    for change in ({"size": (4, 5)}, {"angle": 1.0}, {"zoom": (1.0, 2.0)}, {"offset": (0.0, 1.0)}):
        assert not dataclasses.replace(Warp((4, 4), (4, 4)), **change).still
