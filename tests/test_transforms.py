"""What every augmentation keeps; and MTAN's: the same window for every field, geometry that stays true, nothing
invented at pixels without a target; and what the released form does instead.

``parts`` holds the number of each pixel in these tests, so that a result says where it was read from.
"""

import collections

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import scenes, transforms
from mtlkit.errors import KitError
from mtlkit.transforms import AUGMENTATIONS, Mtan, MtanReleased, Window, generator

FORMS = (Mtan(), MtanReleased())


def pixels(height, width):
    """The number of every pixel, and a picture of rows and columns that bilinear interpolation reads off exactly."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return {"parts": rows * width + columns, "image": torch.stack([rows, columns, rows + columns]).float()}


@st.composite
def windows(draw):
    return Window.draw((draw(st.integers(4, 40)), draw(st.integers(4, 40))), generator(draw(st.integers(0, 10_000))))


@pytest.fixture(scope="module")
def room():
    made = scenes.sample("rooms", "train", 0, 48, 64, flow=True)
    made.pop("instance")
    sample = {name: torch.from_numpy(value) for name, value in made.items()}
    return sample | {"disparity": 1 / sample["depth"], "parts": sample["semantic"], "index": torch.tensor(7)}


# --- what every augmentation keeps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_contract_of_a_sample_is_kept(room, name):
    augment = AUGMENTATIONS.build(name)
    for seed in range(8):
        made = augment(dict(room), generator(seed))
        assert list(made) == list(room) and made["index"] == 7
        size = tuple(made["image"].shape[-2:])
        assert size == {"pad": (64, 64), "resize": (512, 512), "decathlon": (48, 48)}.get(name, (48, 64))
        for key in set(room) - {"index"}:
            assert made[key].shape == (*room[key].shape[:-2], *size) and made[key].dtype == room[key].dtype
        for key in ("image", "albedo"):
            assert 0 <= made[key].min() and made[key].max() <= 1
        for key in ("semantic", "parts", "motion", "edges", "saliency"):
            beyond = {0} if name in ("astmt-released", "edgeai-released") else {-1}
            assert set(made[key].unique().tolist()) <= set(room[key].unique().tolist()) | beyond
        for key in ("depth", "disparity"):
            assert made[key].min() >= 0
        assert 0 <= made["flow"][2].min() and made["flow"][2].max() <= 1


@pytest.mark.parametrize("name", sorted(set(AUGMENTATIONS) - {"mtan-released", "astmt-released"}))
def test_normals_are_unit_vectors_or_none(room, name):
    augment = AUGMENTATIONS.build(name)
    for seed in range(8):
        length = augment(dict(room), generator(seed))["normals"].norm(dim=0)
        assert ((length - 1).abs() < 1e-5)[length != 0].all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_alone_decides(room, name):
    augment, before = AUGMENTATIONS.build(name), torch.get_rng_state()
    first = [augment(dict(room), generator(seed)) for seed in range(4)]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    for seed, made in enumerate(first):
        again = augment(dict(room), generator(seed))
        assert all(torch.equal(again[key], made[key]) for key in made)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_sample_is_not_changed_in_place(room, name):
    copy = {key: value.clone() for key, value in room.items()}
    for seed in range(4):
        AUGMENTATIONS.build(name)(room, generator(seed))
    assert all(torch.equal(copy[key], room[key]) for key in room)


# --- MTAN: which windows ----------------------------------------------------------------------------------------------


def test_scales_places_and_flips_are_drawn_evenly():
    drawn = [Window.draw((6, 9), generator(seed)) for seed in range(1200)]
    scales = collections.Counter(window.scale for window in drawn)
    assert set(scales) == {1.0, 1.2, 1.5} and all(330 < count < 470 for count in scales.values())
    assert {(w.scale, w.size) for w in drawn} == {(1.0, (6, 9)), (1.2, (5, 7)), (1.5, (4, 6))}  # int(6 / 1.2), ...
    corners = collections.Counter(w.corner for w in drawn if w.scale == 1.5)
    assert set(corners) == {(row, column) for row in range(3) for column in range(4)}
    assert min(corners.values()) > 15  # of about 33
    sample = {"image": torch.arange(3.0).expand(3, 3, 3)}  # of 3 columns; 2 at 1.2 and 1.5
    flipped = [bool((Mtan()(sample, generator(seed))["image"][0, 0].diff() < 0).all()) for seed in range(400)]
    assert 160 < sum(flipped) < 240


@settings(deadline=None, max_examples=60)
@given(window=windows())
def test_every_field_comes_from_the_same_place(window):
    """The corrected form reads labels within half a pixel of where it reads the image."""
    sample = pixels(*window.whole)
    made = {key: Mtan().enlarge(key, value, window) for key, value in sample.items()}
    rows, columns = made["parts"] // window.whole[1], made["parts"] % window.whole[1]
    assert (made["image"][0] - rows).abs().max() <= 0.5 + 1e-4
    assert (made["image"][1] - columns).abs().max() <= 0.5 + 1e-4
    (top, left), (height, width) = window.corner, window.size
    assert (rows[0].unique().item(), rows[-1].unique().item()) == (top, top + height - 1)
    assert (columns[:, 0].unique().item(), columns[:, -1].unique().item()) == (left, left + width - 1)


@settings(deadline=None, max_examples=30)
@given(height=st.integers(4, 40), width=st.integers(4, 40), seed=st.integers(0, 10_000))
def test_both_forms_draw_the_same_window_and_flip(height, width, seed):
    sample = pixels(height, width)
    mine, released = (form(sample, generator(seed)) for form in FORMS)
    assert torch.equal(mine["image"], released["image"])
    # the released grid lies up to a pixel before, and up to a third of one behind
    apart = mine["parts"] % width - released["parts"] % width
    assert apart.abs().max() <= 1


def test_the_two_grids_by_hand():
    window = Window(whole=(1, 6), scale=1.5, size=(1, 4), corner=(0, 0))
    row = torch.arange(6)[None]
    assert Mtan().enlarge("semantic", row, window).tolist() == [[0, 1, 1, 2, 2, 3]]  # round(3 i / 5)
    assert MtanReleased().enlarge("semantic", row, window).tolist() == [[0, 0, 1, 2, 2, 3]]  # floor(4 i / 6)
    image = MtanReleased().enlarge("image", row.float()[None], window)
    assert image.flatten().tolist() == pytest.approx([0, 0.6, 1.2, 1.8, 2.4, 3.0])  # 3 i / 5


# --- MTAN: geometry ---------------------------------------------------------------------------------------------------


@st.composite
def planes(draw):
    """A window, the normal of a plane that faces the camera, the camera's focal length and centre in pixels."""
    window = draw(windows())
    slant = st.floats(-0.6, 0.6)
    normal = torch.nn.functional.normalize(torch.tensor([draw(slant), draw(slant), -1.0], dtype=torch.float64), dim=0)
    height, width = window.whole
    focal, centre = draw(st.floats(1.0, 2.0)) * width, (width * 0.5, height * draw(st.floats(0.4, 0.6)))
    return window, normal, focal, centre


def rays(columns, rows, focal, centre):
    """(3, ...): rays of length 1 along z; ``focal`` and ``centre`` are (across, down)."""
    x, y = (columns.double() - centre[0]) / focal[0], (rows.double() - centre[1]) / focal[1]
    return torch.stack([x, y, torch.ones_like(x)])


@settings(deadline=None, max_examples=60)
@given(plane=planes())
def test_depth_and_normals_stay_those_of_one_plane(plane):
    """After the augmentation, the points that depth and camera give lie on a plane with the augmented normal.

    The camera is the model of the docstring: the focal length of before (to the rounding of the window's size), its
    centre moved with the picture.
    """
    window, normal, focal, centre = plane
    height, width = window.whole
    number = torch.arange(height * width).view(height, width)
    ray = rays(number % width, number // width, (focal, focal), centre)
    facing = torch.einsum("c,chw->hw", normal, ray)
    depth = torch.where(facing < -0.05, -2.0 / facing, 0.0)  # n . P = -2; 0 where the plane is out of sight
    sample = {
        "parts": number,
        "depth": depth[None].float(),
        "normals": (normal[:, None, None] * (depth > 0)).float(),
    }
    made = {key: Mtan().enlarge(key, value, window) for key, value in sample.items()}
    valid = made["depth"][0] > 0
    assert torch.equal(valid, (made["normals"] != 0).any(0)), "no normal without a depth, no depth without a normal"
    down, right = window.magnification
    rows, columns = made["parts"] // width - window.corner[0], made["parts"] % width - window.corner[1]
    camera = (focal * right / window.scale, focal * down / window.scale)
    moved = ((centre[0] - window.corner[1]) * right, (centre[1] - window.corner[0]) * down)
    points = rays(columns * right, rows * down, camera, moved) * made["depth"].double()
    offsets = (made["normals"].double() * points).sum(0)[valid]
    assert torch.allclose(offsets, offsets[:1], rtol=1e-4) and (offsets < 0).all()  # n . P is the same everywhere


def test_a_wall_turns_towards_the_camera_by_hand():
    window = Window(whole=(6, 6), scale=1.5, size=(4, 4), corner=(1, 1))
    slanted = torch.tensor([0.6, 0.0, -0.8]).view(3, 1, 1).expand(3, 6, 6)
    mine, released = (form.enlarge("normals", slanted, window)[:, 2, 3].tolist() for form in FORMS)
    length = (0.6**2 + 1.2**2) ** 0.5  # (0.6, 0, -0.8 * 1.5)
    assert mine == pytest.approx([0.6 / length, 0, -1.2 / length])
    assert released == pytest.approx([0.6, 0, -0.8])


def test_depth_is_divided_and_disparity_multiplied():
    window = Window(whole=(6, 6), scale=1.2, size=(5, 5), corner=(0, 1))
    depth = torch.linspace(1, 4, 36).view(1, 6, 6)
    mine, released = ({key: form.enlarge(key, v, window) for key, v in (("depth", depth), ("disparity", 3 / depth))}
                      for form in FORMS)  # fmt: skip
    assert mine["depth"][0, 0, 0] == pytest.approx(float(depth[0, 0, 1]) / 1.2)
    assert torch.allclose(mine["depth"] * mine["disparity"], torch.tensor(3.0))
    assert torch.allclose(released["depth"] * released["disparity"], torch.tensor(3 / 1.2**2))


def test_flow_grows_with_the_picture():
    window = Window(whole=(7, 13), scale=1.5, size=(4, 8), corner=(2, 3))
    flow = torch.tensor([2.0, -1.0, 0.5]).view(3, 1, 1).expand(3, 7, 13)
    for form in FORMS:
        made = form.enlarge("flow", flow, window)
        assert made[:, 3, 3].tolist() == pytest.approx([2 * 12 / 7, -6 / 3, 0.5])


# --- MTAN: pixels without a target ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(window=windows(), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_normals_are_unit_vectors_of_valid_pixels_alone(window, seed, share):
    random = torch.Generator().manual_seed(seed)
    valid = torch.rand(window.whole, generator=random) < share
    normals = torch.randn(3, *window.whole, generator=random)
    normals = normals / normals.norm(dim=0) * valid
    made = Mtan().enlarge("normals", normals, window)
    assert torch.equal((made != 0).any(0), Mtan().enlarge("parts", valid.long(), window) == 1)
    length = made.norm(dim=0)
    assert ((length - 1).abs() < 1e-5)[length != 0].all()


@settings(deadline=None, max_examples=30)
@given(window=windows(), seed=st.integers(0, 1000))
def test_nothing_bleeds_out_of_invalid_pixels(window, seed):
    """One wall with holes: its normal and depth are the same beside a hole as far from one."""
    valid = torch.rand(window.whole, generator=torch.Generator().manual_seed(seed)) < 0.5
    normals = torch.tensor([0.48, 0.36, -0.8]).view(3, 1, 1) * valid
    made = Mtan().enlarge("normals", normals, window)
    there = (made != 0).any(0)
    expected = torch.tensor([0.48, 0.36, -0.8 * window.scale])
    assert torch.allclose(made[:, there], (expected / expected.norm())[:, None], atol=1e-5)
    for form in FORMS:
        depth = form.enlarge("depth", 3.0 * valid[None], window)
        assert set(depth.unique().tolist()) <= {0.0, float(torch.tensor(3.0) / window.scale)}
        labels = form.enlarge("semantic", torch.where(valid, 4, -1), window)
        assert set(labels.unique().tolist()) <= {4, -1}


def test_the_released_form_blends_invalid_normals_by_hand():
    window = Window(whole=(1, 6), scale=1.5, size=(1, 4), corner=(0, 0))
    normals = torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1) * torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    # read at 0, 0.6, 1.2, 1.8, 2.4, 3: pixels 0 and 1 are valid, 2 and 3 are not
    released = MtanReleased().enlarge("normals", normals, window)[2, 0]
    assert released.tolist() == pytest.approx([-1, -1, -0.8, -0.2, 0, 0], abs=1e-6)
    mine = Mtan().enlarge("normals", normals, window)[2, 0]
    assert mine.tolist() == pytest.approx([-1, -1, -1, 0, 0, 0], abs=1e-6)


def test_opposite_normals_that_cancel_leave_the_nearest():
    window = Window(whole=(1, 5), scale=1.5, size=(1, 3), corner=(0, 0))
    normals = torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0]) * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    made = Mtan().enlarge("normals", normals, window)  # read at 0, 0.5, 1, 1.5, 2
    assert made.norm(dim=0).flatten().tolist() == pytest.approx([1] * 5)


# --- fields that cannot be enlarged -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dpeth", torch.zeros(1, 8, 8), "did you mean 'depth'"),
        ("depth", torch.zeros(1, 4, 8), r"depth: its size is \(4, 8\), the image's \(8, 8\)"),
    ],
)
def test_a_field_that_cannot_be_enlarged_is_named_whatever_is_drawn(name, value, message):
    for seed in range(4):
        with pytest.raises(KitError, match=message):
            Mtan()({"image": torch.zeros(3, 8, 8), name: value}, generator(seed))


def test_fields_without_height_and_width_are_left_alone():
    sample = {"image": torch.zeros(3, 8, 8), "age": torch.tensor(3), "identity": torch.arange(5)}
    for seed in range(4):
        made = Mtan()(sample, generator(seed))
        assert made["age"] == 3 and made["identity"].tolist() == [0, 1, 2, 3, 4]


def test_every_kind_of_field_is_one_that_the_augmentations_have():
    assert all(hasattr(form, kind) for kind in transforms.KINDS.values() for form in (Mtan, transforms.Warping))
