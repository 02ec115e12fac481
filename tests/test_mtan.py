"""MTAN against a second, straight-line writing of the paper's equations; wiring faults that it must notice; STAN.

Shapes: B batch, C channels, H/W size, T tasks, K channels of a task's raw output.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mtlkit
from mtlkit import tasks
from mtlkit.architectures import MultiTaskModel, build

TASKS = [tasks.semantic(["a", "b", "c"]), tasks.depth(), tasks.normals()]
NAMES = [task.name for task in TASKS]
DEEPLAB = "resnet50-deeplabv3"
WIDTH = 0.0625
# DeepLabv3: maps of 16 x 32 at stride 8, where two of the three rates read more than their centre
SIZES = {"segnet": (64, 96), DEEPLAB: (128, 256)}
IMAGES = {
    backbone: torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    for backbone, size in SIZES.items()
}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


# --- the oracle: plain functions of a state dict ----------------------------------------------------------------------


class Weights(dict):
    """A state dict, and the layers in it by name. Batch normalisation takes the statistics of the batch."""

    def conv(self, key: str, x: Tensor, **options) -> Tensor:
        return F.conv2d(x, self[f"{key}.weight"], self.get(f"{key}.bias"), **options)

    def norm(self, key: str, x: Tensor) -> Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        weight, bias = (self[f"{key}.{part}"][:, None, None] for part in ("weight", "bias"))
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def cbr(self, key: str, x: Tensor) -> Tensor:
        return self.norm(f"{key}.norm", self.conv(f"{key}.conv", x, padding=1)).clamp_min(0)

    def mask(self, key: str, x: Tensor) -> Tensor:
        hidden = self.norm(f"{key}.1", self.conv(f"{key}.0", x)).clamp_min(0)
        return 1 / (1 + (-self.norm(f"{key}.4", self.conv(f"{key}.3", hidden))).exp())

    def bottleneck(self, key: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        y = self.norm(f"{key}.bn1", self.conv(f"{key}.conv1", x)).clamp_min(0)
        y = self.conv(f"{key}.conv2", y, stride=stride, dilation=dilation, padding=dilation)
        y = self.norm(f"{key}.bn3", self.conv(f"{key}.conv3", self.norm(f"{key}.bn2", y).clamp_min(0)))
        if f"{key}.downsample.0.weight" in self:
            x = self.norm(f"{key}.downsample.1", self.conv(f"{key}.downsample.0", x, stride=stride))
        return (x + y).clamp_min(0)


def segnet_oracle(w: Weights, image: Tensor, task: str) -> Tensor:
    """The SegNet of MTAN with one task's branch."""
    encoder = [(1, "0"), (1, "1"), (2, "2"), (2, "3"), (2, "4")]  # extra convolutions of every stage
    x, e, last, where, u, y = image, [], [], [], [], []
    for extra, stage in encoder:
        e.append(w.cbr(f"trunk.encoder.{stage}.entry", x))
        x = e[-1]
        for i in range(extra):
            x = w.cbr(f"trunk.encoder.{stage}.extra.{i}", x)
        last.append(x)
        x, indices = F.max_pool2d(x, 2, 2, return_indices=True)
        where.append(indices)
    for (extra, _), step in zip(reversed(encoder), "01234", strict=True):
        u.append(F.max_unpool2d(x, where[4 - int(step)], 2, 2))
        x = w.cbr(f"trunk.decoder.{step}.entry", u[-1])
        for i in range(extra):
            x = w.cbr(f"trunk.decoder.{step}.extra.{i}", x)
        y.append(x)
    a = F.max_pool2d(w.cbr("attention.refine_down.0", w.mask(f"attention.encoder.{task}.0", e[0]) * last[0]), 2, 2)
    for s in (1, 2, 3, 4):
        mask = w.mask(f"attention.encoder.{task}.{s}", torch.cat([e[s], a], 1))
        a = F.max_pool2d(w.cbr(f"attention.refine_down.{s}", mask * last[s]), 2, 2)
    for d in range(5):
        up = F.interpolate(a, size=u[d].shape[2:], mode="bilinear", align_corners=True)
        g = w.cbr(f"attention.refine_up.{d}", up)
        a = w.mask(f"attention.decoder.{task}.{d}", torch.cat([u[d], g], 1)) * y[d]
    return w.conv(f"heads.{task}.project", w.conv(f"heads.{task}.conv", a, padding=1))


def deeplab_oracle(w: Weights, image: Tensor, task: str) -> Tensor:
    """The dilated ResNet-50 of MTAN with one task's branch and DeepLabv3 head, without dropout."""
    x = w.norm("trunk.bn1", w.conv("trunk.conv1", image, stride=2, padding=3)).clamp_min(0)
    x = F.max_pool2d(x, 3, 2, 1)
    gated = None
    # blocks of a stage, stride and dilation of its first, dilation of the others
    for stage, blocks, stride, first, others in ((1, 3, 1, 1, 1), (2, 4, 2, 1, 1), (3, 6, 1, 1, 2), (4, 3, 1, 2, 4)):
        x = w.bottleneck(f"trunk.layer{stage}.0", x, stride, first)
        for block in range(1, blocks):
            before = x
            x = w.bottleneck(f"trunk.layer{stage}.{block}", x, 1, others)
        if stage > 1:
            a = w.bottleneck(f"attention.refine.{stage - 2}", gated)
            before = torch.cat([before, F.max_pool2d(a, 2, 2) if stage == 2 else a], 1)
        gated = w.mask(f"attention.stages.{task}.{stage - 1}", before) * x
    head = f"heads.{task}"
    parts = [w.norm(f"{head}.0.convs.0.1", w.conv(f"{head}.0.convs.0.0", gated)).clamp_min(0)]
    for branch, rate in ((1, 12), (2, 24), (3, 36)):
        part = w.conv(f"{head}.0.convs.{branch}.0", gated, dilation=rate, padding=rate)
        parts.append(w.norm(f"{head}.0.convs.{branch}.1", part).clamp_min(0))
    pooled = w.conv(f"{head}.0.convs.4.1", gated.mean((2, 3), keepdim=True))
    parts.append(w.norm(f"{head}.0.convs.4.2", pooled).clamp_min(0).expand_as(parts[0]))
    y = w.norm(f"{head}.0.project.1", w.conv(f"{head}.0.project.0", torch.cat(parts, 1))).clamp_min(0)
    y = w.norm(f"{head}.2", w.conv(f"{head}.1", y, padding=1)).clamp_min(0)
    return F.interpolate(w.conv(f"{head}.4", y), size=image.shape[2:], mode="bilinear", align_corners=True)


ORACLES = {"segnet": segnet_oracle, DEEPLAB: deeplab_oracle}
every_backbone = pytest.mark.parametrize("backbone", ORACLES)


def patterned(backbone: str, chosen: Sequence[tasks.Task] = TASKS) -> MultiTaskModel:
    """A small MTAN with parameters ``by_name``, without dropout."""
    model = by_name(build("mtan", chosen, backbone=backbone, width=WIDTH))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model


def by_name(model: MultiTaskModel) -> MultiTaskModel:
    """In float64, with parameters drawn by their names, which so differ from task to task."""
    for key, parameter in model.double().named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        spread = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim == 4 else 0.3
        parameter.normal_(0, spread, generator=generator)
        if parameter.ndim == 1 and key.endswith("weight"):
            parameter.add_(1)
    return model


@functools.cache
def expected(backbone: str) -> dict[str, Tensor]:
    weights = Weights(patterned(backbone).state_dict())
    return {name: ORACLES[backbone](weights, IMAGES[backbone], name) for name in NAMES}


def difference(found: dict[str, Tensor], other: dict[str, Tensor], name: str) -> float:
    """Root mean square of the difference, in units of the second's spread."""
    return ((found[name] - other[name]).square().mean().sqrt() / other[name].std()).item()


# --- faults in the wiring ---------------------------------------------------------------------------------------------


def swap_tasks(modules: nn.ModuleDict) -> None:
    modules["semantic"], modules["normals"] = modules["normals"], modules["semantic"]


def redirect(model: MultiTaskModel, **sources: str) -> None:
    """Hand the attention other features than it asks for: ``e1="x1"`` gives x_1 for e_1."""

    def rewire(trunk: nn.Module, inputs: tuple, output: Tensor) -> None:
        features = inputs[1]
        features.update({name: features[source] for name, source in sources.items()})

    model.trunk.register_forward_hook(rewire)


def branch_first(*masks: nn.Module) -> None:
    """What a mask computes where the branch is concatenated before the shared tensor."""
    for mask in masks:
        mask[0].weight.data = mask[0].weight.data.roll(mask[0].in_channels // 2, dims=1)


def swap_refinements(model: MultiTaskModel) -> None:
    convolutions = model.attention.refine_down
    convolutions[3], convolutions[4] = convolutions[4], convolutions[3]


def swap_rates(model: MultiTaskModel, first: int, second: int) -> None:
    for head in model.heads.values():
        a, b = (head[0].convs[branch][0] for branch in (first, second))
        a.dilation, a.padding, b.dilation, b.padding = b.dilation, b.padding, a.dilation, a.padding


TASK_FAULTS = {
    "segnet": {
        "encoder attention": lambda model: swap_tasks(model.attention.encoder),
        "decoder attention": lambda model: swap_tasks(model.attention.decoder),
        "heads": lambda model: swap_tasks(model.heads),
    },
    DEEPLAB: {
        "attention": lambda model: swap_tasks(model.attention.stages),
        "heads": lambda model: swap_tasks(model.heads),
    },
}
FAULTS = {
    "segnet": {
        "order of F": swap_refinements,
        "a mask reads x_s": lambda model: redirect(model, **{f"e{s}": f"x{s}" for s in range(5)}),
        "a mask gates e_s": lambda model: redirect(model, **{f"x{s}": f"e{s}" for s in range(5)}),
        "a mask reads y_4": lambda model: redirect(model, u4="y4"),
        "a mask gates u_4": lambda model: redirect(model, y4="u4"),
        "a mask gates u_0": lambda model: redirect(model, y0="u0"),
        "branch first, down": lambda model: branch_first(*(model.attention.encoder[n][2] for n in NAMES)),
        "branch first, up": lambda model: branch_first(*(model.attention.decoder[n][4] for n in NAMES)),
    },
    DEEPLAB: {
        "a mask reads t_l": lambda model: redirect(model, **{f"b{l}": f"t{l}" for l in range(1, 5)}),
        "a mask gates b_l": lambda model: redirect(model, **{f"t{l}": f"b{l}" for l in range(1, 5)}),
        "branch first": lambda model: branch_first(*(model.attention.stages[n][2] for n in NAMES)),
        "rates 24, 12, 36": lambda model: swap_rates(model, 1, 2),
        "rates 12, 36, 24": lambda model: swap_rates(model, 2, 3),
    },
}


@every_backbone
def test_every_task_equals_the_oracle(backbone):
    outputs = patterned(backbone)(IMAGES[backbone])
    assert list(outputs) == NAMES
    for name, raw in outputs.items():
        torch.testing.assert_close(raw, expected(backbone)[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("backbone", "fault"), [(b, fault) for b in TASK_FAULTS for fault in TASK_FAULTS[b]])
def test_a_task_routed_through_another_s_modules_is_noticed(backbone, fault):
    model = patterned(backbone)
    TASK_FAULTS[backbone][fault](model)
    outputs = model(IMAGES[backbone])
    assert difference(outputs, expected(backbone), "semantic") > 1e-3
    assert difference(outputs, expected(backbone), "normals") > 1e-3
    assert difference(outputs, expected(backbone), "depth") < 1e-10, "the third task has nothing to do with it"


@pytest.mark.parametrize(("backbone", "fault"), [(b, fault) for b in FAULTS for fault in FAULTS[b]])
def test_a_wrong_wire_is_noticed(backbone, fault):
    model = patterned(backbone)
    FAULTS[backbone][fault](model)
    outputs = model(IMAGES[backbone])
    for name in NAMES:
        assert difference(outputs, expected(backbone), name) > 1e-3


def test_running_statistics_or_equal_weights_would_hide_a_swap():
    """Why the oracle uses statistics of the batch, and weights that differ from task to task."""

    def change(make) -> float:
        model, swapped = make(), make()
        swap_tasks(swapped.attention.encoder)
        before, after = model(IMAGES["segnet"]), swapped(IMAGES["segnet"])
        return max(difference(after, before, name) for name in ("semantic", "normals"))

    def fresh() -> MultiTaskModel:
        torch.manual_seed(0)
        return build("mtan", TASKS, width=WIDTH).double()

    def alike() -> MultiTaskModel:
        model = patterned("segnet")
        for name in NAMES:
            model.attention.encoder[name].load_state_dict(model.attention.encoder["depth"].state_dict())
        return model

    assert change(lambda: fresh().eval()) < 1e-12
    assert change(lambda: patterned("segnet").eval()) < 1e-4
    assert change(alike) == 0
    assert change(fresh) > 1e-3


# --- what the equations mean ------------------------------------------------------------------------------------------


@every_backbone
def test_a_task_does_not_depend_on_what_others_there_are(backbone):
    """One task alone is STAN: the same branch on the same trunk."""
    model = patterned(backbone)
    for count in (1, 2):
        fewer = patterned(backbone, TASKS[1 : 1 + count])
        fewer.load_state_dict({key: model.state_dict()[key] for key in fewer.state_dict()})
        raw = fewer(IMAGES[backbone])["depth"]
        torch.testing.assert_close(raw, expected(backbone)["depth"], rtol=1e-10, atol=1e-10)


@every_backbone
@pytest.mark.parametrize("opening", [0.0, 1.0])
def test_a_last_mask_that_is_open_is_split_and_one_that_is_shut_leaves_nothing(backbone, opening):
    model = patterned(backbone).eval()
    for name in NAMES:
        norm = list(model.attention.masks(name).values())[-1][4]
        norm.weight.zero_()
        norm.bias.fill_(1000.0 if opening else -1000.0)
    outputs = model(IMAGES[backbone])
    split = build("split", TASKS, backbone=backbone, width=WIDTH).double().eval()
    split.load_state_dict({key: model.state_dict()[key] for key in split.state_dict()})
    feature = split.trunk(IMAGES[backbone])
    for name, raw in outputs.items():
        kept = split.heads[name](feature * opening)
        size = IMAGES[backbone].shape[-2:]
        torch.testing.assert_close(raw, F.interpolate(kept, size=size, mode="bilinear", align_corners=True))


@pytest.mark.parametrize(
    ("backbone", "kinds", "numbers", "last"),
    [("segnet", "exuy", "01234", "decoder.4.extra.0.conv"), (DEEPLAB, "bt", "1234", "layer4.2.conv3")],
)
def test_features_and_the_last_shared_layer(backbone, kinds, numbers, last):
    model = build("mtan", TASKS, backbone=backbone, width=WIDTH)
    _, features = model(torch.rand(2, 3, 32, 64), ["depth", "normals"], return_features=True)
    shared = {f"{kind}{number}" for kind in kinds for number in numbers}
    assert set(features) == shared | {"depth/gated", "normals/gated"}, "of what was asked for, nothing else is computed"
    assert features["depth/gated"].shape == features[f"{kinds[-1]}4"].shape
    assert model.representation() is None and model.last_shared_layer() is model.trunk.get_submodule(last)
    assert build("mtan", TASKS[:1], backbone=backbone, width=WIDTH).last_shared_layer() is None


def test_masks_on_deeplab_are_tapped_by_stage():
    model = build("mtan", TASKS, backbone=DEEPLAB, width=WIDTH)
    with mtlkit.record(model) as seen:
        _, features = model(torch.rand(2, 3, 32, 64), return_features=True)
    assert list(seen) == [f"mask/{name}/stage{number}" for name in NAMES for number in (1, 2, 3, 4)]
    for key, mask in seen.items():
        assert mask.shape == features[f"t{key[-1]}"].shape and 0 <= mask.min() <= mask.max() <= 1
    for name in NAMES:
        assert torch.equal(seen[f"mask/{name}/stage4"] * features["t4"], features[f"{name}/gated"])


# --- counts of the reference ------------------------------------------------------------------------------------------


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_subtotals_of_parameters():
    with torch.device("meta"):
        model, stan = build("mtan", TASKS), build("mtan", TASKS[:1])
    for name in NAMES:
        assert count(model.attention.encoder[name]) == 1_835_648
        assert count(model.attention.decoder[name]) == 1_148_928
    assert count(model.attention.refine_down) == 6_272_640 and count(model.attention.refine_up) == 3_947_520
    assert len(list(model.parameters())) == 396  # 397 with the released logsigma
    assert len(list(stan.parameters())) == 228


@every_backbone
def test_groups_for_learning_rates(backbone):
    model = build("mtan", TASKS, backbone=backbone, width=WIDTH)
    groups = model.parameter_groups()
    assert list(groups) == ["backbone", "attention", "heads"]
    for parameters, part in zip(groups.values(), (model.trunk, model.attention, model.heads), strict=True):
        assert [id(p) for p in parameters] == [id(p) for p in part.parameters()]
