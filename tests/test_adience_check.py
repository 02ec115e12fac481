"""The report on Adience: everything that can be wrong with fold files and images."""

import io
import pickle
import shutil
from pathlib import Path

import PIL.Image
import pytest
from damage import Trap, contents
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.datasets import DATASETS, adience_folds, build
from mtlkit.errors import KitError

Adience = DATASETS["adience"]
FOLD = "fold_2_data.txt"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sample of twenty subjects, four in each fold, two images of each."""
    folder = tmp_path_factory.mktemp("adience") / "sample"
    Adience.write_sample(folder, size=24)
    return folder


@pytest.fixture(scope="module")
def first(made):
    """The first face of fold 2, and its cells."""
    return adience_folds.read(made, 2)[0][0]


def test_a_sample_is_sound_and_the_report_writes_nothing(root):
    before = contents(root)
    assert Adience.check(root) == Adience.check(root, contents=False) == []
    assert contents(root) == before


# --- fold files -------------------------------------------------------------------------------------------------------


def cell(column, value, line=2):
    """Another value in one cell; lines count from 1."""

    def edit(text):
        lines = [row.split("\t") for row in text.split("\n")]
        lines[line - 1][adience_folds.COLUMNS.index(column)] = value
        return "\n".join(map("\t".join, lines))

    return edit


# damage to the text of fold 2 -> how the first line of the report goes on
TEXTS = {
    "empty": (lambda text: "", "line 1: ''; expected the columns user_id original_image"),
    "no faces": (lambda text: text.split("\n")[0], "no faces; expected one on every line after the first"),
    "spaces for tabs": (lambda text: text.replace("\t", " "), "line 1: 'user_id original_image"),
    "no header": (lambda text: text.split("\n", 1)[1], "line 1: 'user2"),
    "a column less": (lambda text: text.replace("\t100\n", "\n", 1), "line 2: 11 columns; expected 12"),
    "cut short": (lambda text: text[:-12], "line 10: "),
    "age of no policy": (cell("age", "(25 32)"), "line 2: unknown age '(25 32)': did you mean '(25, 32)'"),
    "age empty": (cell("age", ""), "line 2: unknown age ''"),
    "gender": (cell("gender", "w"), "line 2: unknown gender 'w'"),
    "subject": (cell("face_id", "-1"), "line 2: face_id '-1'; expected a whole number"),
    "subject with a point": (cell("face_id", "1.0"), "line 2: face_id '1.0'; expected a whole number"),
    "box": (cell("dx", "wide"), "line 2: dx 'wide'; expected a number"),
    "score": (cell("fiducial_score", "nan"), "line 2: fiducial_score 'nan'; expected a number"),
    "a way up": (cell("user_id", ".."), "line 2: user_id '..'; expected a plain name"),
    "a way out": (cell("original_image", "../../../../etc/passwd"), "line 2: original_image '../../../../etc/passwd'"),
    "a place": (cell("user_id", "/etc"), "line 2: user_id '/etc'; expected a plain name"),
    "a hidden name": (cell("original_image", ".x.jpg"), "line 2: original_image '.x.jpg'; expected a plain name"),
    "a nought": (cell("original_image", "a\0.jpg"), "line 2: original_image 'a\\x00.jpg'; expected a plain name"),
    "said again otherwise": (cell("age", "(4, 6)", 10), "line 10: the face of line 2 again, but not as there"),
}  # fmt: skip


@pytest.mark.parametrize("damage", TEXTS)
def test_a_damaged_fold_file_makes_a_line_and_the_reader_says_the_same(root, damage):
    spoil, words = TEXTS[damage]
    (root / FOLD).write_text(spoil((root / FOLD).read_text()), newline="\n")
    before = contents(root)
    report = Adience.check(root)
    assert report[0].startswith(f"{FOLD}: {words}") and all("\n" not in line for line in report)
    assert not [line for line in report if "stray" in line], "what a damaged file names is no stray"
    assert contents(root) == before
    for split, fold in (("test", 2), ("train", 0)):
        with pytest.raises(KitError) as error:
            build("adience", split, root=root, fold=fold)
        assert str(error.value).startswith(report[0]) and "mtlkit data check adience" in str(error.value)
    build("adience", "train", root=root, fold=2)  # is not concerned


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "is missing; expected a face on every line"),
        (lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()), "cannot be read (no text in UTF-8)"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read (Is a directory)"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "is a link that leads out of the dataset's"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_a_fold_file_that_cannot_be_read_makes_one_line(root, spoil, words):
    spoil(root / FOLD)
    (line,) = Adience.check(root)
    assert line.startswith(f"{FOLD}: {words}")


def test_windows_line_ends_are_welcome(root):
    (root / FOLD).write_bytes((root / FOLD).read_bytes().replace(b"\n", b"\r\n"))
    assert Adience.check(root) == [] and len(build("adience", "test", root=root, fold=2))


def test_counts_are_those_of_the_note_or_of_the_real_set(root):
    text = (root / FOLD).read_text().splitlines(keepends=True)
    (root / FOLD).write_text("".join(text[:-1]))
    assert Adience.check(root) == [f"{FOLD}: 8 lines with 8 faces; expected 9 with 8"]
    (root / "mtlkit-sample.json").unlink()
    assert Adience.check(root) == [
        "fold_0_data.txt: 9 lines with 8 faces; expected 4496 with 4484",
        "fold_1_data.txt: 9 lines with 8 faces; expected 3745 with 3730",
        "fold_2_data.txt: 8 lines with 8 faces; expected 3953 with 3894",
        "fold_3_data.txt: 9 lines with 8 faces; expected 3459 with 3446",
        "fold_4_data.txt: 9 lines with 8 faces; expected 3834 with 3816",
    ]


def test_subjects_in_two_folds_are_found(root, first):
    """The faces of one person of fold 2 are said to be of somebody in fold 0."""
    path, values = root / FOLD, (2, first.user, first.age, first.gender)
    path.write_text(path.read_text().replace(f"\t{first.subject}\t", "\t1\t"))
    assert [line for line in Adience.check(root) if "subject" in line] == [
        f"{FOLD}: subject 1 has {what} {value!r} here and {other!r} elsewhere; expected one"
        for what, value, other in zip(
            ("fold", "user", "age", "gender"), values, (0, "user00000", "(25, 23)", "f"), strict=True
        )
    ]


def test_users_in_two_folds_and_subjects_with_two_labels_are_found(root, first):
    text = (root / FOLD).read_text()
    (root / FOLD).write_text(text.replace(f"\n{first.user}\t", "\nuser00000\t"))
    lines = [line for line in Adience.check(root) if line.startswith(FOLD)]
    assert lines == [f"{FOLD}: user user00000 has fold 2 here and 0 elsewhere; expected one"]
    (root / FOLD).write_text(cell("age", "(4, 6)", 3)(text))
    age = f"{FOLD}: subject {first.subject} has age '(4, 6)' here and {first.age!r} elsewhere; expected one"
    assert Adience.check(root) == [age]


@settings(deadline=None, max_examples=100)
@given(place=st.integers(0, 900), byte=st.integers(0, 255), length=st.integers(0, 900))
def test_whatever_happens_to_a_fold_file_there_is_a_report(made, place, byte, length):
    content = bytearray((made / FOLD).read_bytes())
    content[place % len(content)] = byte
    try:
        text = bytes(content[: len(content) - length]).decode("utf-8")
    except UnicodeDecodeError:
        return
    rows, problems = adience_folds.parse(text)
    assert rows or problems
    assert all("\n" not in problem for problem in problems)
    for row in rows:
        folder, user, file = row.place("faces").split("/")
        assert (folder, user) == ("faces", row.user) and not user.startswith(".") and "\0" not in file


def test_what_is_written_is_read(tmp_path, made):
    rows = adience_folds.read(made, 1)[0]
    adience_folds.write(tmp_path / "fold_1_data.txt", rows)
    assert adience_folds.read(tmp_path, 1) == (rows, [])
    assert (tmp_path / "fold_1_data.txt").read_bytes() == (made / "fold_1_data.txt").read_bytes()


# --- images -----------------------------------------------------------------------------------------------------------


def picture(size, form="JPEG", mode="RGB"):
    file = io.BytesIO()
    PIL.Image.new(mode, size[::-1]).save(file, form)
    return file.getvalue()


def written(content):
    return lambda path: path.write_bytes(content)


# damage to an image -> how its line goes on
IMAGES = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read; "),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:100]), "cannot be read; "),
    "png cut short": (written(picture((24, 24), "PNG")[:50]), "cannot be read; "),
    "empty": (written(b""), "cannot be read; "),
    "text": (written(b"<html>register first</html>"), "cannot be read; "),
    "gif": (written(picture((24, 24), "GIF")), "cannot be read; "),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Trap(path.parent / "sprung"))), "cannot be read; "),
    "huge": (written(picture((8000, 8000), "PNG", "1")), "has 8000 x 8000 pixels, expected at most 50 million"),
    "of another size": (written(picture((24, 25))), "24 x 25 pixels; expected 24 x 24"),
    "a link out": (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "is a link that leads out of"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read; "),
}  # fmt: skip


@pytest.mark.parametrize("images", ["faces", "aligned"])
@pytest.mark.parametrize("damage", IMAGES)
def test_a_damaged_image_makes_one_line(root, first, damage, images):
    spoil, words = IMAGES[damage]
    place = first.place(images)
    spoil(root / place)
    before = contents(root)
    (line,) = Adience.check(root)
    assert line.startswith(f"{place}: {words}") and "\n" not in line
    assert contents(root) == before and not list(root.rglob("sprung")), "nothing is written, nothing unpickled"
    if damage != "of another size":
        data = build("adience", "test", root=root, fold=2, images=images)
        with pytest.raises(KitError) as error:
            data[[row.face for row in data.rows].index(first.face)]
        assert str(error.value).startswith(f"{place}: ") and "\n" not in str(error.value)


def test_real_images_may_have_any_size(root, first):
    (root / "mtlkit-sample.json").unlink()
    (root / first.place("faces")).write_bytes(picture((40, 30)))
    assert not [line for line in Adience.check(root) if "pixels" in line]


def test_missing_and_stray_files_and_folders(root, first):
    user = root / "faces" / first.user
    (root / first.place("faces")).unlink()
    (user / "extra.jpg").write_text("")
    (user / f"landmarks.{first.subject}.{Path(first.photo).stem}.txt").write_text("68 points")
    (user / "landmarks.99999.nobody.txt").write_text("")
    (root / "aligned" / "stranger").mkdir()
    shutil.rmtree(root / "aligned" / first.user)
    (root / "faces.tar.gz").write_text("")
    (root / "fold_frontal_0_data.txt").write_text("not read")
    (root / "faces" / ".DS_Store").write_text("")
    archive, *report = Adience.check(root)
    assert archive.startswith("faces.tar.gz: stray; expected aligned, faces, fold_0_data.txt")
    assert report == [
        f"{first.place('faces')}: missing; a fold file names it",
        f"faces/{first.user}/extra.jpg: stray; no fold file names it",
        f"faces/{first.user}/landmarks.99999.nobody.txt: stray; no fold file names it",
        "aligned/stranger: stray; no fold file names it",
        f"aligned/{first.user}: missing folder; expected 4 faces in it",
    ]
    data = build("adience", "test", root=root, fold=2)
    with pytest.raises(KitError, match="is missing; type: mtlkit data check adience"):
        data[[row.face for row in data.rows].index(first.face)]


def test_one_folder_of_images_is_enough(root):
    shutil.rmtree(root / "faces")
    assert Adience.check(root) == []
    shutil.rmtree(root / "aligned")
    assert Adience.check(root) == ["faces, aligned: missing folders; expected at least one of them"]


def test_a_folder_that_leads_out_is_not_looked_into(root, first, tmp_path):
    (root / "faces" / first.user).rename(tmp_path / "elsewhere")
    (root / "faces" / first.user).symlink_to(tmp_path / "elsewhere")
    (root / "aligned").rename(tmp_path / "aligned")
    (root / "aligned").symlink_to(tmp_path / "aligned")
    report = Adience.check(root, contents=False)
    assert report == [
        f"faces/{first.user}: is a link that leads out of the dataset's folder; expected 4 faces in it",
        "aligned: is a link that leads out of the dataset's folder",
    ]


def test_a_damaged_note_and_no_folder(root, tmp_path):
    (root / "mtlkit-sample.json").write_text("{")
    first, *rest = Adience.check(root)
    assert "mtlkit-sample.json" in first and "4496" in rest[0]
    with pytest.raises(KitError, match="no adience at .*mtlkit data sample adience DEST"):
        Adience.check(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert len(Adience.check(tmp_path / "empty")) == 6
    with pytest.raises(KitError, match="fold_0_data.txt: is missing"):
        build("adience", "test", root=tmp_path / "empty")
