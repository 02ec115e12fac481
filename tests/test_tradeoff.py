"""The figure of accuracy against cost: what a point stands for, whose rows are in it, the command that draws it."""

import pytest

from mtlkit import files, recipes, report
from mtlkit.architectures import catalogue
from mtlkit.errors import KitError
from mtlkit.runs import Run, find

MAINS = {"edges": "ods_f", "semantic": "miou", "parts": "miou", "normals": "mean", "saliency": "miou"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The runs of astmt-people, finished without training: a net of the sweep is the worse, the later it comes."""
    root = tmp_path_factory.mktemp("runs")
    for number, recipe in enumerate(recipes.expand("astmt-people")):
        run = Run.create(recipe, "data", root=root)
        worse = 0.5 * (1 - 0.02 * max(0, number - 4))
        scores = {f"{task}/{MAINS[task]}": 10 / worse if task == "normals" else worse for task in recipe.tasks}
        size, work = 100 + max(0, number - 4), 2_000 * len(recipe.tasks)
        result = {"metrics": {"astmt": scores}, "floor": {}, "parameters": size, "macs": work}
        files.write_json(run.folder / "result.json", result | {"seconds": 1.0, "device": "cpu", "versions": {}})
        run.say("finished")
    return root / "astmt-people"


def rows_of(folder):
    return report.entries(find([folder]), "astmt")


def test_a_point_is_a_setting_with_its_drop_size_and_work_of_one_task(swept):
    single, *several = report.tradeoff.points(rows_of(swept))
    assert (single.label, single.drops, single.parameters, single.macs) == ("single task", (0.0,), 500, 2_000)
    found = {point.label.removeprefix("multi-task + "): point for point in several}
    assert list(found) == [
        "multi-task", "SE enc", "SE enc + SE dec", "SE enc + SE dec + RA", "SE enc + SE dec + RA + adversarial",
    ]  # fmt: skip
    assert [point.parameters for point in several] == [101, 102, 103, 104, 105]
    assert {(point.macs, point.paper) for point in several} == {(2_000, False)}
    drops = [point.drop for point in several]
    plain = (4 * 2 + 100 * (1 / 0.98 - 1)) / 5  # four metrics are 2 % lower, the angle is so much larger
    assert drops == sorted(drops) and drops[0] == pytest.approx(plain), "positive is worse"


def test_published_rows_have_the_size_and_work_that_we_count():
    """As the catalogue has them, whose references are counted in another test; GMACs of a pass to three decimals."""
    points = {point.label: point for point in report.tradeoff.points(report.published("astmt-pascal"))}
    assert all(point.paper for point in points.values()) and [p.drop for p in points.values()] == [0.0, 6.81, 0.04]
    counted = {entry.called: entry for entry in catalogue.ENTRIES if entry.dataset == "pascal"}
    for name, called in (("astmt resnet101 without modulation", "resnet101-plain"), ("astmt resnet101", "resnet101")):
        point, (gmacs,) = points[f"astmt-pascal: {name}"], counted[called].macs.values()
        assert (point.parameters, round(point.macs / 1e9, 3)) == (counted[called].parameters, gmacs)


def test_the_figure_marks_published_rows_and_says_its_units(swept):
    found = report.tradeoff.points([*rows_of(swept), *report.published("astmt-pascal")])
    left, right = report.tradeoff.draw(found).axes
    assert left.get_ylabel() == "average drop in %, positive = worse"
    assert [axis.get_xlabel() for axis in (left, right)] == ["parameters, millions", "GMACs of one task"]
    hollow = {line.get_label() for line in _markers(left) if line.get_markerfacecolor() == "none"}
    assert hollow == {point.label for point in found if point.paper}
    assert left.get_xscale() == "log", "ours and theirs lie decades apart"
    (alone, _) = report.tradeoff.draw(report.tradeoff.points(rows_of(swept))).axes
    assert alone.get_xscale() == "linear" and alone.get_xlim()[0] == 0


def _markers(axis):
    """The markers of an axis, with the names that its legend has."""
    for drawn in axis.containers:
        drawn.lines[0].set_label(drawn.get_label())
        yield drawn.lines[0]


def test_several_seeds_are_one_point_with_a_spread():
    paper, *_ = report.published("astmt-pascal")
    delta = {0: -1.0, 1: -3.0, 2: float("nan")}  # of one seed the baseline may be 0
    row = report.Entry("split, equal", {seed: {"depth/rmse": 1.0} for seed in delta}, delta, 7, 8)
    _, point = report.tradeoff.points([paper, row])
    assert (point.label, point.drop, point.drops) == ("split", 2.0, (1.0, 3.0))
    (bars,) = report.tradeoff.draw([point]).axes[0].containers[0].lines[2]
    (ends,) = bars.get_segments()
    assert ends[:, 1] == pytest.approx([2 - 2**0.5, 2 + 2**0.5])


def test_the_command_draws_it(swept, mtlkit, monkeypatch):
    monkeypatch.setattr(report, "write_html", lambda *_, **__: swept / "report.html")  # draws predictions: no network
    picture = swept / "tradeoff.png"
    words = ["report", swept, "--protocol", "astmt", "--beside", "astmt-pascal", "--tradeoff", picture]
    status, output, errors = mtlkit(*words)
    assert (status, errors) == (0, "") and "astmt-pascal: astmt resnet101" in output
    assert picture.read_bytes().startswith(b"\x89PNG")
    status, _, errors = mtlkit(*words[:-1], swept / "nowhere" / "tradeoff.png")
    assert status == 2 and "nowhere/tradeoff.png cannot be written" in errors


def test_baselines_alone_are_no_tradeoff(swept):
    with pytest.raises(KitError, match="drawn of networks with a Δ_MTL.*found none; type: mtlkit sweep"):
        report.tradeoff.points([row for row in rows_of(swept) if not row.delta])
