"""Two processes, each with half of a batch, step as one with the whole."""

import pytest
import torch
from processes import on_two_ranks
from test_weighting_full import ALL, TASKS, Toy

from mtlkit import weighting
from mtlkit.weighting.gradients import GramianLevel


class Inverse(GramianLevel):
    """Weights that depend on all of A, as those of a solver do."""

    def solve(self, gramian_TT, losses_T, present):
        return 1.0 / (gramian_TT.sum(1) ** 2 + 0.01) ** 0.25


METHODS = {
    "gramian": lambda: Inverse(TASKS),
    "gramian-scaled-heads": lambda: Inverse(TASKS, scale_heads=True),
    "gramian-every-2": lambda: Inverse(TASKS, update_every=2, max_norm=1.0),
    "gramian-z": lambda: Inverse(TASKS, at="representation"),
    **{name: lambda name=name: weighting.build(name, TASKS) for name in
       ("graddrop", "db-mtl", "moco", "excess-mtl", "clip")},
    "graddrop-z": lambda: weighting.build("graddrop", TASKS, at="representation"),
    "clip-z": lambda: weighting.build("clip", TASKS, at="representation"),
}  # fmt: skip
WITH_ABSENCE = [name for name in METHODS if not name.endswith("-z")]


def batches():
    return torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(4))


def trained(name, closures):
    """The parameters after a step for each closure."""
    model = Toy()
    method = METHODS[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for closure in closures:
        method.step(lambda k=0, closure=closure: closure(model), model, optimizer)
    return [parameter.detach().numpy() for parameter in model.parameters()]


def half(rank):
    present = ALL if rank == 0 else ("semantic", "normals")
    ends = {}
    for name in METHODS:
        ends[name, "all"] = trained(name, [lambda m, x=x: m(x[rank * 3 :][:3], ALL) for x in batches()])
    for name in WITH_ABSENCE:
        ends[name, "absent"] = trained(name, [lambda m, x=x: m(x[rank * 3 :][:3], present) for x in batches()])
    return ends


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes end with, each with half of every batch."""
    return on_two_ranks(half, tmp_path_factory.mktemp("ranks"))


def same(ranks, key, expected):
    for found in ranks:
        for ours, whole in zip(found[key], expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), torch.from_numpy(whole), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_step_as_one_with_both_halves_of_the_batch(name, ranks):
    same(ranks, (name, "all"), trained(name, [lambda m, x=x: m(x, ALL) for x in batches()]))


@pytest.mark.parametrize("name", WITH_ABSENCE)
def test_a_task_absent_on_one_process_counts_with_what_the_other_has(name, ranks):
    def closure(model, x):
        first, second = model(x[:3], ALL), model(x[3:], ("semantic", "normals"))
        return {task: (loss + second.get(task, 0.0)) / 2 for task, loss in first.items()}

    same(ranks, (name, "absent"), trained(name, [lambda m, x=x: closure(m, x) for x in batches()]))
