"""What every weighting promises on every architecture: loops over both registries.

Shapes: B batch, H/W size, T tasks.
"""

import warnings

import pytest
import torch

import mtlkit
from mtlkit import KitError, tasks, weighting
from mtlkit.architectures import ARCHITECTURES
from mtlkit.weighting import WEIGHTINGS

TASKS = [tasks.semantic(["a", "b", "c", "d"]), tasks.depth(), tasks.normals()]
NAMES = [task.name for task in TASKS]
LABELS = [tasks.classification(name, "abcd") for name in NAMES]  # for a network with one answer for an image
OPTIONS = {"afa": {"spatial": "free"}}  # its gates of one size have tests of their own
OPTIONS |= {name: {"depth": 10} for name in ("wrn_single", "wrn_shared", "wrn_mtan", "wrn_adapters")}
TINY = {"auto-lambda": {"lr": 0.01}}


def network(name, names=NAMES, seed=0):
    torch.manual_seed(seed)
    chosen = [task for task in (LABELS if ARCHITECTURES[name].labels else TASKS) if task.name in names]
    return mtlkit.build(name, chosen, width=0.0625, **OPTIONS.get(name, {}))


def batch(k=0, size=2, labels=False):
    """The k-th of several independent batches."""
    generator = torch.Generator().manual_seed(100 + k)
    normals = torch.randn(size, 3, 32, 32, generator=generator)
    return {
        "image": torch.rand(size, 3, 32, 32, generator=generator),
        "flow": torch.randn(size, 3, 32, 32, generator=generator),
        "semantic": torch.randint(0, 4, (size, 32, 32), generator=generator),
        "depth": 1 + torch.rand(size, 1, 32, 32, generator=generator),
        "normals": torch.nn.functional.normalize(normals, dim=1),
    } | ({name: torch.randint(0, 4, (size,), generator=generator) for name in NAMES} if labels else {})


def closure_of(model, names=NAMES, autocast=False):
    def closure(k=0):
        data = batch(k, labels=model.labels)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = model(data, names)
        return {
            task.name: task.loss(outputs[task.name].float(), data[task.name])
            for task in model.tasks
            if task.name in names
        }

    return closure


def train(name, model, steps=2, names=NAMES, autocast=False, method=None, **options):
    """A few steps of a weighting on a network; what they did, and the method."""
    method = method or weighting.build(name, model.tasks, **TINY.get(name, {}), **options)
    method.check(model)
    groups = [{"params": list(model.parameters())}, {"params": list(method.parameters())}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=1e-3)
    closure, taken = closure_of(model, names, autocast), []
    for _ in range(steps):
        taken.append(method.step(closure, model, optimizer))
        method.after_step(closure, model)
    method.epoch_end({name: 1.0 for name in names})
    return taken, method


# A weighting meets an architecture in what it shares: nothing, one trunk, tensors that leave it in several places,
# units between trunks. One weighting of each kind is tried on all architectures, the others on one for each of these.
OF_EACH_KIND = ("equal", "gradnorm", "pcgrad", "mgda-ub", "graddrop", "moco", "modo", "auto-lambda")
PAIRS = [(n, a) for n in WEIGHTINGS for a in ARCHITECTURES
         if n in OF_EACH_KIND or a in ("single", "split", "mtan", "cross_stitch")]  # fmt: skip


@pytest.mark.parametrize(("name", "architecture"), PAIRS)
def test_every_weighting_trains_every_architecture_or_refuses_in_a_line(name, architecture):
    model = network(architecture)
    before = {key: value.clone() for key, value in model.named_parameters()}
    try:
        taken, _ = train(name, model, steps=1)
    except KitError as error:
        assert "\n" not in str(error) and name in str(error)
        assert all(torch.equal(before[key], value) for key, value in model.named_parameters())
        needs_more = WEIGHTINGS[name].level != "loss"
        assert needs_more, "a weighted sum of losses asks nothing of a network"
        return
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    for step in taken:
        assert list(step.losses) == NAMES and all(
            loss.isfinite() and not loss.requires_grad for loss in step.losses.values()
        )
        if step.weights is not None:
            assert list(step.weights) == NAMES and not any(weight.requires_grad for weight in step.weights.values())
    moved = {key for key, value in model.named_parameters() if not torch.equal(before[key], value)}
    heads = {key for key in before if key.startswith("heads.") and key.endswith("weight")}
    assert heads <= moved, "every head is trained"
    trained = {id(p) for task in TASKS for p in model.task_parameters(task.name)} | {
        id(p) for p in model.shared_parameters()
    }
    trunk = {k for k, p in model.named_parameters() if id(p) in trained and p.grad is not None and p.grad.any()}
    assert trunk <= moved


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_only_few_weightings_refuse_a_network_with_one_trunk(name):
    weighting.build(name, TASKS).check(network("split"))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_task_may_be_absent_and_come_back(name):
    model = network("split")
    (first,), method = train(name, model, steps=1)
    idle = [p.clone() for p in model.task_parameters("depth")]
    (second,), _ = train(name, model, steps=1, names=["semantic", "normals"], method=method)
    assert list(second.losses) == ["semantic", "normals"]
    assert all(torch.equal(a, b) for a, b in zip(idle, model.task_parameters("depth"), strict=True))
    (third,), _ = train(name, model, steps=1, method=method)
    assert list(first.losses) == list(third.losses) == NAMES
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_every_weighting_trains_under_bfloat16_autocast(name):
    model = network("split")
    train(name, model, autocast=True)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_the_whole_state_is_in_the_state_dict(name):
    """Two steps, then two more: by the method, and by a new one that is given its state."""
    model = network("split")
    _, method = train(name, model, steps=2)
    twins = [network("split"), network("split")]
    for twin in twins:
        twin.load_state_dict(model.state_dict())
    successor = weighting.build(name, TASKS, **TINY.get(name, {}))
    successor.load_state_dict(method.state_dict())
    results = []
    for twin, one in zip(twins, (successor, method), strict=True):
        torch.manual_seed(1)
        results.append(train(name, twin, method=one)[0])
    for a, b in zip(*results, strict=True):
        assert {k: v.item() for k, v in a.losses.items()} == {k: v.item() for k, v in b.losses.items()}
        assert str(a.weights) == str(b.weights)
    for a, b in zip(*(twin.parameters() for twin in twins), strict=True):
        assert torch.equal(a, b)


def test_a_representation_level_method_names_the_network_it_cannot_take():
    with pytest.raises(KitError, match=r"mgda-ub .* set at = 'parameters'"):
        weighting.build("mgda-ub", TASKS).check(network("mtan"))
    with pytest.raises(KitError, match="shared parameters"):
        weighting.build("pcgrad", TASKS).check(network("single"))


SWITCHABLE = [n for n in WEIGHTINGS if WEIGHTINGS[n].level == "gramian" and "at" in WEIGHTINGS.options(n)]


@pytest.mark.parametrize("name", [n for n in SWITCHABLE if WEIGHTINGS[n].batches_per_step == 1])
def test_a_gramian_method_works_at_the_representation_too(name):
    model = network("split")
    (step,), _ = train(name, model, steps=1, at="representation")
    with model.noting_features() as features:
        losses = closure_of(model)()
    assert step.gramian.shape == (3, 3) and features["representation"].requires_grad and len(losses) == 3


def test_weights_are_kept_between_updates_and_heads_still_learn_the_same():
    """With a weight of exactly 0 for a task (MGDA), its head receives its own gradient in the steps in between too."""
    model = network("split").eval()  # running statistics do not move: the same batch has the same gradients
    method = weighting.build("mgda", TASKS, update_every=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gradients, weights = [], []
    for _ in range(4):
        taken = method.step(closure_of(model), model, optimizer)
        weights.append({name: float(weight) for name, weight in taken.weights.items()})
        gradients.append([p.grad.clone() for p in model.parameters()])
        assert (taken.gramian is None) == (len(weights) in (2, 3))
    assert weights[0] == weights[1] == weights[2]
    for between in gradients[1:]:
        for a, b in zip(gradients[0], between, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_heads_are_scaled_on_request():
    plain, scaled = network("split").eval(), network("split").eval()
    taken, _ = train("nash-mtl", plain, steps=1)
    weights, _ = train("nash-mtl", scaled, steps=1, scale_heads=True)
    for name in NAMES:
        for a, b in zip(plain.task_parameters(name), scaled.task_parameters(name), strict=True):
            torch.testing.assert_close(b.grad, a.grad * weights[0].weights[name].float())


def test_max_norm_bounds_the_direction_of_the_trunk():
    model = network("split")
    train("nash-mtl", model, steps=1, max_norm=1.0)
    length = torch.sqrt(sum(p.grad.double().square().sum() for p in model.shared_parameters() if p.grad is not None))
    assert length == pytest.approx(1.0, rel=1e-4)  # sqrt(3) without


def test_a_batch_in_parts_is_one_update():
    """Without batch statistics, two parts give the gradient of the whole batch."""
    for name in ("equal", "uncertainty", "pcgrad", "nash-mtl"):
        gradients = []
        for parts in (1, 2):
            model = network("split").eval()
            method = weighting.build(name, TASKS, **({"order": "ascending"} if name == "pcgrad" else {}))
            method.parts = parts
            data = batch(size=4)

            def closure(k=0, model=model, data=data, parts=parts):
                piece = {key: value.chunk(parts)[k] for key, value in data.items()}
                outputs = model(piece)
                return {task.name: task.loss(outputs[task.name], piece[task.name]) / parts for task in TASKS}

            optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=0.0)
            taken = method.step(closure, model, optimizer)
            gradients.append([p.grad for p in [*model.parameters(), *method.parameters()]])
            assert list(taken.losses) == NAMES
        for whole, summed in zip(*gradients, strict=True):
            torch.testing.assert_close(whole, summed, rtol=1e-3, atol=1e-5)


def test_a_part_without_targets_adds_nothing():
    for name, options in (("equal", {}), ("mgda", {"update_every": 2})):
        gradients = []
        for parts in (1, 2):
            model = network("split").eval()
            method, losses = weighting.build(name, TASKS, **options), closure_of(model)
            method.parts = parts
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            for _ in range(2):  # the second with weights that were kept
                taken = method.step(lambda k, parts=parts, losses=losses: losses() if k % parts == 0 else {}, model,
                                    optimizer)  # fmt: skip
            assert list(taken.losses) == NAMES
            gradients.append([p.grad for p in model.parameters()])
        for whole, half_empty in zip(*gradients, strict=True):
            assert torch.equal(whole, half_empty)


def test_no_method_warns():
    for name in WEIGHTINGS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(name, network("split"), steps=1)
