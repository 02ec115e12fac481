"""The set-up: one list of requirements, an environment.yml in step with it, a lazy import, a table of notebooks that is
true.
"""

import csv
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


def test_the_readme_lists_every_notebook():
    linked = set(re.findall(r"\(notebooks/(\d\d_\w+\.ipynb)\)", (ROOT / "README.md").read_text()))
    assert linked == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_the_table_of_the_readme_is_the_stored_result():
    text = (ROOT / "README.md").read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    header = next(line for line in lines if "constant (floor)" in line)
    shown = {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines if len(line) == len(header)}
    with open(ROOT / "data" / "results" / "rooms-reproduce.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    percent = {"mIoU % ↑": "semantic/miou", "within 30° % ↑": "normals/within_30"}
    plain = {"abs. err. m ↓": "depth/abs_err", "mean angle ° ↓": "normals/mean", "Δ_MTL %": "delta_mtl"}
    for heading, metric in (percent | plain).items():
        for row in (row for row in rows if row["metric"] == metric):
            value = float(row["mean"]) * (100 if heading in percent else 1)
            assert abs(float(shown[heading][row["name"]]) - value) < 0.006, (heading, row["name"])


def test_the_weighting_of_the_readme_works():
    import torch

    from mtlkit import weighting

    block = re.search(r"```python\n(from mtlkit.weighting.base.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    try:
        exec(block, {})
        weights, _ = weighting.combine("inverse", torch.eye(2), torch.tensor([0.5, 2.0]))
        assert weights.tolist() == [2.0, 0.5]
    finally:
        weighting.WEIGHTINGS.pop("inverse", None)
