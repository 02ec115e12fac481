"""Tables from run folders: which runs make one row, which baseline Δ_MTL is measured from, what is flagged."""

import math

import pytest

from mtlkit import files, metrics, recipes, report, training
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
            "device": "cpu",
            "versions": {},
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
    assert flagged[1].chosen_on_test and not clean[1].chosen_on_test
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
    doubt, rank = report.footnotes(rows)[::-1][:1], report.footnotes(rows)[:-1]
    assert doubt == ["? published, not checked against the paper"] and rank[0].startswith("mean rank")
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


# --- ranks -----------------------------------------------------------------------------------------------------------


def test_rows_of_several_tasks_are_ranked_against_one_another(make):
    """Five metrics of nine are better where they are higher: with all at one value the higher row wins those."""
    rows = report.entries([*singles(make, 0.5), make(0.6), make(0.4, weighting__name="equal")])
    table = report.table(rows)
    assert table["mean rank ↓"].to_dict() == {
        "constant (floor)": "", "single": "", "split, dwa": "1.44", "split, equal": "1.56",
    }  # fmt: skip
    (note,) = report.footnotes(rows)
    assert note.startswith("mean rank") and "dense" in note and "another row in the table changes it" in note
    assert [record["mean_rank"] for record in report.records(rows)] == [None, None, 14 / 9, 13 / 9]
    one = report.entries([*singles(make, 0.5), make(0.6)])
    assert "mean rank ↓" not in report.table(one), "one row has nobody to beat"


@pytest.mark.parametrize(
    "other",
    [
        {"dataset__height": 64},
        {"tasks": ["semantic", "depth"]},
        {"select": "loss", "evaluate_on": "validation", "dataset__validation": 8},
    ],
)
def test_rows_of_other_data_tasks_or_epochs_are_no_rivals(make, other):
    assert report.mean_ranks(report.entries([make(0.6), make(0.4, **other)])) == {}


def test_a_value_that_is_not_a_number_ranks_last(make):
    rows = report.entries([make(math.nan), make(0.4, weighting__name="equal")])
    assert report.mean_ranks(rows) == {"split, dwa": 2.0, "split, equal": 1.0}


def test_our_rows_and_a_papers_are_ranked_apart(make):
    ours = report.entries([make(0.6), make(0.4, weighting__name="equal")])
    paper = report.published("weightings-nyuv2")
    both = report.mean_ranks([*ours, *paper])
    assert both == report.mean_ranks(ours) | report.mean_ranks(paper) and len(both) == 18


# --- which epochs ----------------------------------------------------------------------------------------------------

SMALL = {"epochs": 4, "dataset.train": 8, "dataset.test": 4, "batch": 4, "dataset.validation": 4}


def history(run, losses, scores, split="test", test_at=None):
    """Write ``metrics.csv``: the loss of each task and its metrics after each epoch; test alone ``test_at`` epochs."""
    rows = []
    for epoch, (loss, score) in enumerate(zip(losses, scores, strict=True)):
        for task in run.recipe.tasks:
            rows.append([epoch, split, task, "loss", "", loss])
            rows += [[epoch, split, task, metric, "pooled", score] for metric in KEYS[task]]
            rows += [[epoch, "test", task, m, "pooled", score / 2] for m in KEYS[task] if epoch in (test_at or ())]
    run.write_metrics(rows)
    return run


def shown(runs, summary=None):
    """The pixel accuracy and the summary of the one row."""
    row = report.entries(runs, summary=summary)[-1]
    return row.seeds[0]["semantic/pixel_accuracy"], report.table([row])["summary"].item()


def test_every_row_says_which_epochs_its_numbers_are_of(make):
    chosen = {"select": "loss", "dataset__validation": 8}
    rows = report.entries(
        [
            *singles(make, 0.5),
            make(0.5, average_last=3),
            make(0.5, **chosen),
            make(0.5, **chosen, evaluate_on="validation"),
            make(0.5, average_last=10, evaluate_every=2),
        ]
    )
    said = report.table(rows)["summary"].tolist()
    assert said[:2] == ["", "last epoch"] and sorted(said[2:]) == sorted(
        ["last-3 mean", "best on test †", "best on validation", "last-2 mean"]
    ), "ten of four epochs, every second evaluated, are two"
    codes = {"last-1", "last-3", "last-2", "best-test", "best-validation"}
    assert {record["summary"] for record in report.records(rows)} == {None, *codes}
    assert set(report.tidy(rows, "pooled").summary) == {"", *codes}


def test_one_history_gives_three_results(make):
    run = history(make(0.9), losses=[3, 1, 2, 2], scores=[0.1, 0.2, 0.3, 0.4])
    assert shown([run]) == (0.9, "last epoch"), "as result.json has it"
    assert shown([run], "last-1") == (0.4, "last epoch")
    assert shown([run], "last-3") == (pytest.approx(0.3), "last-3 mean")
    assert shown([run], "best-test") == (0.2, "best on test †"), "by the smallest sum of losses"
    flagged = report.entries([run], summary="best-test")
    assert "split, dwa †" in report.table(flagged).index and report.footnotes(flagged)[0].startswith("†")


def test_what_a_recipe_selects_by_decides_which_epoch_is_best(make):
    accuracy = make(0.9, select="semantic/miou")
    error = make(0.9, select="depth/abs_err")
    for run, expected in ((accuracy, 0.4), (error, 0.1)):
        history(run, losses=[3, 1, 2, 2], scores=[0.1, math.nan, 0.4, 0.4])
        assert shown([run], "best-test")[0] == expected, "NaN is never best"
    history(accuracy, losses=[1, 1], scores=[math.nan, math.nan])
    assert math.isnan(shown([accuracy], "best-test")[0])


def test_best_on_validation_needs_test_numbers_of_that_epoch(make):
    run = make(0.9, evaluate_on="validation", dataset__validation=8)
    history(run, [3, 2, 1], [0.1, 0.2, 0.3], "validation", test_at=[2])
    assert shown([run], "best-validation") == (0.15, "best on validation")
    assert shown([run], "last-1") == (0.15, "last epoch")
    history(run, [3, 1, 2], [0.1, 0.2, 0.3], "validation", test_at=[2])
    with pytest.raises(KitError, match=r"'best-validation' needs test numbers of epoch 1 .* found those of 2 in"):
        shown([run], "best-validation")
    with pytest.raises(KitError, match="'last-2' needs test numbers of epoch 1 .* its own summary is 'last-1'"):
        shown([run], "last-2")


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ("last-10", "'last-10' needs 10 evaluated epochs, found 2 in .* type at most: --summary last-2"),
        ("best-validation", "'best-validation' needs validation numbers of every epoch, found evaluate_on = 'test' in"),
        ("best", r"unknown summary 'best'; valid: last-10 \(any number\), best-validation, best-test"),
        ("last-0", "unknown summary 'last-0'"),
    ],
)
def test_a_summary_that_a_run_does_not_hold_is_refused_in_one_line(make, summary, words):
    run = history(make(0.9), [2, 1], [0.1, 0.2])
    with pytest.raises(KitError, match=words) as caught:
        report.entries([run], summary=summary)
    assert "\n" not in str(caught.value)


def test_best_on_test_is_refused_where_test_was_kept_apart(make):
    run = history(make(0.9, evaluate_on="validation", dataset__validation=8), [2, 1], [0.1, 0.2], "validation", [1])
    with pytest.raises(KitError, match="train it with -p evaluate_on=test, or leave --summary out"):
        report.entries([run], summary="best-test")


@pytest.mark.parametrize(
    "chosen",
    [
        {"average_last": 3},
        {"select": "loss"},
        {"select": "depth/abs_err", "evaluate_on": "validation"},
        {"evaluate_on": "validation"},
    ],
)
def test_the_history_of_a_trained_run_gives_its_own_result_again(chosen):
    recipe = recipes.load("rooms-tiny", SMALL | chosen)
    run = training.fit(recipe, device="cpu", progress=False)
    for protocol in run.result["metrics"]:
        own, again = (report.entries([run], protocol, summary=name)[-1] for name in (None, report.summaries.of(recipe)))
        assert again.seeds[0] == pytest.approx(own.seeds[0], nan_ok=True, rel=1e-12) and len(own.seeds[0]) == 9


def test_one_task_nets_of_two_streams_are_one_row_and_a_baseline(tmp_path):
    """Depth reads the frame alone, motion flow too: together they are the baseline of the network for both."""
    from mtlkit.report.rows import _baseline_key, _group, _is_baseline, _one_task_each

    chosen = recipes.expand("edgeai-streets")
    alone, several = ([r for r in chosen if _one_task_each(r) == one] for one in (True, False))
    assert len(alone) == 3 and len(several) == 3
    assert all(map(_is_baseline, alone)) and not any(map(_is_baseline, several))
    assert len({_group(r) for r in alone}) == 1 and len({_group(r) for r in several}) == 3
    assert len({_baseline_key(r) for r in chosen}) == 1
