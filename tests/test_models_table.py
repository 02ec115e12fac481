"""The rows of ``mtlkit models``: every network's counts against the reference, number by number."""

from __future__ import annotations

import functools
import json

import pytest

from mtlkit.architectures import ARCHITECTURES, catalogue
from mtlkit.architectures.catalogue import ENTRIES, agrees, rows

KEYS = [
    "name", "architecture", "backbone", "preset", "tasks", "height", "width", "parameters", "macs", "macs_rule",
    "reference_parameters", "reference_macs", "reference_gmacs", "note",
]  # fmt: skip
CITYSCAPES_SIZES = ("128x256", "256x512", "288x384")


@functools.cache
def table():
    """Counted once: building every network takes seconds."""
    return rows()


def test_counts_equal_the_reference():
    for row in table():
        compare(row)


def compare(row):
    assert list(row) == KEYS, row["name"]
    for key in ("parameters", "macs"):
        assert isinstance(row[key], int), row["name"]
        if row[f"reference_{key}"] is not None:
            assert row[key] == row[f"reference_{key}"], (row["name"], key)
        assert agrees(row, key) in (True, None), (row["name"], key)
    if row["reference_gmacs"] is not None:
        decimals = 3 if row["architecture"] == "astmt" else 4  # as many as were recorded
        assert round(row["macs"] / 1e9, decimals) == row["reference_gmacs"], row["name"]


def test_names_are_unique_and_rows_are_json():
    assert len({row["name"] for row in table()}) == len(table())
    assert json.loads(json.dumps(table())) == table()


def test_every_architecture_has_a_row_with_a_reference():
    with_reference = {row["architecture"] for row in table() if row["reference_parameters"] is not None}
    assert with_reference == set(ARCHITECTURES)


def test_the_rows_of_single_and_split():
    standard = [row for row in table() if row["preset"] == "standard"]
    assert {row["name"] for row in standard if row["architecture"] in ("single", "split")} >= {
        "nyuv2/single/semantic/288x384",
        "nyuv2/single/depth/288x384",
        "nyuv2/single/normals/288x384",
        "nyuv2/split/semantic+depth+normals/288x384",
        "cityscapes-2/single/semantic/128x256",
        "cityscapes-19/single/semantic/128x256",
        *(f"cityscapes-7/single/semantic/{size}" for size in CITYSCAPES_SIZES),
        *(f"cityscapes-7/split/semantic+disparity/{size}" for size in CITYSCAPES_SIZES),
    }


def test_the_rows_of_mtan():
    found = {row["name"]: row for row in table() if row["architecture"] == "mtan"}
    stan = {f"nyuv2/mtan/{task}/288x384" for task in ("semantic", "depth", "normals")}
    stan |= {f"cityscapes-7/mtan/semantic/{size}" for size in CITYSCAPES_SIZES}
    assert found.keys() >= stan | {
        "nyuv2/mtan/semantic+depth+normals/288x384",
        "nyuv2/mtan-resnet50-deeplabv3/semantic+depth+normals/288x384",
        "cityscapes-2/mtan/semantic+disparity/128x256",
        "cityscapes-19/mtan/semantic+disparity/128x256",
        *(f"cityscapes-7/mtan/semantic+disparity/{size}" for size in CITYSCAPES_SIZES),
    }
    assert {name for name, row in found.items() if "STAN" in (row["note"] or "")} == stan


def test_a_name_says_which_backbone_where_there_is_a_choice():
    named = {row["name"].split("/")[1]: (row["architecture"], row["backbone"]) for row in table()}
    for architecture in ("single", "split", "mtan"):
        assert named[architecture] == (architecture, "segnet")
        assert named[f"{architecture}-resnet50-deeplabv3"] == (architecture, "resnet50-deeplabv3")


def test_deeplab_s_split_is_three_singles_less_two_trunks():
    """References of both are summed up from sub-totals of MTAN; 23 508 032 is ResNet-50 without its classifier."""
    count = {row["name"].split("/")[2]: row["reference_parameters"] for row in table()
             if row["backbone"] == "resnet50-deeplabv3" and row["architecture"] in ("single", "split")}  # fmt: skip
    singles = sum(count[task] for task in ("semantic", "depth", "normals"))
    assert singles - count["semantic+depth+normals"] == 2 * 23_508_032


@pytest.mark.parametrize("network", ["single/semantic", "mtan/semantic+disparity"])
def test_a_class_costs_65_parameters(network):
    counts = {row["name"].split("/")[0]: row["parameters"] for row in table() if f"/{network}/" in row["name"]}
    assert counts["cityscapes-19"] - counts["cityscapes-2"] == 17 * 65
    assert counts["cityscapes-19"] - counts["cityscapes-7"] == 12 * 65


def test_the_table_fits_a_screen(mtlkit, monkeypatch):
    monkeypatch.setattr(catalogue, "rows", table)
    lines = mtlkit("models")[1].splitlines()
    shown, notes = lines[: len(table())], lines[len(table()) + 1 :]
    assert max(map(len, shown)) <= 120 and not any(" ! " in line for line in shown)
    assert len({line.index(f" {row['parameters']:,} ") + len(f"{row['parameters']:,}") for line, row in
                zip(shown, table(), strict=True)}) == 1, "one column"  # fmt: skip
    assert [note.split("] ", 1)[1] for note in notes] == list(dict.fromkeys(r["note"] for r in table() if r["note"]))


def test_log_variances_are_no_part_of_the_network():
    counted = [entry for entry in ENTRIES if entry.log_variances]
    assert counted
    found = {(row["reference_parameters"], row["note"]) for row in table() if row["note"]}
    for entry in counted:
        said = f"include {entry.log_variances} logsigma"
        own = entry.parameters - entry.log_variances
        assert any(count == own and said in note for count, note in found), entry
