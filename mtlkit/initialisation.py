"""What a network starts from besides chance: trained single-task nets, or ImageNet.

AFANet, NDDR-CNN and cross-stitch networks start from nets that were trained on one task each. As AFANet's released code
loads them, a task's trunk is taken whole, batch normalisation and its running statistics included, and nothing behind
it: heads (in DeepLabv3+ pyramid and decoder) and the units between the trunks keep the start of the run's seed. The
parameters of a source are those of the epoch that its recipe selects, else the last ones.

ImageNet weights are torchvision's first ones of each ResNet, all but its last layer, and of MobileNetV2 for
``two_stream``: into both streams, as edgeai does, all but its last convolution and classifier. Into ``astmt`` go those
of ResNet-50, ResNet-101 or MobileNetV2, batch normalisation into that of every task, while gates and adapters stay
fresh; ASTMT itself starts from nets with gates, whose files are unconfirmed. Where weights cannot be fetched the run
starts at random and says so.

Whatever is loaded, is loaded before the first step alone: a run that goes on has it in its checkpoint.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import torchvision
from torch import Tensor, nn

from .architectures import MultiTaskModel
from .architectures.astmt import ASTMT
from .architectures.base import adopt
from .architectures.two_stream import TwoStream
from .errors import KitError
from .layers import resnet
from .recipes import SINGLE, Recipe
from .runs import RANDOM, Run, load_run

TIMEOUT = 30.0  # seconds that a server may be silent


def check(recipe: Recipe, model: MultiTaskModel) -> None:
    """Raise KitError where this network cannot have the start that its recipe describes."""
    if recipe.init_from and not model.own_trunks():
        raise KitError(
            f"init_from starts the trunks of tasks that have one each, as in 'cross_stitch', 'nddr' or 'afa', and "
            f"{recipe.architecture.name!r} has none such; leave it out"
        )
    if recipe.pretrained:
        _imagenet(recipe, model)


def match(
    recipe: Recipe, fingerprint: str, folder: Path, command: str, planned: Mapping[str, Recipe] | None = None
) -> dict[str, Path]:
    """The run that the trunk of each task starts from; what can be judged without parameters has been found right.

    Args:
        recipe: of the run that starts from others, or from none: then there is nothing to match.
        fingerprint: of its data.
        folder: where the runs of this recipe lie.
        command: what a person types to have the single-task nets of the recipe trained.
        planned: the recipes of runs, by id, that will have been trained by then.

    Raises:
        KitError: for a source that is not trained, is no single-task net, or is another network; for a task with two
            sources or none; for a source without any of the tasks.
    """
    planned, found = planned or {}, {}
    paths = recipe.sources(fingerprint, folder)
    waiting = [path for path in paths if path.name not in planned and not Run(path).finished]
    if waiting and recipe.init_from == [SINGLE]:
        missing = ", ".join(task for task, path in zip(recipe.tasks, paths, strict=True) if path in waiting)
        raise KitError(f"{recipe.label} starts from single-task nets of {missing}, not yet trained; type: {command}")
    for path in paths:
        source = planned.get(path.name) or load_run(path).recipe
        if path in waiting:
            state = Run(path).state
            raise KitError(
                f"{recipe.label} starts from {path}, which is {state!r}; type: mtlkit run {path}/recipe.toml"
            )
        _compare(recipe, path, source)
        for task in source.tasks:
            if task in recipe.tasks and task in found:
                raise KitError(f"task {task!r} of {recipe.label} has two sources, {found[task]} and {path}; leave one")
            found |= {task: path} if task in recipe.tasks else {}
        if path not in found.values():
            raise KitError(f"{path} has the tasks {source.tasks}, and {recipe.label} none of them; leave it out")
    for task in recipe.tasks if paths else ():
        if task not in found:
            raise KitError(f"task {task!r} of {recipe.label} has no source among {list(map(str, paths))}; add its run")
    return found


def load(recipe: Recipe, model: MultiTaskModel, fingerprint: str, folder: Path) -> list[str]:
    """Give a fresh network the start that its recipe describes, in place.

    Args:
        recipe: of the run.
        model: its network, as made from the seed.
        fingerprint: of its data.
        folder: of the run.

    Returns:
        What was loaded and what was not, one line for each source and one for what stays fresh; no line where all of it
        does because the recipe asks for nothing else.

    Raises:
        KitError: as ``match``; for parameters that do not fit.
    """
    if recipe.init_from:
        return _load_singles(recipe, model, fingerprint, folder)
    return _load_imagenet(recipe, model) if recipe.pretrained else []


# --- single-task nets ---


def _compare(recipe: Recipe, path: Path, source: Recipe) -> None:
    """Raise KitError where a run is no single-task net on this backbone."""
    ours, theirs = recipe.canonical()["architecture"], source.canonical()["architecture"]
    if theirs["name"] != SINGLE:
        raise KitError(f"trunks start from runs of architecture {SINGLE!r}, found {theirs['name']!r} in {path}")
    for key in ("backbone", "width"):
        if ours[key] != theirs[key]:
            raise KitError(
                f"{recipe.label} has {key} {ours[key]!r}, its source {path} has {theirs[key]!r}; they must be the same"
            )


def _load_singles(recipe: Recipe, model: MultiTaskModel, fingerprint: str, folder: Path) -> list[str]:
    found = match(recipe, fingerprint, folder.parent, f"mtlkit sweep {folder}/recipe.toml")
    runs = {path: Run(path) for path in found.values()}
    states = {path: run.load(run.chosen)["model"] for path, run in runs.items()}
    loaded: dict[Path, list[str]] = {path: [] for path in runs}
    for task, path in found.items():
        try:
            loaded[path] += model.initialise_from(task, states[path])
        except KitError as error:
            raise KitError(f"{recipe.label} cannot start from {path}: {error}") from error
    lines = [_line(run, states[path], loaded[path]) for path, run in runs.items()]
    trunks = model.own_trunks()
    common = _common(list(trunks.values()))
    if common:
        lines.append(f"{common} tensors are the same in all trunks: those of {list(trunks)[-1]} stand")
    inherited = dict.fromkeys(run.random_start for run in runs.values() if run.random_start)
    return [*lines, _fresh(model, list(trunks.values())), *inherited]


def _line(run: Run, state: Mapping[str, Tensor], loaded: list[str]) -> str:
    """What was taken from a run, and which of its modules were left."""
    tasks = dict.fromkeys(key.split(".")[1] for key in loaded)
    left = dict.fromkeys(".".join(key.split(".")[:2]) for key in state if key not in set(loaded))
    return (
        f"from {run.folder.parent.name}/{run.folder.name}, {run.recipe.label}, {run.chosen}.pt: {len(loaded)} tensors, "
        f"trunk of {', '.join(tasks)}; not loaded: {', '.join(left)}"
    )


def _common(trunks: list[nn.Module]) -> int:
    """How many tensors belong to every trunk."""
    each = [{id(tensor) for tensor in (*trunk.parameters(), *trunk.buffers())} for trunk in trunks]
    return len(set.intersection(*each)) if len(each) > 1 else 0


def _fresh(model: nn.Module, trunks: list[nn.Module]) -> str:
    """The parts of a network outside these trunks, with the number of their parameters."""
    loaded = {id(parameter) for trunk in trunks for parameter in trunk.parameters()}
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters() if id(parameter) not in loaded)
        for name, part in model.named_children()
    }
    parts = [f"{name} ({count:,} parameters)" for name, count in counts.items() if count]
    return f"fresh: {', '.join(parts) or 'nothing'}"


# --- ImageNet ---

Parts = dict[str, nn.Module]  # modules of a trunk by the prefix of their names in torchvision's network


def _imagenet(recipe: Recipe, model: MultiTaskModel) -> tuple[torchvision.models.WeightsEnum, list[Parts]]:
    """The ImageNet weights that fit, and each trunk that they fit. Raises KitError where there is none."""
    resnets = [module for module in model.modules() if isinstance(module, resnet.ResNet)]
    full = [resnet.EXPANSION * planes for planes in resnet.PLANES]
    if resnets and all(trunk.channels == full and trunk.conv1.in_channels == 3 for trunk in resnets):
        sizes = tuple(len(stage) for stage in resnets[0].stages)
        layers = next(layers for layers, blocks in resnet.BLOCKS.items() if blocks == sizes)
        return _weights(f"resnet{layers}"), [{"": trunk} for trunk in resnets]
    options = recipe.canonical()["architecture"]
    if isinstance(model, TwoStream) and options["width"] == 1 and not options["expand_first"]:
        return _weights("mobilenet_v2"), [{f"features.{n}.": b for n, b in net.items()} for net in model.mobilenets()]
    if isinstance(model, ASTMT) and options["width"] == 1 and options["backbone"] != "resnet26":
        return _weights(options["backbone"]), [{"": trunk} for trunk in model.plain_trunks()]
    name = options.get("backbone", options["name"])
    raise KitError(
        f"pretrained = {recipe.pretrained!r} fits ResNets and two_stream of width 1 (astmt on resnet50, resnet101 or "
        f"mobilenet_v2; two_stream without expand_first), found backbone {name!r}, width {options.get('width')}; "
        "take such a network, or leave it out"
    )


def _load_imagenet(recipe: Recipe, model: MultiTaskModel) -> list[str]:
    weights, trunks = _imagenet(recipe, model)
    try:
        state = fetch(weights)
    except Exception as error:  # no network, no such address, a file that is cut off, a folder that cannot be written
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return [f"{RANDOM}ImageNet weights could not be fetched from {weights.url} ({reason})"]
    body = {key: tensor for key, tensor in state.items() if not key.startswith(("fc.", "classifier.", "features.18."))}
    taken: set[str] = set()
    for parts in trunks:
        for prefix, module in parts.items():
            own = {key.removeprefix(prefix): tensor for key, tensor in body.items() if key.startswith(prefix)}
            adopt(module, own, f"a trunk from {weights}")
            taken |= {prefix + key for key in own}
    left = [key for key in state if key not in taken]
    shown = ", ".join(left) if len(left) < 5 else f"{left[0]} ... {left[-1]} ({len(left)} tensors)"
    modules = [module for parts in trunks for module in parts.values()]
    line = f"from ImageNet, {weights}: {len(taken)} tensors, {len(trunks)} trunk(s); not loaded: {shown}"
    return [line, _fresh(model, modules)]


def _weights(network: str) -> torchvision.models.WeightsEnum:
    return torchvision.models.get_model_weights(network).IMAGENET1K_V1


def fetch(weights: torchvision.models.WeightsEnum) -> Mapping[str, Tensor]:
    """The state of a network of torchvision, from its cache (``$TORCH_HOME``) or its address."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    finally:
        socket.setdefaulttimeout(before)
