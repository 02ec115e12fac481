"""Architectures: the contract every one keeps (a loop over the registry), and SegNet as the reference page has it.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mtlkit
from mtlkit import KitError, tasks
from mtlkit.architectures import ARCHITECTURES, MultiTaskModel, build, count_macs, count_parameters
from mtlkit.architectures.base import MAC_RULES
from mtlkit.layers import segnet

TASKS = [tasks.semantic(["a", "b", "c", "d"]), tasks.depth(), tasks.normals()]
NAMES = [task.name for task in TASKS]
CHANNELS = {task.name: task.channels for task in TASKS}
every_architecture = pytest.mark.parametrize("name", list(ARCHITECTURES))


def small(name: str, count: int = 3, width: float = 0.125, seed: int = 0) -> MultiTaskModel:
    torch.manual_seed(seed)
    return build(name, TASKS[:count], width=width)


def images(model: MultiTaskModel, batch: int = 2, height: int = 32, width: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(batch, model.input_channels[name], height, width, generator=generator) for name in model.inputs
    }


def losses(outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Any scalar of each task that its whole output enters."""
    return {name: raw.square().mean() for name, raw in outputs.items()}


def gradient(loss: torch.Tensor, parameters: list[nn.Parameter]) -> list[torch.Tensor | None]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


# --- what every architecture promises ------------------------------------------------------------------------------


@every_architecture
@pytest.mark.parametrize(("height", "width", "scale"), [(32, 64, 0.125), (64, 32, 0.25), (96, 64, 0.13)])
def test_outputs_have_input_resolution(name, height, width, scale):
    model = small(name, width=scale)
    outputs = model(images(model, 2, height, width))
    assert {key: tuple(raw.shape) for key, raw in outputs.items()} == {
        key: (2, channels, height, width) for key, channels in CHANNELS.items()
    }


@every_architecture
def test_a_tensor_a_batch_and_a_choice_of_tasks_agree(name):
    model = small(name).eval()
    streams = images(model)
    everything = model(streams | {"index": torch.arange(2)})
    chosen = model(streams, ["normals"])
    assert list(everything) == NAMES and list(chosen) == ["normals"]
    torch.testing.assert_close(chosen["normals"], everything["normals"], rtol=0, atol=0)
    assert list(model(streams, "depth")) == ["depth"]
    if len(model.inputs) == 1:
        alone = model(streams[model.inputs[0]])
        torch.testing.assert_close(alone["depth"], everything["depth"], rtol=0, atol=0)


@every_architecture
@pytest.mark.parametrize("count", [1, 2, 3])
def test_parameters_belong_to_the_tasks_whose_losses_reach_them(name, count):
    model = small(name, count)
    parameters = list(model.parameters())
    reached = {
        task: {id(p) for p, g in zip(parameters, gradient(loss, parameters), strict=True) if g is not None}
        for task, loss in losses(model(images(model))).items()
    }
    auxiliary = {id(p) for p in model.auxiliary_parameters()}
    for task in reached:
        others = set().union(*(ids for other, ids in reached.items() if other != task))
        assert {id(p) for p in model.task_parameters(task)} - auxiliary == reached[task] - others - auxiliary
    parts = [*(model.task_parameters(task) for task in reached), model.shared_parameters()]
    owned = [id(p) for p in itertools.chain(*parts, model.auxiliary_parameters())]
    assert sorted(owned) == sorted(map(id, parameters)), "each parameter in one part, exactly"


@every_architecture
def test_every_parameter_is_trained(name):
    model = small(name)
    sum(losses(model(images(model))).values()).backward()
    auxiliary = {id(p) for p in model.auxiliary_parameters()}
    for key, parameter in model.named_parameters():
        if id(parameter) not in auxiliary:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
    for key, parameter in model.heads.named_parameters():
        assert parameter.grad.abs().max() > 0, key


@every_architecture
def test_parameter_groups_hold_everything_once(name):
    model = small(name)
    grouped = [id(p) for group in model.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(map(id, model.parameters()))


@every_architecture
def test_the_representation_is_where_trunk_and_heads_part(name):
    model = small(name)
    outputs, features = model(images(model), return_features=True)
    assert all(isinstance(feature, torch.Tensor) for feature in features.values())
    if model.representation() is None:
        assert "representation" not in features
        return
    representation = features["representation"]
    assert representation is features[model.representation()]
    shared = model.shared_parameters()
    for loss in losses(outputs).values():
        (upstream,) = gradient(loss, [representation])
        through = torch.autograd.grad(representation, shared, upstream, retain_graph=True, allow_unused=True)
        for a, b in zip(through, gradient(loss, shared), strict=True):
            torch.testing.assert_close(a, b)


@every_architecture
def test_the_last_shared_layer_is_shared(name):
    model = small(name)
    layer = model.last_shared_layer()
    shared = {id(p) for p in model.shared_parameters()}
    if layer is None:
        assert not shared
    else:
        assert id(layer.weight) in shared


@every_architecture
def test_saved_and_loaded_is_the_same_model(name, tmp_path):
    model, other = small(name, seed=0), small(name, seed=1)
    model(images(model))  # moves the running statistics
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    for task, raw in model.eval()(images(model)).items():
        assert torch.equal(raw, other.eval()(images(other))[task])


@every_architecture
def test_a_deep_copy_is_independent(name):
    model = small(name).eval()
    twin = copy.deepcopy(model)
    before = model(images(model))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    for task, raw in model(images(model)).items():
        assert torch.equal(raw, before[task])
    assert twin(images(twin))["depth"].abs().max() == 0


@every_architecture
def test_in_eval_mode_an_image_is_predicted_alone(name):
    model = small(name).eval()
    streams = images(model)
    with torch.no_grad():
        together = model(streams)
        again = model(streams)
        alone = model({key: image[:1] for key, image in streams.items()})
    for task, raw in together.items():
        assert torch.equal(raw, again[task])
        torch.testing.assert_close(raw[:1], alone[task], rtol=1e-4, atol=1e-5)


@every_architecture
def test_two_models_of_one_seed_are_equal(name):
    one, two = small(name).state_dict(), small(name).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], value) for key, value in small(name, seed=1).state_dict().items())


@every_architecture
def test_bfloat16_stays_close(name):
    model = small(name)
    streams = images(model)
    with torch.autocast("cpu", torch.bfloat16):
        sum(losses(model(streams)).values()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    # compared in eval mode: on small maps batch statistics magnify rounding, and so does the choice of a maximum
    exact = model.eval()(streams)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(streams)
    for task, raw in exact.items():
        assert (rounded[task].float() - raw).norm() < 0.1 * raw.norm(), task


@every_architecture
def test_width_scales_the_parameters(name):
    half, quarter = (count_parameters(small(name, width=width)) for width in (0.5, 0.25))
    assert 3.5 < half / quarter < 4.1


@every_architecture
def test_counting_leaves_the_model_alone(name):
    model = small(name)
    model.train()
    before = copy.deepcopy(model.state_dict())
    macs = {rule: count_macs(model, 32, 64, rule) for rule in MAC_RULES}
    assert macs["conv"] <= macs["conv+linear"]
    assert count_macs(model, 64, 64) == pytest.approx(2 * count_macs(model, 32, 64), rel=0.01)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


# --- bad input says what to do -------------------------------------------------------------------------------------


@every_architecture
def test_an_unknown_task_names_the_nearest(name):
    with pytest.raises(KitError, match="did you mean 'depth'"):
        small(name)(images(small(name)), ["dept"])
    with pytest.raises(KitError, match="did you mean 'normals'"):
        small(name).task_parameters("normal")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(2, 3, 33, 64), "multiples of 32, found 33x64; resize it to 32x64"),
        (torch.rand(2, 3, 144, 192), "resize it to 128x192"),
        (torch.rand(2, 3, 8, 8), "resize it to 32x32"),
        (torch.rand(3, 32, 64), "add the batch axis with"),
        (torch.rand(32, 64), "reshape it"),
        (torch.rand(2, 1, 32, 64), r"\(B, 3, H, W\), found \(2, 1, 32, 64\).*pass 3 channels"),
        (torch.rand(2, 32, 64, 3), "permute"),
        (torch.zeros(2, 3, 32, 64, dtype=torch.uint8), "divide by 255"),
        (np.zeros((2, 3, 32, 64)), "ndarray; convert it with torch.as_tensor"),
    ],
)
def test_an_input_that_does_not_fit_says_how_to_make_it(image, message):
    with pytest.raises(KitError, match=message) as caught:
        small("split")({"image": image})
    assert "\n" not in str(caught.value)


def test_a_missing_entry_is_named():
    with pytest.raises(KitError, match="found \\['img'\\]; add the entry 'image'"):
        small("split")({"img": torch.rand(1, 3, 32, 32)})


class Streams(MultiTaskModel):
    """Two inputs, every kind of layer that is counted, grouped, transposed, repeated and asked for its own count."""

    inputs = ("flow", "image")

    def __init__(self, chosen):
        super().__init__(chosen)
        self.grouped = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
        self.linear = nn.Linear(4, 4)
        self.heads = nn.ModuleDict({"depth": nn.Conv2d(4, 1, 1)})

    def compute(self, streams, names, features):
        x = self.up(self.grouped(torch.cat([streams[name] for name in self.inputs], dim=1)))
        x = self.linear(self.linear(x.movedim(1, -1))).movedim(-1, 1)
        return {"depth": self.heads["depth"](x)}

    def task_modules(self, name):
        return [self.heads[name]]


def test_two_streams_are_one_batch_of_one_size():
    model = Streams([tasks.depth()])
    with pytest.raises(KitError, match="pass a dict"):
        model(torch.rand(1, 3, 32, 32))
    with pytest.raises(KitError, match=r"\(B, H, W\).*\(2, 32, 32\)"):
        model({"image": torch.rand(2, 3, 32, 32), "flow": torch.rand(1, 3, 32, 32)})
    assert model({"image": torch.rand(1, 3, 32, 32), "flow": torch.rand(1, 3, 32, 32)})["depth"].shape == (1, 1, 32, 32)


def test_macs_agree_with_torch_s_own_counter():
    model = Streams([tasks.depth()])
    with FlopCounterMode(display=False) as counter:
        model(images(model, 1))
    assert count_macs(model, 32, 64) == counter.get_total_flops() // 2
    assert count_macs(model, 32, 64) - count_macs(model, 32, 64, "conv") == 2 * 32 * 64 * 16
    with pytest.raises(KitError, match="did you mean 'conv'"):
        count_macs(model, 32, 64, "conf")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("splitt", TASKS), {}, "unknown architecture 'splitt': did you mean 'split'"),
        (("split", TASKS), {"widht": 0.5}, "unknown option 'widht' for architecture 'split': did you mean 'width'"),
        (("split", TASKS), {"width": "half"}, "option 'width' of architecture 'split' should be float"),
        (("split", TASKS), {"width": 0.0}, "positive number, found 0.0"),
        (("single", TASKS), {"width": math.nan}, "positive number, found nan"),
        (("single", TASKS), {"width": math.inf}, "positive number, found inf"),
        (("split", TASKS), {"backbone": "segnett"}, "unknown backbone 'segnett': did you mean 'segnet'"),
        (("split", []), {}, "one or more tasks"),
        (("single", [TASKS[1], TASKS[1]]), {}, "name each once"),
        (("single", ["depth"]), {}, "take them from mtlkit.tasks"),
    ],
)
def test_a_model_that_does_not_exist_is_refused(arguments, options, message):
    with pytest.raises(KitError, match=message):
        mtlkit.build(*arguments, **options)


# --- SegNet, as the reference has it ---------------------------------------------------------------------------------

# every CBR of the network in order, channels in and out: five encoder stages, five decoder steps
ENCODER = [
    [(3, 64), (64, 64)],
    [(64, 128), (128, 128)],
    [(128, 256), (256, 256), (256, 256)],
    [(256, 512), (512, 512), (512, 512)],
    [(512, 512), (512, 512), (512, 512)],
]
DECODER = [
    [(512, 512), (512, 512), (512, 512)],
    [(512, 256), (256, 256), (256, 256)],
    [(256, 128), (128, 128), (128, 128)],
    [(128, 64), (64, 64)],
    [(64, 64), (64, 64)],
]


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def test_subtotals_of_parameters():
    with torch.device("meta"):
        trunk = segnet.SegNet()
    parts = [[getattr(stage, part).parameters() for stage in half] for half in (trunk.encoder, trunk.decoder)
             for part in ("entry", "extra")]  # fmt: skip
    assert [count(itertools.chain(*part)) for part in parts] == [3_913_728, 10_809_408, 3_947_520, 6_272_640]
    heads = {outputs: count(segnet.Head(64, outputs).parameters()) for outputs in (13, 7, 1, 3)}
    assert heads == {13: 37_773, 7: 37_383, 1: 36_993, 3: 37_123}
    with torch.device("meta"):
        single, split = (build(name, TASKS[:n]) for name, n in (("single", 1), ("split", 3)))
    assert len(list(single.parameters())) == 108
    assert len(list(split.parameters())) == 116  # 117 with the released logsigma


def blocks(table: list[tuple[int, int]], width: int) -> nn.Sequential:
    """The same CBRs, written down a second time: every channel count divided by ``width``, but for the image's."""
    layers = []
    for a, b in table:
        a = a if a == 3 else a // width
        layers += [nn.Conv2d(a, b // width, 3, 1, 1), nn.BatchNorm2d(b // width), nn.ReLU()]
    return nn.Sequential(*layers)


def test_features_equal_those_of_the_table():
    torch.manual_seed(0)
    trunk = segnet.SegNet(segnet.scaled(1 / 16))
    segnet.initialise(trunk)
    encoder, decoder = ([blocks(stage, 16) for stage in half] for half in (ENCODER, DECODER))
    theirs = [p for stage in (*encoder, *decoder) for p in stage.parameters()]
    with torch.no_grad():
        for a, b in zip(theirs, trunk.parameters(), strict=True):  # strict: the same parameters in the same order
            a.copy_(b)
    x = image = torch.rand(2, 3, 64, 96)
    expected, where = {}, []
    for s, stage in enumerate(encoder):
        expected[f"e{s}"] = stage[:3](x)
        expected[f"x{s}"] = stage[3:](expected[f"e{s}"])
        x, indices = nn.MaxPool2d(2, 2, return_indices=True)(expected[f"x{s}"])
        where.append(indices)
    for d, stage in enumerate(decoder):
        expected[f"u{d}"] = nn.MaxUnpool2d(2, 2)(x, where[4 - d])
        x = expected[f"y{d}"] = stage(expected[f"u{d}"])
    found = {}
    y4 = trunk(image, found)
    assert found.keys() == expected.keys() and y4 is found["y4"]
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, rtol=1e-4, atol=1e-5, msg=key)


def test_a_head_is_its_two_convolutions():
    torch.manual_seed(0)
    head = segnet.Head(5, 3).double()
    x = torch.rand(2, 5, 6, 7, dtype=torch.double, requires_grad=True)
    inputs = [x, *head.parameters()]
    one, two = head(x), head.project(head.conv(x))
    torch.testing.assert_close(one, two)
    for a, b in zip(gradient(one.sin().sum(), inputs), gradient(two.sin().sum(), inputs), strict=True):
        torch.testing.assert_close(a, b)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_unpooling_puts_maxima_back(seed, half_height, half_width, channels_last):
    generator = torch.Generator().manual_seed(seed)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.rand(2, 3, 2 * half_height, 2 * half_width, generator=generator).add(0.1).contiguous(memory_format=layout)
    pooled, where = segnet.pool(x)
    back = segnet.unpool(pooled, where)
    kept = back != 0
    assert torch.equal(back[kept], x[kept])
    assert torch.equal(F.avg_pool2d(kept.float(), 2), torch.full_like(pooled, 0.25)), "one in each 2x2"
    assert torch.equal(segnet.pool(back)[0], pooled)


def test_initialisation_is_xavier_normal():
    torch.manual_seed(0)
    model = build("split", TASKS)
    for key, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all(), key
        if isinstance(layer, nn.Conv2d):
            fans = (layer.in_channels + layer.out_channels) * layer.kernel_size[0] * layer.kernel_size[1]
            expected, found, n = math.sqrt(2 / fans), layer.weight.std().item(), layer.weight.numel()
            assert abs(found / expected - 1) < 5 / math.sqrt(2 * n), key  # five standard errors
            assert (layer.bias == 0).all(), key
            if n > 1000:  # a uniform distribution of this spread ends at sqrt(3) deviations
                assert layer.weight.abs().max() > 2.5 * expected, key


def test_uniform_initialisation_is_bounded():
    torch.manual_seed(0)
    stage = segnet.Stage(16, 32, 32)
    segnet.initialise(stage, "uniform")
    weight = stage.last_conv.weight
    bound = math.sqrt(6 / (64 * 9))
    assert 0.95 * bound < weight.abs().max() <= bound
    with pytest.raises(KitError, match="did you mean 'uniform'"):
        segnet.initialise(stage, "unifrom")


def test_the_last_conv_of_a_stage():
    stage = segnet.Stage(4, 6, 8, 10)
    assert stage.last_conv is stage.extra[1].conv and stage.last_conv.out_channels == 10
    assert segnet.Stage(4, 6).last_conv.out_channels == 6


# --- single and split ------------------------------------------------------------------------------------------------


def test_single_with_three_tasks_is_three_singles():
    model = small("single")
    outputs = model(images(model))
    sum(losses(outputs).values()).backward()  # equal weighting
    for task in TASKS:
        alone = build("single", [task], width=0.125)
        name = task.name
        alone.trunks[name].load_state_dict(model.trunks[name].state_dict())
        alone.heads[name].load_state_dict(model.heads[name].state_dict())
        own = alone(images(alone))
        assert torch.equal(own[name], outputs[name])
        losses(own)[name].backward()
        for a, b in zip(alone.task_parameters(name), model.task_parameters(name), strict=True):
            assert torch.equal(a.grad, b.grad)
    assert model.shared_parameters() == [] and model.representation() is None and model.last_shared_layer() is None


def test_single_computes_only_what_is_asked():
    model = small("single")
    _, features = model(images(model), ["depth"], return_features=True)
    assert set(features) == {f"depth/{kind}{i}" for kind in "exuy" for i in range(5)}


def test_split_shares_all_but_the_heads():
    model = small("split")
    assert model.last_shared_layer() is model.trunk.decoder[4].extra[0].conv
    assert [id(p) for p in model.shared_parameters()] == [id(p) for p in model.trunk.parameters()]
    assert len(model.shared_parameters()) == 104
    for name in NAMES:
        assert len(model.task_parameters(name)) == 4
    groups = model.parameter_groups()
    assert {name: len(group) for name, group in groups.items()} == {"backbone": 104, "heads": 12}
