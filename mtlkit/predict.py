"""A trained run on a person's own images, on a folder of consecutive frames, which becomes a video, and on the test
images of the Visual Decathlon, whose labels its evaluation server keeps.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from . import datasets, evaluation, files, optimisers, plots, training
from .datasets import decathlon_results, flow
from .errors import KitError
from .runs import Run
from .tasks import Task
from .transforms import DOMAIN, normalised

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # OpenCV writes the latter without any help
FPS = 17.0  # of the sequences of Cityscapes
FRAMES = (".png", ".jpg", ".jpeg")
WIDEST = 768  # columns of one picture in a video at most: a frame of Cityscapes as the two-stream network sees it
CAPTION = 20  # rows of the line over each picture
GLANCES = 16  # frames that the range of depth in a video is taken from


def read_image(path: Path) -> Image.Image:
    """An image in RGB, upright. Raises KitError for a file that is absent, no image, or cut off."""
    if path.is_dir():
        raise KitError(f"{path} is a folder; give PNG or JPEG files, or one folder of frames alone")
    if not path.is_file():
        raise KitError(f"{path} does not exist; give PNG or JPEG files")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (PIL.UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise KitError(f"{path} cannot be read as an image ({error}); give PNG or JPEG files") from error


class Predictor:
    """A trained run that looks at images of any size.

    An image is resized to the size the run was trained at (a network knows objects at that scale).

    Attributes:
        tasks: of the run.
        reads_flow: whether it needs the frame before.

    Raises:
        KitError: a run without these parameters or one that normalises by domain, or data that are absent.
    """

    def __init__(self, run: Run, which: str = "checkpoint"):
        if run.recipe.normalise == DOMAIN:
            raise KitError(
                "this run normalises an image by its domain, and images of your own have none; give no images, and "
                f"predict the test images of its domains: mtlkit predict {run.folder} -o results.json"
            )
        self.model, self.normalise = run.model(which), run.recipe.normalise
        self.tasks = self.model.tasks
        self.reads_flow = "flow" in self.model.inputs
        self.height, self.width = run.result["size"] if run.finished else _size(run)

    @torch.no_grad()
    def __call__(self, image: Image.Image, previous: Image.Image | None = None) -> dict[str, Tensor]:
        """Task name -> prediction in the form of a target, of the size the run was trained at.

        Args:
            image: RGB.
            previous: the frame before it; without it flow is zero and has no confidence.
        """
        frame_HW3 = self._resized(image)
        sample = {"image": torch.from_numpy(frame_HW3.astype(np.float32) / 255.0).permute(2, 0, 1)}
        if self.reads_flow:
            known = previous is not None
            sample["flow"] = (
                torch.from_numpy(flow.estimate(frame_HW3, self._resized(previous)))
                if known
                else torch.zeros(3, self.height, self.width)
            )
        inputs = normalised(sample, self.normalise)
        outputs = self.model({name: inputs[name][None] for name in self.model.inputs})
        return {task.name: task.predict(outputs[task.name])[0] for task in self.tasks}

    def _resized(self, image: Image.Image) -> np.ndarray:
        return np.array(image.resize((self.width, self.height), Image.Resampling.BILINEAR))


def _enlarged(task: Task, picture: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A drawn prediction at ``size`` (width, height): nearest for classes, bilinear for the rest."""
    resample = Image.Resampling.NEAREST if task.kind == "classification" else Image.Resampling.BILINEAR
    return Image.fromarray(picture).resize(size, resample)


def predict_images(run: Run, paths: Iterable[Path], output: Path, which: str = "checkpoint") -> Iterator[Path]:
    """Write ``<image>-<task>.png`` at the size of each image, ``<image>-<task>.txt`` where a task is one label for an
    image, and yield the paths.

    Every input is read before anything is written.

    Raises:
        KitError: a run that reads flow too, or as ``Predictor`` and ``read_image``.
    """
    chosen = [(path, read_image(path)) for path in paths]
    stems = [path.stem for path, _ in chosen]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise KitError(f"two images are called {repeated[0]!r} and would be written to the same file; rename one")
    predictor = Predictor(run, which)
    if predictor.reads_flow:
        raise KitError(
            "this run reads flow, which a single image does not have; give a folder of consecutive frames: "
            f"mtlkit predict {run.folder} FOLDER -o out.mp4"
        )
    output.mkdir(parents=True, exist_ok=True)
    for path, image in chosen:
        predictions = predictor(image)
        for task in predictor.tasks:
            answer = plots.cell_of(task, predictions[task.name])
            if isinstance(answer, str):
                target = output / f"{path.stem}-{task.name}.txt"
                files.write_text(target, answer + "\n")
                yield target
                continue
            target = output / f"{path.stem}-{task.name}.png"
            with files.replacing(target) as temporary:
                _enlarged(task, answer, image.size).save(temporary, format="PNG")
            yield target


# --- the test images of the Visual Decathlon ---


def predict_results(run: Run, output: Path, which: str = "checkpoint", device: str = "auto") -> int:
    """Write ``results.json`` (see ``datasets.decathlon_results``) and return its number of predictions.

    Before each set the statistics of batch normalisation are brought to it as the run's recipe says. All sets are
    predicted by one network; the released code of MTAN takes that of the first phase for ImageNet.

    Args:
        run: on visual-decathlon, with its parameters.
        output: the file; replaced where it exists.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot.
        device: as of ``training.fit``.

    Raises:
        KitError: another run, data or annotations that are absent or do not fit. No file is written then.
    """
    if (run.recipe.dataset.name, run.recipe.loop) != ("visual-decathlon", "per_domain"):
        raise KitError(
            f"{run.folder} has dataset {run.recipe.dataset.name!r} and loop {run.recipe.loop!r}; results.json is of "
            "visual-decathlon and per_domain; give images, or another run"
        )
    predictions, root = predict_domains(run, which, device)
    answers = decathlon_results.results(predictions, root / "annotations")
    decathlon_results.write_results(output, answers)
    return len(answers)


def predict_domains(run: Run, which: str = "checkpoint", device: str = "auto") -> tuple[dict[str, list[int]], Path]:
    """Domain -> the predicted classes of its test images, in order; and where the data are. Arguments and errors are
    those of ``predict_results``.
    """
    recipe = run.recipe
    session = training.open_session(recipe, device)
    dataset = datasets.build(recipe.dataset.name, "test", **recipe.dataset.options)
    session.load_parameters(run, which)
    session.final_data, session.epoch = dataset, recipe.epochs - 1  # one more epoch of training is as the last
    optimisers.begin_epoch(session.optimizer, recipe, session.epoch)
    predictions: dict[str, list[int]] = {}
    for task in session.tasks:
        with session.ready_for(task, dataset):
            predictions[task.name] = _classes(session, task, dataset)
    return predictions, dataset.root


@torch.no_grad()
def _classes(session: training.PerDomain, task: Task, dataset: datasets.MultiTaskDataset) -> list[int]:
    data = evaluation.batches(dataset, session.fields(), session.recipe, indices=dataset.indices[task.name])
    session.model.eval()
    classes: list[int] = []
    for batch in session.on_device(tqdm(data, desc=f"predicting {task.name}", unit="batch")):
        with session.fabric.autocast():
            outputs = session.model({name: batch[name] for name in session.model.inputs}, [task.name])
        classes += task.predict(outputs[task.name].float()).tolist()
    return classes


# --- video ---


def frames_of(folder: Path) -> list[Path]:
    """The PNG and JPEG files of a folder by name; numbers in names count as numbers. Raises KitError without any."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in FRAMES and not path.name.startswith(".")]
    if not found:
        raise KitError(f"{folder} has no frames; expected consecutive frames there, PNG or JPEG files in order of name")
    return sorted(found, key=lambda path: [int(w) if w.isdecimal() else w for w in re.split(r"(\d+)", path.name)])


def predict_video(run: Run, folder: Path, output: Path, which: str = "checkpoint", fps: float = FPS) -> int:
    """Write a video of the frames with the predictions of every task beside them, and return its number of frames.

    Flow, where the run reads it, is estimated from each frame to the one before (``datasets.flow``) at the size the run
    was trained at; the first frame has none. Colours of depth have one range over the whole video.

    Args:
        run: with its parameters.
        folder: consecutive frames, see ``frames_of``.
        output: the file, ``.mp4`` or ``.avi``; replaced where it exists.
        which: ``"checkpoint"`` (the last epoch), ``"best"`` or a snapshot.
        fps: frames a second.

    Raises:
        KitError: no frames, or one that cannot be read; another kind of file; a codec that this OpenCV lacks; or as
            ``Predictor``. No file is written then.
    """
    paths = frames_of(folder)
    if output.suffix.lower() not in CODECS:
        raise KitError(f"a folder of frames becomes a video, .mp4 or .avi, found {str(output)!r}; type: -o out.mp4")
    if not fps > 0:
        raise KitError(f"a video has more than 0 frames a second, found {fps}; Cityscapes has {FPS:g}")
    predictor = Predictor(run, which)
    limits = _limits(predictor, paths)
    size = _fitted(read_image(paths[0]).size)
    pages = (
        _page(frame, predictor.tasks, predictor(frame, previous), limits, size) for frame, previous in _pairs(paths)
    )
    # beside the output, so that it can take its name; OpenCV chooses the format by the ending
    with files.replacing(output) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent) as beside:
        made = Path(beside) / f"video{output.suffix.lower()}"
        _write(made, tqdm(pages, desc=f"predicting {folder.name}", total=len(paths), unit="frame"), fps, len(paths))
        os.replace(made, temporary)
    return len(paths)


def _pairs(paths: Iterable[Path]) -> Iterator[tuple[Image.Image, Image.Image | None]]:
    """Every frame with the one before it."""
    previous = None
    for path in paths:
        frame = read_image(path)
        yield frame, previous
        previous = frame


def _limits(predictor: Predictor, paths: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """The range of each task that has one (depth, disparity) over frames spread evenly over all of them."""
    names = [task.name for task in predictor.tasks if task.name in ("depth", "disparity")]
    if not names:
        return {}
    chosen = sorted({round(index) for index in np.linspace(0, len(paths) - 1, GLANCES)})
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for index in tqdm(chosen, desc="range of depth", unit="frame"):
        *_, (frame, previous) = _pairs(paths[max(0, index - 1) : index + 1])
        predictions = predictor(frame, previous)
        for name in names:
            found[name].append(predictions[name].numpy())
    return {name: plots.value_limits(np.stack(values)) for name, values in found.items()}


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of one picture: those of the frame or less, and even, as codecs want them."""
    width, height = size
    scale = min(1.0, WIDEST / width)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def _page(
    frame: Image.Image,
    tasks: Sequence[Task],
    predictions: dict[str, Tensor],
    limits: dict[str, tuple[float, float]],
    size: tuple[int, int],
) -> np.ndarray:
    """The frame and every prediction, RGB uint8: up to three side by side, from four on in two rows."""
    cells = [_captioned("frame", np.array(frame.resize(size, Image.Resampling.BILINEAR)))]
    for task in tasks:
        answer = plots.cell_of(task, predictions[task.name], limits.get(task.name))
        if isinstance(answer, str):
            cells.append(_captioned(f"{task.name}: {answer}", np.zeros_like(cells[0][CAPTION:])))
        else:
            cells.append(_captioned(task.name, np.array(_enlarged(task, answer, size))))
    columns = len(cells) if len(cells) < 4 else (len(cells) + 1) // 2
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def _captioned(text: str, picture: np.ndarray) -> np.ndarray:
    line = np.zeros((CAPTION, picture.shape[1], 3), np.uint8)
    cv2.putText(line, text, (4, CAPTION - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([line, picture])


def _write(path: Path, pages: Iterable[np.ndarray], fps: float, count: int) -> None:
    """Write pages of one size as a video. Raises KitError where OpenCV cannot, or wrote another number of them."""
    codec, writer = CODECS[path.suffix], None
    for page in pages:
        if writer is None:
            height, width = page.shape[:2]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
            if not writer.isOpened():
                other = next(ending for ending in CODECS if ending != path.suffix)
                raise KitError(
                    f"this OpenCV lacks the codec {codec} of {path.suffix}; give a name that ends in {other}"
                )
        writer.write(cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
    writer.release()
    # a full disk is no error to OpenCV
    if (written := int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))) != count:
        raise KitError(f"the video has {written} of {count} frames; is there room on the disk?")


def _size(run: Run) -> tuple[int, int]:
    recipe = run.recipe
    dataset = datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options)
    return recipe.input_size(dataset.size)
