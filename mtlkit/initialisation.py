"""What a network starts from besides chance: trained single-task nets, or ImageNet.

AFANet, NDDR-CNN and cross-stitch networks start from nets that were trained on one task each. As AFANet's released code
loads them, a task's trunk is taken whole, batch normalisation and its running statistics included, and nothing behind
it: heads (in DeepLabv3+ pyramid and decoder) and the units between the trunks keep the start of the run's seed. The
parameters of a source are those of the epoch that its recipe selects, else the last ones.

ImageNet weights are torchvision's first ones of each ResNet, which are all but its last layer. Where they cannot be
fetched the run starts at random and says so.

Whatever is loaded, is loaded before the first step alone: a run that goes on has it in its checkpoint.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import torchvision
from torch import Tensor, nn

from .architectures import MultiTaskModel
from .architectures.base import adopt
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
        _resnets(recipe, model)


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


def _resnets(recipe: Recipe, model: MultiTaskModel) -> list[resnet.ResNet]:
    """The trunks that ImageNet weights fit. Raises KitError where there are none."""
    trunks = [module for module in model.modules() if isinstance(module, resnet.ResNet)]
    full = [resnet.EXPANSION * planes for planes in resnet.PLANES]
    if not trunks or any(trunk.channels != full or trunk.conv1.in_channels != 3 for trunk in trunks):
        options = recipe.canonical()["architecture"]
        raise KitError(
            f"pretrained = {recipe.pretrained!r} fits ResNets of width 1, found backbone {options.get('backbone')!r}, "
            f"width {options.get('width')}; take such a backbone, or leave it out"
        )
    return trunks


def _load_imagenet(recipe: Recipe, model: MultiTaskModel) -> list[str]:
    trunks = _resnets(recipe, model)
    sizes = tuple(len(stage) for stage in trunks[0].stages)
    weights = _weights(next(layers for layers, blocks in resnet.BLOCKS.items() if blocks == sizes))
    try:
        state = fetch(weights)
    except Exception as error:  # no network, no such address, a file that is cut off, a folder that cannot be written
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return [f"{RANDOM}ImageNet weights could not be fetched from {weights.url} ({reason})"]
    left = [key for key in state if key.startswith("fc.")]
    kept = {key: tensor for key, tensor in state.items() if key not in left}
    for trunk in trunks:
        adopt(trunk, kept, f"a ResNet trunk from {weights}")
    line = f"from ImageNet, {weights}: {len(kept)} tensors, {len(trunks)} trunk(s); not loaded: {', '.join(left)}"
    return [line, _fresh(model, trunks)]


def _weights(layers: int) -> torchvision.models.WeightsEnum:
    return torchvision.models.get_model_weights(f"resnet{layers}").IMAGENET1K_V1


def fetch(weights: torchvision.models.WeightsEnum) -> Mapping[str, Tensor]:
    """The state of a network of torchvision, from its cache (``$TORCH_HOME``) or its address."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    finally:
        socket.setdefaulttimeout(before)
