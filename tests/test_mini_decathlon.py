"""The miniature decathlon, and what goes by the domain of a sample: normalisation and augmentation."""

import pytest
import torch

from mtlkit import evaluation, recipes
from mtlkit.datasets import DATASETS, build
from mtlkit.datasets.mini_decathlon import DOMAINS, MOMENTS
from mtlkit.errors import KitError
from mtlkit.scenes.domains import DOMAINS as DRAWN
from mtlkit.scenes.domains import picture
from mtlkit.transforms import AUGMENTATIONS, generator, normalised, told, unaugmented

SMALL = {"train": 4, "validation": 2, "test": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build("mini-decathlon", "train", root=tmp_path_factory.mktemp("cache"), **SMALL)


def test_a_sample_is_of_one_domain(data):
    assert len(data) == 44 and data.domains == DOMAINS and list(data.tasks) == list(DOMAINS)
    for number, (domain, indices) in enumerate(data.indices.items()):
        for index in indices:
            sample = data[index]
            assert sample["image"].shape == (3, 32, 32) and 0 <= sample["image"].min() <= sample["image"].max() <= 1
            assert int(sample["domain"]) == number and data.info(index).name.startswith(f"{domain}/train/")
            assert [name for name in DOMAINS if sample[name] >= 0] == [domain]
    for domain, drawn in DRAWN.items():
        drawing, label = picture(domain, "train", 3)
        sample = data[data.indices[domain][3]]
        assert int(sample[domain]) == label == 3 % len(drawn.classes)
        top, left = ((n - 72) // 2 for n in drawing.shape[:2])
        square = drawing[top : top + 72, left : left + 72] / 255
        assert sample["image"].mean() == pytest.approx(square.mean(), abs=2e-3)
    digits = build("digits-domains", "train", domains=["plain"])
    assert torch.equal(data[data.indices["digits"][2]]["image"], digits[2]["image"])


def test_wrong_options_are_one_line(tmp_path):
    for options, message in (
        ({"domains": ["svnh"]}, "did you mean 'svhn'"),
        ({"domains": []}, "names each domain once"),
        ({"train": 0}, "0 pictures"),
        ({"train": 2000}, "digits has 1157"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(KitError, match=message):
            build("mini-decathlon", "train", root=tmp_path, **options)


def test_normalisation_goes_by_the_domain(data):
    for domain, indices in data.indices.items():
        sample = data[indices[0]]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in MOMENTS[domain])
        fed = normalised(sample, "domain", data.moments)["image"]
        assert torch.allclose(fed * std + mean, sample["image"], atol=1e-6)
    with pytest.raises(KitError, match="goes by the domain of a sample"):
        normalised({"image": torch.rand(3, 4, 4)}, "domain", data.moments)


def test_a_view_uses_the_domain_and_drops_it(data):
    recipe = recipes.expand("decathlon-tiny")[0]
    view = evaluation.View(data, ["image", "svhn"], recipe)
    index = data.indices["svhn"][1]
    assert set(view[index]) == {"image", "svhn"}
    assert torch.equal(view[index]["image"], normalised(data[index], "domain", data.moments)["image"])


@pytest.mark.parametrize("steps", [None, ["decathlon"]])
def test_signs_and_characters_stay_and_others_move(steps):
    named = AUGMENTATIONS.build("decathlon") if steps is None else AUGMENTATIONS.build("compose", steps=steps)
    augment = told(named, ["dtd", "svhn"])
    columns = torch.arange(100.0).expand(3, 72, 100) / 100
    middle = columns[..., 14:86]
    places, flips = set(), 0
    for seed in range(200):
        still = augment({"image": columns, "domain": torch.tensor(1)}, generator(seed))
        assert torch.equal(still["image"], middle)
        moved = augment({"image": columns, "domain": torch.tensor(0)}, generator(seed))["image"][0, 0]
        assert moved.shape == (72,)
        flips += bool(moved[0] > moved[-1])
        places.add(round(100 * float(min(moved[0], moved[-1]))))
    assert 75 < flips < 125 and places == set(range(29)), "every window, as often flipped as not"
    assert torch.equal(unaugmented(augment, {"image": columns})["image"], middle)


def test_domains_are_known_where_they_are(data):
    assert all(set(d.indices) == {*d.domains} == {*d.moments} for d in (data, build("digits-domains", "test")))
    assert data.labelled and DATASETS["nyuv2"].domains == () and DATASETS["nyuv2"].labelled
