"""Networks for many domains against a second, straight-line writing; wiring faults it must notice; counts; pooling.

Shapes: B batch, C channels, H/W size, K classes of a domain.
"""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from test_mtan import Weights, branch_first, by_name, difference
from torch import Tensor, nn

import mtlkit
from mtlkit import KitError, tasks
from mtlkit.architectures import MultiTaskModel, build, count_macs, count_parameters
from mtlkit.architectures.decathlon import CLASSES
from mtlkit.datasets.visual_decathlon import SETS

SIZES = {"svhn": 4, "dtd": 3, "vgg-flowers": 5}  # domain -> classes
TASKS = [tasks.classification(name, map(str, range(classes))) for name, classes in SIZES.items()]
NAMES = list(SIZES)
SMALL = {"depth": 16, "width": 0.125}  # two blocks in a layer, with and without a shortcut of its own
NETWORKS = {
    "single": ("wrn_single", {}),
    "shared": ("wrn_shared", {}),
    "mtan": ("wrn_mtan", {}),
    "series": ("wrn_adapters", {"form": "series"}),
    "parallel": ("wrn_adapters", {"form": "parallel"}),
}
every_network = pytest.mark.parametrize("network", NETWORKS)
IMAGES = torch.rand(3, 3, 40, 48, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def small(network: str, chosen: list[tasks.Task] = TASKS, **options) -> MultiTaskModel:
    name, own = NETWORKS[network]
    return build(name, chosen, **SMALL | own | options)


def patterned(network: str, **options) -> MultiTaskModel:
    with torch.no_grad():
        return by_name(small(network, **options))


# --- the oracle: plain functions of a state dict ----------------------------------------------------------------------


def shared_oracle(w: Weights, image: Tensor, domain: str, trunk: str = "trunk", form: str = "") -> list[Tensor]:
    """g_0..g_3 of a wide ResNet of depth 16."""
    own = f".{domain}" if form else ""  # behind the name of every normalisation

    def conv(key: str, number: str, x: Tensor, stride: int) -> Tensor:
        y = w.conv(f"{key}.conv{number}", x, stride=stride, padding=1)
        adapter = f"{key}.adapter{number}.{domain}"
        if form == "series":
            return y + w.conv(f"{adapter}.project", w.norm(f"{adapter}.norm", y))
        return y + w.conv(f"{adapter}.project", x, stride=stride) if form == "parallel" else y

    stages = [w.conv(f"{trunk}.stem", image, padding=1)]
    x = stages[0]
    for layer in "012":
        for block, stride in (("0", 2), ("1", 1)):
            key = f"{trunk}.layers.{layer}.{block}"
            y = conv(key, "1", w.norm(f"{key}.norm1{own}", x).clamp_min(0), 1)
            y = conv(key, "2", w.norm(f"{key}.norm2{own}", y).clamp_min(0), stride)
            x = y + (w.conv(f"{key}.shortcut", x, stride=2) if stride == 2 else x)
        stages.append(x)
    stages[3] = w.norm(f"{trunk}.norm{own}", x).clamp_min(0)
    return stages


def mtan_oracle(w: Weights, image: Tensor, domain: str) -> Tensor:
    g = shared_oracle(w, image, domain)
    a = w.cbr("attention.refine.0", w.mask(f"attention.stages.{domain}.0", g[0]) * g[0])
    for j in (1, 2, 3):
        mask = w.mask(f"attention.stages.{domain}.{j}", torch.cat([g[j], F.max_pool2d(a, 2, 2)], 1))
        a = w.cbr(f"attention.refine.{j}", mask * g[j])
    return a


ORACLES = {
    "single": lambda w, image, domain: shared_oracle(w, image, domain, f"trunks.{domain}")[3],
    "shared": lambda w, image, domain: shared_oracle(w, image, domain)[3],
    "mtan": mtan_oracle,
    "series": lambda w, image, domain: shared_oracle(w, image, domain, form="series")[3],
    "parallel": lambda w, image, domain: shared_oracle(w, image, domain, form="parallel")[3],
}


@functools.cache
def expected(network: str) -> dict[str, Tensor]:
    w = Weights(patterned(network).state_dict())
    last = {name: ORACLES[network](w, IMAGES, name) for name in NAMES}
    return {n: last[n].mean((2, 3)) @ w[f"heads.{n}.weight"].T + w[f"heads.{n}.bias"] for n in NAMES}


@every_network
def test_every_domain_equals_the_oracle(network):
    with torch.no_grad():
        outputs = patterned(network)(IMAGES)
    assert list(outputs) == NAMES
    for name, raw in outputs.items():
        assert raw.shape == (3, SIZES[name])
        torch.testing.assert_close(raw, expected(network)[name], rtol=1e-10, atol=1e-10)


# --- faults in the wiring ---------------------------------------------------------------------------------------------


def swap_domains(modules: nn.ModuleDict) -> None:
    modules["svhn"], modules["dtd"] = modules["dtd"], modules["svhn"]


def redirect(model: MultiTaskModel, change) -> None:
    """The attention reads the features that ``change`` makes of them."""

    def rewire(module: nn.Module, inputs: tuple) -> tuple:
        name, features = inputs
        return name, features | change(features)

    model.attention.register_forward_pre_hook(rewire)


def stride_first(model: MultiTaskModel) -> None:
    block = model.trunk.layers[1][0]
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


DOMAIN_FAULTS = {
    "masks": ("mtan", lambda model: swap_domains(model.attention.stages)),
    "last norms": ("series", lambda model: swap_domains(model.trunk.norm)),
    "norms": ("parallel", lambda model: swap_domains(model.trunk.layers[1][1].norm2)),
    "adapters in series": ("series", lambda model: swap_domains(model.trunk.layers[0][0].adapter2)),
    "adapters in parallel": ("parallel", lambda model: swap_domains(model.trunk.layers[2][1].adapter1)),
    "trunks": ("single", lambda model: swap_domains(model.trunks)),
}
FAULTS = {
    "stride in the first convolution": ("shared", stride_first),
    "g_0 behind a ReLU": ("mtan", lambda model: redirect(model, lambda g: {"g0": g["g0"].relu()})),
    "no last normalisation": ("shared", lambda model: setattr(model.trunk, "norm", nn.Identity())),
    "no shortcut": ("shared", lambda model: setattr(model.trunk.layers[0][1], "shortcut", nn.Conv2d(8, 8, 1).double())),
    "branch first": ("mtan", lambda model: branch_first(*(model.attention.stages[n][2] for n in NAMES))),
    "a pool behind the last": (
        "mtan",
        lambda model: model.attention.refine[3].register_forward_hook(lambda m, i, output: F.max_pool2d(output, 2)),
    ),
    "no activation behind F": ("mtan", lambda model: setattr(model.attention.refine[1], "relu", nn.Identity())),
}


@pytest.mark.parametrize("fault", DOMAIN_FAULTS)
def test_a_domain_routed_through_another_s_modules_is_noticed(fault):
    network, plant = DOMAIN_FAULTS[fault]
    model = patterned(network)
    plant(model)
    with torch.no_grad():
        outputs = model(IMAGES)
    assert difference(outputs, expected(network), "svhn") > 1e-3
    assert difference(outputs, expected(network), "dtd") > 1e-3
    assert difference(outputs, expected(network), "vgg-flowers") < 1e-10, "the third has nothing to do with it"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_wire_is_noticed(fault):
    network, plant = FAULTS[fault]
    model = patterned(network)
    plant(model)
    with torch.no_grad():
        outputs = model(IMAGES)
    for name in NAMES:
        assert difference(outputs, expected(network), name) > 1e-3


# --- one domain at a time ---------------------------------------------------------------------------------------------


@every_network
def test_a_batch_of_one_domain_leaves_the_others_alone(network):
    """Neither gradients nor running statistics of what belongs to another domain."""
    model = small(network)
    before = {key: buffer.clone() for key, buffer in model.named_buffers()}
    model(IMAGES.float(), ["dtd"])["dtd"].square().mean().backward()
    others = [id(p) for name in ("svhn", "vgg-flowers") for p in model.task_parameters(name)]
    assert {id(p) for p in model.parameters() if p.grad is not None} == {id(p) for p in model.parameters()} - {*others}
    moved = {key for key, buffer in model.named_buffers() if not torch.equal(buffer, before[key])}
    own = {key for key in before if any(name in key.split(".") for name in NAMES)}
    assert moved == {key for key in before if key not in own or "dtd" in key.split(".")}


def test_no_mask_of_another_domain_is_computed():
    model = small("mtan")
    with mtlkit.record(model) as seen:
        _, features = model(IMAGES.float(), ["svhn"], return_features=True)
    assert list(seen) == [f"mask/svhn/stage{j}" for j in range(4)]
    assert list(features) == ["g0", "g1", "g2", "g3", "svhn/pooled"]
    for j, mask in enumerate(seen.values()):
        assert mask.shape == features[f"g{j}"].shape and 0 <= mask.min() <= mask.max() <= 1


@every_network
def test_a_domain_does_not_depend_on_what_others_there_are(network):
    model = patterned(network)
    alone = small(network, TASKS[1:2]).double()
    alone.load_state_dict({key: model.state_dict()[key] for key in alone.state_dict()})
    with torch.no_grad():
        torch.testing.assert_close(alone(IMAGES)["dtd"], expected(network)["dtd"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("network", "groups"),
    [
        ("single", ["backbone", "heads"]),
        ("shared", ["backbone", "heads"]),
        ("mtan", ["backbone", "attention", "heads"]),
        ("parallel", ["backbone", "adapters", "heads"]),
    ],
)
def test_groups_for_learning_rates(network, groups):
    found = small(network).parameter_groups()
    assert list(found) == groups and all(found.values())


# --- residual adapters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["series", "parallel"])
def test_adapters_start_as_the_plain_network(network):
    plain, model = small("shared"), small(network)
    state = {key: tensor for key, tensor in plain.state_dict().items() if key in model.state_dict()}
    assert {key for key in plain.state_dict() if key not in state} == {k for k in plain.state_dict() if "norm" in k}
    model.load_state_dict(state, strict=False)
    found = model(IMAGES.float())
    for name, raw in plain(IMAGES.float()).items():
        torch.testing.assert_close(found[name], raw)


@pytest.mark.parametrize(("form", "bias_and_norm"), [("series", 5), ("parallel", 3)])
def test_a_domain_costs_what_the_paper_says(form, bias_and_norm):
    """NeurIPS 2017: 2 (C^2 + 5 C) in a block of C channels; beside a convolution there is one norm less."""
    with torch.device("meta"):
        model = build("wrn_adapters", TASKS, form=form)
    block, channels = model.trunk.layers[2][1], 256
    parts = [getattr(block, key)["dtd"] for key in ("norm1", "norm2", "adapter1", "adapter2")]
    assert sum(map(count_parameters, parts)) == 2 * (channels**2 + bias_and_norm * channels)


# --- pooling and sizes ------------------------------------------------------------------------------------------------


def test_released_pooling_leaves_out_the_last_row_and_column():
    x = torch.rand(2, 4, 9, 9)
    released, adaptive = small("shared", pooling="released").pool, small("shared").pool
    torch.testing.assert_close(released(x), F.avg_pool2d(x, 8).flatten(1))
    torch.testing.assert_close(adaptive(x), F.adaptive_avg_pool2d(x, 1).flatten(1))
    torch.testing.assert_close(released(x[..., :8, :8]), adaptive(x[..., :8, :8]))
    x[..., 8], x[..., 8, :] = torch.nan, torch.nan
    assert released(x).isfinite().all() and not adaptive(x).isfinite().any()


def test_released_pooling_takes_sizes_that_give_one_value():
    model = small("mtan", pooling="released").eval()
    for size in (64, 72, 120):
        assert model(torch.rand(1, 3, size, 64))["dtd"].shape == (1, 3)
    for height, width in ((56, 64), (64, 128)):
        with pytest.raises(KitError, match=f"from 64 to 120, found {height}x{width}; resize") as caught:
            model(torch.rand(1, 3, height, width))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wrn_shared", {"depth": 27}, "10, 16, 22, 28, ..., found 27"),
        ("wrn_mtan", {"depth": 4}, "10, 16, 22"),
        ("wrn_single", {"widen": 0}, "1 or more, found 0"),
        ("wrn_mtan", {"pooling": "adaptiv"}, "did you mean 'adaptive'"),
        ("wrn_adapters", {"form": "serial"}, "unknown form 'serial'"),
        ("wrn_mtan", {"widht": 1}, "did you mean 'width'"),
    ],
)
def test_what_does_not_exist_is_refused(name, options, message):
    with pytest.raises(KitError, match=message):
        build(name, TASKS, **options)


# --- counts of the reference: those of the whole are rows of ``mtlkit models`` ----------------------------------------


def test_the_domains_are_those_of_the_visual_decathlon():
    assert CLASSES == {name: facts.classes for name, facts in SETS.items()}


def test_subtotals_of_parameters():
    ten = [tasks.classification(name, map(str, range(classes))) for name, classes in CLASSES.items()]
    with torch.device("meta"):
        model = build("wrn_mtan", ten)
    count, trunk = count_parameters, model.trunk
    assert count(trunk.stem) == 448 and count(trunk.norm) == 512
    assert [count(layer) for layer in trunk.layers] == [269_792, 1_117_184, 4_462_592]
    assert count(model.heads) == 803_896
    assert count(model.attention.stages) == 2_613_440 and count(model.attention.refine) == 969_792
    assert len(list(model.parameters())) == 462
    assert count(trunk) == 5_850_528 and count(model.heads["cifar100"]) == 25_700
    assert round(count(model) / (count(trunk) + count(model.heads["cifar100"])), 3) == 1.742  # printed: 1.74
    assert trunk.norm.momentum == 0.9 and trunk.layers[0][0].norm1.momentum == 0.1
    # one more class is one more row of the linear layer
    assert [count_macs(model, 72, 72, tasks=[name]) - 1_588_384_768 for name in ("imagenet12", "svhn")] == [
        0,
        -990 * 256,
    ]
