"""The two-stream network: its counts, its values on a golden input, its decoders, where its streams meet.

Shapes: B batch, C channels, H/W size.
"""

import math

import pytest
import torch
import torchvision
from torch import nn

import mtlkit
from mtlkit import KitError, initialisation, recipes, tasks
from mtlkit.architectures import catalogue

TASKS = [tasks.depth(), tasks.semantic(map(str, range(5))), tasks.motion()]
NAMES = [task.name for task in TASKS]


def wave(*shape, offset=0):
    """frac(sin(12.9898 i + 78.233 j + 37.719 k + 9.131 l + 0.5) 43758.5453) - 0.5, at every index; i from offset on."""
    first, *others = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    factors = (12.9898, 78.233, 37.719, 9.131)
    phase = sum(f * i for f, i in zip(factors, (first + offset, *others), strict=False)) + 0.5
    x = torch.sin(phase) * 43758.5453
    return x - x.floor() - 0.5


@pytest.fixture(scope="module")
def golden():
    model = mtlkit.build("two_stream", TASKS).double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(wave(*module.weight.shape) * math.sqrt(24 / module.weight[0].numel()))
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)
        inputs = {name: 2 * wave(3, 64, 128, offset=3 * k)[None] for k, name in enumerate(("flow", "image"))}
        assert model.streams["flow"][0][0].weight[1, 2, 1, 0].item() == pytest.approx(0.0989688408, abs=1e-10)
        assert inputs["flow"][0, 0, 0, 0].item() == pytest.approx(0.9282979778, abs=1e-10)
        assert inputs["image"][0, 2, 3, 4].item() == pytest.approx(0.5319770470, abs=1e-10)
        return model(inputs, return_features=True)


def exactly(value):
    return pytest.approx(value, rel=1e-8, abs=1e-6)  # as many digits as were recorded


def test_the_golden_features(golden):
    _, features = golden
    fused, last = features["fused"], features["last"]
    assert fused.shape == (1, 24, 16, 32) and last.shape == (1, 320, 4, 8)
    assert [fused.mean().item(), fused.std().item()] == exactly([0.1523837120, 3.627788066])
    assert [last.mean().item(), last.std().item()] == exactly([108.3811032, 5230.981053885])
    assert last[0, 0, 0, 0].item() == exactly(-1013.677080619)


@pytest.mark.parametrize(
    ("name", "mean", "std", "end"),
    [
        ("depth", -824.541586, 3815.647748, -5987.714369),
        ("semantic", 3072.735815, 5260.576447, 9238.402062),
        ("motion", -130.224574, 3159.507403, 1598.372436),
    ],
)
def test_the_golden_outputs(golden, name, mean, std, end):
    raw = golden[0][name]
    found = [raw.mean().item(), raw.std().item(), raw[0, 0, 0, 0].item(), raw[0, -1, -1, -1].item()]
    assert found == exactly([mean, std, -477.843837, end])


def test_every_count_of_the_table_is_there():
    """``test_models_table`` compares them."""
    rows = [row for entry in catalogue.ENTRIES if entry.architecture == "two_stream" for row in entry.rows()]
    assert len(rows) == 13 and all(row["reference_parameters"] and row["reference_gmacs"] for row in rows)


def test_sizes_of_the_parts():
    model = mtlkit.build("two_stream", TASKS)

    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    assert count(model.streams["flow"]) == count(model.streams["image"]) == 15_792 and count(model.fuse) == 1_728
    assert count(model.streams["flow"], model.shared) == 1_811_712
    assert [count(model.heads[name]) for name in NAMES] == [607_840, 609_056, 608_144]
    assert len(list(model.parameters())) == 279 and len(model.state_dict()) == 555
    assert all(not conv.bias for conv in model.modules() if isinstance(conv, nn.Conv2d) and conv.bias is not None)


@pytest.mark.parametrize("decoder", ["deeplab", "fpn", "unet"])
@pytest.mark.parametrize("inputs", [["flow", "image"], ["image"]])
def test_every_decoder_serves_several_tasks(decoder, inputs):
    model = mtlkit.build("two_stream", TASKS, inputs=inputs, decoder=decoder, width=0.125)
    batch = {name: torch.rand(2, 3, 64, 96) for name in inputs}
    shapes = {name: tuple(raw.shape) for name, raw in model(batch).items()}
    assert shapes == {"depth": (2, 1, 64, 96), "semantic": (2, 5, 64, 96), "motion": (2, 2, 64, 96)}
    own = {name: set(map(id, model.task_parameters(name))) for name in NAMES}
    assert not own["depth"] & own["motion"] and len(own["depth"]) > 10


def test_streams_do_not_share_and_both_are_read():
    model = mtlkit.build("two_stream", TASKS, width=0.125).eval()
    batch = {"flow": torch.rand(1, 3, 32, 32), "image": torch.rand(1, 3, 32, 32)}
    base = model(batch)["motion"]
    for name in batch:
        assert not torch.equal(model(batch | {name: batch[name] + 0.5})["motion"], base)
    swapped = model({"flow": batch["image"], "image": batch["flow"]})["motion"]
    assert not torch.equal(swapped, base)


def test_gradients_reach_the_trunk_by_two_ways():
    """Over the last feature, and over the shortcut round it: so there is no one tensor where trunk and heads part."""
    model = mtlkit.build("two_stream", TASKS, width=0.125)
    assert model.representation() is None and model.last_shared_feature() == "last"
    _, features = model({"flow": torch.rand(2, 3, 32, 32), "image": torch.rand(2, 3, 32, 32)}, return_features=True)
    assert features["last"].shape[1] == 40 and features["fused"].shape == (2, 3, 8, 8)
    layer = model.last_shared_layer()
    assert isinstance(layer, nn.Conv2d) and layer.weight.shape[:2] == (40, 120)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["image", "flow"]}, r"\['flow', 'image'\] or \['image'\]"),
        ({"decoder": "deplab"}, "did you mean 'deeplab'"),
        ({"dilations": [1, 2]}, "three numbers"),
        ({"width": 0.0}, "positive number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(KitError, match=message):
        mtlkit.build("two_stream", TASKS, **options)


def test_the_flow_is_missed_by_name():
    with pytest.raises(KitError, match="add the entry 'flow'"):
        mtlkit.build("two_stream", TASKS, width=0.125)({"image": torch.rand(1, 3, 32, 32)})


def recipe_of(**architecture):
    options = {"name": "two_stream", "width": 1.0, **architecture}
    table = {f"architecture.{key}": value for key, value in options.items()}
    return recipes.load("rooms-tiny", table | {"pretrained": "imagenet"})


def test_imagenet_weights_go_into_both_streams(monkeypatch):
    """306 tensors of torchvision's 314 fit one stream and what is shared, 54 of them the other stream too."""
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    monkeypatch.setattr(initialisation, "fetch", lambda weights: state)
    model, chosen = mtlkit.build("two_stream", TASKS), recipe_of()
    initialisation.check(chosen, model)
    lines = initialisation.load(chosen, model, "data", None)
    assert "306 tensors, 2 trunk(s)" in lines[0] and "(8 tensors)" in lines[0] and lines[1].startswith("fresh: fuse")
    for key, tensor in state.items():
        number = key.split(".")[1]
        rest = key.removeprefix(f"features.{number}.")
        if key.startswith("features.") and int(number) < 18:
            places = [model.streams["flow"], model.streams["image"]] if int(number) < 4 else [model.shared]
            assert all(torch.equal(place.state_dict()[f"{number}.{rest}"], tensor) for place in places), key
    shared = sum(key.startswith(tuple(f"features.{n}." for n in range(4))) for key in state)
    assert shared == 54


@pytest.mark.parametrize("options", [{"width": 0.5}, {"expand_first": True}])
def test_imagenet_weights_that_do_not_fit_are_refused(options):
    with pytest.raises(KitError, match="two_stream of width 1"):
        initialisation.check(recipe_of(**options), mtlkit.build("two_stream", TASKS, **options))
