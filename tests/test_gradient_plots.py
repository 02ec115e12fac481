"""Pictures of weights and gradients: they show the numbers of the run folder, for any number of tasks, and say what is
missing.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from PIL import Image

from mtlkit import gradient_plots, plots, recipes
from mtlkit.errors import KitError
from mtlkit.runs import Run
from mtlkit.tasks import COLOURS

THREE = ["semantic", "depth", "normals"]
NINE = [*THREE, "edges", "saliency", "albedo", "motion", "parts", "disparity"]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def empty_run(root, names):
    content = {"name": f"gradients{len(names)}", "dataset": {"name": "scenes"}, "tasks": names}
    return Run.create(recipes.make({**content, "architecture": {"name": "split"}}), "data", root=root)


def statistics(step, names, rows_TP):
    """Lines of gradients.csv for one step."""
    gramian = rows_TP @ rows_TP.T
    norms = np.sqrt(np.diag(gramian))
    for i, name in enumerate(names):
        yield step, "norm", name, name, float(norms[i])
    for i, j in itertools.combinations(range(len(names)), 2):
        product = norms[i] * norms[j]
        yield step, "cosine", names[i], names[j], float(gramian[i, j] / product) if product else float("nan")
        yield step, "gms", names[i], names[j], float(2 * product / (norms[i] ** 2 + norms[j] ** 2))
    yield step, "condition", "", "", float(np.linalg.cond(rows_TP))


def write_run(root, names=THREE, steps=60, weights=None, absent=()):
    """A run folder whose task gradients turn from opposed to alike. Returns the run and its rows by step."""
    run, generator, found = empty_run(root, names), np.random.default_rng(0), {}
    common = generator.normal(size=12)
    for step in range(1, steps + 1):
        own = (
            generator.normal(size=(len(names), 12))
            + (2 * step / steps - 1) * np.outer([1, -1] * 5, common)[: len(names)]
        )
        found[step] = own * np.logspace(0, -1, len(names))[:, None]
        present = [i for i in range(len(names)) if (step, names[i]) not in absent]
        run.append("gradients.csv", statistics(step, [names[i] for i in present], found[step][present]))
        chosen = weights or {name: 1.0 + step / steps for name in names}
        run.append("weights.csv", [(step, name, weight) for name, weight in chosen.items()])
    return run, found


def test_the_table_of_gradients_has_empty_names_where_no_task_is_meant(tmp_path):
    run, _ = write_run(tmp_path, steps=2)
    table = run.gradients
    assert list(table.columns) == ["step", "name", "i", "j", "value"]
    assert set(table[table.name == "condition"].i) == {""} and not table.isna().any(axis=None)
    assert empty_run(tmp_path, ["depth"]).gradients.empty


def test_a_log_with_conditions_alone_can_be_read(tmp_path):
    run = empty_run(tmp_path, THREE)
    run.append("gradients.csv", [(1, "condition", "", "", 2.0), (2, "condition", "", "", float("inf"))])
    found = gradient_plots.statistic(run, "condition")
    assert found.iloc[0, 0] == 2.0 and np.isnan(found.iloc[1, 0])


def test_the_heat_map_shows_the_mean_cosine_of_each_pair(tmp_path):
    run, rows = write_run(tmp_path)
    left, right, *_ = gradient_plots.cosine_heatmap(run, groups=6).axes
    units = {step: own / np.linalg.norm(own, axis=1, keepdims=True) for step, own in rows.items()}
    mean = np.mean([unit @ unit.T for unit in units.values()], axis=0)
    shown = left.images[0].get_array()
    for i, j in itertools.permutations(range(3), 2):
        assert shown[i, j] == pytest.approx(mean[i, j])
        assert float(left.texts[3 * i + j].get_text()) == pytest.approx(mean[i, j], abs=0.006)
    assert [left.texts[k].get_text() for k in (0, 4, 8)] == ["-", "-", "-"]
    course = right.collections[0].get_array().reshape(3, 6)
    first = np.mean([units[step][0] @ units[step][1] for step in range(1, 11)])
    assert course[0, 0] == pytest.approx(first)
    assert [label.get_text() for label in right.get_yticklabels()] == [
        "semantic · depth", "semantic · normals", "depth · normals",
    ]  # fmt: skip
    assert right.get_xlim() == (0.5, 60.5)
    assert [to_hex(label.get_color()) for label in left.get_yticklabels()] == [COLOURS[n].lower() for n in THREE]


@pytest.mark.parametrize(("names", "steps"), [(["depth", "normals"], 1), (THREE, 7), (NINE, 40)])
def test_any_number_of_tasks_and_steps_is_drawn(tmp_path, names, steps):
    run, _ = write_run(tmp_path, names, steps)
    course = gradient_plots.cosine_heatmap(run).axes[1].collections[0].get_array()
    assert course.size == len(names) * (len(names) - 1) // 2 * min(steps, gradient_plots.GROUPS)
    gradient_plots.gradient_curves(run).canvas.draw()


def test_the_colours_of_the_heat_map_can_be_set_and_never_blow_up_noise(tmp_path):
    run = empty_run(tmp_path, ["depth", "normals"])
    run.append("gradients.csv", [(1, "cosine", "depth", "normals", 0.01)])
    assert gradient_plots.cosine_heatmap(run).axes[0].images[0].get_clim() == (-0.1, 0.1)
    assert gradient_plots.cosine_heatmap(run, limit=1.0).axes[0].images[0].get_clim() == (-1, 1)


def test_curves_are_medians_of_the_logged_numbers(tmp_path):
    run, rows = write_run(tmp_path)
    figure = gradient_plots.gradient_curves(run, groups=3)
    lengths, ratios, similarities, conditions = figure.axes
    norms = np.array([np.linalg.norm(own, axis=1) for own in rows.values()])
    for i, (name, line) in enumerate(zip(THREE, lengths.lines, strict=True)):
        assert line.get_ydata() == pytest.approx(np.median(norms[:, i].reshape(3, 20), axis=1))
        assert to_hex(line.get_color()) == COLOURS[name].lower()
    expected = np.median((norms.max(1) / norms.min(1)).reshape(3, 20), axis=1)
    assert ratios.lines[0].get_ydata() == pytest.approx(expected)
    colours = [{to_hex(line.get_color()), to_hex(line.get_gapcolor())} for line in similarities.lines]
    assert colours == [{COLOURS[i].lower(), COLOURS[j].lower()} for i, j in itertools.combinations(THREE, 2)]
    condition = np.median([np.linalg.cond(own) for own in list(rows.values())[:20]])
    assert conditions.lines[0].get_ydata()[0] == pytest.approx(condition)


def test_absent_tasks_zero_gradients_and_dropped_tasks_leave_the_rest_as_it_is(tmp_path):
    run, _ = write_run(tmp_path, steps=4, absent={(2, "depth")})
    zero = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    run.append("gradients.csv", [*statistics(5, THREE, zero), (5, "dropped", "depth", "depth", 1)])
    left, right, *_ = gradient_plots.cosine_heatmap(run).axes
    assert np.isfinite(left.images[0].get_array()[0, 1])
    lengths, ratios, *_ = gradient_plots.gradient_curves(run).axes
    (cross,) = (found for found in lengths.collections if isinstance(found, PathCollection))
    assert cross.get_offsets()[0, 0] == 5 and to_hex(cross.get_edgecolor()[0]) == COLOURS["depth"].lower()
    assert ratios.lines[0].get_ydata()[-1] == pytest.approx(3.0)  # among gradients that are not zero


@pytest.mark.parametrize("draw", [gradient_plots.cosine_heatmap, gradient_plots.gradient_curves])
def test_a_run_without_gradients_is_refused_with_what_to_type(tmp_path, draw):
    with pytest.raises(KitError, match=r"gradients\.csv.*mtlkit run gradients3 -p weighting\.name=pcgrad"):
        draw(empty_run(tmp_path, THREE))


# --- weights ---


@pytest.mark.parametrize(
    ("weights", "scale"),
    [
        ([1.0, 1.5, 2.0], "linear"),
        ([1.0, 30.0, 2000.0], "log"),
        ([-1.0, 0.5, 2.0], "linear"),
        ([-900.0, 0.5, 2.0], "symlog"),
        ([0.0, 0.5, 2.0], "linear"),
    ],
)
def test_the_scale_of_weights_shows_all_of_them(tmp_path, weights, scale):
    run, _ = write_run(tmp_path, steps=3, weights=dict(zip(THREE, weights, strict=True)))
    (axis,) = plots.weight_trajectories({"ours": run}).axes
    assert axis.get_yscale() == scale
    low, high = axis.get_ylim()
    assert low <= min(weights) and high >= max(weights)
    zero_lines = [line for line in axis.lines if list(line.get_ydata()) == [0, 0]]
    assert len(zero_lines) == (min(weights) < 0)


def test_weights_of_many_runs_stand_five_a_row_and_one_without_says_so(tmp_path):
    run, _ = write_run(tmp_path, steps=3)
    runs = {f"run{i}": run for i in range(6)} | {"graddrop": empty_run(tmp_path, ["depth"])}
    figure = plots.weight_trajectories(runs)
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == [*(f"run{i}" for i in range(6)), "graddrop: no weights"]
    assert figure.get_figwidth() <= 20


def test_many_tasks_without_a_colour_of_their_own_are_told_apart():
    names = ["depth", *(f"attribute{i}" for i in range(40))]
    colours = plots.line_colours(names)
    assert list(colours) == names and len(set(colours.values())) == 41 and colours["depth"] == COLOURS["depth"]


# --- the command ---


def test_the_command_writes_every_picture(mtlkit, tmp_path):
    run, _ = write_run(tmp_path / "runs", steps=5)
    found = list(gradient_plots.save(run, tmp_path / "drawn"))
    assert [path.name for path in found] == ["weights.png", "cosines.png", "gradients.png"]
    assert all(Image.open(path).width > 300 for path in found)
    status, said, _ = mtlkit("weights", run.folder, "-o", tmp_path / "again")
    assert status == 0 and said.split() == [str(tmp_path / "again" / path.name) for path in found]


def test_a_run_that_logged_only_weights_gets_their_picture_alone(tmp_path):
    run = empty_run(tmp_path, THREE)
    run.append("weights.csv", [(1, name, 1.0) for name in THREE])
    assert [path.name for path in gradient_plots.save(run, tmp_path / "drawn")] == ["weights.png"]


def test_a_run_that_logged_nothing_is_refused(tmp_path):
    with pytest.raises(KitError, match="neither weights nor gradients.*mtlkit weightings"):
        list(gradient_plots.save(empty_run(tmp_path, THREE), tmp_path / "drawn"))
