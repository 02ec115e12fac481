"""`mtlkit data ...`: what a person types to list, prepare, sample, check and look at datasets."""

import json

import pytest

from mtlkit.datasets import DATASETS, nyuv2
from mtlkit.errors import KitError

# --- list -------------------------------------------------------------------------------------------------------------


def test_every_dataset_says_what_it_is_its_terms_and_how_to_get_it(mtlkit):
    status, text, _ = mtlkit("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(text)}
    assert status == 0 and set(rows) == set(DATASETS)
    for name, row in rows.items():
        assert set(row) == {"name", "about", "present", "folder", "licence", "source"}
        assert all(row[key] and "\n" not in row[key] for key in ("about", "folder", "licence", "source")), name


def test_the_list_fits_a_terminal(mtlkit):
    status, text, _ = mtlkit("data", "list")
    lines = text.splitlines()
    assert status == 0 and [line.split()[0] for line in lines if not line.startswith(" ")] == list(DATASETS)
    # the other lines name a folder, which may be any length
    assert all(len(line) <= 100 for line in lines if line.startswith(" "))
    for name in DATASETS:
        assert " ".join(DATASETS[name].about.split()) in " ".join(text.split())


def test_the_list_says_whether_a_dataset_is_there(mtlkit, tmp_path):
    def present():
        return {row["name"]: row["present"] for row in json.loads(mtlkit("data", "list", "--json")[1])}

    before = present()
    assert before["scenes"] and before["digits"] and not before["nyuv2"]  # nothing to fetch for the first two
    (tmp_path / "data" / "nyuv2").mkdir(parents=True)
    assert present() == before | {"nyuv2": True}
    assert f"present  {tmp_path}/data/nyuv2\n" in mtlkit("data", "list")[1]


# --- sample, check, show ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "digits-domains", "nyud-mt", "nyuv2"])
def test_a_sample_is_made_checked_and_shown(mtlkit, tmp_path, name):
    status, text, _ = mtlkit("data", "sample", name, "made", "--count", "2")
    assert (status, text) == (0, f"made: a sample of {name}; look at it: mtlkit data show {name} --root made\n")
    status, text, _ = mtlkit("data", "check", name, "--root", "made")
    assert status == 0 and text.endswith(f"{name}: present and sound\n")
    status, text, _ = mtlkit("data", "show", name, "--root", "made", "--count", "1", "-o", "sheet.png")
    assert status == 0 and text.endswith("sheet.png\n")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_there_is_said_in_one_line(mtlkit):
    for words in (("check", "nyuv2"), ("show", "nyuv2")):
        status, text, error = mtlkit("data", *words)
        assert (status, text) == (2, "") and error.count("\n") == 1 and "data/README.md says how to get it" in error
    for verb in ("check", "show"):
        assert "did you mean 'nyuv2'?" in mtlkit("data", verb, "nyuv3")[2]


# --- prepare ----------------------------------------------------------------------------------------------------------


def test_prepare_hands_over_and_says_what_to_type_next(mtlkit, tmp_path, monkeypatch):
    def prepare(cls, source, root, *, filled: bool = False):
        asked.append((source.name, root.name, filled))
        cls.write_sample(root, 1, height=32, width=64)

    asked = []
    monkeypatch.setattr(nyuv2.NYUv2, "prepare", classmethod(prepare))
    monkeypatch.setattr(nyuv2.NYUv2, "variant", classmethod(lambda cls, root=None: "normals ESTIMATED from depth"))
    status, text, _ = mtlkit("data", "prepare", "nyuv2", "official", "made", "-p", "filled=true")
    assert status == 0 and asked == [("official", "made", True)]
    assert text == (
        "nyuv2: normals ESTIMATED from depth\nmade: nyuv2 is ready; now check it: mtlkit data check nyuv2 --root made\n"
    )
    assert mtlkit("data", "check", "nyuv2", "--root", "made")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nyuv2", "nowhere", "dest"), "nowhere has no nyu_depth_v2_labeled.mat, splits.mat, classMapping40.mat"),
        (("nyuv2", "nowhere", "dest", "-p", "fill=true"), "unknown option 'fill' for preparing 'nyuv2': did you mean"),
        (
            ("nyuv2", "nowhere", "dest", "-p", "filled=1"),
            "option 'filled' of preparing 'nyuv2' should be bool, found 1",
        ),
        (("nyud-mt", "nowhere", "dest"), "there is nothing to prepare for 'nyud-mt'"),
        (("nyu", "nowhere", "dest"), "unknown dataset 'nyu'"),
    ],
)
def test_prepare_refuses_in_one_line(mtlkit, tmp_path, words, message):
    status, text, error = mtlkit("data", "prepare", *words)
    assert (status, text) == (2, "") and message in error and error.count("\n") == 1
    assert not (tmp_path / "dest").exists()


def test_a_dataset_without_a_release_says_so():
    for name in ("scenes", "digits", "visual-decathlon"):
        with pytest.raises(KitError, match="there is nothing to prepare for .*; .+"):
            DATASETS[name].prepare("source", "dest")
