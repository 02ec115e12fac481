"""Recording: what the taps give, and nothing else changes."""

import pytest
import torch

import mtlkit
from mtlkit import tasks
from mtlkit.errors import KitError

TASKS = [tasks.semantic(["wall", "floor", "bed"]), tasks.depth(), tasks.normals()]
LEVELS = [f"{side}{i}" for side in ("encoder", "decoder") for i in range(5)]


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return mtlkit.build("mtan", TASKS, width=0.125)


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def step(model, images):
    """Outputs and gradients of one pass."""
    model.zero_grad()
    outputs = model(images)
    sum(output.square().mean() for output in outputs.values()).backward()
    return [*outputs.values(), *(p.grad for p in model.parameters() if p.grad is not None)]


def test_a_mask_is_what_the_last_stage_is_gated_with(model, images):
    with mtlkit.record(model) as seen:
        _, features = model(images, return_features=True)
    for task in ("semantic", "depth", "normals"):
        assert torch.equal(seen[f"mask/{task}/decoder4"] * features["y4"], features[f"{task}/gated"])


def test_names_and_values(model, images):
    with mtlkit.record(model) as seen:
        assert len(seen) == 0, "no forward pass yet"
        model(images)
    assert list(seen) == seen.names == [f"mask/{task.name}/{level}" for task in TASKS for level in LEVELS]
    assert seen["mask/depth/encoder2"].shape == (2, 32, 8, 16)
    for value in seen.values():
        assert not value.requires_grad and value.device.type == "cpu" and 0 <= value.min() <= value.max() <= 1


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_outputs_and_gradients_stay_as_they_are(images, mode):
    found = []
    for recorded in (False, True):
        torch.manual_seed(0)
        model = mtlkit.build("mtan", TASKS, width=0.125).train(mode)
        if recorded:
            with mtlkit.record(model):
                found.append(step(model, images))
        else:
            found.append(step(model, images))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_writing_into_a_recording_does_not_reach_the_backward_pass(model, images):
    plain = step(model.eval(), images)
    model.zero_grad()
    with mtlkit.record(model) as seen:
        outputs = model(images)
        for value in seen.values():
            value.zero_()
        sum(output.square().mean() for output in outputs.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(*pair) for pair in zip(plain[len(outputs) :], grads, strict=True))


def test_the_last_pass_alone_is_kept(model, images):
    with mtlkit.record(model.eval()) as seen:
        model(images)
        model(images[:1], ["depth"])
    assert list(seen) == [f"mask/depth/{level}" for level in LEVELS], "a task that was not computed is absent"
    assert len(seen["mask/depth/encoder0"]) == 1
    assert "mask/normals/encoder0" in seen.names and "mask/normals/encoder0" not in seen
    assert seen.select("mask/normals/*") == {}


def test_patterns(model, images):
    with mtlkit.record(model, "mask/*/encoder0", "mask/depth/decoder4") as seen:
        model(images)
    assert set(seen) == {*(f"mask/{task.name}/encoder0" for task in TASKS), "mask/depth/decoder4"}
    assert list(seen.select("mask/depth/*")) == ["mask/depth/encoder0", "mask/depth/decoder4"]
    with pytest.raises(KitError, match=r"no tap is called 'mask/dpeth/\*'; there is mask/semantic/encoder0, "):
        seen.select("mask/dpeth/*")
    with pytest.raises(KitError, match="no tap is called 'gate'"), mtlkit.record(model, "gate"):
        pass


def test_hooks_go_when_the_block_ends_also_by_an_exception(model, images):
    with pytest.raises(ZeroDivisionError), mtlkit.record(model):
        assert hooks(model)
        1 / 0  # noqa: B018
    assert not hooks(model)
    with mtlkit.record(model) as outer:
        with mtlkit.record(model, "mask/depth/*") as inner:
            model.eval()(images)
        first = outer["mask/depth/encoder0"]
        assert torch.equal(inner["mask/depth/encoder0"], first)
        model(images.flip(3))
        assert not torch.equal(outer["mask/depth/encoder0"], first), "the outer one goes on"
        assert torch.equal(inner["mask/depth/encoder0"], first), "the inner one has ended"
    assert not hooks(model)


@pytest.mark.parametrize("model", [mtlkit.build("split", TASKS, width=0.125), torch.nn.Linear(1, 1)])
def test_a_model_without_taps(model):
    with pytest.raises(KitError, match=f"{type(model).__name__} has nothing to record; take .* 'mtan'"):
        with mtlkit.record(model):
            pass


def test_record_is_the_function_whatever_was_imported_before():
    from mtlkit import attention, recording  # noqa: F401

    assert callable(mtlkit.record)
