"""A trained run on a person's own images.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps

from . import files, plots
from .errors import KitError
from .runs import Run
from .transforms import NORMALISATIONS


def read_image(path: Path) -> Image.Image:
    """An image in RGB, upright. Raises KitError for a file that is absent, no image, or cut off."""
    if not path.is_file():
        raise KitError(f"{path} does not exist; give PNG or JPEG files")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (PIL.UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise KitError(f"{path} cannot be read as an image ({error}); give PNG or JPEG files") from error


@torch.no_grad()
def predict_images(run: Run, paths: Iterable[Path], output: Path, which: str = "checkpoint") -> Iterator[Path]:
    """Write ``<image>-<task>.png`` at the size of each image, ``<image>-<task>.txt`` where a task is one label for an
    image, and yield the paths.

    The image is resized to the size the run was trained at (a network knows objects at that scale) and the prediction
    is resized back: nearest for classes, bilinear for the rest. Every input is read before anything is written.
    """
    chosen = [(path, read_image(path)) for path in paths]
    stems = [path.stem for path, _ in chosen]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise KitError(f"two images are called {repeated[0]!r} and would be written to the same file; rename one")
    model, normalise = run.model(which), NORMALISATIONS[run.recipe.normalise]
    height, width = run.result["size"] if run.finished else _size(run)
    output.mkdir(parents=True, exist_ok=True)
    for path, image in chosen:
        small = image.resize((width, height), Image.Resampling.BILINEAR)
        image_CHW = torch.from_numpy(np.array(small, dtype=np.float32) / 255.0).permute(2, 0, 1)
        outputs = model(normalise(image_CHW)[None])
        for task in model.tasks:
            answer = plots.cell_of(task, task.predict(outputs[task.name])[0])
            if isinstance(answer, str):
                target = output / f"{path.stem}-{task.name}.txt"
                files.write_text(target, answer + "\n")
                yield target
                continue
            drawn = Image.fromarray(answer)
            resample = Image.Resampling.NEAREST if task.kind == "classification" else Image.Resampling.BILINEAR
            target = output / f"{path.stem}-{task.name}.png"
            with files.replacing(target) as temporary:
                drawn.resize(image.size, resample).save(temporary, format="PNG")
            yield target


def _size(run: Run) -> tuple[int, int]:
    from . import datasets

    recipe = run.recipe
    return datasets.build(recipe.dataset.name, recipe.evaluate_on, **recipe.dataset.options).size
