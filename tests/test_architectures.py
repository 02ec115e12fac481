"""Architectures: the contract every one keeps on every backbone (a loop over the registry), bad input, and sharing.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mtlkit
from mtlkit import KitError, tasks
from mtlkit.architectures import ARCHITECTURES, MultiTaskModel, build, count_macs, count_parameters
from mtlkit.architectures.backbones import BACKBONES
from mtlkit.architectures.base import MAC_RULES

TASKS = [tasks.semantic(["a", "b", "c", "d"]), tasks.depth(), tasks.normals()]
NAMES = [task.name for task in TASKS]
CHANNELS = {task.name: task.channels for task in TASKS}
DEEPLAB = "resnet50-deeplabv3"
# every architecture on every backbone that it stands on (ResNet-101 is more of ResNet-50), and its other options
BACKBONE_NAMES = [name for name in BACKBONES if "101" not in name]
VARIANTS = {
    "split": [{"preset": "wide"}, {"preset": "deep"}],
    "dense": [{"dead_step": True}],
    "cross_stitch": [
        {"unit": "sum"},
        {"backbone": "resnet50", "frozen": True},
        {"backbone": "resnet50", "shared_downsample": True},
    ],
    "nddr": [{"backbone": "resnet50", "shortcut": True}, {"backbone": "resnet50-deeplabv3plus", "shortcut": True}],
    "afa": [{"backbone": "resnet50", "preserve": mode} for mode in ("fused", "keep_a", "keep_both")],
    "wrn_adapters": [{"form": "parallel"}],
}
ALWAYS = {"afa": {"spatial": "free"}}  # its own tests have the other form, of one size
ALWAYS |= {name: {"depth": 10} for name in ("wrn_single", "wrn_shared", "wrn_mtan", "wrn_adapters")}


def _networks():
    for name in ARCHITECTURES:
        always = ALWAYS.get(name, {})
        backbones = [b for b in getattr(ARCHITECTURES[name], "backbones", ()) if b in BACKBONE_NAMES]
        for options in [*({"backbone": b} for b in backbones or ())] or [{}]:
            yield "-".join([name, *options.values()]), (name, options | always)
        for options in VARIANTS.get(name, []):
            yield "-".join([name, *(f"{k}={v}" for k, v in options.items())]), (name, options | always)


NETWORKS = dict(_networks())
every_network = pytest.mark.parametrize("network", NETWORKS)


def small(network: str, count: int = 3, width: float = 0.125, seed: int = 0) -> MultiTaskModel:
    torch.manual_seed(seed)
    name, options = NETWORKS[network]
    return build(name, TASKS[:count], width=width, **options)


@functools.cache
def untouched(network: str) -> MultiTaskModel:
    """``small``, built once, for tests that change nothing."""
    return small(network)


def images(model: MultiTaskModel, batch: int = 2, height: int = 32, width: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(batch, model.input_channels[name], height, width, generator=generator) for name in model.inputs
    }


def losses(outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Any scalar of each task that its whole output enters."""
    return {name: raw.square().mean() for name, raw in outputs.items()}


def gradient(loss: torch.Tensor, parameters: list[nn.Parameter]) -> list[torch.Tensor | None]:
    trained = [p for p in parameters if p.requires_grad]
    found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    by_parameter = {id(p): g for p, g in zip(trained, found, strict=True)}
    return [by_parameter.get(id(p)) for p in parameters]


# --- what every architecture promises ------------------------------------------------------------------------------


@every_network
@torch.no_grad()
def test_outputs_have_input_resolution(network):
    height, width = 96, 64
    model = small(network, width=0.13)
    outputs = model(images(model, 2, height, width))
    size = () if model.labels else (height, width)
    assert {key: tuple(raw.shape) for key, raw in outputs.items()} == {
        key: (2, channels, *size) for key, channels in CHANNELS.items()
    }


@every_network
@torch.no_grad()
def test_a_tensor_a_batch_and_a_choice_of_tasks_agree(network):
    model = small(network).eval()
    streams = images(model)
    everything = model(streams | {"index": torch.arange(2)})
    chosen = model(streams, ["normals"])
    assert list(everything) == NAMES and list(chosen) == ["normals"]
    torch.testing.assert_close(chosen["normals"], everything["normals"], rtol=0, atol=0)
    assert list(model(streams, "depth")) == ["depth"]
    if len(model.inputs) == 1:
        alone = model(streams[model.inputs[0]])
        torch.testing.assert_close(alone["depth"], everything["depth"], rtol=0, atol=0)


@every_network
@pytest.mark.parametrize("count", [1, 3])
def test_parameters_belong_to_the_tasks_whose_losses_reach_them(network, count):
    model = small(network, count)
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


@every_network
def test_every_parameter_is_trained(network):
    model = small(network)
    sum(losses(model(images(model))).values()).backward()
    auxiliary = {id(p) for p in model.auxiliary_parameters()}
    for key, parameter in model.named_parameters():
        if id(parameter) not in auxiliary:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
    for key, parameter in model.heads.named_parameters():
        assert parameter.grad.abs().max() > 0, key


@every_network
def test_parameter_groups_hold_everything_once(network):
    model = untouched(network)
    grouped = [id(p) for group in model.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


@every_network
def test_the_representation_is_where_trunk_and_heads_part(network):
    model = small(network)
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


@every_network
def test_the_last_shared_layer_is_shared(network):
    model = untouched(network)
    layer = model.last_shared_layer()
    shared = {id(p) for p in model.shared_parameters()}
    if layer is None:
        assert not shared or model.frozen
    else:
        own = {id(p) for p in layer.parameters()}
        assert own and own <= shared


@every_network
@torch.no_grad()
def test_the_state_dict_is_the_whole_model(network):
    model, other = small(network, seed=0), small(network, seed=1)
    model(images(model))  # moves the running statistics
    state = model.state_dict()
    assert all(type(value) is torch.Tensor for value in state.values()), "what torch.load takes with weights_only"
    other.load_state_dict(state)
    again = other.eval()(images(other))
    for task, raw in model.eval()(images(model)).items():
        assert torch.equal(raw, again[task])


@every_network
@torch.no_grad()
def test_a_deep_copy_is_independent(network):
    model = small(network).eval()
    twin = copy.deepcopy(model)
    before = model(images(model))
    for parameter in twin.parameters():
        parameter.zero_()
    for task, raw in model(images(model)).items():
        assert torch.equal(raw, before[task])
    assert twin(images(twin))["depth"].abs().max() == 0


@every_network
def test_in_eval_mode_an_image_is_predicted_alone(network):
    model = small(network).eval()
    streams = images(model)
    with torch.no_grad():
        together = model(streams)
        again = model(streams)
        alone = model({key: image[:1] for key, image in streams.items()})
    for task, raw in together.items():
        assert torch.equal(raw, again[task])
        torch.testing.assert_close(raw[:1], alone[task], rtol=1e-4, atol=1e-5)


@every_network
@torch.no_grad()
def test_training_depends_on_the_seed_alone(network):
    """Dropout draws from torch's random state, which a run saves and restores."""
    model = small(network)
    streams = images(model)
    passes = []
    for _ in range(2):
        torch.manual_seed(3)
        passes.append(model(streams))
    assert all(torch.equal(passes[0][task], passes[1][task]) for task in NAMES)


@every_network
def test_two_models_of_one_seed_are_equal(network):
    one, two = untouched(network).state_dict(), small(network).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], value) for key, value in small(network, seed=1).state_dict().items())


@every_network
def test_bfloat16_stays_close(network):
    model = small(network)
    streams = images(model)
    with torch.autocast("cpu", torch.bfloat16):
        sum(losses(model(streams)).values()).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    # compared in eval mode: on small maps batch statistics magnify rounding, and so does the choice of a maximum
    exact = model.eval()(streams)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(streams)
    for task, raw in exact.items():
        assert (rounded[task].float() - raw).norm() < 0.2 * raw.norm(), task


@every_network
def test_width_scales_the_parameters(network):
    with torch.device("meta"):
        half, quarter = (count_parameters(small(network, width=width)) for width in (0.5, 0.25))
    assert 3.5 < half / quarter < 4.1


@every_network
def test_counting_leaves_the_model_alone(network):
    model = untouched(network)
    before = copy.deepcopy(model.state_dict())
    macs = {rule: count_macs(model, 32, 64, rule) for rule in MAC_RULES}
    assert macs["conv"] <= macs["conv+linear"]
    assert count_macs(model, 64, 64, "conv") == pytest.approx(2 * macs["conv"], rel=0.01)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


# --- bad input says what to do -------------------------------------------------------------------------------------


@every_network
def test_an_unknown_task_names_the_nearest(network):
    model = untouched(network)
    with pytest.raises(KitError, match="did you mean 'depth'"):
        model(images(model), ["dept"])
    with pytest.raises(KitError, match="did you mean 'normals'"):
        model.task_parameters("normal")


@every_network
def test_the_smallest_batch_trains_and_a_smaller_one_is_refused(network):
    model = small(network)
    assert all(raw.isfinite().all() for raw in model(images(model, model.smallest_batch)).values())
    if model.smallest_batch > 1:
        too_few = images(model, model.smallest_batch - 1)
        with pytest.raises(KitError, match="needs 2 images or more .* found 1; .* call .eval") as caught:
            model(too_few)
        assert "\n" not in str(caught.value)
        model.eval()(too_few)


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
        small("split-segnet")({"image": image})
    assert "\n" not in str(caught.value)


def test_a_missing_entry_is_named():
    with pytest.raises(KitError, match="found \\['img'\\]; add the entry 'image'"):
        small("split-segnet")({"img": torch.rand(1, 3, 32, 32)})


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


# --- single and split ------------------------------------------------------------------------------------------------


every_backbone = pytest.mark.parametrize("backbone", BACKBONE_NAMES)


def without_dropout(model: MultiTaskModel) -> MultiTaskModel:
    """So that two models which draw in another order can be compared in training mode."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model


@every_backbone
def test_single_with_three_tasks_is_three_singles(backbone):
    model = without_dropout(small(f"single-{backbone}"))
    outputs = model(images(model))
    sum(losses(outputs).values()).backward()  # equal weighting
    for task in TASKS:
        alone = without_dropout(build("single", [task], width=0.125, backbone=backbone))
        name = task.name
        alone.trunks[name].load_state_dict(model.trunks[name].state_dict())
        alone.heads[name].load_state_dict(model.heads[name].state_dict())
        own = alone(images(alone))
        assert torch.equal(own[name], outputs[name])
        losses(own)[name].backward()
        for a, b in zip(alone.task_parameters(name), model.task_parameters(name), strict=True):
            assert torch.equal(a.grad, b.grad)
    assert model.shared_parameters() == [] and model.representation() is None and model.last_shared_layer() is None


@pytest.mark.parametrize(("backbone", "kinds", "numbers"), [("segnet", "exuy", "01234"), (DEEPLAB, "bt", "1234")])
def test_single_computes_only_what_is_asked(backbone, kinds, numbers):
    model = small(f"single-{backbone}")
    _, features = model(images(model), ["depth"], return_features=True)
    assert set(features) == {f"depth/{kind}{number}" for kind in kinds for number in numbers}


@pytest.mark.parametrize(
    ("backbone", "last", "trunk", "head"),
    [("segnet", "decoder.4.extra.0.conv", 104, 4), (DEEPLAB, "layer4.2.conv3", 159, 23)],
)
def test_split_shares_all_but_the_heads(backbone, last, trunk, head):
    model = small(f"split-{backbone}")
    assert model.last_shared_layer() is model.trunk.get_submodule(last)
    assert [id(p) for p in model.shared_parameters()] == [id(p) for p in model.trunk.parameters()]
    assert len(model.shared_parameters()) == trunk
    for name in NAMES:
        assert len(model.task_parameters(name)) == head
    groups = model.parameter_groups()
    assert {name: len(group) for name, group in groups.items()} == {"backbone": trunk, "heads": 3 * head}


@pytest.mark.parametrize("name", ["split", "cross_stitch"])
def test_torch_compile_takes_it(name):
    """Trunks are generators (``layers.steps``), which the compiler must be able to follow."""
    torch._dynamo.reset()
    model = build(name, TASKS[:2], width=0.05).eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager")(image)
        for task, raw in model(image).items():
            torch.testing.assert_close(compiled[task], raw)
