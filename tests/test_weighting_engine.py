"""The engine behind gradient weightings: task gradients of real networks, their Gramian, parts, precisions.

Shapes: T tasks, P numbers in a gradient, B batch.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import architectures, tasks, weighting
from mtlkit.weighting import engine
from mtlkit.weighting.gradients import GramianLevel

DENSE = [tasks.semantic(["a", "b", "c"]), tasks.depth(), tasks.normals()]
NAMES = [task.name for task in DENSE]
NETWORKS = {
    "split": ("split", {}),
    "mtan": ("mtan", {}),
    "cross_stitch": ("cross_stitch", {}),
    "dense": ("dense", {}),
    "nddr": ("nddr", {}),
    "afa": ("afa", {"spatial": "free"}),
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def build(network, width=0.07):
    torch.manual_seed(0)
    name, options = NETWORKS[network]
    return architectures.build(name, DENSE, width=width, **options).double()


def images(batch=2):
    return torch.rand(batch, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def losses(model, x, names=NAMES):
    """Sums over the images, so that those of parts add up to those of the batch."""
    torch.manual_seed(3)  # networks with dropout drop the same every time
    outputs = model(x, names)
    return {name: (raw - 0.1 * NAMES.index(name)).square().mean((1, 2, 3)).sum() for name, raw in outputs.items()}


def alone(model, x, name, parameters):
    """The gradient of one task's loss from a graph of its own."""
    return torch.autograd.grad(losses(model, x)[name], parameters, allow_unused=True)


def close(found, expected):
    """Lists of tensors, equal to rounding; what is absent is zero. A bias before batch normalisation has a gradient of
    rounding errors alone: the scale is that of the largest entry of all.
    """
    found, expected = ([torch.zeros(()) if g is None else g for g in gradients] for gradients in (found, expected))
    scale = max(float(g.abs().max()) for g in expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.expand_as(ours), rtol=1e-8, atol=1e-10 * scale, check_dtype=False)


# --- task gradients ---


@every_network
def test_task_gradients_are_those_of_each_loss_alone(network):
    model, x = build(network), images()
    found = engine.of_parameters(lambda k: losses(model, x), model)
    assert list(found.losses) == NAMES
    targets = {id(target) for target in found.targets}
    for name, row in zip(NAMES, found.rows, strict=True):
        close(row, alone(model, x, name, found.targets))
        heads = model.task_parameters(name)
        assert not targets & {id(p) for p in heads}
        expected = alone(model, x, name, heads)
        assert [p.grad is None for p in heads] == [g is None for g in expected]
        close([p.grad for p in heads], expected)


@every_network
def test_no_two_gradients_share_memory(network):
    """Methods use rows up in place."""
    model, x = build(network), images()
    found = engine.of_parameters(lambda k: losses(model, x), model)
    places = [tensor.untyped_storage().data_ptr() for row in found.rows for tensor in row]
    assert len(set(places)) == len(places)
    sizes = {tensor.untyped_storage().nbytes() - tensor.nbytes for row in found.rows for tensor in row}
    assert sizes == {0}  # nor is any a view of less, or of something larger


def test_heads_are_left_alone_where_they_are_not_wanted():
    model, x = build("split"), images()
    engine.of_parameters(lambda k: losses(model, x), model, heads=False)
    assert all(parameter.grad is None for parameter in model.parameters())


@every_network
def test_parts_of_a_batch_add_up_to_it(network):
    model, x = build(network).eval(), images(4)
    whole = engine.of_parameters(lambda k: losses(model, x), model)
    heads = [p.grad for n in NAMES for p in model.task_parameters(n)]
    model.zero_grad(set_to_none=True)
    asked = []

    def part(k):
        asked.append(k)
        return losses(model, x[[0, 1]] if k == 4 else x[[2, 3]])

    parts = engine.of_parameters(part, model, k=2, parts=2)
    assert asked == [4, 5]
    for ours, expected in zip(parts.rows, whole.rows, strict=True):
        close(ours, expected)
    close([p.grad for n in NAMES for p in model.task_parameters(n)], heads)
    close(list(parts.losses.values()), list(whole.losses.values()))


def test_a_task_that_only_one_part_has_is_there():
    model, x = build("split").eval(), images(4)
    both = [losses(model, x[:2]), losses(model, x[2:], ["depth"])]
    found = engine.of_parameters(lambda k: both[k], model, parts=2)
    assert list(found.losses) == NAMES
    close(found.rows[0], alone(model, x[:2], "semantic", found.targets))
    close(found.rows[1], alone(model, x, "depth", found.targets))


def test_what_no_task_reaches_keeps_no_gradient():
    model, x = build("split"), images()
    model.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
    frozen = model.shared_parameters()[0].requires_grad_(False)
    method = weighting.build("clip", DENSE)
    method.step(lambda k=0: losses(model, x, ["semantic", "depth"]), model, torch.optim.SGD(model.parameters(), lr=0.1))
    without = [model.idle, frozen, *model.task_parameters("normals")]
    assert all(parameter.grad is None for parameter in without)
    excluded = {id(parameter) for parameter in without}
    assert all(p.grad is not None for p in model.parameters() if id(p) not in excluded)


def test_representation_and_trunk_are_one_weighted_backward_pass():
    model, twin, x = build("split"), build("split"), images()
    weights = [0.5, 2.0, -1.0]
    found = engine.of_representation(lambda k: losses(model, x), model)
    assert [row[0].shape for row in found.rows] == [found.targets[0].shape] * 3
    engine.through_trunk(found, engine.weighted_sum(found.rows, weights), model)
    engine.scale_heads(model, dict(zip(NAMES, weights, strict=True)))
    sum(w * loss for w, loss in zip(weights, losses(twin, x).values(), strict=True)).backward()
    assert [p.grad is None for p in model.parameters()] == [p.grad is None for p in twin.parameters()]
    close([p.grad for p in model.parameters()], [p.grad for p in twin.parameters()])


def test_scaling_heads_leaves_the_trunk():
    model, x = build("split"), images()
    sum(losses(model, x).values()).backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    engine.scale_heads(model, {"semantic": 2.0, "depth": 0.0})
    factors = {id(p): 2.0 for p in model.task_parameters("semantic")}
    factors |= {id(p): 0.0 for p in model.task_parameters("depth")}
    for name, parameter in model.named_parameters():
        if name in before:
            assert torch.equal(parameter.grad, factors.get(id(parameter), 1.0) * before[name])


# --- the algebra of rows ---


def test_the_gramian_of_a_network_is_exact_and_symmetric():
    model, x = build("mtan"), images()
    rows = engine.of_parameters(lambda k: losses(model, x), model).rows
    matrix = torch.stack([torch.cat([tensor.flatten() for tensor in row]).double() for row in rows])
    gramian = engine.gramian(rows)
    assert gramian.dtype == torch.float64 and gramian.device.type == "cpu" and torch.equal(gramian, gramian.T)
    torch.testing.assert_close(gramian, matrix @ matrix.T, rtol=1e-12, atol=0)


@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from([1e-10, 1.0, 1e10]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_gramian_does_not_mind_layouts_and_scales(count, seed, scale, mixed):
    generator = torch.Generator().manual_seed(seed)
    flat = scale * torch.randn(count, 3 * 4 * 5 * 2 + 6, generator=generator)
    rows = []
    for t, row in enumerate(flat):
        image = row[:120].view(2, 4, 5, 3).permute(0, 3, 1, 2)  # channels last
        plain = mixed and t % 2
        rows.append([image.contiguous() if plain else image, row[120:].view(2, 3).T])
    expected = flat.double() @ flat.double().T
    gramian = engine.gramian(rows)
    assert torch.equal(gramian, gramian.T)
    torch.testing.assert_close(gramian, expected, rtol=1e-10, atol=1e-14 * float(expected.max()))


def test_a_large_tensor_is_taken_piece_by_piece(monkeypatch):
    rows = [[torch.randn(1000, generator=torch.Generator().manual_seed(t))] for t in range(3)]
    whole = engine.gramian(rows)
    monkeypatch.setattr(engine, "PIECE", 64)
    torch.testing.assert_close(engine.gramian(rows), whole, rtol=1e-12, atol=0)


def test_the_weighted_sum_of_rows():
    rows = [[torch.full((2,), 1.0), torch.full((1, 3), 2.0)], [torch.full((2,), 10.0), torch.full((1, 3), 20.0)]]
    total = engine.weighted_sum(rows, [0.0, 0.5])
    assert [tensor.tolist() for tensor in total] == [[5.0, 5.0], [[10.0] * 3]]


# --- normalisation, precision ---


def test_frozen_statistics_stay_and_normalise_as_in_training():
    model, x = build("split"), images()
    expected = losses(model, x)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any("num_batches_tracked" in name for name in before) and any("running_mean" in name for name in before)
    with engine.frozen_statistics(model):
        inside = losses(model, x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(torch.equal(inside[name], expected[name]) for name in NAMES)
    losses(model, x)
    assert not all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("network", ["split", "mtan"])
def test_bfloat16_autocast_gives_finite_float32_gradients(network):
    model, x = build(network, 0.125).float(), images().float()

    def closure(k=0):
        with torch.autocast("cpu", torch.bfloat16):
            return losses(model, x)

    found = engine.of_parameters(closure, model)
    for tensor in itertools.chain(*found.rows):
        assert tensor.dtype == torch.float32 and tensor.isfinite().all()
    for name in ("clip", "db-mtl"):
        weighting.build(name, DENSE).step(closure, model, torch.optim.SGD(model.parameters(), lr=1e-3))
        assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_fused_adam_updates_the_numbers_that_the_gradient_is_of():
    """Fused Adam pairs parameters and gradients by the order of their memory. Task gradients that are summed must end
    where the gradient of the sum ends, on a network laid out channels-last, as ``build`` makes it.
    """

    class Ones(GramianLevel):
        def solve(self, gramian_TT, losses_T, present):
            return np.ones(len(present))

    chosen = [tasks.semantic(["a", "b", "c"]), tasks.depth(), tasks.normals()]
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = []
    for method in (weighting.build("equal", chosen), Ones(chosen), Ones(chosen, at="representation")):
        torch.manual_seed(0)
        model = architectures.build("split", chosen, width=0.125)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
        method.step(lambda k=0, model=model: {n: r.square().mean() for n, r in model(image).items()}, model, optimizer)
        for parameter in model.parameters():
            assert parameter.grad.stride() == parameter.stride() or 1 in parameter.shape
        moved.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    for other in moved[1:]:
        for a, b in zip(moved[0], other, strict=True):
            if a.ndim > 1:  # a bias before a normalisation has a gradient of rounding alone
                assert ((a - b).abs() > 1e-3).float().mean() < 0.02
