"""SegNet, as the reference has it: sub-totals, features, pooling, heads, initialisation.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlkit import KitError, tasks
from mtlkit.architectures import build
from mtlkit.layers import segnet

TASKS = [tasks.semantic(["a", "b", "c", "d"]), tasks.depth(), tasks.normals()]

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
    for a, b in zip(*(torch.autograd.grad(y.sin().sum(), inputs) for y in (one, two)), strict=True):
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


@pytest.mark.parametrize("name", ["single", "split", "mtan"])
def test_initialisation_is_xavier_normal(name):
    torch.manual_seed(0)
    model = build(name, TASKS, width=0.5)
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
