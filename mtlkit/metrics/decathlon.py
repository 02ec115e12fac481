"""The decathlon score: one number for a network of many domains, which rewards low errors more than proportionally.

    S = sum_d alpha_d max(0, E_max_d - E_d)^2,   E_max_d = 2 E_base_d,   alpha_d = 1000 / E_max_d^2

Source: S.-A. Rebuffi, H. Bilen and A. Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017.
A domain without errors is worth 1000 points, the baseline's error 250, twice that error or more nothing: the last
errors count most, and a domain where a network fails costs no more than its 1000 points.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import KitError, nearest

PERFECT = 1000.0  # points of a domain without errors

# Errors of one network fine-tuned for each set, as fractions: those of the same paper, on the test images.
BASELINE_ERRORS = {
    "imagenet12": 0.4013, "aircraft": 0.3966, "cifar100": 0.1788, "daimlerpedcls": 0.0718, "dtd": 0.4447,
    "gtsrb": 0.0247, "omniglot": 0.1231, "svhn": 0.0345, "ucf101": 0.4880, "vgg-flowers": 0.1859,
}  # fmt: skip


def decathlon_points(
    accuracies: Mapping[str, float], baseline_errors: Mapping[str, float] = BASELINE_ERRORS
) -> dict[str, float]:
    """The points of every domain, 0 ... 1000; NaN where its accuracy is.

    >>> {name: round(points) for name, points in decathlon_points({"svhn": 0.9655, "dtd": 1.0, "gtsrb": 0.95}).items()}
    {'svhn': 250, 'dtd': 1000, 'gtsrb': 0}

    Args:
        accuracies: by domain, fractions in [0, 1].
        baseline_errors: of at least these domains, fractions in (0, 1].

    Raises:
        KitError: for a domain without a baseline error, and a number that is no such fraction.
    """
    return {domain: _points(domain, accuracy, baseline_errors) for domain, accuracy in accuracies.items()}


def decathlon_score(accuracies: Mapping[str, float], baseline_errors: Mapping[str, float] = BASELINE_ERRORS) -> float:
    """The sum of the points of the given domains; 2500 for ten at their baseline errors, 10 000 at most.

    >>> round(decathlon_score({name: 1 - error for name, error in BASELINE_ERRORS.items()}), 6)
    2500.0

    Arguments and errors are those of ``decathlon_points``.
    """
    return sum(decathlon_points(accuracies, baseline_errors).values())


def _points(domain: str, accuracy: float, baseline_errors: Mapping[str, float]) -> float:
    if domain not in baseline_errors:
        raise KitError(f"no baseline error of domain {domain!r}: {nearest(domain, baseline_errors)}")
    if accuracy < 0 or accuracy > 1:  # NaN is neither
        raise KitError(f"accuracies are fractions in [0, 1], found {accuracy:g} of {domain!r}; divide percent by 100")
    if not 0 < (base := baseline_errors[domain]) <= 1:
        raise KitError(f"baseline errors are fractions above 0, up to 1, found {base:g} of {domain!r}")
    left = 2 * base - (1 - accuracy)
    return PERFECT * (max(left, 0.0) / (2 * base)) ** 2  # of NaN and 0, max is NaN here
