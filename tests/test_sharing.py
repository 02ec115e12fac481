"""Looking at what was learned to share: the tables are those of the parameters, the gates those of the image."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

import mtlkit
from mtlkit import datasets, recipes, sharing, tasks, transforms
from mtlkit.errors import KitError
from mtlkit.runs import Run

DATA = {"name": "scenes", "height": 32, "width": 64, "train": 24, "test": 8}
TASKS = ["depth", "normals"]
TRIPLE = [tasks.semantic(["a", "b", "c"]), tasks.depth(), tasks.normals()]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
BLOCKS = ["stage4/0", "stage4/1", "stage4"]
DEEPLAB = "resnet50-deeplabv3plus"


def moved(model, seed=0):
    """The model with units that are no longer as they started."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.exchange.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_run(root, architecture, names=TASKS, snapshots=(), data=DATA, **options):
    """A run folder as training leaves it, around networks that are not trained."""
    content = {"name": "looked-at", "dataset": data, "tasks": names, "normalise": "imagenet"}
    recipe = recipes.make({**content, "architecture": {"name": architecture, "width": 0.05, **options}})
    run = Run.create(recipe, "data", root=root)
    (run.folder / "snapshots").mkdir()
    dataset = datasets.build(**data, split="test")
    for seed, path in enumerate([run.folder / "checkpoint.pt", *map(run.snapshot, snapshots)]):
        torch.manual_seed(seed)
        network = recipe.network(tasks.select(dataset.tasks, names), dataset.size)
        made = moved(network, seed) if hasattr(network, "exchange") else network
        torch.save({"model": made.state_dict()}, path)
    return run


@pytest.fixture(scope="module")
def afa(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("afa"), "afa", snapshots=[0, 2])


@pytest.fixture(scope="module")
def nddr(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("nddr"), "nddr", snapshots=[0, 2], backbone=DEEPLAB)


@pytest.fixture(scope="module")
def stitch():
    return moved(mtlkit.build("cross_stitch", TRIPLE, backbone=DEEPLAB, width=0.05))


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


# --- numbers ---


def test_matrices_of_cross_stitch_are_its_parameters(stitch):
    with mtlkit.record(stitch, "stitch/*") as recorded:
        stitch(torch.rand(1, 3, 32, 64))
    found = sharing.matrices(stitch)
    assert list(found) == STAGES
    for place, mixture in found.items():
        assert torch.equal(mixture.channels_TTC, recorded[f"stitch/{place}"])
        assert list(mixture.now.index) == list(mixture.now.columns) == [task.name for task in TRIPLE]
        np.testing.assert_allclose(mixture.now, recorded[f"stitch/{place}"].mean(-1))
        assert mixture.start.loc["depth", "depth"] == pytest.approx(0.9)
        assert mixture.start.loc["depth", "normals"] == pytest.approx(0.05)
        assert (mixture.change.abs() > 1e-4).any(axis=None)


def test_matrices_of_nddr_are_shares_of_absolute_weights():
    model = moved(mtlkit.build("nddr", TRIPLE, width=0.05))
    found, state = sharing.matrices(model), model.state_dict()
    names = [task.name for task in TRIPLE]
    for place, mixture in found.items():
        for i, to in enumerate(names):
            weight = state[f"exchange.{place}.mix.{to}.0.weight"][:, :, 0, 0].abs().double().numpy()
            channels = len(weight)
            mass = [weight[:, j * channels : (j + 1) * channels] for j in range(3)]
            np.testing.assert_allclose(mixture.now.loc[to], [m.sum() / weight.sum() for m in mass], rtol=1e-5)
            each = [m.sum(1) / weight.sum(1) for m in mass]
            np.testing.assert_allclose(mixture.channels_TTC[i], each, rtol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "options", "own", "other"),
    [("cross_stitch", {}, 0.9, 0.05), ("cross_stitch", {"unit": "sum"}, 1.0, 1.0), ("nddr", {"own": 0.7}, 0.7, 0.15)],
)
def test_nothing_has_changed_before_training(architecture, options, own, other):
    found = sharing.matrices(mtlkit.build(architecture, TRIPLE, width=0.05, **options))
    for mixture in found.values():
        assert mixture.change.abs().to_numpy().max() < 1e-6
        np.testing.assert_allclose(mixture.start, np.where(np.eye(3, dtype=bool), own, other), rtol=1e-6)


def test_the_own_share_counts_negative_factors_too():
    table = pd.DataFrame([[-0.6, 0.2], [0.0, 3.0]], TASKS, TASKS)
    found = sharing.own_share({"stage1": table})
    assert list(found.index) == ["stage1"] and list(found.columns) == TASKS
    assert found.loc["stage1"].tolist() == pytest.approx([0.75, 1.0])


def test_gates_are_those_of_the_images_as_the_run_was_fed_them(afa):
    seen, dataset = sharing.look(afa, 5), datasets.build(**DATA, split="test")
    assert list(seen.names) == [f"rooms/test/{i:05d}" for i in (5, 6, 7)], "no more than there are"
    model = afa.model()
    images = [dataset[i]["image"] for i in (5, 6, 7)]
    assert all(map(torch.equal, seen.images, images)), "drawn as they are, not normalised"
    assert list(seen.gates) == BLOCKS
    for i, image in enumerate(images):
        with mtlkit.record(model) as recorded:
            model(transforms.NORMALISATIONS["imagenet"](image)[None])
        for place, found in seen.gates.items():
            assert found.channel_NC.shape[0] == 3 and found.spatial_Nhw.shape == (3, 2, 4)
            assert torch.equal(found.channel_NC[i], recorded[f"channel/{place}"][0, :, 0, 0])
            assert torch.equal(found.spatial_Nhw[i], recorded[f"spatial/{place}"][0, 0])


def test_what_is_not_there_is_named(afa, tmp_path):
    split = mtlkit.build("split", TRIPLE, width=0.05)
    with pytest.raises(KitError, match=r"\['semantic', 'depth', 'normals'\] has no matrices; take 'cross_stitch' or"):
        sharing.matrices(split)
    with pytest.raises(KitError, match="has no matrices"):
        sharing.matrices(afa.model())
    with pytest.raises(KitError, match="has no gates; take 'afa' with two tasks or more"):
        sharing.gates(split, torch.rand(1, 3, 32, 64))
    with pytest.raises(KitError, match="'test' has the samples 0 to 7, found 8"):
        sharing.look(afa, 8)
    with pytest.raises(KitError, match="--level is of masks, and architecture 'afa' has none"):
        next(sharing.save(afa, tmp_path / "out", level="encoder0"))
    alone = write_run(tmp_path, "nddr", ["depth"])
    with pytest.raises(KitError, match="architecture 'nddr' with one task has no attention masks, matrices or gates"):
        next(sharing.save(alone, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# --- figures and viewers ---


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_a_table_for_every_place_in_the_colours_of_the_tasks(stitch):
    found = sharing.matrices(stitch)
    figure = sharing.matrix_maps(found, "mine")
    assert titles(figure) == [*STAGES, "share of the task's own feature (dotted: the start)"]
    assert figure._suptitle.get_text() == "mine: what each task (row) takes from which (column)"
    for axis, mixture in zip(figure.axes, found.values(), strict=False):
        assert [text.get_text() for text in axis.texts] == [f"{v:.2f}" for v in mixture.now.to_numpy().flat]
        np.testing.assert_allclose(axis.images[0].get_array(), mixture.change)
        low, high = axis.images[0].get_clim()
        assert low == -high and high >= mixture.change.abs().to_numpy().max(), "white is the start"
    ticks = figure.axes[0].get_yticklabels()
    assert [(tick.get_text(), tick.get_color()) for tick in ticks] == [(task.name, task.colour) for task in TRIPLE]
    *own, start = figure.axes[-1].lines
    shares = sharing.own_share({place: mixture.now for place, mixture in found.items()})
    for task, line in zip(TRIPLE, own, strict=True):
        assert to_hex(line.get_color()) == task.colour.lower()
        assert line.get_ydata() == pytest.approx(shares[task.name].to_numpy())
    assert start.get_ydata() == pytest.approx([0.9] * 4)


def test_units_that_have_learned_nothing_are_white():
    frozen = mtlkit.build("cross_stitch", TRIPLE, width=0.05, frozen=True)
    figure = sharing.matrix_maps(sharing.matrices(frozen), "frozen")
    for axis in figure.axes[:9]:
        assert abs(axis.images[0].get_array()).max() < 1e-3 * axis.images[0].get_clim()[1]


def test_the_spread_of_channels_has_a_panel_for_each_task(stitch):
    figure = sharing.channel_spread(sharing.matrices(stitch), "mine")
    assert titles(figure) == ["to semantic", "to depth", "to normals"]
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == [f"from {t.name}" for t in TRIPLE]
    line = next(line for line in figure.axes[1].lines if line.get_label() == "from normals")
    assert line.get_ydata() == pytest.approx([m.now.loc["depth", "normals"] for m in sharing.matrices(stitch).values()])


def test_a_viewer_of_matrices_by_place_and_by_epoch(nddr):
    history = {epoch: sharing.matrices(nddr.model(epoch)) for epoch in ("epoch-0000", "epoch-0002")}
    made = sharing.matrix_viewer(history, "mine")
    assert made.controls == {"place": STAGES, "epoch": list(history)} and made.play == "epoch"
    assert len(set(made.frames)) == 8, "all differ"
    assert max(map(len, made.frames)) < 30_000, "bytes"
    one = sharing.matrix_viewer({"checkpoint": history["epoch-0000"]}, "mine")
    assert one.controls == {"place": STAGES} and one.play == "place" and len(set(one.frames)) == 4


def test_channel_gates_are_sorted_around_one_half(afa):
    seen = sharing.look(afa, count=3)
    figure = sharing.channel_gates(seen, "mine")
    assert titles(figure) == [f"{place}: mean {found.channel_NC.mean():.3f}" for place, found in seen.gates.items()]
    for axis, found in zip(figure.axes, seen.gates.values(), strict=True):
        half, curve = axis.lines
        assert set(half.get_ydata()) == {0.5} and np.mean(axis.get_ylim()) == pytest.approx(0.5)
        assert list(curve.get_ydata()) == pytest.approx(sorted(found.channel_NC.mean(0).tolist(), reverse=True))


def test_spatial_gates_lie_over_their_images(afa):
    figure = sharing.spatial_gates(sharing.look(afa, count=3), "mine", count=2)
    assert titles(figure) == ["image", *BLOCKS]
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["00000", "00001"]


def test_gates_that_are_equal_everywhere_are_drawn_too():
    flat = {"stage4": sharing.Gates(torch.full((2, 6), 0.5), torch.full((2, 2, 4), 0.5))}
    seen = sharing.Seen(["a", "b"], [torch.rand(3, 32, 64)] * 2, flat)
    assert titles(sharing.channel_gates(seen, "flat")) == ["stage4: mean 0.500"]
    over = sharing.spatial_gates(seen, "flat").axes[1].images[0].get_array()
    image = seen.images[0].mean(0).numpy()
    assert np.corrcoef(np.ravel(over.mean(-1)), np.ravel(image))[0, 1] > 0.99, "one colour: the image alone is seen"
    assert len(sharing.gate_viewer({"": seen}, "flat").frames) == 2


def test_a_viewer_of_gates_by_place_image_and_epoch(afa):
    history = {epoch: sharing.look(afa, 2, epoch, count=2) for epoch in ("epoch-0000", "epoch-0002")}
    made = sharing.gate_viewer(history, "mine")
    names = ["rooms/test/00002", "rooms/test/00003"]
    assert made.controls == {"place": BLOCKS, "image": names, "epoch": list(history)} and made.play == "epoch"
    assert len(set(made.frames)) == 3 * 2 * 2, "all differ"
    assert max(map(len, made.frames)) < 60_000, "bytes"
    assert sharing.gate_viewer({"": history["epoch-0000"]}, "mine", count=1).controls["image"] == names[:1]


# --- what is written ---


def test_the_command_writes_everything(nddr, mtlkit, tmp_path):
    status, output, _ = mtlkit("shared", nddr.folder, "-o", tmp_path / "out")
    names = ["shared-matrices.png", "shared-channels.png", "shared.html", "shared-epochs.html", "shared.gif"]
    assert status == 0 and output.split() == [str(tmp_path / "out" / name) for name in names]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names), "nothing half written is left"
    for name in names[:2]:
        with Image.open(tmp_path / "out" / name) as picture:
            picture.verify()
    with Image.open(tmp_path / "out" / "shared.gif") as gif:
        assert gif.n_frames == 2


def test_gates_are_written_too(tmp_path):
    run = write_run(tmp_path, "afa", snapshots=[0], data=DATA | {"test": 2})
    paths = list(sharing.save(run, tmp_path / "out"))
    assert [path.name for path in paths] == ["shared-channel-gates.png", "shared-spatial-gates.png", "shared.html"]
    assert '"rooms/test/00001"' in paths[-1].read_text() and "rooms/test/00002" not in paths[-1].read_text()


def test_a_common_sum_has_no_channels_to_show(tmp_path):
    run = write_run(tmp_path, "cross_stitch", backbone=DEEPLAB, unit="sum")
    paths = sharing.save(run, tmp_path / "out")
    assert [path.name for path in paths] == ["shared-matrices.png", "shared.html"]
