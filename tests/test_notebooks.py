"""The contract of a notebook, checked on the stored JSON: shape, hygiene, links, a parameters cell that papermill
understands.
"""

import ast
import base64
import json
import re
from pathlib import Path

import papermill
import pytest

import mtlkit

ROOT = Path(__file__).parent.parent / "notebooks"
SERIES = sorted(ROOT.glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))
EVERY = SERIES + SOLUTIONS
FIELDS = ("Goal", "You need", "Data", "Time", "Paper")
SECTIONS = ("Setup", "Exercises", "Take-aways", "References")


def names(paths):
    return [path.relative_to(ROOT).as_posix() for path in paths]


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cells(path, kind):
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def outputs(path):
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


def prose(path):
    return "\n\n".join(source(cell) for cell in cells(path, "markdown"))


def test_the_series_of_this_version_is_there():
    found = {path.stem for path in SERIES}
    assert {
        "00_start_here",
        "05_metrics_and_protocols",
        "07_add_your_own_data",
        "10_scenes",
        "11_digits",
        "12_nyuv2",
        "13_cityscapes",
        "14_cityscapes_motion",
        "15_pascal_context",
        "16_nyud_and_fsv",
        "17_adience",
        "18_visual_decathlon",
        "19_transforms",
        "20_single_task",
        "21_hard_sharing",
        "22_mtan_segnet",
        "23_mtan_deeplab",
        "24_cross_stitch",
        "25_nddr",
        "26_afa",
        "27_astmt",
        "28_two_stream",
        "29_mtan_decathlon",
        "30_why_weights_matter",
        "31_uncertainty",
        "32_dwa",
        "33_gradnorm",
        "34_gradient_preservation",
        "35_adversarial_gradients",
        "36_gradient_surgery",
        "37_loss_only_methods",
        "38_stochastic_and_bilevel",
        "40_train",
        "41_mtan_nyuv2",
        "42_mtan_cityscapes",
        "43_afanet",
        "44_astmt_pascal",
        "45_edgeai_cityscapes",
        "46_decathlon_results",
        "47_weightings_benchmark",
        "48_sweeps_by_papermill",
        "49_compare_runs",
    } <= found
    assert {path.stem for path in SOLUTIONS} == found, "every notebook has its solutions beside it"


@pytest.mark.parametrize("path", SERIES, ids=names(SERIES))
def test_shape(path):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    first, *_ = load(path)["cells"]
    lines = source(first).splitlines()
    assert lines[0].startswith(f"# {path.stem[:2]} · ")
    assert f"blob/main/notebooks/{path.name}" in source(first) and f"]({path.name})" in source(first)
    text = prose(path)
    for field in FIELDS:
        assert re.search(rf"^\| \*\*{field}\*\* \| .+ \|$", source(first), re.M), f"info table lacks {field}"
    assert "**You will learn**" in text
    for section in SECTIONS:
        assert re.search(rf"^## {section}", text, re.M), f"no section {section}"
    assert "**Next:**" in text
    exercises = text.split("## Exercises")[1].split("## Take-aways")[0]
    assert 3 <= len(re.findall(r"^\d\. ", exercises, re.M)) <= 5
    assert f"(solutions/{path.name})" in exercises
    assert len(re.findall(r"\w+", text)) <= 3500


@pytest.mark.parametrize("path", SERIES, ids=names(SERIES))
def test_parameters_are_literals_that_papermill_understands(path):
    (cell,) = [c for c in cells(path, "code") if "parameters" in c["metadata"].get("tags", [])]
    assigned = ast.parse(source(cell)).body
    for line, node in zip(source(cell).splitlines(), assigned, strict=True):
        assert isinstance(node, ast.AnnAssign) and "  # " in line, line
        ast.literal_eval(node.value)
    inspected = papermill.inspect_notebook(str(path))
    assert set(inspected) == {node.target.id for node in assigned}
    assert all(entry["inferred_type_name"] != "None" and entry["help"] for entry in inspected.values())


@pytest.mark.parametrize("path", SERIES, ids=names(SERIES))
def test_setup_asserts_the_version_it_was_written_for(path):
    code = "\n".join(source(cell) for cell in cells(path, "code"))
    assert f'assert mtlkit.__version__ == "{mtlkit.__version__}"' in code
    assert "notebook.setup(" in code


@pytest.mark.parametrize("path", EVERY, ids=names(EVERY))
def test_hygiene(path):
    document = load(path)
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    assert set(document["metadata"]) <= {"kernelspec", "language_info"}
    assert path.stat().st_size <= 400_000
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run it top to bottom"
    for cell in code:
        text = source(cell)
        assert not text.rstrip().endswith(";"), text
        assert not re.search(r"\binteract\(|\bOutput\(|clear_output", text), text
        assert len(text.splitlines()) <= 30, text
        assert not [line for line in text.splitlines() if len(line) > 120]
    for output in outputs(path):
        assert output.get("name") != "stderr" and output["output_type"] != "error"
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        assert "image/svg+xml" not in output.get("data", {})
    stored = json.dumps(outputs(path))
    assert not re.search(r"(?<![\w.])/(home|root|Users|work|tmp)/", stored), "a path of one machine is stored"
    assert not re.search(r" at 0x[0-9a-f]+", stored), "an object's address is stored"


@pytest.mark.parametrize("path", EVERY, ids=names(EVERY))
def test_figures_are_png_of_a_sensible_number_and_size(path):
    images = [output["data"]["image/png"] for output in outputs(path) if "image/png" in output.get("data", {})]
    sizes = [len(base64.b64decode("".join(image))) for image in images]
    assert len(sizes) <= 10 and all(size <= 150_000 for size in sizes), sizes


@pytest.mark.parametrize("path", EVERY, ids=names(EVERY))
def test_links_resolve_and_pictures_have_a_text(path):
    for text, target in re.findall(r"\[((?:!\[[^]]*\]\([^)]*\)|[^]])*)\]\(([^)]+)\)", prose(path)):
        if not re.match(r"https?://", target):
            assert (path.parent / target.split("#")[0]).exists(), f"[{text}]({target})"
    assert not re.search(r"!\[\]\(", prose(path)), "a picture without alternative text"


def test_what_is_compared_by_nbval_is_marked_somewhere_in_every_notebook():
    for path in SERIES:
        tags = [tag for cell in cells(path, "code") for tag in cell["metadata"].get("tags", [])]
        assert "nbval-check-output" in tags, path.name
