"""Tables from run folders: which runs make one row, which baseline Δ_MTL is measured from, what is flagged."""

import math

import pytest

from mtlkit import files, metrics, recipes, report
from mtlkit.errors import KitError
from mtlkit.runs import Run

KEYS = {
    "semantic": ["miou", "pixel_accuracy"],
    "depth": ["abs_err", "rel_err"],
    "normals": ["mean", "median", "within_11.25", "within_22.5", "within_30"],
}
EVERYTHING = ["semantic", "depth", "normals"]


@pytest.fixture
def make(tmp_path):
    """Write a finished run without training it: every metric has one value."""

    def write(value, protocol="pooled", selected=None, **overrides):
        table = {key.replace("__", "."): v for key, v in overrides.items()}
        recipe = recipes.load("rooms-tiny", table)
        run = Run.create(recipe, "data", root=tmp_path)
        scores = {f"{task}/{metric}": value for task in recipe.tasks for metric in KEYS[task]}
        result = {
            "metrics": {protocol: scores},
            "floor": {protocol: {key: 0.1 for key in scores}},
            "split": "test",
            "selected": selected,
            "parameters": 100 * len(recipe.tasks),
            "macs": 1000,
            "seconds": 10.0,
        }
        files.write_json(run.folder / "result.json", result)
        run.say("finished")
        return run

    return write


def singles(make, value, **more):
    return [make(value, architecture__name="single", weighting__name="equal", tasks=[t], **more) for t in EVERYTHING]


def test_single_task_runs_join_into_one_baseline(make):
    rows = report.entries([*singles(make, 0.5), make(0.5)])
    assert [row.name for row in rows] == ["constant (floor)", "single", "split, dwa"]
    assert len(rows[1].seeds[0]) == 9 and rows[1].parameters == 300 and rows[1].seconds == 30.0
    assert rows[2].delta == {0: pytest.approx(0.0)}


def test_delta_is_positive_where_the_run_is_better(make):
    rows = report.entries([*singles(make, 0.5), make(0.55)])
    better = 5 - 4  # five metrics where higher is better, four where lower is
    assert rows[2].delta[0] == pytest.approx(10 * better / 9)
    by_task = report.entries([*singles(make, 0.5), make(0.55)], by="task")[2].delta[0]
    assert by_task == pytest.approx(10 * (1 - 1 + (3 - 2) / 5) / 3)


def test_seeds_make_a_mean_and_a_spread_and_keep_their_own_baseline(make):
    runs = [r for seed, base in ((0, 0.5), (1, 0.4)) for r in (*singles(make, base, seed=seed), make(0.5, seed=seed))]
    row = report.entries(runs)[2]
    assert sorted(row.seeds) == [0, 1]
    assert row.delta == {0: pytest.approx(0.0), 1: pytest.approx(25 / 9)}
    assert "±" in report.table(report.entries(runs)).loc["split, dwa", "Δ_MTL %"]


@pytest.mark.parametrize("other", [{"epochs": 9}, {"seed": 5}, {"dataset__height": 64}, {"architecture__width": 0.25}])
def test_a_baseline_of_another_kind_is_no_baseline(make, other):
    rows = report.entries([*singles(make, 0.5, **other), make(0.5)])
    assert rows[-1].delta == {}


def test_a_network_that_stands_on_segnet_alone_has_its_baseline(make):
    rows = report.entries([*singles(make, 0.5), make(0.5, architecture__name="dense")])
    assert rows[-1].name == "dense, dwa" and rows[-1].delta == {0: pytest.approx(0.0)}


def test_an_incomplete_baseline_gives_no_delta(make):
    rows = report.entries([singles(make, 0.5)[0], make(0.5)])
    assert rows[-1].delta == {}


def test_runs_that_differ_otherwise_are_named_by_the_difference(make):
    rows = report.entries([make(0.5), make(0.5, optimiser__lr=0.01)])
    assert {row.name for row in rows[1:]} == {"split, dwa, lr=0.001", "split, dwa, lr=0.01"}


def test_a_checkpoint_chosen_on_the_test_split_is_flagged(make):
    def rows(split):
        chosen = {"metric": "depth/abs_err", "value": 0.5, "split": split}
        return report.entries([make(0.5, select="depth/abs_err", evaluate_on=split, selected=chosen)])

    flagged, clean = rows("test"), rows("validation")
    assert "split, dwa †" in report.table(flagged).index and "split, dwa" in report.table(clean).index
    assert report.footnotes(clean) == []
    (note,) = report.footnotes(flagged)
    assert note.startswith("†") and "test split" in note


def test_attention_with_one_task_each_is_stan(make):
    runs = [make(0.5, architecture__name="mtan", weighting__name="equal", tasks=[task]) for task in EVERYTHING]
    rows = report.entries([*runs, *singles(make, 0.4)])
    assert [row.name for row in rows] == ["constant (floor)", "single", "stan"]
    assert len(rows[2].runs) == 3 and rows[2].parameters == 300
    assert rows[2].delta == {0: pytest.approx(25 / 9)}


def test_a_papers_table_stands_beside_ours():
    rows = report.published("mtan-nyuv2")
    table = report.table(rows)
    assert len(rows) == 17 and table.loc["mtan-nyuv2: mtan, dwa", "mIoU % ↑"] == "17.15?"
    assert table.loc["mtan-nyuv2: single", "mIoU % ↑"] == "15.10", "quoted by others, so without a mark"
    assert rows[0].seeds[0]["depth/abs_err"] == 0.7508 and rows[0].seeds[0]["normals/within_30"] == pytest.approx(
        0.5713
    )
    assert report.footnotes(rows) == ["? published, not checked against the paper"]
    with pytest.raises(KitError, match="no published table 'mtan-nyu': did you mean 'mtan-nyuv2'"):
        report.published("mtan-nyu")


def test_the_published_streets_have_disparity():
    rows = report.published("mtan-cityscapes")
    assert len(rows) == 17 and {len(row.seeds[0]) for row in rows} == {4}
    mtan = rows[-3]
    assert mtan.name == "mtan-cityscapes: mtan, equal"
    assert mtan.seeds[0]["disparity/rel_err"] == 33.63 and mtan.seeds[0]["semantic/miou"] == pytest.approx(0.5304)
    assert report.table(rows).loc[rows[0].name, "rel. err. ↓"] == "34.1700", "quoted by others, so without a mark"


def test_the_published_delta_is_what_delta_mtl_gives():
    """Auto-Lambda's printed column, recomputed from the other three (to its two digits)."""
    baseline, *rows = report.published("auto-lambda-nyuv2")
    for row in rows:
        ours = metrics.delta_mtl(row.seeds[0], baseline.seeds[0])
        assert ours == pytest.approx(row.delta[0], abs=0.006), row.name


def test_a_value_that_is_not_a_number_is_shown_as_such(make):
    run = make(0.5, protocol="mtan")
    result = run.result
    result["metrics"]["mtan"]["semantic/miou"] = math.nan
    files.write_json(run.folder / "result.json", result)
    rows = report.entries([run], "mtan")
    assert math.isnan(rows[1].seeds[0]["semantic/miou"])
    assert "nan" in report.table(rows).loc["split, dwa"].iloc[0]


def test_metrics_of_one_name_are_told_apart_by_their_task():
    row = report.Entry("ours", {0: {"depth/rel_err": 0.2, "disparity/rel_err": 0.3, "depth/abs_err": 0.5}})
    table = report.table([row])
    assert table.loc["ours", ["depth rel. err. ↓", "disparity rel. err. ↓"]].tolist() == ["0.2000", "0.3000"]
    assert "abs. err. m ↓" in table.columns


def test_nothing_to_report_says_what_to_type(make):
    with pytest.raises(KitError, match="no finished run to report; type: mtlkit sweep"):
        report.entries([])
    with pytest.raises(KitError, match="no run was measured by protocol 'astmt'; these have pooled"):
        report.entries([make(0.5)], protocol="astmt")
