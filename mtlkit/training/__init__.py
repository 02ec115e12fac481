"""Training: ``fit`` runs a recipe to its end, from wherever an earlier attempt left it.

Everything that decides the numbers is a function of the recipe: the start parameters of its seed, the order of an epoch
of (seed, epoch), the augmentation of a sample of (seed, epoch, index). A checkpoint holds the rest (model, optimiser,
weighting, random state, history, the lengths of the logs), so that a run killed at any moment and started again ends as
an unbroken one does: same bytes in ``metrics.csv``, same parameters (on CPU, on the same machine, with the same
versions and number of threads).

    checks            what a recipe, its data and its network must be, before anything is trained
    session           a run from its first batch to its result, and the loop ``joint``: a batch trains all tasks at once
    single_tasking    the loop of ASTMT: a batch trains one task after the other, a step for each
    per_domain        the loop of the Visual Decathlon: a batch is of one domain, which is one task
"""

from __future__ import annotations

from ..recipes import Recipe
from ..runs import Run
from .checks import check, fingerprint, load_data
from .per_domain import PerDomain
from .session import CHECKPOINT_SECONDS, NonFiniteLoss, Session
from .single_tasking import SingleTasking

__all__ = ["LOOPS", "NonFiniteLoss", "PerDomain", "Session", "check", "fingerprint", "fit", "load_data", "open_session"]

LOOPS: dict[str, type[Session]] = {"joint": Session, "single_tasking": SingleTasking, "per_domain": PerDomain}


def open_session(
    recipe: Recipe, device: str = "auto", workers: int = 0, checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> Session:
    """A recipe with its data, network and optimiser, in the loop that it names; arguments as of ``fit``."""
    return LOOPS[recipe.loop](recipe, device, workers, checkpoint_seconds)


def fit(
    recipe: Recipe,
    run: Run | None = None,
    *,
    device: str = "auto",
    workers: int = 0,
    progress: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Train a recipe to its end and return its run.

    A finished run is returned as it is; a killed, failed or interrupted one goes on from its checkpoint.

    Args:
        recipe: what to run.
        run: its folder; default ``runs/<recipe>/<id>``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``: Fabric's accelerators. No part of the run's id.
        workers: data-loading processes; 0 loads in this one, which is fastest on few cores.
        progress: show a bar.
        checkpoint_seconds: how often to keep the state inside an epoch; changes nothing but what a kill can cost.

    Raises:
        KitError: for tasks the dataset does not have, sources (``init_from``) that are not trained or do not fit, a
            folder that another process writes.
        NonFiniteLoss: at the first NaN or infinite loss, with its task, step and recipe.
    """
    session = open_session(recipe, device, workers, checkpoint_seconds)
    run = run or Run.create(recipe, session.fingerprint)
    with run.writing():
        if run.finished:
            return run
        try:
            session.train(run, progress)
        except KeyboardInterrupt:
            run.say("interrupted", epoch=session.epoch, epochs=recipe.epochs)
            raise
        except Exception as error:
            run.say("failed", epoch=session.epoch, epochs=recipe.epochs, error=f"{type(error).__name__}: {error}")
            raise
    return run
