"""Adience: the published totals of every policy, the reader against the drawn faces of its sample, the folds."""

import collections
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

from mtlkit.datasets import DATASETS, adience_folds, build
from mtlkit.errors import KitError
from mtlkit.scenes import faces

Adience = DATASETS["adience"]
FOLDS = range(5)
NAMES = ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-100")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sample of 40 subjects, eight in each fold."""
    folder = tmp_path_factory.mktemp("adience") / "sample"
    Adience.write_sample(folder, 8, size=32)
    return folder


def read(root, split="train", **options):
    return build("adience", split, root=root, **{"resize": 32, "size": 28} | options)


# --- the published counts ---------------------------------------------------------------------------------------------

# Of the original fold files: how often each age string stands in them.
AGES = {
    "(0, 2)": 2519, "(4, 6)": 2163, "(8, 12)": 2132, "(15, 20)": 1655, "(25, 32)": 4950, "(38, 43)": 2300,
    "(48, 53)": 830, "(60, 100)": 875, "None": 753, "35": 294, "13": 169, "22": 149, "34": 105, "23": 96, "45": 88,
    "55": 77, "(27, 32)": 77, "(25, 23)": 72, "36": 57, "(38, 42)": 50, "57": 24, "3": 18, "29": 12, "(38, 48)": 6,
    "58": 5, "2": 3, "32": 3, "56": 2, "(8, 23)": 1, "42": 1, "46": 1,
}  # fmt: skip
# by fold
GENDERS = {
    "f": (1958, 2017, 1781, 1813, 1842), "m": (2049, 1607, 1410, 1505, 1621), "u": (436, 83, 217, 78, 286),
    "": (53, 38, 545, 63, 85),
}  # fmt: skip
LINES, FACES = (4496, 3745, 3953, 3459, 3834), (4484, 3730, 3894, 3446, 3816)
# by class, of the eight strings with 13 and (38, 42)
MALE, FEMALE = (745, 928, 934, 734, 2308, 1294, 392, 442), (682, 1234, 1360, 919, 2589, 1056, 433, 427)
# policy -> lines with an age, lines with age and gender, lines by class (None: not published)
POLICIES = {
    "strict": (17424, 16258, (2519, 2163, 2132, 1655, 4950, 2300, 830, 875)),
    "fixed": (17496, 16330, (2519, 2163, 2132, 1655, 5022, 2300, 830, 875)),
    "paper-table": (17643, 16477, (2519, 2163, 2301, 1655, 4950, 2350, 830, 875)),
    "containing": (17811, None, (2522, 2163, 2301, 1655, 5114, 2351, 830, 875)),
    "nearest": (18734, 17563, (2540, 2163, 2302, 1804, 5609, 2502, 910, 904)),
}


def published():
    """(gender, age) of every line, so that all counts above hold: which line has which is ours."""
    classes = [["(0, 2)"], ["(4, 6)"], ["13", "(8, 12)"], ["(15, 20)"], ["(25, 32)"], ["(38, 42)", "(38, 43)"],
               ["(48, 53)"], ["(60, 100)"]]  # fmt: skip
    pairs = [("f", "(25, 23)")] * AGES["(25, 23)"] + [("", "None")] * 713
    known = {"f": sum(GENDERS["f"]) - sum(FEMALE) - AGES["(25, 23)"], "m": sum(GENDERS["m"]) - sum(MALE)}
    unknown = {"u": 8, "": 71}  # of those who are neither babies nor without an age
    for strings, male, female in zip(classes, MALE, FEMALE, strict=True):
        ages = [age for age in strings for _ in range(AGES[age])]
        genders = ["f"] * female + ["m"] * male
        rest = len(ages) - len(genders)
        genders += ["u"] * rest if strings == ["(0, 2)"] else take(unknown, rest)
        pairs += zip(genders, ages, strict=True)
    others = set(AGES) - {"None", "(25, 23)"} - {age for strings in classes for age in strings}
    ages = ["None"] * (AGES["None"] - 713) + [age for age in sorted(others) for _ in range(AGES[age])]
    genders = take(known, len(ages) - 5) + take(unknown, 5)
    return [*pairs, *zip(genders, ages, strict=True)]


def take(stock, count):
    """So many keys of a stock, the first ones first."""
    taken = [key for key, left in stock.items() for _ in range(left)][:count]
    for key in taken:
        stock[key] -= 1
    return taken


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Five fold files with the published counts, without images; as many lines are said again as in the original."""
    folder = tmp_path_factory.mktemp("published")
    ages = {gender: [age for g, age in published() if g == gender] for gender in GENDERS}
    for fold in FOLDS:
        lines, again = [], LINES[fold] - FACES[fold]
        for gender, counts in GENDERS.items():
            mine, ages[gender] = ages[gender][: counts[fold]], ages[gender][counts[fold] :]
            for age in mine:
                subject = 1000 * fold + 100 * list(GENDERS).index(gender) + list(AGES).index(age)
                line = f"{subject}\t{age}\t{gender}\t1\t2\t516\t516\t0\t-15\t90"
                if again and lines and lines[-1].endswith(line):
                    lines.append(lines[-1])
                    again -= 1
                else:
                    lines.append(f"{fold}@N00\t{len(lines)}_o.jpg\t{line}")
        header = "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
        text = "\n".join(["\t".join(header.split()), *lines, ""])
        (folder / f"fold_{fold}_data.txt").write_text(text, encoding="utf-8")
    return folder


def of_all_folds(root, **options):
    """Labels of the five test splits together."""
    options = {"duplicates": True} | options
    return [pair for fold in FOLDS for pair in build("adience", "test", root=root, fold=fold, **options).labels]


def test_the_generated_files_have_the_published_counts(generated):
    cells = [line.split("\t") for fold in FOLDS for line in
             (generated / f"fold_{fold}_data.txt").read_text().splitlines()[1:]]  # fmt: skip
    assert collections.Counter(c[3] for c in cells) == AGES and len(cells) == sum(AGES.values()) == 19487
    assert collections.Counter(c[4] for c in cells) == {gender: sum(counts) for gender, counts in GENDERS.items()}
    assert sum((c[3], c[4]) == ("(0, 2)", "u") for c in cells) == 1092
    assert sum((c[3], c[4]) == ("None", "") for c in cells) == 713
    assert len(set(map(tuple, cells))) == sum(FACES) == 19370
    # nothing is wrong with the fold files
    assert Adience.check(generated, contents=False) == [
        "faces, aligned: missing folders; expected at least one of them"
    ]


@pytest.mark.parametrize("policy", POLICIES)
def test_totals_under_each_policy_are_the_published_ones(generated, policy):
    total, joint, by_class = POLICIES[policy]
    ages = [age for age, _ in of_all_folds(generated, policy=policy, labelled="age")]
    assert len(ages) == total
    assert tuple(np.bincount(ages)) == by_class
    if joint:
        assert len(of_all_folds(generated, policy=policy, labelled="both")) == joint


def test_the_five_totals():
    assert [total for total, _, _ in POLICIES.values()] == [17424, 17496, 17643, 17811, 18734]


def test_the_paper_table_by_class_and_gender(generated):
    found = collections.Counter(of_all_folds(generated, policy="paper-table", labelled="both"))
    assert tuple(found[k, 0] for k in range(8)) == MALE and tuple(found[k, 1] for k in range(8)) == FEMALE


def test_gender_alone_baselines_and_duplicates(generated):
    options = {"root": generated, "labelled": "gender", "duplicates": True}
    by_fold = [len(build("adience", "test", fold=fold, **options)) for fold in FOLDS]
    assert by_fold == [4007, 3624, 3191, 3318, 3463]
    data = build("adience", "test", root=generated, policy="strict")
    labels = torch.tensor(of_all_folds(generated, policy="strict"))
    for name, column, answer, share in (("age", 0, "25-32", 28.4), ("gender", 1, "f", 53.5)):
        known = labels[:, column][labels[:, column] >= 0]
        best = int(data.tasks[name].constant([labels[:, column]]).argmax())
        assert data.tasks[name].class_names[best] == answer
        assert round(100 * float((known == best).float().mean()), 1) == share
    assert len(of_all_folds(generated)) - len(of_all_folds(generated, duplicates=False)) <= 117
    rows = [row for fold in FOLDS for row in adience_folds.read(generated, fold)[0]]
    assert len(rows) - len(adience_folds.distinct(rows)) == 117


def test_the_typo_is_lost_without_the_fix(generated):
    """As in the released lists, whose fold-0 test list has 4316 lines; in fold 0 it had to be 4388."""

    def count(policy, rows="age"):
        return len(build("adience", "test", root=generated, policy=policy, labelled=rows, duplicates=True))

    assert count("fixed") - count("strict") == count("fixed", "both") - count("strict", "both") == 72


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", ["faces", "aligned"])
def test_a_sample_is_read_as_what_was_drawn(made, images):
    seen = collections.Counter()
    for split in ("train", "test"):
        data = read(made, split, images=images, size=32, policy="nearest")
        for index in range(0, len(data), 5):
            sample, row = data[index], data.rows[index]
            assert {key: (t.dtype, tuple(t.shape)) for key, t in sample.items()} == {
                "image": (torch.float32, (3, 32, 32)),
                "age": (torch.int64, ()),
                "gender": (torch.int64, ()),
                "index": (torch.int64, ()),
            }
            drawn, age, gender = faces.draw(row.subject - 1, int("both" not in row.photo), 32)
            assert int(sample["gender"]) == {"m": 0, "f": 1, "u": -1}[gender]
            assert int(sample["age"]) == age, "the odd strings are those of the nearest class"
            if images == "aligned":
                drawn = np.asarray(
                    PIL.Image.fromarray(drawn[3:-3, 3:-3]).resize((32, 32), PIL.Image.Resampling.BILINEAR)
                )
            error = np.abs(sample["image"].numpy() - drawn.transpose(2, 0, 1) / 255)
            assert error.mean() < 0.03, "no more than what JPEG loses"
            assert sample["index"] == index and data.info(index).size == (32, 32)
            assert data.info(index).name.startswith(f"{images}/user")
            seen[age] += 1
    assert len(seen) == 8


def test_tasks_and_unknown_labels(made):
    data = read(made, policy="strict")
    assert {name: task.class_names for name, task in data.tasks.items()} == {"age": NAMES, "gender": ("m", "f")}
    unknown = [data.labels.index(pair) for pair in set(data.labels) if min(pair) < 0]
    assert unknown, "babies with gender u, faces with an odd age"
    batch = torch.utils.data.default_collate([data[i] for i in (*unknown, 0, 5)])
    for name, task in data.tasks.items():
        raw = torch.zeros(len(batch["index"]), task.channels, requires_grad=True)
        loss = task.loss(raw, batch[name])
        assert loss.item() == pytest.approx(np.log(task.channels))
        loss.backward()
        assert [bool(row.any()) for row in raw.grad] == task.valid(batch[name]).tolist() == (batch[name] >= 0).tolist()


def test_loading_processes_read_the_same(made):
    data = read(made, "test")
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)
    images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(images, torch.stack([data[i]["image"] for i in range(len(data))]))
    assert pickle.loads(pickle.dumps(data)).rows == data.rows


def test_resizing_and_cutting_are_those_of_torchvision(root):
    """The oracle: Resize to a square, then CenterCrop, as Levi and Hassner's 256 and 227."""
    from torchvision.transforms import CenterCrop, Resize

    data = build("adience", "train", root=root, size=227)
    whole = build("adience", "train", root=root, size=227, crop=False)
    for index, size in enumerate([(256, 256), (300, 200), (816, 816), (31, 77)]):
        noise = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        path = root / data.info(index).name
        PIL.Image.fromarray(noise).save(path)
        picture = Resize((256, 256))(PIL.Image.open(path).convert("RGB"))
        for found, expected in ((data, CenterCrop(227)(picture)), (whole, picture)):
            ours = found[index]["image"].permute(1, 2, 0).numpy()
            assert (np.rint(ours * 255) == np.asarray(expected)).all(), size
        assert data.info(index).size == size
    assert data.size == (227, 227) and build("adience", "test", root=root, crop=False)[0]["image"].shape[1:] == (
        224,
        224,
    )


# --- folds ------------------------------------------------------------------------------------------------------------


def subjects(data):
    return {row.subject for row in data.rows}


@pytest.mark.parametrize("fold", FOLDS)
def test_nobody_is_trained_and_tested_on(made, fold):
    train, test = (read(made, split, fold=fold) for split in ("train", "test"))
    assert not subjects(train) & subjects(test) and not {r.user for r in train.rows} & {r.user for r in test.rows}
    assert {row.face for row in train.rows} | {row.face for row in test.rows} == every_face(made)
    parts = {holdout: [read(made, split, fold=fold, holdout=holdout) for split in ("train", "validation")]
             for holdout in ("subjects", "images")}  # fmt: skip
    for kept, held_out in parts.values():
        assert sorted(row.face for row in (*kept.rows, *held_out.rows)) == sorted(row.face for row in train.rows)
    kept, held_out = parts["subjects"]
    assert not subjects(kept) & subjects(held_out) and len(subjects(held_out)) == 3  # of 32, two images each
    kept, held_out = parts["images"]
    assert subjects(kept) & subjects(held_out), "as in the released lists, where validation leaks identity"


def every_face(root):
    rows = [row for fold in FOLDS for row in adience_folds.read(root, fold)[0]]
    return {row.face for row in rows if (row.age, row.gender) != ("None", "")}


def test_what_is_held_out_depends_neither_on_policy_nor_on_what_is_kept(made):
    held_out = [read(made, "validation", holdout="subjects", policy=policy, labelled=rows)
                for policy in ("strict", "nearest") for rows in ("any", "both")]  # fmt: skip
    kept = [read(made, "train", holdout="subjects", policy=policy, labelled=rows)
            for policy in ("strict", "nearest") for rows in ("any", "both")]  # fmt: skip
    assert not set.union(*map(subjects, held_out)) & set.union(*map(subjects, kept))


def test_which_faces_are_kept(made):
    labels = {kept: collections.Counter(read(made, labelled=kept, policy="strict").labels)
              for kept in ("any", "age", "gender", "both")}  # fmt: skip
    assert all(max(pair) >= 0 for pair in labels["any"]) and any(min(pair) < 0 for pair in labels["any"])
    for kept, columns in (("age", (0,)), ("gender", (1,)), ("both", (0, 1))):
        expected = {pair: n for pair, n in labels["any"].items() if all(pair[c] >= 0 for c in columns)}
        assert labels[kept] == expected and len(expected) < len(labels["any"])


def test_a_face_that_is_named_twice_counts_once(made):
    once, twice = read(made, "test"), read(made, "test", duplicates=True)
    assert (len(once), len(twice)) == (len(set(row.face for row in twice.rows)), len(once) + 1)


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("val", {}, "unknown split 'val'"),
        ("validation", {}, "no validation split of its own; set holdout='subjects'"),
        ("train", {"fold": 5}, "fold is 0 ... 4"),
        ("train", {"fold": "0"}, "should be int"),
        ("train", {"policy": "nearst"}, "unknown policy 'nearst': did you mean 'nearest'"),
        ("train", {"labelled": "none"}, "unknown labelled 'none'"),
        ("train", {"images": "face"}, "did you mean 'faces'"),
        ("train", {"holdout": "subject"}, "did you mean 'subjects'"),
        ("train", {"size": 33}, "size is 1 ... resize, which is 32, found 33"),
        ("train", {"crops": True}, "did you mean 'crop'"),
    ],
)
def test_bad_options_are_told_in_one_line(made, split, options, message):
    with pytest.raises(KitError, match=message) as error:
        read(made, split, **options)
    assert "\n" not in str(error.value)


def test_the_fingerprint_changes_with_the_data_and_with_nothing_else(made, root):
    def mark(split="train", folder=root, **options):
        return read(folder, split, **options).fingerprint

    original = mark()
    assert original == mark(folder=made) and original.startswith("adience-fold0-fixed-train")
    others = [
        mark("test"),
        mark(fold=1),
        mark(policy="nearest"),
        mark(images="aligned"),
        mark(size=27),
        mark(crop=False),
    ]
    others += [mark(holdout="subjects"), mark(labelled="both"), mark(duplicates=True)]
    assert len({original, *others}) == 10
    path = root / read(root).info(3).name
    PIL.Image.new("RGB", (32, 32)).save(path)
    changed = mark()
    assert changed != original and mark("test") == mark("test", made)
    text = (root / "fold_1_data.txt").read_text()
    (root / "fold_1_data.txt").write_text(text.replace("\tm\t", "\tf\t"))
    assert mark() != changed


def test_a_look_shows_all_ages(made):
    data = read(made, policy="strict", labelled="age")
    assert {data.labels[i][0] for i in data.glance(16)} == set(range(8))
    assert data.glance(1000) == sorted(range(len(data)), key=data.labels.__getitem__)


def test_the_sample_has_every_trap_and_repeats_itself(made, tmp_path):
    rows = [row for fold in FOLDS for row in adience_folds.read(made, fold)[0]]
    ages = {row.age for row in rows}
    assert {"(25, 23)", "None", "13", "(38, 42)", "57", "(8, 12)"} <= ages
    assert {row.gender for row in rows} == {"f", "m", "u", ""}
    assert len(rows) - len(adience_folds.distinct(rows)) == 5
    photos = collections.Counter((row.user, row.photo) for row in adience_folds.distinct(rows))
    assert max(photos.values()) == 2, "two faces of one photo"
    for place in ("again", "and again"):
        Adience.write_sample(tmp_path / place, 1, size=16)
    one, other = ({p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()}
                  for d in (tmp_path / "again", tmp_path / "and again"))  # fmt: skip
    assert one == other and Adience.check(tmp_path / "again") == []
    for wrong in ({"count": 0}, {"photos": 0}, {"size": 15}):
        with pytest.raises(KitError, match="a sample has at least 1 subject"):
            Adience.write_sample(tmp_path / "no", **wrong)
    with pytest.raises(KitError, match="holds something already"):
        Adience.write_sample(tmp_path / "again", 1)


def test_the_command_line(made, mtlkit, tmp_path):
    assert mtlkit("data", "check", "adience", "--root", made)[:2] == (0, "adience: present and sound\n")
    assert mtlkit("data", "show", "adience", "--root", made, "-o", "s.png")[:2] == (0, "s.png\n")
    assert (tmp_path / "s.png").stat().st_size
