"""The rows of ``mtlkit models``: every network with its counts, beside the published or measured reference.

Each architecture's file declares its entries next to its code; a reference number stands there, once, with its source.
Here they are only looped over. Networks are made on the meta device, so the whole table costs no memory and seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..tasks import Task, classification, depth, disparity, semantic
from .base import ARCHITECTURES, MultiTaskModel, count_macs, count_parameters

Size = tuple[int, int]  # height, width

NYUV2_SIZE: Size = (288, 384)  # MTAN's preprocessed NYUv2
CITYSCAPES_SIZES: tuple[Size, ...] = ((128, 256), (256, 512), (288, 384))  # MTAN's paper; its larger download; NYUv2's
NO_CITYSCAPES_CODE = "no Cityscapes code was released: the NYUv2 network with other heads"

TOO_DEEP = "the released net has 101 layers, unlike those it is compared with"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One network at one or more input sizes, with what is known of it.

    Attributes:
        dataset: whose tasks these are; the first part of the row's name.
        architecture: a registered name.
        tasks: in order.
        macs: input size -> reference multiply-accumulates of one image, a whole number, or GMAC as a float with as many
            decimals as are known; None where there is no reference.
        parameters: the reference count, log variances included; None where there is no reference.
        log_variances: scalars of uncertainty weighting that the reference counts as parameters of the network.
        options: of ``mtlkit.build``.
        rule: by which MACs are counted; a key of ``base.MAC_RULES``.
        note: anything a reader of the figures must know.
        called: what the options are called in the row's name, where that is shorter.
        one_pass: the task whose pass alone the MACs are of, where every task has one of its own; empty is all tasks.
    """

    dataset: str
    architecture: str
    tasks: tuple[Task, ...]
    macs: Mapping[Size, int | float | None]
    parameters: int | None = None
    log_variances: int = 0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rule: str = "conv+linear"
    note: str = ""
    called: str = ""
    one_pass: str = ""

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each input size; its name spells out options that are not the default."""
        with torch.device("meta"):
            model = ARCHITECTURES.build(self.architecture, self.tasks, **self.options)
        known = {name: option.default for name, option in ARCHITECTURES.options(self.architecture).items()}
        chosen = {"backbone": None, "preset": "standard"} | known | dict(self.options)
        changed = {key: value for key, value in self.options.items() if value != known[key] and key != "size"}
        special = [self.called] if self.called else [_said(key, value) for key, value in changed.items()]
        network = "-".join([self.architecture, *special])
        names = [task.name for task in self.tasks]
        for (height, width), reference in self.macs.items():
            yield {
                "name": f"{self.dataset}/{network}/{_listed(names)}/{height}x{width}",
                "architecture": self.architecture,
                "backbone": chosen["backbone"],
                "preset": chosen["preset"],
                "tasks": names,
                "height": height,
                "width": width,
                "parameters": count_parameters(model),
                "macs": count_macs(model, height, width, self.rule, self.one_pass or None),
                "macs_rule": self.rule,
                "reference_parameters": None if self.parameters is None else self.parameters - self.log_variances,
                "reference_macs": reference if isinstance(reference, int) else None,
                "reference_gmacs": reference if isinstance(reference, float) else None,
                "note": self._note(model),
            }

    def _note(self, model: MultiTaskModel) -> str | None:
        count = f"the reference's {self.parameters} include {self.log_variances} logsigma of uncertainty weighting"
        alone = f"MACs of one pass, that of {self.one_pass}"
        extra = 0 if model.discriminator is None else count_parameters(model.discriminator)
        without = f"{count_parameters(model) - extra:,} parameters without the discriminator's {extra:,}"
        said = {self.note: True, count: self.log_variances, alone: self.one_pass, without: extra}
        return "; ".join(part for part, applies in said.items() if part and applies) or None


def _said(option: str, value: Any) -> str:
    """An option in the name of a row: ``wide``, ``shared_downsample``."""
    return option if value is True else str(value)


def _listed(names: list[str]) -> str:
    """Tasks in the name of a row; many of them are counted."""
    return "+".join(names) if len(names) <= 6 else f"{len(names)}-tasks"


ENTRIES: list[Entry] = []


def declare(*entries: Entry) -> None:
    """Add to the table, in this order."""
    ENTRIES.extend(entries)


def semantic_of(classes: int) -> Task:
    """A semantic task of so many classes; names do not matter for counting."""
    return semantic(f"class {k}" for k in range(classes))


def cityscapes(
    architecture: str,
    parameters: int,
    macs: tuple[int, int, int],
    options: Mapping[str, Any] | None = None,
    per_class: int = 65,
) -> Iterator[Entry]:
    """The rows of a network for two tasks on Cityscapes: 7 classes at three sizes, then 2 and 19 classes.

    Args:
        architecture: a registered name.
        parameters: the reference for 7 classes, two log variances included.
        macs: the reference for 7 classes at each of ``CITYSCAPES_SIZES``.
        options: of ``mtlkit.build``.
        per_class: parameters of one class more; for 2 and 19 classes the reference is reckoned from it.
    """
    for classes in (7, 2, 19):
        yield Entry(
            dataset=f"cityscapes-{classes}",
            architecture=architecture,
            tasks=(semantic_of(classes), disparity()),
            macs=dict(zip(CITYSCAPES_SIZES, macs, strict=True)) if classes == 7 else {CITYSCAPES_SIZES[0]: None},
            parameters=parameters + (classes - 7) * per_class,
            log_variances=2,
            options=options or {},
            note=NO_CITYSCAPES_CODE,
        )


AFANET_IMAGE = (classification("gender", ("f", "m")), classification("age", map(str, range(8))))  # Adience
AFANET_PIXEL = (semantic_of(40), depth())  # NYUv2


def rows() -> list[dict[str, Any]]:
    """The table, one dict for each network and input size.

    Returns:
        Dicts with the keys name, architecture, backbone, preset, tasks (names), height, width (of the image, pixels),
        parameters (of the network alone), macs (batch 1), macs_rule, reference_parameters, reference_macs,
        reference_gmacs (rounded, where no whole number is known) and note; the last four are None where
        there is none.
    """
    return [row for entry in ENTRIES for row in entry.rows()]


def agrees(row: Mapping[str, Any], key: str) -> bool | None:
    """Whether a count of a row is the reference's, GMAC to as many decimals as are written there.

    Args:
        row: of ``rows``.
        key: ``"parameters"`` or ``"macs"``.

    Returns:
        None where there is no reference.
    """
    reference, ours = row[f"reference_{key}"], row[key]
    if key == "macs" and row["reference_gmacs"] is not None:
        reference = row["reference_gmacs"]
        ours = round(ours / 1e9, len(str(reference).partition(".")[2]))
    return None if reference is None else reference == ours
