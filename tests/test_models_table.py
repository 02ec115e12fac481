"""The rows of ``mtlkit models``: every network's counts against the reference, number by number."""

from __future__ import annotations

import json

import pytest

from mtlkit.architectures import ARCHITECTURES
from mtlkit.architectures.catalogue import ENTRIES, rows

KEYS = [
    "name", "architecture", "backbone", "preset", "tasks", "height", "width", "parameters", "macs", "macs_rule",
    "reference_parameters", "reference_macs", "note",
]  # fmt: skip
ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_counts_equal_the_reference(row):
    assert list(row) == KEYS
    for key in ("parameters", "macs"):
        assert isinstance(row[key], int)
        if row[f"reference_{key}"] is not None:
            assert row[key] == row[f"reference_{key}"], key


def test_names_are_unique_and_rows_are_json():
    assert len({row["name"] for row in ROWS}) == len(ROWS)
    assert json.loads(json.dumps(ROWS)) == ROWS


def test_every_architecture_has_a_row_with_a_reference():
    with_reference = {row["architecture"] for row in ROWS if row["reference_parameters"] is not None}
    assert with_reference == set(ARCHITECTURES)


def test_the_rows_of_single_and_split():
    found = [row["name"] for row in ROWS if row["architecture"] in ("single", "split") and row["preset"] == "standard"]
    assert set(found) >= {
        "nyuv2/single/semantic/288x384",
        "nyuv2/single/depth/288x384",
        "nyuv2/single/normals/288x384",
        "nyuv2/split/semantic+depth+normals/288x384",
        "cityscapes-2/single/semantic/128x256",
        "cityscapes-19/single/semantic/128x256",
        *(f"cityscapes-7/single/semantic/{size}" for size in ("128x256", "256x512", "288x384")),
        *(f"cityscapes-7/split/semantic+disparity/{size}" for size in ("128x256", "256x512", "288x384")),
    }


def test_a_class_costs_65_parameters():
    counts = {row["name"].split("/")[0]: row["parameters"] for row in ROWS if "single/semantic" in row["name"]}
    assert counts["cityscapes-19"] - counts["cityscapes-2"] == 17 * 65


def test_log_variances_are_no_part_of_the_network():
    counted = [entry for entry in ENTRIES if entry.log_variances]
    assert counted
    for entry in counted:
        for row in entry.rows():
            assert row["reference_parameters"] == entry.parameters - entry.log_variances
            assert f"include {entry.log_variances} logsigma" in row["note"]
