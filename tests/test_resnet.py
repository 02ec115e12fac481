"""ResNet-50 DeepLabv3 against torchvision's own, and its counts, initialisation and stride.

Shapes: B batch, C channels, H/W size, K output channels of a head.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50
from torchvision.models.segmentation import deeplabv3

from mtlkit import KitError, tasks
from mtlkit.architectures import build, count_macs
from mtlkit.layers import deeplab, resnet

TASKS = [tasks.semantic([f"class {k}" for k in range(13)]), tasks.depth(), tasks.normals()]
BACKBONE = "resnet50-deeplabv3"


def scrambled(module: nn.Module) -> nn.Module:
    """Every weight, bias and running statistic drawn anew, batch normalisation included, so that nothing is neutral."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.ndim == 4:
                value.normal_(0, math.sqrt(2 / value[0].numel()), generator=generator)
            elif value.is_floating_point():
                value.uniform_(0.5, 1.5, generator=generator)
                value.sub_(1 if key.endswith(("bias", "mean")) else 0)
    return module


# --- the trunk -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's ResNet-50 with output stride 8, without its classifier."""
    torch.manual_seed(0)
    network = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    network.fc = nn.Identity()
    return scrambled(network)


@pytest.fixture(scope="module")
def ours(theirs) -> resnet.ResNet:
    with torch.device("meta"):
        trunk = resnet.ResNet()
    trunk.load_state_dict(theirs.state_dict(), assign=True)  # strict: the same names and shapes; shared
    return trunk


def test_convolutions_are_those_of_torchvision(ours, theirs):
    def layers(network):
        return {
            key: module for key, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        }

    assert layers(ours).keys() == layers(theirs).keys()
    for key, layer in layers(theirs).items():
        assert repr(layers(ours)[key]) == repr(layer), key  # channels, kernel, stride, padding, dilation, bias, eps
    three = {key: conv for key, conv in layers(ours).items() if key.endswith("conv2")}
    dilations = [[three[f"layer{stage}.{block}.conv2"].dilation[0] for block in range(n)] for stage, n in
                 enumerate(resnet.BLOCKS[50], 1)]  # fmt: skip
    assert dilations == [[1] * 3, [1] * 4, [1] + [2] * 5, [2] + [4] * 2]
    assert all(conv.padding == conv.dilation for conv in three.values())
    strides = {key: conv.stride[0] for key, conv in layers(ours).items() if isinstance(conv, nn.Conv2d)}
    assert {key for key, stride in strides.items() if stride > 1} == {
        "conv1", "layer2.0.conv2", "layer2.0.downsample.0"
    }  # fmt: skip


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_outputs_are_those_of_torchvision(ours, theirs, training):
    image = torch.rand(2, 3, 64, 72, generator=torch.Generator().manual_seed(1))
    expected = {}
    hooks = [
        getattr(theirs, f"layer{stage}")[block].register_forward_hook(
            lambda module, inputs, output, key=key: expected.update({key: output})
        )
        for stage, n in enumerate(resnet.BLOCKS[50], 1)
        for key, block in ((f"b{stage}", n - 2), (f"t{stage}", n - 1))
    ]
    features = {}
    with torch.no_grad():
        theirs.train(training)(image)
        last = ours.train(training)(image, features)
    for hook in hooks:
        hook.remove()
    assert last is features["t4"] and features.keys() == expected.keys()
    sizes = {key: tuple(feature.shape[1:]) for key, feature in features.items()}
    assert sizes["b1"] == (256, 16, 18) and sizes["t2"] == (512, 8, 9)
    assert sizes["t3"] == (1024, 8, 9) and sizes["t4"] == (2048, 8, 9)
    for key, feature in features.items():
        torch.testing.assert_close(feature, expected[key], rtol=1e-4, atol=1e-4 * expected[key].std().item(), msg=key)


# --- the head --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_head_is_torchvision_s(training):
    """On a map of 40 x 40 even the rate of 36 reads more than its centre."""
    theirs = scrambled(deeplabv3.DeepLabHead(4, 5)).train(training)
    ours = deeplab.DeepLabHead(4, 5).train(training)
    ours.load_state_dict(theirs.state_dict())  # strict: the same names and shapes
    x = torch.rand(2, 4, 40, 40, generator=torch.Generator().manual_seed(1))
    outputs = []
    for head in (ours, theirs):
        torch.manual_seed(2)  # dropout
        outputs.append(head(x))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)


def test_rates_and_dropout_of_the_pyramid():
    convolutions = [module for module in deeplab.DeepLabHead(4, 5)[0].modules() if isinstance(module, nn.Conv2d)]
    three = [conv for conv in convolutions if conv.kernel_size == (3, 3)]
    assert [(*conv.dilation, *conv.padding) for conv in three] == [(rate,) * 4 for rate in (12, 24, 36)]
    assert all(conv.bias is None for conv in convolutions)
    (dropout,) = (m for m in deeplab.DeepLabHead(4, 5).modules() if isinstance(m, nn.Dropout))
    assert dropout.p == 0.5


def test_dropout_is_drawn_in_training_alone():
    head = deeplab.DeepLabHead(4, 5, width=0.125)
    x = torch.rand(2, 4, 8, 8)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


# --- networks on it --------------------------------------------------------------------------------------------------


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_subtotals_of_parameters():
    """MTAN's released network, part by part; its trunk is that of ``single`` and ``split`` too."""
    with torch.device("meta"):
        model = build("mtan", TASKS, backbone=BACKBONE)
    trunk, attention = model.trunk, model.attention
    assert count(trunk.conv1) + count(trunk.bn1) == 9_536
    assert [count(stage) for stage in trunk.stages] == [215_808, 1_219_584, 7_098_368, 14_964_736]
    masks = [sum(count(attention.stages[task.name][level]) for task in TASKS) for level in range(4)]
    assert masks == [101_184, 595_584, 2_370_816, 9_460_224]
    assert [count(block) for block in attention.refine] == [379_392, 1_512_448, 6_039_552]
    assert count(model.heads) == 48_380_689
    assert count(model) == 92_347_921 and len(list(model.parameters())) == 360


def test_a_single_net_is_torchvision_s_deeplabv3():
    with torch.device("meta"):
        ours = build("single", [tasks.semantic([str(k) for k in range(21)])], backbone=BACKBONE)
        theirs = deeplabv3.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=False)
    assert count(ours) == count(theirs)
    with FlopCounterMode(display=False) as counter:
        theirs.eval()(torch.empty(1, 3, 288, 384, device="meta"))
    assert count_macs(ours, 288, 384) == counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["single", "split", "mtan"])
def test_initialisation(name):
    """Kaiming normal by fan-out in the trunk, torch's own (uniform in 1 / sqrt(fan-in)) everywhere else."""
    torch.manual_seed(0)
    model = build(name, TASKS[:1], backbone=BACKBONE, width=0.5)
    convolutions = {key: layer for key, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    for key, conv in convolutions.items():
        inside = key.startswith("trunk")
        fan_in, fan_out = conv.weight[0].numel(), conv.weight[:, 0].numel()
        expected = math.sqrt(2 / fan_out) if inside else 1 / math.sqrt(3 * fan_in)
        found, n = conv.weight.std().item(), conv.weight.numel()
        assert abs(found / expected - 1) < 5 / math.sqrt(2 * n), key  # five standard errors
        if n > 1000:  # a uniform distribution ends at sqrt(3) deviations
            assert (conv.weight.abs().max() > 2.5 * expected) == inside, key
        if conv.bias is not None:
            assert not inside and 0 < conv.bias.abs().max() <= 1 / math.sqrt(fan_in), key
    for key, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert (norm.weight == 1).all() and (norm.bias == 0).all(), key


@pytest.mark.parametrize("name", ["single", "split", "mtan"])
def test_sizes_are_multiples_of_eight(name):
    model = build(name, TASKS, backbone=BACKBONE, width=0.0625)
    assert {raw.shape[2:] for raw in model(torch.rand(2, 3, 40, 72)).values()} == {(40, 72)}
    with pytest.raises(KitError, match="multiples of 8, found 36x72; resize it to 32x72"):
        model(torch.rand(2, 3, 36, 72))


def test_outputs_are_resized_with_aligned_corners():
    """The corners of a raw output keep the values that the head gave them."""
    torch.manual_seed(0)
    model = build("split", TASKS, backbone=BACKBONE, width=0.0625).eval()
    outputs, features = model(torch.rand(1, 3, 32, 48), return_features=True)
    for name, raw in outputs.items():
        small = model.heads[name](features["representation"])
        assert small.shape[2:] == (4, 6)
        torch.testing.assert_close(raw[..., ::31, ::47], small[..., ::3, ::5])
