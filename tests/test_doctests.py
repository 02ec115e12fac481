"""The examples in the docstrings of the small pure functions are true."""

import doctest
import importlib

import pytest

MODULES = [
    "datasets.cityscapes_official", "errors", "layers.adversarial", "losses", "metrics.decathlon", "metrics.delta",
    "metrics.edges", "metrics.functional", "metrics.matching", "metrics.thinning", "optimisers", "recipes",
    "transforms.base", "weighting",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    result = doctest.testmod(importlib.import_module(f"mtlkit.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
