"""Predictions for the test images of the Visual Decathlon as its evaluation server takes them, and their score by hand.

    [{"image_id": 10206668, "category_id": 10000017}, ...]       results.json: one entry for each image

Sets come in the order of their names; in each, images in the order of their ids, which is that of their file names.

Class folders, sorted, are the classes 0, 1, ... of the kit. Which category each is, is read from ``<set>_val.json``, by
the rule of MTAN's released code: the categories of the validation images, sorted by image id, in order of first
appearance. These need not be growing numbers. Where file names there name the class folders too, they have to agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pydantic

from .. import files
from ..errors import KitError
from .decathlon_check import Coco, read_annotations


class _Answer(pydantic.BaseModel):
    """One entry of results.json."""

    image_id: int
    category_id: int


_ANSWERS = pydantic.TypeAdapter(list[_Answer])


def results(predictions: Mapping[str, Sequence[int]], annotations: Path) -> list[dict[str, int]]:
    """The entries of ``results.json``.

    Args:
        predictions: by set, the predicted class ids of its test images in the order of their file names.
        annotations: the folder with ``<set>_val.json`` and ``<set>_test_stripped.json``.

    Raises:
        KitError: for an annotation file that cannot be read or says something else about classes or images than the
            folders do; names it.
    """
    answers = []
    for domain in sorted(predictions):
        categories, images = _categories(domain, annotations), _test_images(domain, annotations)
        predicted = [int(label) for label in predictions[domain]]
        if len(predicted) != len(images):
            raise KitError(
                f"{domain}_test_stripped.json names {len(images)} images, found {len(predicted)} predictions; type: "
                "mtlkit data check visual-decathlon"
            )
        if strangers := [label for label in predicted if not 0 <= label < len(categories)]:
            raise KitError(
                f"{domain}_val.json has images of {len(categories)} categories, found class {strangers[0]} predicted; "
                "type: mtlkit data check visual-decathlon"
            )
        pairs = zip(images, predicted, strict=True)
        answers += [{"image_id": image, "category_id": categories[label]} for image, label in pairs]
    return answers


def write_results(path: Path, answers: Sequence[Mapping[str, int]]) -> None:
    """Write ``results.json``, by rename; what stands there is replaced."""
    files.write_text(path, json.dumps([dict(answer) for answer in answers]) + "\n")


def score_results(path: Path, annotations: Iterable[Path]) -> dict[str, float]:
    """The accuracy in each set of a ``results.json``, against labels at hand.

    Args:
        path: of the results.
        annotations: files in the form of ``<set>_val.json``, with the labels of the images that were predicted.

    Returns:
        Set -> fraction of its images in [0, 1]; the set is what the file is called, up to the first underscore.

    Raises:
        KitError: for a file that cannot be read, and a labelled image without exactly one prediction.
    """
    found: dict[int, list[int]] = {}
    for answer in _answers(path):
        found.setdefault(answer.image_id, []).append(answer.category_id)
    accuracies = {}
    for place in annotations:
        truth = {a.image_id: a.category_id for a in _read(place).annotations}
        if wrong := [image for image in truth if len(found.get(image, ())) != 1]:
            count = len(found.get(wrong[0], ()))
            raise KitError(f"{path}: {count} predictions for image {wrong[0]} of {place.name}; expected one for each")
        if not truth:
            raise KitError(f"{place}: no labels; expected an annotation for each image")
        right = sum(found[image] == [category] for image, category in truth.items())
        accuracies[place.name.partition("_")[0]] = right / len(truth)
    return accuracies


def _answers(path: Path) -> list[_Answer]:
    try:
        return _ANSWERS.validate_json(path.read_bytes())
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror}); make it: mtlkit predict RUN -o {path}") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise KitError(f'{path}: {where}: {first["msg"]}; expected a list of {{"image_id", "category_id"}}') from error


def _read(place: Path) -> Coco:
    try:
        return read_annotations(place.parent, place.name)
    except KitError as error:
        raise KitError(f"{place}: {error}") from error


def _categories(domain: str, annotations: Path) -> list[int]:
    """Category id of the classes 0, 1, ..."""
    place = annotations / f"{domain}_val.json"
    content = _read(place)
    category = {annotation.image_id: annotation.category_id for annotation in content.annotations}
    images = sorted((image for image in content.images if image.id in category), key=lambda image: image.id)
    order = list(dict.fromkeys(category[image.id] for image in images))
    folders = {category[image.id]: Path(image.file_name).parent.name for image in images}
    # data/<set>/val/<class>/000001.jpg; without class folders there is nothing to compare
    told = all(len(Path(image.file_name).parts) > 4 for image in images)
    if told and order != sorted(order, key=folders.__getitem__):
        raise KitError(
            f"{place}: sorted by id, its images are not in the order of their class folders, by which predictions are "
            "numbered; type: mtlkit data check visual-decathlon"
        )
    return order


def _test_images(domain: str, annotations: Path) -> list[int]:
    """Image ids in the order of the file names."""
    place = annotations / f"{domain}_test_stripped.json"
    images = sorted(_read(place).images, key=lambda image: image.id)
    names = [image.file_name for image in images]
    if names != sorted(names):
        raise KitError(
            f"{place}: image ids are not in the order of the file names, by which predictions come; type: "
            "mtlkit data check visual-decathlon"
        )
    return [image.id for image in images]
