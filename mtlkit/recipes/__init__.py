"""A run as data: one TOML file says everything that decides its numbers.

``load`` reads a recipe by name (beside this file) or by path; unknown keys and wrong types are errors with the nearest
valid name. A sweep is a recipe with a ``[sweep]`` table:

    [sweep]                              # every combination of these ...
    seed = [0, 1]
    [[sweep.variants]]                   # ... with every combination of each of these
    tasks = [["semantic"], ["depth"]]
    "architecture.name" = ["single"]
    [[sweep.variants]]
    "weighting.name" = ["equal", "dwa"]

A recipe may start from another one, ``extends = "other"``, and say only what differs.
Lists elsewhere are just lists.

Where a network starts:

    init_from = ["single"]               # its trunks from single-task nets: those that ``Recipe.singles`` describes
    init_from = ["runs/rooms/0123456789ab", ...]     # or from these runs; a relative path is the recipe file's
    pretrained = "imagenet"              # its ResNet trunks, or those of the single-task nets, from ImageNet weights

What a task is trained by, where that is not its own loss:

    losses = {depth = "edgeai", semantic = "edgeai-released"}        # names in ``tasks.LOSSES``

Images of different sizes, which training makes one by its augmentation:

    resize = [512, 512]                  # what evaluation feeds; predictions are measured at the size of their targets
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import pydantic
import tomli_w
from pydantic import Field

from .. import tasks
from ..errors import KitError, nearest
from ..metrics import PROTOCOLS
from .tables import Adversarial, Fraction, Named, Optimiser, Phase, Positive, Schedule, Table

if TYPE_CHECKING:
    from ..architectures import MultiTaskModel
    from ..tasks import Task

__all__ = [
    "SINGLE", "Adversarial", "Fraction", "Named", "Optimiser", "Phase", "Positive", "Recipe", "Schedule", "Table",
    "expand", "load", "make", "names", "parse_overrides", "read",
]  # fmt: skip

NUMERICS_VERSION = 1  # part of every run's id: raise it when the same recipe would give other numbers
SINGLE = "single"  # the architecture that others start from


class Recipe(Table):
    """One run. Every default is a choice with a reason beside it; a key that is not here does not exist."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    about: str = ""  # one line for people; no part of the id
    dataset: Named
    tasks: Annotated[list[str], Field(min_length=1)]
    architecture: Named
    weighting: Named = Named(name="equal")
    losses: dict[str, str] = {}  # task -> a loss by name; a task that is not here has its own, one that is not run none
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    augmentation: Named = Named(name="none")
    loop: Literal["joint", "single_tasking", "per_domain"] = "joint"
    adversarial: Adversarial = Adversarial()  # of the loop single_tasking
    order: Literal["sequential", "interleaved"] = "sequential"  # of per_domain: domain after domain, or all mixed
    statistics: Literal["none", "refresh", "train"] = "none"  # of per_domain: batch normalisation before evaluation
    phases: list[Phase] = []  # none is one of all epochs
    normalise: Literal["none", "imagenet", "raw255", "ti", "domain"] = "none"  # MTAN feeds images in [0, 1]
    init_from: list[str] = []  # run folders of single-task nets that the trunks start from, or the word "single"
    resize: list[Positive] = []  # height, width that images are fed at in evaluation, targets keep theirs; none: as is
    pretrained: Literal["", "imagenet"] = ""  # "imagenet": ResNet trunks start from torchvision's weights
    epochs: Positive = 200
    batch: Positive = 2
    drop_last: bool = False
    accumulate: Positive = 1  # a batch goes through the network in so many parts, and is one update
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    protocols: Annotated[list[Literal[*PROTOCOLS]], Field(min_length=1)] = ["pooled"]
    evaluate_every: Positive = 1  # epochs; the last epoch is always evaluated
    evaluate_on: Literal["validation", "test"] = "test"  # "validation": test is measured once, at the end
    select: str = (
        ""  # the best epoch on evaluate_on is the result, by "loss" (the sum) or a "task/metric"; "": the last
    )
    average_last: Positive = 1  # the result is the mean over so many evaluated epochs; MTAN's tables: 10
    keep_every: Annotated[int, Field(ge=0)] = 0  # epochs between snapshots of the parameters; 0 keeps none

    @pydantic.model_validator(mode="after")
    def _one_way_to_a_result(self) -> Self:
        if self.average_last > 1 and (self.select or self.evaluate_on != "test"):
            raise ValueError("average_last is a mean over evaluations of the test split; leave select and evaluate_on")
        return self

    @pydantic.model_validator(mode="after")
    def _what_a_loop_takes(self) -> Self:
        if self.loop != "joint" and (self.weighting.name, self.accumulate) != ("equal", 1):
            found = f"weighting {self.weighting.name!r}, accumulate {self.accumulate}"
            raise ValueError(
                f"loop {self.loop!r} trains one task in a step: weighting is equal and accumulate 1, found {found}"
            )
        if self.loop != "per_domain" and (self.order, self.statistics) != ("sequential", "none"):
            raise ValueError(f"order and statistics are of loop 'per_domain', found {self.loop!r}; leave them out")
        if self.phases and (total := sum(phase.epochs for phase in self.phases)) != self.epochs:
            raise ValueError(f"epochs is the sum over phases, {total}, found {self.epochs}")
        if strangers := {name for phase in self.phases for name in phase.tasks} - set(self.tasks):
            raise ValueError(f"phases train tasks of the recipe, found {min(strangers)!r}; name it in tasks too")
        return self

    @pydantic.field_validator("resize")
    @classmethod
    def _height_and_width(cls, size: list[int]) -> list[int]:
        if len(size) not in (0, 2):
            raise ValueError("a size is [height, width], for example [512, 512]; leave it out for that of the images")
        return size

    @pydantic.field_validator("init_from")
    @classmethod
    def _runs_by_their_ids(cls, entries: list[str]) -> list[str]:
        if SINGLE in entries and len(entries) > 1:
            raise ValueError(f'"{SINGLE}" means one net for each task, and stands alone')
        for entry in entries:
            if entry != SINGLE and not re.fullmatch("[0-9a-f]{12}", Path(entry).name):
                raise ValueError(
                    f'a run folder ends in an id such as 0123456789ab, found {entry!r}; or type "{SINGLE}"'
                )
        return entries

    @property
    def label(self) -> str:
        """A short name for figures: architecture, weighting, tasks, fold."""
        backbone = self.architecture.options.get("backbone", "segnet")
        network = self.architecture.name + (f" {backbone}" if backbone != "segnet" else "")
        fold = f" · fold {options['fold']}" if "fold" in (options := self.dataset.options) else ""
        return f"{network} · {self.weighting.name} · {'+'.join(self.tasks)}{fold} · seed {self.seed}"

    def canonical(self) -> dict[str, Any]:
        """Everything that decides the numbers, with every default written out: equal recipes have equal canonical
        forms. Runs that it starts from are there by their ids, without the rest of their paths.
        """
        content = self.model_dump(exclude={"name", "about"})
        content["init_from"] = [Path(entry).name for entry in self.init_from]
        for key in ("init_from", "pretrained", "phases", "resize"):  # younger than the first runs, which keep their ids
            if not content[key]:
                del content[key]
        if self.loop != "single_tasking":  # likewise
            del content["adversarial"]
        if self.loop != "per_domain":  # likewise
            del content["order"], content["statistics"]
        if content["accumulate"] == 1:  # likewise
            del content["accumulate"]
        for key in ("warmup", "milestones"):  # likewise
            if not content["schedule"][key]:
                del content["schedule"][key]
        content["losses"] = {task: name for task, name in self.losses.items() if task in self.tasks}
        if not content["losses"]:  # likewise
            del content["losses"]
        for key, registry in _registries().items():
            defaults = {k: p.default for k, p in registry.options(content[key]["name"]).items()}
            content[key] = defaults | content[key]
        content["dataset"].pop("root", None)  # where the files lie is no part of what they are
        if not content["dataset"]["packed"]:  # where it is, the fingerprint differs too
            del content["dataset"]["packed"]
        return content

    def identity(self, fingerprint: str) -> str:
        """The id of a run of this recipe on data with this fingerprint: 12 hexadecimal digits of a sha256.

        The ids of the runs that it starts from are a part of it, however they were named and in whatever order.
        """
        content = {"recipe": self.canonical(), "data": fingerprint, "numerics": NUMERICS_VERSION}
        if self.init_from:
            content["recipe"]["init_from"] = sorted(path.name for path in self.sources(fingerprint, Path()))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def phase(self, epoch: int) -> tuple[Phase, int]:
        """The phase that an epoch belongs to, and its first epoch."""
        first = 0
        for phase in self.phases or [Phase(epochs=self.epochs)]:
            if epoch < first + phase.epochs:
                break
            first += phase.epochs
        return phase, first

    def toml(self) -> str:
        """The recipe as a file that ``load`` reads back."""
        return tomli_w.dumps(self.model_dump())

    def choose(self, available: Mapping[str, Task]) -> list[Task]:
        """Its tasks among those of a dataset, in order, with the losses that it names.

        Raises:
            KitError: a task that the dataset does not have, or a loss that it cannot have.
        """
        own = {task: name for task, name in self.losses.items() if task in self.tasks}
        return tasks.with_losses(tasks.select(available, self.tasks), own)

    def input_size(self, size: Sequence[int]) -> tuple[int, int]:
        """(height, width) that the network is fed in evaluation, of images of this size."""
        height, width = self.resize or size
        return height, width

    def network(self, tasks: Sequence[Task], size: Sequence[int]) -> MultiTaskModel:
        """Its network for these tasks, freshly initialised; one that is made for a size is made for ``size`` (height,
        width), that of the images, where the recipe does not say it.
        """
        from ..architectures import ARCHITECTURES, build

        name, options = self.architecture.name, self.architecture.options
        derived = {"size": list(size)} if "size" in ARCHITECTURES.options(name) else {}
        return build(name, tasks, **derived | options)

    def singles(self) -> list[Self]:
        """The single-task nets that ``init_from = ["single"]`` stands for, one for each task; none where it says else.

        They have architecture ``single`` and equal weighting, and are without what a single net does not know: other
        options of the architecture, multipliers of other parameter groups, and a metric of another task to select by
        (in its place: ``loss``). All else is the same, the name too.
        """
        if self.init_from != [SINGLE]:
            return []
        architectures = _registries()["architecture"]
        network = {key: option.default for key, option in architectures.options(self.architecture.name).items()}
        network |= self.architecture.options  # this architecture's defaults may be others than those of ``single``
        known = {key: value for key, value in network.items() if key in architectures.options(SINGLE)}
        multipliers = {key: value for key, value in self.optimiser.multipliers.items() if key in ("backbone", "heads")}
        changes = {
            "architecture": Named(name=SINGLE, **known),
            "weighting": Named(name="equal"),
            "optimiser": self.optimiser.model_copy(update={"multipliers": multipliers}),
            "init_from": [],
        }
        return [
            self.model_copy(update=changes | {"tasks": [task], "select": self._select_for(task)}) for task in self.tasks
        ]

    def _select_for(self, task: str) -> str:
        return self.select if self.select.partition("/")[0] in ("", "loss", task) else "loss"

    def sources(self, fingerprint: str, folder: Path) -> list[Path]:
        """The run folders that it starts from; those of ``"single"`` lie in ``folder``, beside the runs of this recipe,
        and are on data with the same fingerprint.
        """
        if self.init_from == [SINGLE]:
            return [folder / recipe.identity(fingerprint) for recipe in self.singles()]
        return [Path(entry) for entry in self.init_from]


def _registries():
    from ..architectures import ARCHITECTURES
    from ..datasets import DATASETS
    from ..transforms import AUGMENTATIONS
    from ..weighting import WEIGHTINGS

    return {
        "dataset": DATASETS,
        "architecture": ARCHITECTURES,
        "weighting": WEIGHTINGS,
        "augmentation": AUGMENTATIONS,
    }


# --- reading ---


def names() -> list[str]:
    """The recipes that come with the kit."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def read(name: str) -> dict[str, Any]:
    """The table of a recipe, by name or by path ending in .toml.

    ``extends = "other"`` starts from another recipe, by name or by a path from this file: tables are merged key by key,
    as overrides are, ``[sweep]`` is replaced whole, and an empty one makes a single run of it.

    Raises:
        KitError: where there is none, it is not TOML, or it extends itself.
    """
    return _read(name, ())


def _read(name: str, below: tuple[Path, ...]) -> dict[str, Any]:
    path = Path(name) if name.endswith(".toml") else Path(__file__).parent / f"{name}.toml"
    if not path.is_file():
        raise KitError(f"no recipe {name!r}: {nearest(name, names())} (or give a path that ends in .toml)")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"recipe {path} is not TOML: {error}") from error
    table.setdefault("name", path.stem)
    if path.resolve() in below:
        raise KitError(f"recipe {path} extends itself, by way of {', '.join(map(str, below))}; extend another one")
    if not isinstance(base := table.pop("extends", ""), str):
        raise KitError(f'recipe {path}: extends is the name of a recipe, found {base!r}; type extends = "mtan-nyuv2"')
    _anchor(table, path.parent)
    if base:
        base = str(path.parent / base) if base.endswith(".toml") else base
        inherited = _read(base, (*below, path.resolve()))
        inherited.pop("about", "")
        sweep = {"sweep": table.pop("sweep", inherited.pop("sweep", {}))}
        table = _overridden(inherited, _dotted(table)) | (sweep if sweep["sweep"] else {})
    return table


def load(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """One recipe. ``overrides`` maps dotted keys to values. Raises KitError for a sweep, an unknown key, a wrong type
    or value.
    """
    table = read(name)
    if "sweep" in table:
        raise KitError(f"recipe {name!r} is a sweep of {len(expand(name))} runs; type: mtlkit sweep {name}")
    return make(_overridden(table, overrides or {}))


def expand(name: str, overrides: Mapping[str, Any] | None = None) -> list[Recipe]:
    """Every run of a sweep, in order and without repetition; a recipe without ``[sweep]`` is a sweep of one."""
    table = read(name)
    sweep = table.pop("sweep", {})
    recipes = [make(_overridden(_overridden(table, point), overrides or {})) for point in _points(sweep)]
    unique = {json.dumps(recipe.canonical(), sort_keys=True): recipe for recipe in reversed(recipes)}
    return [recipe for recipe in recipes if unique[json.dumps(recipe.canonical(), sort_keys=True)] is recipe]


def make(table: Mapping[str, Any]) -> Recipe:
    """A recipe from a table, checked whole: keys, types, the options of what it names, the tasks that the dataset
    has.
    """
    try:
        recipe = Recipe.model_validate(_anchored(dict(table)))
    except pydantic.ValidationError as error:
        raise KitError(f"recipe {table.get('name', '')!r}: {_explain(error)}") from error
    try:
        for key, registry in _registries().items():
            named = getattr(recipe, key)
            registry.check(named.name, named.options)
        _registries()["augmentation"].build(recipe.augmentation.name, **recipe.augmentation.options)  # its values too
        tasks.check_losses(recipe.losses)
    except KitError as error:
        raise KitError(f"recipe {recipe.name!r}: {error}") from error
    return recipe


def _anchored(table: dict[str, Any]) -> dict[str, Any]:
    """Paths as absolute ones: a kernel of a batch works in the folder of its run."""
    dataset = table.get("dataset")
    if isinstance(dataset, dict) and isinstance(dataset.get("root"), str):
        table["dataset"] = dataset | {"root": str(Path(dataset["root"]).expanduser().absolute())}
    _anchor(table, Path())
    return table


def _anchor(table: dict[str, Any], folder: Path) -> None:
    """Make the runs that a recipe starts from absolute paths, seen from a folder, wherever its sweep names them too."""

    def anchored(value: Any) -> Any:
        if isinstance(value, list):
            return [anchored(part) for part in value]
        if not isinstance(value, str) or value == SINGLE:
            return value
        return str((folder / Path(value).expanduser()).absolute())

    sweep = table.get("sweep")
    variants = sweep.get("variants") if isinstance(sweep, dict) else None
    for place in (table, sweep, *(variants if isinstance(variants, list) else ())):
        if isinstance(place, dict) and isinstance(place.get("init_from"), list):
            place["init_from"] = anchored(place["init_from"])


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``key=value`` words of a command line; a value is TOML, and a bare word is a string.

    >>> parse_overrides(["seed=3", "weighting.name=dwa", 'tasks=["depth"]'])
    {'seed': 3, 'weighting.name': 'dwa', 'tasks': ['depth']}
    """
    overrides = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise KitError(f"an override is key=value, found {pair!r}; for example: -p optimiser.lr=0.001")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = text.strip()
    return overrides


# --- the parts ---


def _points(sweep: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The override tables of a sweep: common axes times each variant's own axes."""
    common = {key: values for key, values in sweep.items() if key != "variants"}
    for variant in sweep.get("variants", [{}]):
        axes = {**common, **variant}
        for key, values in axes.items():
            if not isinstance(values, list) or not values:
                raise KitError(f"sweep axis {key!r} is a list of values, found {values!r}; quote dotted keys")
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def _overridden(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``table`` with dotted keys set. Naming another entry drops the options that belonged to the old one."""
    result = json.loads(json.dumps(table))
    for key, value in sorted(overrides.items(), key=lambda item: not item[0].endswith(".name")):
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise KitError(f"override {key!r}: {parent!r} is a value, not a table")
        if last == "name" and parents and place.get("name", value) != value:
            shared = _shared_options(parents[0], value)
            for option in [o for o in place if o not in shared]:
                del place[option]
        place[last] = value
    return result


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested table as overrides: dotted keys. Tables of free keys, such as multipliers, count as values."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        nested = isinstance(value, dict) and key not in ("multipliers", "losses")
        flat |= _dotted(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def _shared_options(table: str, name: str) -> set[str]:
    """Options that entry ``name`` of a registry takes; all of a table's keys where it is none of a registry's."""
    registries = _registries()
    if table not in registries:
        return set(Optimiser.model_fields) | set(Schedule.model_fields)
    return set(registries[table].options(name)) | {"name"}


def _explain(error: pydantic.ValidationError) -> str:
    """The first problem in one line, with the nearest valid key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model = Recipe
        for part in first["loc"][:-1]:
            if not isinstance(part, int):  # the place in a list
                kind = model.model_fields[part].annotation
                model = next(iter(get_args(kind)), kind)
        beside = ("extends", "sweep") if model is Recipe else ()  # keys of a file, not of a run
        return f"unknown key {key!r}: {nearest(str(first['loc'][-1]), (*model.model_fields, *beside))}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    reason = first["msg"].removeprefix("Value error, ")
    found = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
    return f"{key}{found}: {reason[0].lower()}{reason[1:]}"
