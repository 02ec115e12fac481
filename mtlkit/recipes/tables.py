"""The tables of a recipe: those that name something, the optimiser, the learning rate."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Table(pydantic.BaseModel):
    """A table of TOML: unknown keys and wrong types are errors, and nothing changes later."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class Named(Table):
    """A table that names an entry of a registry; its other keys are that entry's options."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True, frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Optimiser(Table):
    """The optimiser; ``multipliers`` scale the learning rate of a parameter group (backbone, heads, ..., weighting)."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-4  # MTAN's rate
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Fraction = 0.0  # of sgd
    nesterov: bool = False  # of sgd
    multipliers: dict[str, Annotated[float, Field(ge=0)]] = {}

    @pydantic.model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, for example 0.9")
        return self


class Schedule(Table):
    """The learning rate over epochs: ``constant``; ``step`` (times ``factor`` every ``every`` epochs, or at each of the
    ``milestones``); ``poly`` ((1 - e/E)^power); ``cosine``. The first two may begin with a linear ``warmup``.

    ``astmt`` is ``poly`` one epoch later, as ASTMT means it: e counts the epochs that are finished, but the last, so
    that the first two have the whole rate. ``astmt-released`` is what its code does to ResNets: the rate is constant,
    and momentum starts from nothing in every epoch.
    """

    name: Literal["constant", "step", "poly", "cosine", "astmt", "astmt-released"] = "constant"
    every: Positive = 100  # epochs; MTAN's
    factor: Fraction = 0.5  # MTAN's
    power: Annotated[float, Field(gt=0)] = 0.9
    milestones: list[Positive] = []  # epochs, for steps that are not regular
    warmup: Annotated[int, Field(ge=0)] = 0  # epochs e in which the rate is e/warmup of what it would be; edgeai's: 5

    @pydantic.model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.warmup and self.name not in ("constant", "step"):
            raise ValueError(f"warmup goes with constant and step, found {self.name!r}; leave it out")
        if self.milestones and self.name != "step":
            raise ValueError(f'milestones go with step, found {self.name!r}; set schedule.name = "step"')
        if self.milestones and self.every != type(self).model_fields["every"].default:
            raise ValueError("step takes milestones or every, found both; leave one out")
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones grow, found {self.milestones}; sort them, each once")
        return self


class Phase(Table):
    """A part of a training. Each begins with a fresh optimiser, and the schedule runs through each anew."""

    epochs: Positive
    lr: Annotated[float, Field(ge=0)] = 0.0  # 0: that of the optimiser
    tasks: list[str] = []  # those that it trains; none: all


class Adversarial(Table):
    """How a discriminator takes part in the loop ``single_tasking``, where the network has one."""

    weight: Fraction = 0.01  # of its loss; the loss of the task has the rest
    reversal: Literal["ganin", "constant"] = "ganin"  # its gradient times -alpha: growing with the epochs, or alpha = 1
