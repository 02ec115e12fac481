"""What a training step costs under every weighting, as a ratio to equal weighting, and how long the solvers take.

python tests/benchmarks/weighting.py [--net split|mtan|resnet18] [--methods pcgrad upgrad:at=representation ...]
    [--rounds 15] [--threads 1] [--device cpu] [--csv FILE] [--no-memory] [--no-update]
python tests/benchmarks/weighting.py --solvers

A step is what a user waits for: forward pass, losses, backward pass or passes, the method's algebra and the update by
Adam, that is ``Weighting.step`` and ``after_step``. ``--no-update`` leaves the update out of all rows, equal weighting
too. T = 3 tasks of NYUv2, batch 2, random data; the learning rate is so small that every step of every method meets
the same gradients.

All take turns in one process, in rotating order; a ratio is the median of the rounds (between the quartiles), the first
of which warms up. On a CPU, time is that of the processor, and threads wait without spinning, so that neighbours do not
count. Memory is the peak of tensors in two steps of a new method above what was there before: its state, activations
and gradients.

"engine" is a method without algebra: the sum of the task gradients, made as every parameter-level method makes its own.
Rows of TorchJD (``mtl_backward`` and ``jac_to_grad``) run the same net; their last column is their time over ours.

Shapes: B batch, C channels, H/W size, T tasks, P numbers in a gradient.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks of every start

import argparse  # noqa: E402
import ast  # noqa: E402
import contextlib  # noqa: E402
import csv  # noqa: E402
import dataclasses  # noqa: E402
import functools  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import torchvision  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from mtlkit import architectures, tasks, weighting  # noqa: E402
from mtlkit.architectures import MultiTaskModel  # noqa: E402
from mtlkit.datasets import nyuv2  # noqa: E402
from mtlkit.errors import KitError  # noqa: E402
from mtlkit.weighting.gradients import GramianLevel  # noqa: E402

PARAMETER_BAR = {"split": 2.45, "mtan": 1.5, "resnet18": 2.3}
LEVEL_BARS = {"loss": 1.03, "layer": 1.20, "representation": 1.10}
METHOD_BARS = {"famo": 1.45, "auto-lambda": None}  # one looks at the losses again, the other ahead at the next step
TORCHJD_BAR = 1.4  # TorchJD's time over ours
SOLVER_BARS = {3: 0.5, 10: 2.0}  # T -> ms
OURS = {"UPGrad": "upgrad", "PCGrad": "pcgrad", "Mean": "engine"}  # TorchJD's -> what it is compared with

Closure = Callable[..., dict[str, Tensor]]


# --- nets and data ---


class ResNet18(MultiTaskModel):
    """The trunk of torchvision's ResNet-18 (11.2 M parameters in 60 tensors) and a 1 x 1 convolution for each task."""

    def __init__(self, chosen: Sequence[tasks.Task]):
        super().__init__(chosen)
        self.trunk = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
        self.heads = nn.ModuleDict({task.name: nn.Conv2d(512, task.channels, 1) for task in chosen})

    def compute(self, streams: dict[str, Tensor], names: list[str], features: dict[str, Tensor] | None):
        z = self.trunk(streams["image"])
        if features is not None:
            features["z"] = z
        return {name: F.interpolate(self.heads[name](z), scale_factor=32, mode="bilinear") for name in names}

    def task_modules(self, name: str) -> list[nn.Module]:
        return [self.heads[name]]

    def representation(self) -> str:
        return "z"

    def last_shared_layer(self) -> nn.Module:
        return self.trunk[-1][-1].conv2


NETS: dict[str, tuple[Callable[..., MultiTaskModel], int, int]] = {  # net, height, width
    "split": (functools.partial(architectures.build, "split"), 96, 128),
    "mtan": (functools.partial(architectures.build, "mtan"), 96, 128),
    "resnet18": (lambda chosen: ResNet18(chosen).to(memory_format=torch.channels_last), 64, 96),
}


def random_batch(height: int, width: int, k: int, device: str, batch: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(k)
    sample = {
        "image": torch.rand(batch, 3, height, width, generator=g),
        "semantic": torch.randint(-1, 13, (batch, height, width), generator=g),
        "depth": 0.5 + 9 * torch.rand(batch, 1, height, width, generator=g),
        "normals": F.normalize(torch.randn(batch, 3, height, width, generator=g), dim=1),
    }
    return {name: x.to(device) for name, x in sample.items()}


def make(net: str, device: str) -> tuple[MultiTaskModel, Closure]:
    """A net in training mode, and the closure of its losses on random batches."""
    torch.manual_seed(0)
    chosen = [tasks.semantic(nyuv2.CLASSES), tasks.depth(), tasks.normals()]
    build, height, width = NETS[net]
    model = build(chosen).to(device).train()
    batch = functools.cache(lambda k: random_batch(height, width, k, device))

    def closure(k: int = 0) -> dict[str, Tensor]:
        outputs = model(batch(k))
        return {task.name: task.loss(outputs[task.name], batch(k)[task.name]) for task in chosen}

    return model, closure


# --- what takes turns ---


class Update(torch.optim.Adam):
    """Adam as ``mtlkit.optimisers`` makes it, or nothing (``works`` False), over a network that all methods share.

    A method's own few numbers are left out. Parameters stand still, up to rounding.
    """

    def __init__(self, model: nn.Module, works: bool):
        super().__init__(model.parameters(), lr=1e-12, fused=True)
        self.works = works

    def step(self, closure=None):
        if self.works:
            super().step()


class Engine(GramianLevel):
    """The sum of the task gradients, by way of the Gramian: what all methods of this level share."""

    def solve(self, gramian_TT, losses_T, present):
        return np.ones(len(gramian_TT))


@dataclasses.dataclass
class Case:
    """One row: ``new`` gives a function that makes one step; ``versus`` names the row whose time is beside it."""

    name: str
    level: str
    new: Callable[[], Callable[[], Any]]
    bar: float | None
    versus: str = "equal"


def build(name: str, chosen: Sequence[tasks.Task], **options: Any) -> weighting.Weighting:
    return Engine(chosen, **options) if name == "engine" else weighting.build(name, chosen, **options)


def ours(label: str, net: str, model: MultiTaskModel, closure: Closure, optimizer: Update) -> Case:
    """``label`` is a method, or a method with options: ``mgda:at=representation,update_every=4``.

    Raises:
        KitError: where the method is not for this net.
    """
    name, _, text = label.partition(":")
    options = {key: _value(value) for key, value in (pair.split("=") for pair in text.split(",") if pair)}
    method = build(name, model.tasks, **options)
    method.check(model)

    def new() -> Callable[[], None]:
        method = build(name, model.tasks, **options).to(next(model.parameters()).device)

        def step() -> None:
            method.step(closure, model, optimizer)
            method.after_step(closure, model)

        return step

    level = method.level
    if level in ("gramian", "gradient"):
        level = "representation" if getattr(method, "at", "") == "representation" else "parameters"
    bar = METHOD_BARS.get(name, LEVEL_BARS.get(level, PARAMETER_BAR[net]))
    return Case(label, level, new, bar if method.batches_per_step == 1 else None)


def theirs(aggregator: str, chunk: int | None, model: MultiTaskModel, closure: Closure, optimizer: Update) -> Case:
    """TorchJD on the same net; ``chunk`` 1 is one backward pass after the other, None all at once by vmap."""
    from torchjd import aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    def new() -> Callable[[], None]:
        aggregate = getattr(aggregation, aggregator)()
        shared = model.shared_parameters()

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with model.noting_features() as features:
                losses = closure()
            mtl_backward(list(losses.values()), features["representation"], parallel_chunk_size=chunk)
            jac_to_grad(shared, aggregate)
            optimizer.step()

        return step

    name = f"TorchJD {aggregator}, {'chunk 1' if chunk else 'vmap'}"
    return Case(name, "parameters", new, None, OURS[aggregator])


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def cases(net: str, labels: Sequence[str], model: MultiTaskModel, closure: Closure, optimizer: Update) -> list[Case]:
    """``equal`` first; a method that is not for this net is named and left out."""
    found = []
    for label in dict.fromkeys(["equal", *labels]):
        try:
            found.append(ours(label, net, model, closure, optimizer))
        except KitError as error:
            print(f"{label}: {error}")
    if net == "resnet18":
        names = {case.name for case in found}
        try:
            pairs = [(a, chunk) for a, mine in OURS.items() if mine in names for chunk in (1, None)]
            found += [theirs(a, chunk, model, closure, optimizer) for a, chunk in pairs]
        except ImportError as error:
            print(f"TorchJD: {error}; it comes with the extra dev")
    return found


# --- measuring ---


def clock(device: str) -> float:
    """Seconds: of the processor on a CPU, of the wall where the work is done elsewhere."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def take_turns(rows: list[Case], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of a step, round by round."""
    steps = {case.name: case.new() for case in rows}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C: what there is counts
        for number in range(rounds + 1):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                start = clock(device)
                steps[name]()
                seconds[name].append(clock(device) - start)
    complete = min(map(len, seconds.values()))
    if complete < 3:
        sys.exit("stopped before two rounds and the one that warms up; take fewer --methods")
    return {name: found[1:complete] for name, found in seconds.items()}


def peak(case: Case, model: nn.Module, device: str) -> float:
    """MB of tensors at the worst moment of two steps, above what was there before."""
    model.zero_grad(set_to_none=True)
    if device != "cpu":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _twice(case)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        _twice(case)
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(str(Path(folder) / "trace.json"))
        events = json.loads((Path(folder) / "trace.json").read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    return float(np.cumsum([size for _, size in changes]).max()) / 1e6


def _twice(case: Case) -> None:
    step = case.new()
    step(), step()


# --- tables ---


def show(table: list[dict[str, Any]], path: str | None) -> None:
    """Print rows of one kind, and write them where wanted."""
    cells = [[_cell(value) for value in row.values()] for row in table]
    widths = [max(map(len, column)) for column in zip(list(table[0]), *cells, strict=True)]
    for line in [list(table[0]), *cells]:
        padded = [text.rjust(width) for text, width in zip(line, widths, strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *padded[1:]]))
    if path:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _verdict(value: float, bar: float | None, at_least: bool = False) -> str:
    return "-" if bar is None else "ok" if (value >= bar if at_least else value <= bar) else "OVER"


def compare(options: argparse.Namespace) -> None:
    model, closure = make(options.net, options.device)
    labels = options.methods or [*weighting.WEIGHTINGS, "engine", "engine:at=representation"]
    rows = cases(options.net, labels, model, closure, Update(model, works=not options.no_update))
    seconds = take_turns(rows, options.rounds, options.device)
    table = []
    for case in rows:
        mine, equal = seconds[case.name], seconds["equal"]
        ratios = [a / b for a, b in zip(mine, equal, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        row = {"method": case.name, "level": case.level, "ms": statistics.median(mine) * 1e3}
        row |= {"ratio": middle, "quartile 1": low, "quartile 3": high, "bar": case.bar}
        row["verdict"] = _verdict(middle, case.bar)
        row["MB"] = None if options.no_memory else peak(case, model, options.device)
        row["over ours"] = None
        if case.versus != "equal":
            row["over ours"] = statistics.median(a / b for a, b in zip(mine, seconds[case.versus], strict=True))
            row["verdict"] = _verdict(row["over ours"], TORCHJD_BAR, at_least=True)
        table.append(row)
    update = "without" if options.no_update else "with"
    size = f"{options.threads} thread(s), {len(seconds['equal'])} rounds"
    print(f"{options.net}, {update} the update, {options.device}, {size}")
    show(table, options.csv)


# --- solvers ---


def solvers(options: argparse.Namespace) -> None:
    """Milliseconds of the processor for one solution from a Gramian of random gradients of 1000 numbers."""
    names = options.methods or [n for n, method in weighting.WEIGHTINGS.items() if issubclass(method, GramianLevel)]
    table = []
    for name in sorted(names):
        row: dict[str, Any] = {"method": name}
        for count in (2, 3, 5, 10, 20):
            row[f"T = {count}"] = milliseconds(name, count, calls=20 * options.rounds)
        over = [f"T = {count}" for count, bar in SOLVER_BARS.items() if row[f"T = {count}"] > bar]
        table.append(row | {"verdict": f"OVER at {', '.join(over)}" if over else "ok"})
    print(f"ms per solution; bars {SOLVER_BARS}")
    if table:
        show(table, options.csv)


def milliseconds(name: str, count: int, calls: int) -> float:
    """The median over ``calls`` Gramians; the first tenth warms up."""
    method = weighting.build(name, [weighting.NamedTask(f"task{t}") for t in range(count)])
    random = np.random.default_rng(0)
    losses_T, present, times = torch.ones(count), list(range(count)), []
    for _ in range(calls):
        gradients_TP = random.standard_normal((count, 1000))
        gramian_TT = gradients_TP @ gradients_TP.T
        start = time.process_time()
        method.solve(gramian_TT, losses_T, present)
        times.append(time.process_time() - start)
    return statistics.median(times[calls // 10 :]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--net", choices=NETS, default="split")
    parser.add_argument("--methods", nargs="+", metavar="NAME[:OPTION=VALUE,...]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", metavar="FILE")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-update", action="store_true")
    parser.add_argument("--solvers", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    solvers(options) if options.solvers else compare(options)


if __name__ == "__main__":
    main()
