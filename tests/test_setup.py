"""The set-up: one list of requirements, an environment.yml in step with it, a lazy import, a table of notebooks that is
true.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def test_conda_gives_python_and_pip_and_the_rest_comes_from_pyproject():
    assert ENVIRONMENT["channels"] == ["conda-forge"]
    *conda, pip = ENVIRONMENT["dependencies"]
    assert sorted(Requirement(line).name for line in conda) == ["pip", "python"]
    (line,) = pip["pip"]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", line).group(1).split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert "notebooks" in extras


def test_python_versions_agree():
    (python,) = (Requirement(r) for r in ENVIRONMENT["dependencies"] if isinstance(r, str) and r.startswith("python"))
    assert python.specifier == SpecifierSet(PROJECT["requires-python"])


def test_torch_and_torchvision_are_ranges_that_pip_can_pair():
    requirements = {r.name: r.specifier for r in map(Requirement, PROJECT["dependencies"])}
    assert requirements["torch"] == SpecifierSet(">=2.11")
    assert requirements["torchvision"] == SpecifierSet(">=0.26")


def test_the_packages_of_the_fixed_shape_are_required():
    every = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    names = {Requirement(r).name for r in every}
    shape = {"torch", "torchvision", "jupyterlab", "ipywidgets", "matplotlib", "seaborn", "papermill", "nbval"}
    assert shape <= names


def test_help_and_the_renderer_do_not_import_torch():
    code = "import sys, mtlkit, mtlkit.cli, mtlkit.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_of_the_package_exists():
    import mtlkit

    for name in mtlkit.__all__:
        assert getattr(mtlkit, name) is not None
