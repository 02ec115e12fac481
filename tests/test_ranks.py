"""Mean ranks: places, ties, directions, what is no number, and that a rank depends on who takes part."""

import math

import hypothesis.strategies as st
import pytest
import scipy.stats
from hypothesis import given

from mtlkit import metrics
from mtlkit.errors import KitError
from mtlkit.metrics.ranks import TIES

SCIPY = {"dense": "dense", "competition": "min"}
HIGHER = {"a": True, "b": False, "c": True}
tables = st.lists(st.fixed_dictionaries({key: st.integers(0, 4) for key in HIGHER}), min_size=1, max_size=7).map(
    lambda rows: {f"method {number}": row for number, row in enumerate(rows)}
)


def test_the_place_counts_by_the_direction_of_each_metric():
    rows = {
        "sharp": {"semantic/miou": 0.5, "depth/abs_err": 0.6},
        "deep": {"semantic/miou": 0.4, "depth/abs_err": 0.4},
        "poor": {"semantic/miou": 0.3, "depth/abs_err": 0.7},
    }
    assert metrics.mean_rank(rows) == {"sharp": 1.5, "deep": 1.5, "poor": 3.0}
    turned = metrics.mean_rank(rows, {"depth/abs_err": True})
    assert turned == {"sharp": 1.5, "deep": 2.5, "poor": 2.0}, "a direction that is given goes first"


def test_ties_share_a_place_and_the_next_row_follows_by_the_rule():
    rows = {name: {"x": value} for name, value in zip("abcd", (3, 2, 2, 1), strict=True)}
    dense, competition = (metrics.mean_rank(rows, {"x": True}, ties) for ties in TIES)
    assert dense == {"a": 1, "b": 2, "c": 2, "d": 3} and competition == {"a": 1, "b": 2, "c": 2, "d": 4}


def test_another_method_in_the_table_turns_two_others_round():
    rows = {"a": {"x": 1, "y": 3}, "b": {"x": 2, "y": 2}}
    lower = {"x": False, "y": False}
    assert metrics.mean_rank(rows, lower) == {"a": 1.5, "b": 1.5}
    more = metrics.mean_rank(rows | {"c": {"x": 1.5, "y": 4}}, lower)
    assert more["a"] < more["b"]


@pytest.mark.parametrize("ties", TIES)
def test_what_is_no_number_is_last_and_spoils_nothing(ties):
    values = {"a": 2.0, "b": math.nan, "c": math.inf, "d": 1.0}
    rows = {name: {"depth/abs_err": value} for name, value in values.items()}
    assert metrics.mean_rank(rows, ties=ties) == {"d": 1, "a": 2, "c": 3, "b": 4}


@given(tables, st.sampled_from(TIES))
def test_ranks_are_those_of_scipy(rows, ties):
    columns = [
        scipy.stats.rankdata([-row[key] if higher else row[key] for row in rows.values()], method=SCIPY[ties])
        for key, higher in HIGHER.items()
    ]
    expected = dict(zip(rows, sum(columns) / len(columns), strict=True))
    assert metrics.mean_rank(rows, HIGHER, ties) == pytest.approx(expected)


@given(tables)
def test_ranks_see_the_order_alone(rows):
    stretched = {name: {key: math.exp(value) for key, value in row.items()} for name, row in rows.items()}
    assert metrics.mean_rank(stretched, HIGHER) == metrics.mean_rank(rows, HIGHER)
    backwards = dict(reversed(rows.items()))
    assert metrics.mean_rank(backwards, HIGHER) == metrics.mean_rank(rows, HIGHER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({"a": {"semantic/miou": 1}}, None, "densely"), "unknown ties='densely' for mean_rank: did you mean 'dense'"),
        (({},), "expected methods with metrics, found none"),
        (({"a": {}},), "expected methods with metrics, found none"),
        (
            ({"a": {"x": 1}, "b": {"y": 1}},),
            "expected the same metrics in every row, found 'x' only in others than 'b'",
        ),
        (({"a": {"x": 1}, "b": {"x": 1, "y": 1}},), "found 'y' only in 'b'"),
        (({"a": {"depth/abs_er": 1}},), "mean_rank: no direction for 'depth/abs_er': did you mean 'depth/abs_err'"),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_line(arguments, words):
    with pytest.raises(KitError, match=words) as caught:
        metrics.mean_rank(*arguments)
    assert "\n" not in str(caught.value)
