"""What a trained network is used for: written as ONNX, checked there, and timed against the networks that it replaces.

Shapes: B batch, C channels, H/W size, K channels of a task's raw output.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate
from tqdm.auto import tqdm

from . import architectures, datasets, files, recipes
from .architectures.base import MultiTaskModel
from .errors import KitError
from .evaluation import View
from .recipes import Recipe
from .runs import Run, load_run

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra "deploy"
TOLERANCE = 1e-4  # largest difference of a task's output, over the largest magnitude of that output
REAL = 4  # samples of the run's dataset that an export is checked on
WARM_UP = 5  # rounds that are not counted: memory is allocated and algorithms are chosen in them
TOGETHER = "one after the other"

Inputs = dict[str, Tensor]
Size = tuple[int, int]  # height, width


# --- ONNX ---


class _Raw(nn.Module):
    """A network as ONNX knows one: tensors in the order of ``model.inputs`` to raw outputs in the order of its tasks.

    It leaves out the checks of ``forward``, which look at the batch as a number and so would fix it.
    """

    def __init__(self, model: MultiTaskModel):
        super().__init__()
        self.model, self.names = model, [task.name for task in model.tasks]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model.compute(dict(zip(self.model.inputs, tensors, strict=True)), self.names, None)
        return tuple(outputs[name] for name in self.names)


def export(run: Run, target: Path, size: Size | None = None, which: str = "checkpoint") -> pd.DataFrame:
    """Write a trained network in eval mode as ONNX, for batches of any length, once onnxruntime agrees with PyTorch on
    random inputs and on samples of the run's dataset.

    Inputs and outputs have the names of the model's inputs (normalised as the run's recipe says) and of its tasks;
    outputs are raw.

    Args:
        run: with its parameters.
        target: the file; replaced where it exists.
        size: height and width that it is made for; None is that of the run's images. Samples are resized to it.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot.

    Returns:
        As ``differences``.

    Raises:
        KitError: packages or parameters that are absent, a size that the network does not take, a network that ONNX
            cannot express, or outputs that differ by more than ``TOLERANCE``; no file is written then.
    """
    model = run.model(which)
    real = _samples(run, model, size)
    height, width = real[model.inputs[0]].shape[2:]
    random = random_inputs(model, (height, width), batch=3)
    with files.replacing(target) as temporary:
        write_onnx(model, (height, width), temporary)
        found = differences(model, temporary, {"random": random, "real": real})
        if not found.relative.max() <= TOLERANCE:  # also where it is NaN
            (inputs, task), worst = found.relative.idxmax(skipna=False), found.relative.max(skipna=False)
            raise KitError(
                f"onnxruntime and PyTorch differ by {worst:.1e} of the output's scale ({task}, {inputs} inputs), "
                f"expected {TOLERANCE:.0e} at most; {target} was not written"
            )
    return found


def random_inputs(model: MultiTaskModel, size: Size, batch: int = 1) -> Inputs:
    """Standard normal inputs (B, C, H, W), the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, model.input_channels[name], *size, generator=generator) for name in model.inputs}


def _samples(run: Run, model: MultiTaskModel, size: Size | None) -> Inputs:
    """The first samples of the split that the run is evaluated on, as the network is fed them."""
    recipe = run.recipe
    dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
    view = View(dataset, model.inputs, recipe)
    batch = default_collate([view[index] for index in range(min(REAL, len(view)))])
    return {name: F.interpolate(batch[name], size=size or dataset.size, mode="bilinear") for name in model.inputs}


def write_onnx(model: MultiTaskModel, size: Size, path: Path) -> None:
    """Write a network in eval mode as ONNX, unchecked.

    Raises:
        KitError: packages that are absent, a size that the network does not take, a network that ONNX cannot express.
    """
    _require()
    inputs, batch = random_inputs(model.eval(), size, batch=2), torch.export.Dim("batch")
    with torch.no_grad():
        model(inputs)  # says in one line what does not fit
    try:
        with _quiet():
            torch.onnx.export(
                _Raw(model).eval(),
                tuple(inputs.values()),
                str(path),
                input_names=list(model.inputs),
                output_names=[task.name for task in model.tasks],
                dynamic_shapes=(tuple({0: batch} for _ in inputs),),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise KitError(f"ONNX cannot express this network ({_cause(error)}); export another architecture") from error


def differences(model: MultiTaskModel, path: Path, batches: Mapping[str, Inputs]) -> pd.DataFrame:
    """How far onnxruntime is from PyTorch, both on the CPU.

    Args:
        model: the network, left in eval mode.
        path: the same network as ONNX.
        batches: inputs by a name for them.

    Returns:
        Index (inputs, task); ``absolute``: the largest difference of the raw outputs; ``relative``: the same over the
        largest magnitude of that task's output by PyTorch.

    Raises:
        KitError: packages that are absent, or a file that onnxruntime does not run.
    """
    _require()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    raw, names = _Raw(model).eval(), [task.name for task in model.tasks]
    rows = {}
    for label, inputs in batches.items():
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            theirs = session.run(names, {name: inputs[name].numpy() for name in model.inputs})
        except Exception as error:  # onnxruntime has no common class of its errors
            raise KitError(f"onnxruntime does not run the exported network: {_cause(error)}") from error
        with torch.no_grad():
            ours = raw(*(inputs[name] for name in model.inputs))
        for name, our, their in zip(names, ours, theirs, strict=True):
            most = float((our - torch.from_numpy(their)).abs().max())
            rows[label, name] = {"absolute": most, "relative": most / float(our.abs().max())}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(rows, names=["inputs", "task"]))


def _require() -> None:
    """Raise KitError where packages of the extra are absent."""
    if absent := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise KitError(f"ONNX needs {', '.join(absent)}; in the checkout, type: pip install -e '.[deploy]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself; its errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _cause(error: BaseException) -> str:
    """What went wrong at the bottom, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# --- time ---


@torch.inference_mode()
def latency(
    models: Mapping[str, MultiTaskModel | Sequence[MultiTaskModel]], inputs: Inputs, rounds: int = 50
) -> pd.DataFrame:
    """Time of a forward pass of all tasks. Networks take turns in every round, so that what else the machine does
    meets all of them alike.

    Args:
        models: by name; several of them are run one after the other, and their times are one time. On the device of
            the inputs; left in eval mode.
        inputs: (B, C, H, W) for every input that any of them reads; B = 1 is what a camera gives.
        rounds: that count, after ``WARM_UP`` which do not.

    Returns:
        Index name; ``gmacs`` of one image, ``median_ms`` and ``p95_ms`` (linear between the two nearest rounds).
        ``1 - table.loc[a] / table.loc[b]`` is the share that ``a`` saves. ``attrs`` say ``threads`` and ``device``.

    Raises:
        KitError: fewer rounds than one, or inputs that a network does not take.
    """
    if rounds < 1:
        raise KitError(f"a time needs one round or more, found {rounds}; 50 are a good number")
    chains = {name: [given] if isinstance(given, nn.Module) else list(given) for name, given in models.items()}
    for model in (model for chain in chains.values() for model in chain):
        model.eval()
    height, width = next(iter(inputs.values())).shape[2:]
    taken: list[dict[str, float]] = []
    for _ in tqdm(range(WARM_UP + rounds), desc="measuring", unit="round"):
        taken.append({name: _milliseconds(chain, inputs) for name, chain in chains.items()})
    counted = pd.DataFrame(taken[WARM_UP:], columns=list(chains))
    macs = {name: sum(architectures.count_macs(m, height, width) for m in chain) for name, chain in chains.items()}
    table = pd.DataFrame(
        {"gmacs": pd.Series(macs) / 1e9, "median_ms": counted.median(), "p95_ms": counted.quantile(0.95)}
    )
    table.attrs = {"threads": torch.get_num_threads(), "device": next(iter(inputs.values())).device.type}
    return table


def _milliseconds(chain: Sequence[MultiTaskModel], inputs: Inputs) -> float:
    """Of networks run one after the other, until the last output is there."""
    device = next(iter(inputs.values())).device
    start = time.perf_counter()
    for model in chain:
        model(inputs)
    if device.type != "cpu":  # there, calls return before the work is done
        torch.accelerator.synchronize(device)
    return 1000 * (time.perf_counter() - start)


def compare(
    words: Sequence[str], size: Size | None = None, overrides: Mapping[str, Any] | None = None, rounds: int = 50
) -> Iterator[str]:
    """Lines that say what ``latency`` finds for the networks that ``contestants`` names, and what is saved. Raises
    KitError as these two do.
    """
    models, size = contestants(words, size, overrides)
    every = [model for given in models.values() for model in (given if isinstance(given, list) else [given])]
    inputs: Inputs = {}
    for model in every:
        inputs |= random_inputs(model, size)
    table = latency(models, inputs, rounds)
    yield table.round({"gmacs": 4, "median_ms": 1, "p95_ms": 1}).to_string()
    yield (
        f"batch 1, {size[0]} x {size[1]}, eval mode, {table.attrs['device']}, {table.attrs['threads']} thread(s), "
        f"{rounds} rounds"
    )
    if TOGETHER in models:
        saved = 1 - table.iloc[0] / table.loc[TOGETHER]
        yield (
            f"{table.index[0]} saves {saved.gmacs:.1%} of the MACs and {saved.median_ms:.1%} of the median time "
            f"of {len(models) - 2} networks {TOGETHER}"
        )


def contestants(
    words: Sequence[str], size: Size | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[dict[str, MultiTaskModel | list[MultiTaskModel]], Size]:
    """A multi-task network, the single-task network of each of its tasks, and these ``TOGETHER``: what ``latency``
    compares. They are made anew: times do not depend on what was learned.

    Args:
        words: run folders and recipes; of all their runs (a sweep has several) the first with the most tasks is the
            multi-task network, and the first of each of its tasks alone are the others. One word without single-task
            networks is measured by itself.
        size: height and width; None is that of their images.
        overrides: of recipes.

    Returns:
        The networks by name, and their height and width.

    Raises:
        KitError: what is no run or recipe, data that are absent, a task without a single-task network, or images of
            different sizes.
    """
    found = [recipe for word in words for recipe in _recipes(word, overrides or {})]
    multi = max(found, key=lambda recipe: len(recipe.tasks))  # the first of them
    alone = {recipe.tasks[0]: recipe for recipe in reversed(found) if len(recipe.tasks) == 1}
    wanted = list(multi.tasks) if len(multi.tasks) > 1 and (alone or words[1:]) else []
    if missing := [task for task in wanted if task not in alone]:
        raise KitError(f"no single-task network of {missing[0]!r} in {', '.join(words)}; name one with --against")
    sizes: set[Size] = set()
    made = {}
    for recipe in (multi, *(alone[task] for task in wanted)):
        dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
        sizes.add(size or tuple(dataset.size))
        made[_name(recipe)] = recipe.network(recipe.choose(dataset.tasks), size or dataset.size)
    if len(sizes) > 1:
        raise KitError(f"networks are compared at one size, found {sorted(sizes)}; give --height and --width")
    singles = list(made.values())[1:]
    return made | ({TOGETHER: singles} if singles else {}), sizes.pop()


def _recipes(word: str, overrides: Mapping[str, Any]) -> list[Recipe]:
    """Of a run folder, or of a recipe by name or path."""
    return [load_run(word).recipe] if Path(word).is_dir() else recipes.expand(word, overrides)


def _name(recipe: Recipe) -> str:
    return f"{recipe.architecture.name} {'+'.join(recipe.tasks)}"
