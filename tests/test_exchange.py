"""Units between trunks: cross-stitch, NDDR, AFA with its gradient modes; and the networks that they make.

Shapes: B batch, C channels, H/W size.
"""

from __future__ import annotations

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import mtlkit
from mtlkit import KitError, tasks
from mtlkit.layers import afa, exchange, gradients, segnet
from mtlkit.layers.steps import run, together

PAIR = [tasks.semantic(["a", "b", "c"]), tasks.depth()]
TRIPLE = [*PAIR, tasks.normals()]
FACES = [tasks.classification("gender", "fm"), tasks.classification("age", "01234567")]


def features(count: int = 2, channels: int = 16, size: tuple[int, int] = (4, 5), seed: int = 0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(2, channels, *size, generator=generator, dtype=dtype) for _ in range(count)]
    return [x.requires_grad_() for x in made]


def unit(preserve: str = "fused", count: int = 2, size=(4, 5), dtype=torch.float32, seed: int = 3) -> afa.AFA:
    torch.manual_seed(seed)
    return afa.AFA(count, 16, size, preserve).to(dtype)


# --- trunks as generators ------------------------------------------------------------------------------------------


def test_a_place_without_a_unit_lets_features_pass():
    torch.manual_seed(0)
    trunk = segnet.SegNet(segnet.scaled(0.05)).eval()
    image = torch.rand(1, 3, 32, 32)
    alone = run(trunk.steps(image))
    both = together([trunk.steps(image), trunk.steps(image)], {"encoder3": lambda xs: xs[::-1]})
    assert torch.equal(alone, both[0]) and torch.equal(alone, both[1])


@pytest.mark.parametrize("backbone", ["segnet", "resnet50", "resnet50-deeplabv3plus"])
def test_a_trunk_pauses_where_it_says_with_as_many_channels(backbone):
    trunk = mtlkit.build("single", PAIR[:1], backbone=backbone, width=0.05).trunks["semantic"].eval()
    seen = {}
    units = {place: lambda xs, place=place: seen.update({place: xs[0].shape[1]}) or xs for place in trunk.places}
    together([trunk.steps(torch.rand(1, 3, 64, 64))], units)
    assert seen == trunk.places and list(seen) == list(trunk.places)


# --- cross-stitch and NDDR -----------------------------------------------------------------------------------------


def test_cross_stitch_mixes_channel_by_channel():
    stitch, (a, b) = exchange.CrossStitch(2, 3), features(2, 3)
    with torch.no_grad():
        stitch.matrix_TTC[0, 1] = torch.tensor([0.5, 0.0, -1.0])
    first, second = stitch([a, b])
    torch.testing.assert_close(first[:, 2], 0.9 * a[:, 2] - b[:, 2])
    torch.testing.assert_close(second, 0.1 * a + 0.9 * b)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_units_start_near_the_identity_and_rows_sum_to_one(count):
    names = [f"task {i}" for i in range(count)]
    for made in (exchange.CrossStitch(count, 4), exchange.NDDR(names, 4)):
        matrix = made.matrix()
        torch.testing.assert_close(matrix.sum(dim=1), torch.ones(count))
        own = 0.9 if count > 1 else 1.0
        torch.testing.assert_close(matrix.diagonal(), torch.full((count,), own))


def test_mtan_s_form_gives_every_task_the_same_sum():
    stitch, (a, b, c) = exchange.CommonSum(3, 16), features(3)
    with torch.no_grad():
        stitch.factor_T.copy_(torch.tensor([1.0, 2.0, -3.0]))
    for out in stitch([a, b, c]):
        torch.testing.assert_close(out, a + 2 * b - 3 * c)


def test_nddr_is_a_diagonal_mixture_normalised():
    mix, xs = exchange.NDDR(["a", "b"], 16).eval(), features(2)
    first, second = mix(xs)
    scale = (1 + 1e-3) ** -0.5  # batch normalisation with running statistics at their start
    torch.testing.assert_close(first, torch.relu(scale * (0.9 * xs[0] + 0.1 * xs[1])))
    torch.testing.assert_close(second, torch.relu(scale * (0.1 * xs[0] + 0.9 * xs[1])))


def copy_trunks(source: nn.Module, target: nn.Module) -> None:
    target.trunks.load_state_dict(source.trunks.state_dict())
    target.heads.load_state_dict(source.heads.state_dict())


@pytest.mark.parametrize("backbone", ["segnet", "resnet50-deeplabv3plus"])
def test_at_the_identity_cross_stitch_is_single_nets(backbone):
    image = torch.rand(2, 3, 64, 64)
    single = mtlkit.build("single", TRIPLE, backbone=backbone, width=0.05).eval()
    stitched = mtlkit.build("cross_stitch", TRIPLE, backbone=backbone, width=0.05).eval()
    copy_trunks(single, stitched)
    with torch.no_grad():
        for stitch in stitched.exchange.values():
            stitch.matrix_TTC.copy_(torch.eye(3)[:, :, None].expand_as(stitch.matrix_TTC))
    for name, raw in single(image).items():
        torch.testing.assert_close(stitched(image)[name], raw)


def test_nddr_at_alpha_one_is_single_nets_up_to_normalisation():
    image = torch.rand(2, 3, 64, 64)
    single = mtlkit.build("single", FACES, backbone="resnet50", width=0.05).eval()
    mixed = mtlkit.build("nddr", FACES, backbone="resnet50", width=0.05, own=1.0).eval()
    copy_trunks(single, mixed)
    for made in mixed.exchange.values():
        for sequence in made.mix.values():
            sequence[1].eps = 0.0  # running mean 0, variance 1: the identity; a ReLU changes no output of a ReLU
    for name, raw in single(image).items():
        torch.testing.assert_close(mixed(image)[name], raw)


def test_shared_downsample_is_one_module_in_all_trunks():
    model = mtlkit.build("cross_stitch", FACES, backbone="resnet50", width=0.05, shared_downsample=True)
    first, second = model.trunks.values()
    assert all(a[0].downsample is b[0].downsample for a, b in zip(first.stages, second.stages, strict=True))
    apart = mtlkit.build("cross_stitch", FACES, backbone="resnet50", width=0.05)
    assert sum(p.numel() for p in apart.parameters()) > sum(p.numel() for p in model.parameters())


def test_a_frozen_stitch_keeps_its_start_and_is_in_no_group():
    model = mtlkit.build("cross_stitch", FACES, backbone="resnet50", width=0.05, frozen=True)
    raw = model(torch.rand(4, 3, 32, 32))
    sum(r.square().mean() for r in raw.values()).backward()
    assert "exchange" not in model.parameter_groups()
    assert all(p.grad is None for p in model.exchange.parameters())


# --- AFA -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [afa.ChannelGate(2, 16), afa.SpatialGate(2, (4, 5)), afa.SpatialGate(2, None)])
def test_a_gate_conserves_the_sum_passes_equals_and_stays_between(gate):
    a, b = features(2)
    first, second = gate([a, b])
    torch.testing.assert_close(first + second, a + b)
    for out in (first, second):
        assert (out >= torch.minimum(a, b) - 1e-6).all() and (out <= torch.maximum(a, b) + 1e-6).all()
    torch.testing.assert_close(gate([a, a])[0], a)
    nn.init.zeros_(gate.self_.weight), nn.init.zeros_(gate.other.weight)
    torch.testing.assert_close(gate([a, b])[0], (a + b) / 2)


@hypothesis.given(st.integers(1, 5), st.integers(0, 99))
@hypothesis.settings(max_examples=20, deadline=None)
def test_with_more_tasks_the_sum_is_conserved_too(count, seed):
    torch.manual_seed(seed)
    xs = features(count, seed=seed)
    outputs = afa.ChannelGate(count, 16)(xs)
    torch.testing.assert_close(sum(outputs), sum(xs), rtol=1e-4, atol=1e-5)


def test_the_numbers_of_parameters_of_the_gates():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(afa.ChannelGate(2, 2048)) == 2_097_152 and count(afa.ChannelGate(2, 256)) == 32_768
    sizes = {(7, 7): 4_900, (19, 19): 260_740, (8, 8): 8_290, (4, 4): 610}
    assert {size: count(afa.SpatialGate(2, size)) for size in sizes} == sizes


def test_the_start_is_he_s():
    torch.manual_seed(0)
    gate = afa.ChannelGate(2, 2048)
    assert gate.squeeze.weight.std().item() == pytest.approx(0.0221, rel=0.02)
    assert gate.other.weight.std().item() == pytest.approx(0.0884, rel=0.02)
    spatial = afa.SpatialGate(2, (19, 19))
    assert spatial.self_.weight.std().item() == pytest.approx(0.0744, rel=0.02)


def test_a_gate_for_one_size_refuses_another():
    with pytest.raises(KitError, match="made for features of 4 x 5 pixels, found 4 x 6.*spatial='free'"):
        unit()(features(size=(4, 6)))
    with pytest.raises(KitError, match="made for one image size, found size=None; give size="):
        mtlkit.build("afa", PAIR, width=0.05)
    with pytest.raises(KitError, match="preserve='clipp'.*did you mean 'clip'"):
        mtlkit.build("afa", PAIR, width=0.05, spatial="free", preserve="clipp")
    with pytest.raises(KitError, match="unknown backbone 'segnet'"):
        mtlkit.build("afa", PAIR, backbone="segnet", spatial="free")


@pytest.mark.parametrize(("backbone", "size"), [("resnet50", (96, 70)), ("resnet50-deeplabv3plus", (80, 65))])
def test_the_dry_run_fits_the_images(backbone, size):
    chosen = FACES if backbone == "resnet50" else PAIR
    model = mtlkit.build("afa", chosen, backbone=backbone, width=0.05, size=list(size)).eval()
    assert set(model(torch.rand(1, 3, *size))) == {task.name for task in chosen}


# --- gradient preservation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preserve", afa.MODES)
def test_forward_values_are_the_same_in_every_mode(preserve):
    xs = features()
    for ours, fused in zip(unit(preserve)(xs), unit("fused")(xs), strict=True):
        assert torch.equal(ours, fused)


@pytest.mark.parametrize(("preserve", "kept"), [("keep_a", {0}), ("keep_both", {0, 1})])
def test_a_kept_branch_gets_its_own_gradient_and_nothing_else(preserve, kept):
    xs = features()
    outputs = unit(preserve)(xs)
    for i, y in enumerate(outputs):
        of_x = torch.autograd.grad(y.sum(), xs, retain_graph=True, allow_unused=True)
        for j in kept:
            if i == j:
                # through the two ReLUs: where the channel gate's output is positive, so is the spatial gate's carrier
                assert set(of_x[j].unique().tolist()) <= {0.0, 1.0}
                assert (of_x[j][y > 0].mean() > 0.5) and (of_x[j] == 1).any()
            else:
                assert of_x[j] is None


def test_a_positive_output_passes_its_gradient_as_it_is():
    xs = [x.detach().abs().requires_grad_() for x in features()]  # as inside the network, behind a ReLU
    first, _ = unit("keep_a")(xs)
    (of_a,) = torch.autograd.grad(first.sum(), xs[:1])
    assert torch.equal(of_a, (first > 0).float())


def test_the_parameters_of_a_gate_get_the_same_joint_gradient_in_every_mode():
    xs = features()
    gate = afa.ChannelGate(2, 16)
    upstream = features(seed=9)

    def gradient(outputs):
        return torch.autograd.grad(outputs, list(gate.parameters()), [u.detach() for u in upstream])

    plain = gradient(gate(xs))
    for other in (gradients.keep(gate, xs, (0,)), gradients.keep(gate, xs, (0, 1)), gradients.clip(gate, xs)):
        for ours, theirs in zip(gradient(other), plain, strict=True):
            torch.testing.assert_close(ours, theirs)


@hypothesis.given(st.floats(-6, 6), st.integers(0, 99))
@hypothesis.settings(max_examples=25, deadline=None)
def test_clip_is_the_fused_gradient_no_longer_than_the_own(exponent, seed):
    xs = features(dtype=torch.float64, seed=seed)
    gate = afa.ChannelGate(2, 16).double()
    first, second = (u.detach() for u in features(dtype=torch.float64, seed=seed + 1))
    upstream = [first, 10**exponent * second]
    fused = torch.autograd.grad(gate(xs), xs, upstream)
    clipped = torch.autograd.grad(gradients.clip(gate, xs), xs, upstream)
    for ours, theirs, own in zip(clipped, fused, upstream, strict=True):
        assert ours.norm() <= own.norm() * (1 + 1e-12)
        expected = theirs * min(1.0, (own.norm() / theirs.norm()).item())
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=0)


def test_clip_lets_no_gradient_of_another_task_through_where_there_is_no_own():
    xs = features()
    outputs = gradients.clip(afa.ChannelGate(2, 16), xs)
    of_a, of_b = torch.autograd.grad(outputs[1].sum(), xs, retain_graph=True)
    assert not of_a.any() and of_b.any()
    # and what one backward pass noted is not left for the next
    both = torch.autograd.grad(outputs[0].sum() + outputs[1].sum(), xs, retain_graph=True)
    again = torch.autograd.grad(outputs[1].sum(), xs, retain_graph=True)
    assert both[0].any() and not again[0].any()


def test_gradcheck_of_the_fused_unit():
    xs = features(2, 16, (2, 2), dtype=torch.float64)
    made = unit("fused", size=(2, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: tuple(made([a, b])), xs)


def test_straight_through_gives_the_value_exactly():
    value, carrier = torch.tensor([1e-30, 3.0]), torch.tensor([7.0, -2.0], requires_grad=True)
    out = gradients.straight_through(value.requires_grad_(), carrier)
    assert torch.equal(out, value)
    out.backward(torch.tensor([2.0, 5.0]))
    assert carrier.grad.tolist() == value.grad.tolist() == [2.0, 5.0]


def test_swapping_the_tasks_does_not_swap_the_outputs():
    """The gate reads A first: a network that mixed up its branches would be noticed."""
    a, b = features()
    gate = afa.ChannelGate(2, 16)
    first, second = gate([a, b])
    swapped = gate([b, a])
    assert not torch.allclose(first, swapped[1]) and not torch.allclose(second, swapped[0])


# --- what was shared, recorded --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("cross_stitch", {"backbone": "segnet"}, {"stitch/encoder0": (2, 2, 3), "stitch/decoder3": (2, 2, 3)}),
        ("cross_stitch", {"backbone": "segnet", "unit": "sum"}, {"stitch/encoder0": (2,)}),
        (
            "nddr",
            {"backbone": "resnet50"},
            {"mix/depth/stage1": (2, 12, 16, 16), "mix/semantic/stage4": (2, 104, 2, 2)},
        ),
        (
            "afa",
            {"backbone": "resnet50", "size": [64, 64]},
            {"channel/stage4/0": (2, 104, 1, 1), "spatial/stage4": (2, 1, 2, 2)},
        ),
    ],
)
def test_a_recording_shows_what_was_shared(name, options, shapes):
    model = mtlkit.build(name, PAIR, width=0.05, **options).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad(), mtlkit.record(model) as seen:
        outputs = model(image)
        assert {key: tuple(seen[key].shape) for key in shapes} == shapes
    for key, raw in outputs.items():
        assert torch.equal(model(image)[key], raw)
    if name == "afa":
        assert all(0 <= value.min() and value.max() <= 1 for value in seen.values())
