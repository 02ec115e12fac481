"""The digits of scikit-learn: pairs and looks against its own reader, the split, the file."""

import gzip
import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit import cli
from mtlkit.datasets import DATASETS, build
from mtlkit.datasets.digits import COUNTS, FILE
from mtlkit.errors import KitError
from mtlkit.scenes import looks

Digits, Domains = DATASETS["digits"], DATASETS["digits-domains"]
LINES = {"train": slice(0, 1157), "validation": slice(1157, 1415), "test": slice(1415, 1797)}


@pytest.fixture(scope="module")
def real():
    """What scikit-learn itself reads."""
    return sklearn.datasets.load_digits()


# --- the split --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", LINES)
def test_splits_are_the_lines_they_are_said_to_be(real, split):
    data = build("digits-domains", split, domains=["plain"])
    assert len(data) == COUNTS[split] == len(real.target[LINES[split]])
    assert [int(data[i]["plain"]) for i in range(len(data))] == real.target[LINES[split]].tolist()
    pictures = looks.enlarge(real.images[LINES[split]], 32)
    for index in (0, len(data) // 2, len(data) - 1):
        assert np.allclose(data[index]["image"], np.repeat(pictures[index][None], 3, axis=0))
        assert data.info(index).name == f"plain/line-{LINES[split].start + index + 1}"


def test_both_cuts_are_where_a_form_begins(real):
    order = np.tile(np.arange(10), 3)
    for first in (LINES["validation"].start, LINES["test"].start):
        assert (real.target[first : first + 30] == order).all()


def test_a_shuffled_split_would_be_easier(real):
    """The reason for cutting by lines: neighbours in the file have one writer."""

    def nearest(order):
        train, test = order[LINES["train"]], order[LINES["test"]]
        distance = (real.data[train] ** 2).sum(1) - 2 * real.data[test] @ real.data[train].T  # but for a constant
        return (real.target[train][distance.argmin(1)] == real.target[test]).mean()

    assert 0.94 < nearest(np.arange(1797)) < 0.96
    assert 0.975 < nearest(np.random.default_rng(0).permutation(1797))


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", LINES)
@pytest.mark.parametrize("index", [0, 1, 2, 299])
def test_a_pair_is_two_digits_of_its_split(real, split, index):
    sample = build("digits", split, validation=300)[index]
    found = {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()}
    assert found == {
        "image": (torch.float32, (3, 32, 32)),
        "left": (torch.int64, ()),
        "right": (torch.int64, ()),
        "index": (torch.int64, ()),
    }
    image = sample["image"][0].numpy()
    assert (sample["image"] == sample["image"][0]).all() and image.min() >= 0 and image.max() <= 1
    digits = looks.enlarge(real.images[LINES[split]], 20)

    def places(label, columns):
        """Every digit of this label in every place, on an empty picture."""
        for digit in digits[real.target[LINES[split]] == int(label)]:
            for row in range(2, 11):
                for column in columns:
                    yield np.pad(digit, ((row, 12 - row), (column, 12 - column)))

    # columns that the other digit does not reach tell which one it is; the brighter pixel of both is the picture
    lefts = [p for p in places(sample["left"], range(3)) if np.array_equal(p[:, :10], image[:, :10])]
    rights = [p for p in places(sample["right"], range(10, 13)) if np.array_equal(p[:, 22:], image[:, 22:])]
    assert any(np.array_equal(np.maximum(a, b), image) for a in lefts for b in rights)


def test_a_pair_depends_on_split_index_and_seed_alone():
    data = build("digits", "train")
    again, longer, other = (build("digits", "train", **o) for o in ({}, {"train": 9000}, {"seed": 1}))
    for index in (0, 17, 3998):
        assert all(torch.equal(data[index][k], again[index][k]) for k in data[index])
        assert all(torch.equal(data[index][k], longer[index][k]) for k in data[index])
        assert not torch.equal(data[index]["image"], other[index]["image"])
        assert not torch.equal(data[index]["image"], data[index + 1]["image"])
    assert len(data) == 4000 and len(build("digits", "test")) == 1000 and len(longer) == 9000
    with pytest.raises(IndexError):
        data[4000]


def test_every_digit_stands_on_either_side_about_as_often():
    data = build("digits", "train", train=2000)
    pairs = np.array([(int(s["left"]), int(s["right"])) for s in map(data.__getitem__, range(2000))])
    for side in pairs.T:
        assert (np.bincount(side, minlength=10) > 150).all()  # 200 each, 13 standard deviation
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.1


def test_tasks_are_two_and_each_has_a_loss():
    data = build("digits", "train", train=8)
    batch = torch.utils.data.default_collate([data[i] for i in range(8)])
    assert list(data.tasks) == ["left", "right"] and len({t.colour for t in data.tasks.values()}) == 2
    for name, task in data.tasks.items():
        assert task.channels == 10 and task.class_names == tuple("0123456789") and task.kind == "classification"
        sure = 20 * torch.nn.functional.one_hot(batch[name], 10).float()
        assert task.loss(sure, batch[name]).item() < 1e-6 and torch.equal(task.predict(sure), batch[name])
        assert task.loss(torch.zeros(8, 10), -torch.ones(8).long()).item() == 0  # unknown labels do not count


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_domain_has_its_own_label_alone():
    data = build("digits-domains", "test")
    assert list(data.indices) == list(data.tasks) == ["plain", "negative", "mirror", "outline", "stripes", "colours"]
    assert sorted(i for r in data.indices.values() for i in r) == list(range(len(data))) and len(data) == 6 * 382
    for domain, indices in data.indices.items():
        sample = data[indices[5]]
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.float32
        assert 0 <= sample["image"].min() and sample["image"].max() <= 1
        known = {name for name in data.tasks if sample[name] >= 0}
        assert known == {domain} and sample[domain] == data[data.indices["plain"][5]]["plain"]
        assert data.info(indices[5]).name == f"{domain}/line-1421"
    assert [data.info(i).name for i in data.glance(8)][-3:] == [
        "colours/line-1421",
        "plain/line-1422",
        "negative/line-1423",
    ]


def test_a_picture_does_not_depend_on_the_other_domains():
    every, two = build("digits-domains", "train"), build("digits-domains", "train", domains=["colours", "stripes"])
    for domain in ("colours", "stripes"):
        a, b = every[every.indices[domain][3]], two[two.indices[domain][3]]
        assert torch.equal(a["image"], b["image"]) and a[domain] == b[domain]
    other = build("digits-domains", "train", domains=["colours"], seed=1)
    assert not torch.equal(other[3]["image"], two[3]["image"])


@settings(deadline=None, max_examples=20)
@given(number=st.integers(0, 1796), seed=st.integers(0, 2**32))
def test_what_a_look_keeps_and_what_it_hides(real, number, seed):
    digit = looks.enlarge(real.images[number : number + 1], 32)[0]
    made = {name: look(digit, np.random.default_rng(seed)) for name, look in looks.LOOKS.items()}
    for picture in made.values():
        assert picture.shape == (3, 32, 32) and picture.min() >= 0 and picture.max() <= 1
    assert (made["plain"][0] == digit).all() and (made["negative"] == 1 - made["plain"]).all()
    assert (made["mirror"][..., ::-1] == made["plain"]).all()
    assert (made["outline"][0][digit == 0].max() < 1) and made["outline"].max() == 1
    ink = digit > 0.5
    assert abs(made["stripes"][0][ink].mean() - 0.5) < 0.1 and abs(made["stripes"][0][~ink].mean() - 0.5) < 0.1
    ink, paper = (made["colours"][:, where].mean() for where in (digit > 0.9 * digit.max(), digit == 0))
    assert abs(ink - paper) > 0.03


def test_enlarging_keeps_what_is_even_and_frames_it():
    flat = looks.enlarge(np.full((1, 8, 8), 16), 20)
    assert np.allclose(flat[0, 4:16, 4:16], 1) and (flat[0, 0] == 0).all() and flat.shape == (1, 20, 20)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"train": 0}, "the train split has 0 pairs; give train=N"),
        ("digits", {"seed": -1}, "the seed of digits is a whole number from 0, found -1"),
        ("digits", {"pairs": 3}, "unknown option 'pairs'"),
        ("digits-domains", {"domains": ["stripe"]}, "unknown domain 'stripe': did you mean 'stripes'"),
        ("digits-domains", {"domains": ["plain", "plain"]}, "names each domain once"),
        ("digits-domains", {"domains": []}, "names each domain once"),
        ("digits-domains", {"domains": "plain"}, "option 'domains'"),
    ],
)
def test_wrong_options_are_told(name, options, message):
    with pytest.raises(KitError, match=message):
        build(name, "train", **options)
    with pytest.raises(KitError, match="unknown split 'val'"):
        build(name, "val")


@pytest.mark.parametrize("name", ["digits", "digits-domains"])
def test_the_fingerprint_names_data_and_options(name, tmp_path):
    Digits.write_sample(tmp_path / "s")
    marks = {
        build(name, split, **o).fingerprint for split in LINES for o in ({}, {"seed": 1}, {"root": tmp_path / "s"})
    }
    assert len(marks) == 9 and build(name, "test").fingerprint in marks
    assert len({build("digits-domains", "test", domains=[d]).fingerprint for d in looks.LOOKS}) == 6


def test_loading_processes_read_the_same():
    for name in ("digits", "digits-domains"):
        data = build(name, "validation")
        twin = pickle.loads(pickle.dumps(data))
        assert all(torch.equal(data[5][key], twin[5][key]) for key in data[5]) and twin.fingerprint == data.fingerprint


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    Digits.write_sample(tmp_path / "sample", 6)
    return tmp_path / "sample"


def test_a_sample_is_lines_of_the_real_file(real, root, tmp_path):
    assert sorted(path.name for path in root.iterdir()) == [FILE, "mtlkit-sample.json"]
    assert Digits.check(root) == Domains.check(root) == []
    for split, count in {"train": 6, "validation": 3, "test": 3}.items():
        data = build("digits-domains", split, root=root, domains=["plain"])
        whole = build("digits-domains", split, domains=["plain"])
        assert len(data) == count
        assert all(torch.equal(data[i]["image"], whole[i]["image"]) for i in range(count))
    assert build("digits", "train", root=root)[3999]["left"] in real.target[:6]
    Digits.write_sample(tmp_path / "again", 6)
    assert (tmp_path / "again" / FILE).read_bytes() == (root / FILE).read_bytes()


def test_the_real_file_is_sound_and_lies_with_scikit_learn(monkeypatch, tmp_path):
    assert Digits.check() == Domains.check() == Digits.check(contents=False) == []
    assert (Digits.folder() / FILE).is_file() and Digits.folder("here").name == "here"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # without scikit-learn
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path))
    with pytest.raises(KitError, match=f"no digits at {tmp_path}/digits; expected digits.csv.gz there.*make setup"):
        build("digits", "train")


def lines(root, edit):
    """Change the table: edit(rows) gives the new rows, of bytes."""
    rows = gzip.decompress((root / FILE).read_bytes()).splitlines()
    (root / FILE).write_bytes(gzip.compress(b"".join(row + b"\n" for row in edit(rows))))


def value(row, column, new):
    def edit(rows):
        cells = rows[row].split(b",")
        cells[column] = new
        return [*rows[:row], b",".join(cells), *rows[row + 1 :]]

    return edit


WRONG = {
    "missing": (lambda root: (root / FILE).unlink(), "digits.csv.gz: is missing"),
    "cut": (lambda root: (root / FILE).write_bytes((root / FILE).read_bytes()[:200]),
        "digits.csv.gz: cannot be read; expected lines of whole numbers, packed; found: Compressed file ended"),
    "not packed": (lambda root: (root / FILE).write_text("0,1,2"),
        "digits.csv.gz: cannot be read; expected lines of whole numbers, packed; found: Not a gzipped file"),
    "a folder": (lambda root: ((root / FILE).unlink(), (root / FILE).mkdir()),
        "digits.csv.gz: cannot be read; expected lines of whole numbers, packed; found: Is a directory"),
    "a bomb": (lambda root: (root / FILE).write_bytes(gzip.compress(bytes(2**24 + 1))),
        "digits.csv.gz: unpacks to more than 16777216 bytes; is this the right file?"),
    "empty": (lambda root: lines(root, lambda rows: []), "digits.csv.gz: no lines; expected 8 x 8 pixels and a label"),
    "words": (lambda root: lines(root, value(1, 2, b"ink")), "digits.csv.gz: cannot be read; expected lines of whole"),
    "a line short": (lambda root: lines(root, lambda rows: [*rows[:-1], b"1,2"]), "digits.csv.gz: cannot be read"),
    "columns": (lambda root: lines(root, lambda rows: [row[: row.rindex(b",")] for row in rows]),
        "digits.csv.gz: 64 numbers a line; expected 8 x 8 pixels and a label on every line"),
    "lines": (lambda root: lines(root, lambda rows: rows[:5]), "digits.csv.gz: 5 lines; expected 12"),
    "pixel": (lambda root: lines(root, value(3, 5, b"17")),
        "digits.csv.gz: line 4: pixel 17 (the first of 1 lines); expected 0 ... 16"),
    "label": (lambda root: lines(root, value(2, 64, b"-1")),
        "digits.csv.gz: line 3: label -1 (the first of 1 lines); expected 0 ... 9"),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRONG)
def test_what_is_wrong_with_the_file_makes_one_line(root, damage):
    spoil, words = WRONG[damage]
    spoil(root)
    (line,) = Digits.check(root)
    assert line.startswith(words) and "\n" not in line
    with pytest.raises(KitError) as error:
        build("digits-domains", "train", root=root)
    assert str(error.value).startswith(words) and "mtlkit data check digits --root" in str(error.value)


def test_several_problems_are_in_one_report(root):
    lines(root, lambda rows: value(0, 64, b"10")(value(0, 0, b"99")(rows[:10])))
    note = json.loads((root / "mtlkit-sample.json").read_text())
    assert len(Digits.check(root)) == 3
    (root / "mtlkit-sample.json").write_text(json.dumps(note | {"dataset": "nyuv2"}))
    first, *rest = Digits.check(root)
    assert "says 'nyuv2', expected 'digits'" in first and "digits.csv.gz: 10 lines; expected 1797" in rest
    (root / FILE).unlink()
    assert Digits.check(root, contents=False)[1:] == ["digits.csv.gz: is missing"]


def test_nothing_is_overwritten(root, tmp_path):
    before = (root / FILE).read_bytes()
    with pytest.raises(KitError, match="holds something already"):
        Digits.write_sample(root, 2)
    assert (root / FILE).read_bytes() == before
    for count in (0, 518):
        with pytest.raises(KitError, match=f"a sample has 1 ... 517 digits to train, found {count}"):
            Digits.write_sample(tmp_path / "new", count)
    with pytest.raises(KitError, match="no digits at"):
        Digits.check(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["digits", "digits-domains"])
def test_the_command_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def mtlkit(*words):
        monkeypatch.setattr(sys, "argv", ["mtlkit", "data", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().out

    assert mtlkit("sample", name, "d")[0] == 0
    assert mtlkit("check", name, "--root", "d") == (0, f"{name}: present and sound\n")
    assert mtlkit("show", name, "--root", "d", "-o", "sheet.png") == (0, "sheet.png\n")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(tmp_path / "d")
    assert mtlkit("show", name, "--split", "test") == (0, "contact-sheet.png\n")  # as it comes with scikit-learn
