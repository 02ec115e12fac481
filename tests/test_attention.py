"""Looking at attention: the right masks of the right images, honest numbers, figures and pages that hold them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mtlkit
from mtlkit import architectures, attention, datasets, recipes, tasks, transforms
from mtlkit.errors import KitError
from mtlkit.runs import Run

DATA = {"name": "scenes", "height": 32, "width": 64, "train": 24, "test": 8}
TASKS = ["semantic", "depth", "normals"]
LEVELS = [f"{side}{i}" for side in ("encoder", "decoder") for i in range(5)]


def write_run(root, architecture="mtan", names=TASKS, snapshots=(), **more):
    """A run folder as training leaves it, around networks that are not trained."""
    content = {"name": "looked-at", "dataset": DATA, "tasks": names, "normalise": "imagenet"}
    recipe = recipes.make({**content, "architecture": {"name": architecture, "width": 0.125}, **more})
    run = Run.create(recipe, "data", root=root)
    (run.folder / "snapshots").mkdir()
    chosen = tasks.select(datasets.build(**DATA, split="test").tasks, names)
    for seed, path in enumerate([run.folder / "checkpoint.pt", *map(run.snapshot, snapshots)]):
        torch.manual_seed(seed)
        torch.save({"model": architectures.build(architecture, chosen, width=0.125).state_dict()}, path)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("attention"), snapshots=[0, 2, 4])


@pytest.fixture(scope="module")
def seen(run):
    return attention.look(run, 3)


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def made(masks):
    """An ``Attention`` of one level around given masks."""
    targets = {task: torch.ones(1, 32, 64) for task in masks}
    return attention.Attention("made", torch.rand(3, 32, 64), targets, {"stage1": masks})


# --- reading ---


def test_masks_are_those_of_the_image_as_the_run_was_fed_it(run, seen):
    sample = datasets.build(**DATA, split="test")[3]
    model = run.model()
    with mtlkit.record(model) as recorded:
        model(transforms.NORMALISATIONS["imagenet"](sample["image"])[None])
    assert list(seen.masks) == LEVELS and seen.name == "rooms/test/00003"
    assert torch.equal(seen.image, sample["image"]), "drawn as it is, not normalised"
    assert torch.equal(seen.targets["depth"], sample["depth"])
    for level in LEVELS:
        for task in TASKS:
            assert torch.equal(seen.masks[level][task], recorded[f"mask/{task}/{level}"][0])


def test_a_snapshot_has_masks_of_its_own(run, seen):
    other = attention.look(run, 3, "epoch-0002")
    assert not torch.equal(other.masks["encoder0"]["depth"], seen.masks["encoder0"]["depth"])


def test_the_default_samples_are_as_many_as_there_are(tmp_path):
    run = write_run(tmp_path, dataset=DATA | {"test": 2})
    assert [found.name for found in attention.looks(run)] == ["rooms/test/00000", "rooms/test/00001"]


def test_what_is_not_there_is_named(run, seen, tmp_path):
    with pytest.raises(KitError, match="'test' has the samples 0 to 7, found 8"):
        attention.look(run, 8)
    with pytest.raises(KitError, match="best.pt does not exist; .* has .*'checkpoint'"):
        attention.look(run, 0, "best")
    with pytest.raises(KitError, match="there is no level 'encodr1': did you mean 'encoder"):
        attention.grid(seen, "encodr1")
    with pytest.raises(KitError, match="encoder0 has the channels 0 to 7, found 8"):
        attention.grid(seen, channels=[8])
    with pytest.raises(KitError, match="architecture 'split' has no attention masks; look at a run of 'mtan'"):
        attention.look(write_run(tmp_path, "split"))


# --- numbers ---


def test_telling_channels():
    masks = {task: torch.full((6, 4, 4), 0.5) for task in TASKS}
    masks["depth"][4] += 0.2
    masks["normals"][1] -= 0.4
    assert attention.telling_channels(masks, 2) == [1, 4]
    alone = {"depth": torch.full((6, 4, 4), 0.5)}
    alone["depth"][3, 0] = 0.0
    assert attention.telling_channels(alone, 1) == [3], "with one task: where pixels differ"


@st.composite
def batches(draw):
    """One to three samples of masks (C, h, w) of three tasks that share a part of their values."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(2, 5)))
    share = draw(st.floats(-1, 1))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        common = random.random(shape)
        found.append({t: torch.from_numpy(share * common + random.random(shape)).float() for t in TASKS})
    return found


def table(found):
    return attention.correlation(map(made, found))["stage1"]


@settings(max_examples=40, deadline=None)
@given(batches(), st.floats(0.1, 10), st.floats(-5, 5))
def test_correlation_is_pearson_over_pixels_channels_and_samples(found, scale, shift):
    ours = table(found)
    oracle = np.corrcoef([np.concatenate([masks[task].double().flatten() for masks in found]) for task in TASKS])
    assert ours.to_numpy() == pytest.approx(oracle, abs=1e-9)
    assert ours.to_numpy() == pytest.approx(ours.to_numpy().T, abs=0) and np.diag(ours) == pytest.approx(np.ones(3))
    moved = [masks | {"depth": (scale * masks["depth"].double() + shift).float()} for masks in found]
    assert table(moved).to_numpy() == pytest.approx(ours.to_numpy(), abs=1e-4), "affine change of one mask"


def test_a_constant_mask_has_no_correlation():
    random = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    flat = torch.full((4, 8, 8), 0.1)  # its mean is not exactly 0.1: rounding must not pass for spread
    found = table([{"semantic": random, "depth": flat, "normals": 1 - random}] * 3)
    assert found["depth"].isna().all() and found.loc["semantic", "normals"] == pytest.approx(-1)
    tables = {"stage1": found, "stage2": pd.DataFrame(np.nan, TASKS, TASKS)}
    assert attention.mean_off_diagonal(tables)["stage1"] == pytest.approx(-1)
    assert np.isnan(attention.mean_off_diagonal(tables)["stage2"])
    texts = [text.get_text() for axis in attention.correlation_map(tables).axes for text in axis.texts]
    assert texts.count("-") == 5 + 9 and "-1.00" in texts


def test_one_task_has_nothing_to_compare():
    with pytest.raises(KitError, match=r"masks of two tasks or more can be compared, found \['depth'\]"):
        table([{"depth": torch.rand(2, 4, 4)}])


# --- figures and viewers ---


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_the_grid_says_which_channels_it_shows(seen):
    figure = attention.grid(seen, "encoder1")
    chosen = attention.telling_channels(seen.masks["encoder1"])
    assert titles(figure) == ["image", "target", "mean over channels", *(f"channel {c}" for c in chosen)]
    assert "encoder1, 16 channels" in figure._suptitle.get_text()
    rows = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert rows == TASKS
    assert titles(attention.grid(seen, channels=[5, 0]))[3:] == ["channel 5", "channel 0"]


def test_all_levels_of_a_task_are_drawn(seen):
    assert titles(attention.levels(seen, ["depth"])) == [f"depth, {level}" for level in LEVELS]
    assert len(titles(attention.levels(seen))) == 30


def test_any_mask_is_drawn_not_only_those_of_mtan():
    found = made({"depth": torch.rand(1, 1, 1), "parts of a face": torch.rand(1, 1, 1)})
    assert len(titles(attention.grid(found))) == 4 and len(titles(attention.levels(found))) == 2
    assert attention.viewer(found).controls["mask"] == ["mean", "channel of rank 1"]


def test_the_viewer_has_a_frame_for_every_task_level_and_mask(seen):
    made = attention.viewer(seen, count=2)
    ranks = ["mean", "channel of rank 1", "channel of rank 2"]
    assert made.controls == {"task": TASKS, "level": LEVELS, "mask": ranks}
    assert len(set(made.frames)) == 3 * 10 * 3, "all differ"
    assert max(map(len, made.frames)) < 30_000, "bytes"
    assert made.title == "Masks over rooms/test/00003 (rank 1: where tasks differ most)"


def test_masks_of_every_snapshot_play(run):
    made = attention.epochs(run, 3, "encoder0", count=1)
    channel = attention.telling_channels(attention.look(run, 3, "epoch-0004").masks["encoder0"], 1)[0]
    assert made.controls == {"mask": ["mean over channels", f"channel {channel}"], "epoch": ["0", "2", "4"]}
    assert made.play == "epoch" and len(set(made.frames)) == 6


def test_a_run_without_snapshots_says_how_to_get_them(tmp_path):
    with pytest.raises(KitError, match="has no snapshots; train with keep_every: .* -p keep_every=1"):
        attention.epochs(write_run(tmp_path))


# --- the command ---


def test_the_command_writes_everything(run, mtlkit, tmp_path):
    words = (run.folder, "-o", tmp_path / "out", "--index", 1, "--which", "epoch-0002", "--level", "encoder3")
    status, output, _ = mtlkit("attention", *words)
    names = ["grid.png", "levels.png", "correlation.png"]
    names = [*(f"attention-{name}" for name in names), "attention.html", "attention-epochs.html", "attention.gif"]
    assert status == 0 and output.split() == [str(tmp_path / "out" / name) for name in names]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names), "nothing half written is left"
    assert "encoder3" in (tmp_path / "out" / "attention-epochs.html").read_text().split("<script>")[0]
    with Image.open(tmp_path / "out" / "attention.gif") as gif:
        assert gif.n_frames == 3
    for name in names[:3]:
        with Image.open(tmp_path / "out" / name) as picture:
            picture.verify()


def test_a_run_of_one_task_without_snapshots_has_less_to_show(tmp_path):
    paths = attention.save(write_run(tmp_path, names=["depth"]), tmp_path / "out")
    assert [path.name for path in paths] == ["attention-grid.png", "attention-levels.png", "attention.html"]


def test_a_run_without_masks_is_one_line_and_status_2(mtlkit, tmp_path):
    status, _, error = mtlkit("attention", write_run(tmp_path, "split").folder, "-o", tmp_path / "out")
    assert status == 2 and error.count("\n") == 1 and "no attention masks" in error
    assert not (tmp_path / "out").exists()
