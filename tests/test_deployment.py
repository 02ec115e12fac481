"""A trained network in use: ONNX that agrees with PyTorch, latency of one network against several, a video."""

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mtlkit import architectures, cli, datasets, deployment, evaluation, predict, recipes, tasks, training
from mtlkit.datasets import flow
from mtlkit.errors import KitError
from mtlkit.runs import Run

SMALL = {"dataset.train": 4, "dataset.validation": 2, "dataset.test": 2, "epochs": 1}
H, W = 60, 100  # of a frame of the video


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of two streams, for depth, classes and motion."""
    recipe = recipes.load("edgeai-tiny", SMALL)
    fingerprint = training.fingerprint(*training.load_data(recipe))
    return training.fit(
        recipe, Run.create(recipe, fingerprint, root=tmp_path_factory.mktemp("runs")), device="cpu", progress=False
    )


def command(*words):
    """What the command line prints; raises what it would print as one line."""
    return CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False).output


# --- ONNX ---


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """(file, differences)"""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return path, deployment.export(run, path)


def test_an_export_was_checked_on_random_and_on_real_inputs(exported):
    path, found = exported
    assert {*found.index} == {(i, t) for i in ("random", "real") for t in ("depth", "semantic", "motion")}
    assert (found.relative <= 1e-4).all() and (found.absolute >= 0).all()
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("batch", [1, 5])
def test_an_exported_network_gives_the_raw_outputs_by_name_for_any_batch(run, exported, batch):
    model, session = run.model(), onnxruntime.InferenceSession(exported[0])
    inputs = deployment.random_inputs(model, (32, 64), batch)
    assert {entry.name for entry in session.get_inputs()} == {"flow", "image"}
    found = session.run(["motion", "depth"], {name: inputs[name].numpy() for name in ("image", "flow")})
    with torch.no_grad():
        expected = model(inputs)
    for name, output in zip(("motion", "depth"), found, strict=True):
        torch.testing.assert_close(torch.from_numpy(output), expected[name], rtol=1e-4, atol=1e-5)


def test_a_check_on_real_inputs_sees_what_evaluation_sees(run):
    data = datasets.build("scenes", "validation", **run.recipe.dataset.options)
    (batch,) = evaluation.batches(data, ("flow", "image"), run.recipe)
    found = deployment._samples(run, run.model(), None)
    assert all(torch.equal(found[name], batch[name]) for name in ("flow", "image"))


def test_an_export_that_differs_leaves_no_file_and_an_old_one_as_it_was(run, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "write_onnx", lambda *_: _[2].write_bytes(exported[0].read_bytes()))
    model = run.model()
    with torch.no_grad():
        for parameter in model.heads["depth"].parameters():
            parameter.mul_(1.001)
    monkeypatch.setattr(Run, "model", lambda *_: model)
    (tmp_path / "old.onnx").write_text("old")
    for name in ("new.onnx", "old.onnx"):
        with pytest.raises(KitError, match=r"differ by .* \(depth, (random|real) inputs\), expected 1e-04 at most"):
            deployment.export(run, tmp_path / name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


class Plain(architectures.MultiTaskModel):
    """One convolution."""

    stride = 1

    def __init__(self):
        super().__init__([tasks.depth()])
        self.heads = torch.nn.ModuleDict({"depth": torch.nn.Conv2d(3, 1, 1)})

    def compute(self, streams, names, features):
        return {"depth": self.heads["depth"](streams["image"])}


class Forking(Plain):
    """Its way depends on its input, which ONNX does not express."""

    def compute(self, streams, names, features):
        return super().compute(streams, names, features) if float(streams["image"].sum()) > 0 else {}


def test_what_onnx_cannot_express_is_one_line(tmp_path):
    with pytest.raises(KitError, match=r"^ONNX cannot express this network \(.*\); export another") as caught:
        deployment.write_onnx(Forking(), (4, 4), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_without_the_packages_a_line_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "PACKAGES", ("onnx", "onnx_is_absent"))
    with pytest.raises(KitError, match=r"needs onnx_is_absent; .* pip install -e '\.\[deploy\]'"):
        deployment.export(run, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_size_that_the_network_does_not_take(run, tmp_path):
    with pytest.raises(KitError, match="multiples of 16"):
        command("export", run.folder, tmp_path / "model.onnx", "--height", 40, "--width", 64)
    with pytest.raises(KitError, match="found one of them"):
        command("export", run.folder, tmp_path / "model.onnx", "--height", 32)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("export",), ("predict", "-o")])
def test_a_file_that_is_there_stays(run, tmp_path, words):
    (tmp_path / "there.mp4").write_text("mine")
    frames = [str(tmp_path)] * (words[0] == "predict")
    with pytest.raises(KitError, match="is there already.*--force"):
        command(words[0], run.folder, *frames, *words[1:], tmp_path / "there.mp4")
    with pytest.raises(KitError, match="a folder that exists"):
        command(words[0], run.folder, *frames, *words[1:], tmp_path / "nowhere" / "new.mp4")
    assert (tmp_path / "there.mp4").read_text() == "mine"


# --- time ---


def test_the_rounds_after_the_warm_up_count(monkeypatch):
    times = iter([99.0] * deployment.WARM_UP + [5.0, 1.0, 2.0, 4.0, 3.0])
    monkeypatch.setattr(deployment, "_milliseconds", lambda *_: next(times))
    model = Plain()
    table = deployment.latency({"it": model}, deployment.random_inputs(model, (4, 4)), rounds=5)
    assert table.loc["it", "median_ms"] == 3 and table.loc["it", "p95_ms"] == pytest.approx(4.8)
    assert table.loc["it", "gmacs"] == 3 * 16 / 1e9
    assert table.attrs == {"threads": torch.get_num_threads(), "device": "cpu"}


def test_networks_take_turns_and_several_of_them_are_one():
    ran, models = [], {name: Plain().train() for name in "abc"}
    for name, model in models.items():
        model.register_forward_hook(lambda module, *_, name=name: ran.append(name + "t" * module.training))
    given = {"one": models["a"], "two": [models["b"], models["c"]]}
    table = deployment.latency(given, deployment.random_inputs(models["a"], (4, 4)), rounds=2)
    rounds = 2 + deployment.WARM_UP
    assert ran[: 3 * rounds] == ["a", "b", "c"] * rounds  # what counts operations runs a copy of each after that
    assert table.loc["two", "gmacs"] == 2 * table.loc["one", "gmacs"]
    assert (table.p95_ms >= table.median_ms).all() and (table.median_ms > 0).all()


def test_a_sweep_gives_the_network_and_its_single_tasks():
    small = SMALL | {"dataset.height": 32, "dataset.width": 64, "architecture.width": 0.25}
    models, size = deployment.contestants(["edgeai-streets"], overrides=small)
    assert size == (32, 64)
    *names, together = models
    assert names == [f"two_stream {t}" for t in ("depth+semantic+motion", "depth", "semantic", "motion")]
    assert together == "one after the other" and models[together] == [models[name] for name in names[1:]]
    assert [models[name].inputs for name in names[1:]] == [("image",), ("image",), ("flow", "image")]  # as published
    *_, last = deployment.compare(["edgeai-streets"], overrides=small, rounds=1)
    macs = [architectures.count_macs(models[name], 32, 64) for name in names]
    assert last.startswith(f"{names[0]} saves {1 - macs[0] / sum(macs[1:]):.1%} of the MACs and ")


def test_a_run_is_compared_with_what_is_named(run):
    alone, _ = deployment.contestants([str(run.folder)])
    assert list(alone) == ["two_stream depth+semantic+motion"]
    assert "batch 1, 32 x 64, eval mode, cpu" in command("latency", run.folder, "--rounds", 1)
    with pytest.raises(KitError, match="no single-task network of 'depth' in .*--against"):
        command("latency", run.folder, "--against", "edgeai-tiny")


# --- video ---


@pytest.fixture
def frames(tmp_path):
    """A folder of frames, their names in no alphabetical order: a window that moves over a random picture."""
    noise = np.random.default_rng(0).uniform(0, 255, (H, W + 40, 3)).astype(np.float32)
    picture = np.clip((cv2.GaussianBlur(noise, None, 4) - 127) * 8 + 127, 0, 255).astype(np.uint8)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(8, 13):
        Image.fromarray(picture[:, 3 * number : 3 * number + W]).save(folder / f"frame_{number}.png")
    (folder / "notes.txt").write_text("no frame")
    return folder


def read_back(path):
    """Frames of a video (N, H, W, 3), RGB, and how many a second."""
    video = cv2.VideoCapture(str(path))
    pages = []
    while (read := video.read())[0]:
        pages.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return np.stack(pages), video.get(cv2.CAP_PROP_FPS)


def test_a_folder_of_frames_becomes_a_video_of_frame_and_tasks(run, frames, tmp_path):
    assert "5 frames" in command("predict", run.folder, frames, "-o", tmp_path / "out.mp4")
    pages, fps = read_back(tmp_path / "out.mp4")
    assert pages.shape == (5, 2 * (H + predict.CAPTION), 2 * W, 3) and fps == 17
    for page, number in zip(pages, range(8, 13), strict=True):
        shown, frame = page[predict.CAPTION :][:H, :W], np.array(Image.open(frames / f"frame_{number}.png"))
        assert np.abs(shown.astype(int) - frame).mean() < 12, "the frames by their numbers, but for compression"
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "out.mp4"}


def test_a_network_is_fed_flow_to_the_frame_before_and_none_in_the_first(run, frames):
    predictor, fed = predict.Predictor(run), []
    predictor.model.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    first, second = map(predict.read_image, predict.frames_of(frames)[:2])
    predictor(first)
    predictor(second, first)
    nothing = torch.tensor([0, 0, -2.0]).view(1, 3, 1, 1)  # by the normalisation of the recipe, ti
    assert torch.equal(fed[0]["flow"], nothing.expand(1, 3, 32, 64))
    small = [np.array(frame.resize((64, 32), Image.Resampling.BILINEAR)) for frame in (second, first)]
    u, v, confidence = flow.estimate(*small)
    expected = np.stack([u / 64, v / 64, (255 * confidence - 128) / 64])
    np.testing.assert_allclose(fed[1]["flow"][0].numpy(), expected, atol=1e-6)
    # the window went 3 pixels to the right in a picture that is 64/100 as wide now, so that things were right of here
    assert np.median(u) == pytest.approx(3 * 64 / W, abs=0.3)


class Far:
    """Sees a plane, one metre farther away in every frame."""

    tasks = (tasks.depth(),)

    def __call__(self, frame, previous):
        if previous is None:
            self.metres = 10.0
        self.metres += 1
        return {"depth": torch.full((1, 8, 16), self.metres)}


def test_colours_of_depth_mean_the_same_in_every_frame(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "Predictor", lambda *_: Far())
    predict.predict_video(None, frames, tmp_path / "out.avi")
    pages, _ = read_back(tmp_path / "out.avi")
    assert pages.shape[1:3] == (H + predict.CAPTION, 2 * W)
    brightness = pages[:, predict.CAPTION + 5 : -5, W + 5 : -5].mean(axis=(1, 2, 3))
    assert (np.diff(brightness) < -5).all(), "farther is darker"


def test_wide_frames_are_shown_smaller_and_with_even_sides():
    assert predict._fitted((2048, 1024)) == (768, 384) and predict._fitted((101, 57)) == (100, 56)


def test_a_label_of_a_frame_is_its_caption():
    label = tasks.classification("age", ["young", "old"])
    page = predict._page(Image.new("RGB", (W, H), "white"), [label], {"age": torch.tensor(1)}, {}, (W, H))
    assert page.shape == (H + predict.CAPTION, 2 * W, 3)
    assert page[: predict.CAPTION, W:].any() and not page[predict.CAPTION :, W:].any()


def test_nothing_stays_of_a_video_that_fails(run, frames, tmp_path, monkeypatch):
    last = frames / "frame_12.png"
    last.write_bytes(last.read_bytes()[:200])
    (tmp_path / "old.mp4").write_text("old")
    monkeypatch.setattr(predict, "_limits", lambda *_: {"depth": (1.0, 2.0)})  # else it is found before it begins
    with pytest.raises(KitError, match="frame_12.png cannot be read"):
        command("predict", run.folder, frames, "-o", tmp_path / "old.mp4", "--force")
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "old.mp4"}
    assert (tmp_path / "old.mp4").read_text() == "old"


def test_without_the_codec_a_line_names_the_other_format(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "Predictor", lambda *_: Far())
    monkeypatch.setitem(predict.CODECS, ".mp4", "----")
    with pytest.raises(KitError, match="lacks the codec .* of .mp4; give a name that ends in .avi"):
        predict.predict_video(None, frames, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_what_is_no_video(run, frames, tmp_path):
    with pytest.raises(KitError, match="a single image does not have.*FOLDER -o out.mp4"):
        command("predict", run.folder, frames / "frame_8.png", "-o", tmp_path / "out")
    with pytest.raises(KitError, match="becomes a video, .mp4 or .avi"):
        command("predict", run.folder, frames, "-o", tmp_path / "out.gif")
    with pytest.raises(KitError, match="is a folder"):
        command("predict", run.folder, frames, frames, "-o", tmp_path / "out")
    with pytest.raises(KitError, match="more than 0 frames a second"):
        command("predict", run.folder, frames, "-o", tmp_path / "out.mp4", "--fps", 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match="has no frames"):
        command("predict", run.folder, tmp_path / "empty", "-o", tmp_path / "out.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "empty"}
