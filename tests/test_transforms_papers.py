"""Augmentations of the papers: what is drawn, what the corrected form keeps true, what the released form does; colours,
and several augmentations in a row, as a recipe names them.
"""

import math

import pytest
import torch

from mtlkit import evaluation, recipes, scenes, training
from mtlkit.errors import KitError
from mtlkit.transforms import (
    AUGMENTATIONS,
    AstmtReleased,
    Compose,
    EdgeaiReleased,
    Nddr,
    NddrReleased,
    Photometric,
    ScaleRotate,
    Survey,
    Warp,
    generator,
    horizontal_flip,
)


@pytest.fixture(scope="module")
def street():
    made = scenes.sample("streets", "train", 0, 48, 64, flow=True)
    made.pop("instance")
    return {name: torch.from_numpy(value) for name, value in made.items()}


def wall(x, y, z, height=9, width=9):
    return torch.tensor([x, y, z]).view(3, 1, 1).expand(3, height, width)


@pytest.mark.parametrize("name", ["mtan", "astmt", "edgeai", "nddr"])
def test_both_forms_of_a_paper_draw_the_same(street, name):
    """What both read from one pixel differs in few of them."""
    mine, released = AUGMENTATIONS.build(name), AUGMENTATIONS.build(f"{name}-released")
    for seed in range(8):
        one, other = mine(street, generator(seed))["semantic"], released(street, generator(seed))["semantic"]
        assert (one == other)[one >= 0].float().mean() > 0.85


# --- ASTMT ------------------------------------------------------------------------------------------------------------


def test_a_turn_of_normals_is_the_published_one():
    """The value that the released code gives, for a normal that faces away from the camera."""
    turned = Warp((9, 9), (9, 9), angle=10.0)
    for form in (ScaleRotate(), AstmtReleased()):
        made = form.move("normals", wall(0.6, 0.0, 0.8), turned)[:, 4, 4]
        assert made.tolist() == pytest.approx([0.590885, -0.104189, 0.8], abs=1e-5)


def test_released_normals_have_a_halo_that_points_the_other_way():
    """The case of the reference: 8 x 10 with a zero row on top, made 16 x 16."""
    normals = wall(0.6, 0.0, 0.8, 8, 10).clone()
    normals[:, 0] = 0
    sample = {"image": torch.zeros(3, 8, 10), "normals": normals}
    stretched = Warp((8, 10), (16, 16), zoom=(2.0, 1.6))
    made, mine = AstmtReleased().carry(sample, stretched)["normals"], ScaleRotate().carry(sample, stretched)["normals"]
    inner = slice(4, 12)  # beside its left and right border zeros are mixed in, too
    flipped = torch.tensor([-0.6, 0.0, -0.8])[:, None]
    assert any(torch.allclose(made[:, row, inner], flipped, atol=1e-5) for row in range(4))
    assert torch.allclose(made[:, 6:14, inner], -flipped[..., None], atol=1e-5)
    assert (mine[:, :2] == 0).all() and torch.allclose(mine[:, 2:], -flipped[..., None], atol=1e-5)


def test_released_depth_is_mixed_with_zeros_and_corners_are_background():
    sample = {"image": torch.ones(3, 40, 40), "depth": torch.full((1, 40, 40), 3.0)}
    sample |= {"semantic": torch.full((40, 40), 5), "edges": torch.ones(1, 40, 40), "parts": torch.zeros(40, 40).long()}
    warp = Warp((40, 40), (40, 40), angle=20.0, zoom=(0.75, 0.75))
    mine, made = ScaleRotate().carry(sample, warp), AstmtReleased().carry(sample, warp)
    assert set(mine["semantic"].unique().tolist()) == {-1, 5} and set(made["semantic"].unique().tolist()) == {0, 5}
    assert set(mine["edges"].unique().tolist()) == {-1, 1} and set(made["edges"].unique().tolist()) == {0, 1}
    assert set(mine["depth"].unique().tolist()) == {0, 3}
    between = (made["depth"] > 0.01) & (made["depth"] < 2.99)
    assert between.any(), "depths that nothing has"
    assert (made["parts"] == -1).all(), "no person: nothing counts"
    assert (made["image"][:, 0, 0] == 0).all() and (mine["image"][:, 0, 0] == 0).all()


@pytest.mark.parametrize("name", ["astmt", "astmt-released"])
def test_one_size_for_every_image(name):
    for whole in ((30, 44), (50, 20)):
        sample = {"image": torch.rand(3, *whole), "depth": torch.rand(1, *whole), "normals": wall(0, 0, -1.0, *whole)}
        made = AUGMENTATIONS.build(name, height=32, width=48)(sample, generator(4))
        assert all(value.shape[-2:] == (32, 48) for value in made.values())
        assert made["depth"].max() <= sample["depth"].max()  # not scaled
    for seed in range(20):
        plain = AUGMENTATIONS.build("astmt").draw((30, 40), generator(seed))
        stretched = AUGMENTATIONS.build("astmt", height=60, width=120).draw((30, 40), generator(seed))
        assert stretched.zoom == pytest.approx((2 * plain.zoom[0], 3 * plain.zoom[1]))
        assert stretched.angle == plain.angle and 0.75 <= plain.zoom[0] == plain.zoom[1] <= 1.25


# --- edgeai -----------------------------------------------------------------------------------------------------------


def test_released_flow_uses_what_it_has_just_computed():
    flow = wall(3.0, -2.0, 1.0)
    c, s = math.cos(math.radians(5)), math.sin(math.radians(5))
    turned = Warp((9, 9), (9, 9), angle=5.0)
    right = ScaleRotate().move("flow", flow, turned)[:, 4, 4]
    released = EdgeaiReleased().carry({"image": torch.zeros(3, 9, 9), "flow": flow}, turned)["flow"][:, 4, 4]
    assert right.tolist() == pytest.approx([3 * c - 2 * s, -2 * c - 3 * s, 1])
    assert released.tolist() == pytest.approx([3 * c - 2 * s, -2 * c - s * (3 * c - 2 * s), 1])
    assert right[:2].norm() == pytest.approx(13**0.5) and released[:2].norm() != pytest.approx(13**0.5, rel=1e-4)


def test_released_corners_are_grey_road_that_stands_still():
    sample = {"image": torch.ones(3, 40, 60), "flow": torch.ones(3, 40, 60), "depth": torch.ones(1, 40, 60)}
    sample |= {name: torch.ones(40, 60).long() for name in ("semantic", "motion")}
    made = EdgeaiReleased().carry(sample, Warp((40, 60), (40, 60), angle=5.0))
    corner = {name: value[..., 0, 0].flatten().tolist() for name, value in made.items()}
    assert corner["semantic"] == [0] and corner["motion"] == [0] and corner["depth"] == [0]
    assert corner["image"] == pytest.approx([128 / 255] * 3) and corner["flow"] == pytest.approx([0, 0, 128 / 255])


def test_edgeai_draws_each_change_half_of_the_time():
    drawn = [AUGMENTATIONS.build("edgeai").draw((40, 60), generator(seed)) for seed in range(400)]
    turned = [warp for warp in drawn if warp.angle]
    cropped = [warp for warp in drawn if warp.zoom != (1.0, 1.0)]
    assert 160 < len(turned) < 240 and 160 < len(cropped) < 240
    assert 60 < sum(warp in cropped for warp in turned) < 140
    assert max(abs(warp.angle) for warp in turned) <= 5
    assert all(1 <= z <= 2 for warp in cropped for z in warp.zoom) and any(w.zoom[0] > w.zoom[1] + 0.3 for w in cropped)
    assert all(warp.offset == (0, 0) for warp in drawn if warp not in cropped)
    assert all(warp.inside.all() for warp in cropped if warp not in turned)


# --- NDDR and the survey ----------------------------------------------------------------------------------------------


def test_released_mirror_images_keep_the_normals_of_the_room(street):
    differ = 0
    for seed in range(8):
        mine, released = Nddr()(street, generator(seed)), NddrReleased()(street, generator(seed))
        same = {name for name in mine if torch.equal(mine[name], released[name])}
        assert same >= set(mine) - {"normals"}
        if "normals" not in same:
            differ += 1
            assert torch.equal(mine["normals"] * torch.tensor([-1.0, 1, 1]).view(3, 1, 1), released["normals"])
    assert 0 < differ < 8


def test_the_survey_divides_the_depth_of_the_middle():
    whole = (30, 40)
    sample = {"image": torch.rand(3, *whole), "depth": torch.full((1, *whole), 6.0)}
    found = set()
    for seed in range(30):
        warp = Survey().draw(whole, generator(seed))
        assert warp.offset == (0, 0)
        found.add((warp.zoom[0], round(float(Survey()(sample, generator(seed))["depth"].unique()), 4)))
    assert found == {(1.0, 6.0), (1.2, 5.0), (1.5, 4.0)}


# --- colours ----------------------------------------------------------------------------------------------------------


def test_colours_change_and_targets_do_not(street):
    made = Photometric()(street, generator(1))
    assert not torch.equal(made["image"], street["image"])
    for name in set(street) - {"image"}:
        assert torch.equal(made[name], street[name]), name
    same = Photometric(0.0, 0.0, 0.0, 0.0)(street, generator(1))["image"]
    assert torch.allclose(same, street["image"], atol=1e-5)


def test_a_mirrored_picture_has_the_colours_of_the_picture(street):
    """Flipping and changing colours may be done in either order."""
    one = horizontal_flip(Photometric()(street, generator(5)))["image"]
    other = Photometric()(horizontal_flip(street), generator(5))["image"]
    assert torch.allclose(one, other, atol=1e-5)


# --- several in a row -------------------------------------------------------------------------------------------------


def test_steps_share_one_random_stream(street):
    steps = ["flip", {"name": "photometric", "hue": 0.1}]
    stream = generator(3)
    expected = Photometric(hue=0.1)(AUGMENTATIONS.build("flip")(street, stream), stream)
    made = Compose(steps)(street, generator(3))
    assert all(torch.equal(made[name], expected[name]) for name in street)
    assert torch.equal(Compose([{"name": "compose", "steps": steps}])(street, generator(3))["image"], made["image"])


def test_a_recipe_names_several():
    table = recipes.read("rooms-tiny") | {"augmentation": {"name": "compose", "steps": ["scale-rotate", "flip"]}}
    recipe = recipes.make(table | {"dataset": {"name": "scenes", "train": 4, "test": 2, "height": 32, "width": 32}})
    view = evaluation.View(training.load_data(recipe)[0], ["image", "semantic", "index"], recipe, epoch=0)
    seen = [view[i] for i in range(4)]
    assert all(made["image"].shape == (3, 32, 32) for made in seen) and any((m["semantic"] == -1).any() for m in seen)
    assert recipe.identity("") != recipes.make(recipe.model_dump() | {"augmentation": {"name": "flip"}}).identity("")


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"name": "compose", "steps": ["flipp"]}, "did you mean 'flip'"),
        ({"name": "compose", "steps": [{"name": "photometric", "heu": 0.1}]}, "did you mean 'hue'"),
        ({"name": "compose", "steps": [{"hue": 0.1}]}, "a step of compose has a name"),
        ({"name": "compose", "steps": []}, "compose needs steps, found none"),
        ({"name": "compose", "steps": "flip"}, "should be list"),
        ({"name": "scale-crop", "zoom": "lens"}, "'focal' or 'depth'"),
        ({"name": "scale-crop", "smallest": 2.0}, "from smallest to largest"),
        ({"name": "photometric", "hue": 0.7}, "hue lies between 0 \\(none\\) and 0.5, found 0.7"),
    ],
)
def test_a_recipe_with_a_wrong_augmentation_is_refused_before_it_runs(augmentation, message):
    with pytest.raises(KitError, match=message) as caught:
        recipes.make(recipes.read("rooms-tiny") | {"augmentation": augmentation})
    assert "\n" not in str(caught.value)
