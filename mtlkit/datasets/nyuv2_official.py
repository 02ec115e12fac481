"""From the official NYUv2 to the files that ``nyuv2`` reads: what ``mtlkit data prepare nyuv2`` does.

    <source>/nyu_depth_v2_labeled.mat   MATLAB 7.3, which is HDF5; N = 1449 frames of 480 x 640, every axis reversed
                 images     (N, 3, 640, 480)  uint8, RGB
                 depths     (N, 640, 480)     metres, holes filled in
                 rawDepths  (N, 640, 480)     metres, 0 where nothing was measured
                 labels     (N, 640, 480)     uint16: 0 unlabelled, 1 ... 894
    <source>/splits.mat                 trainNdxs (795), testNdxs (654): numbers of frames, from 1
    <source>/classMapping40.mat         mapClass (894): 1 ... 40
    <source>/class13Mapping.mat         classMapping13.labels13 (40): 1 ... 13, or 0
    <source>/normals_gt/                optional: 0001.png ... for frames 1 ...
                 normals/<n>.png            colours 255 (n + 1) / 2
                 masks/<n>.png              0 invalid

The first two are the release of N. Silberman, D. Hoiem, P. Kohli and R. Fergus, ECCV 2012; the class maps lie in
ankurhanda/nyuv2-meta-data (40 classes by S. Gupta et al., CVPR 2013, 13 by C. Couprie et al., ICLR 2013). The normals
are those of D. Eigen and R. Fergus (ICCV 2015), from which MTAN's files were made; their signs are passed on as stored.

Ours, as MTAN's own script is lost:

* the border is cut off: rows 45 ... 464 and columns 40 ... 599 are kept, 420 x 560 pixels of the same shape as
  288 x 384, so that pixels stay square;
* images are resized with a triangle filter over all the pixels that one covers, and rounded to 8 bits; labels, depth
  and normals are those of the nearest pixel, so that nothing is mixed with what is invalid;
* depth is ``depths``, but 0 where ``rawDepths`` is: what was measured. ``filled`` keeps the holes filled;
* without ``normals_gt``, normals are estimated from that depth (``normals.from_depth``) with the camera of the official
  toolbox (its ``camera_params``), in the frame x right, y down, z forward;
* file i of a part is the i-th frame of its list in ``splits.mat``; files are float32.

Unconfirmed: that any of this is as MTAN did it, above all the order of the files, on which the list ``nyuv2.HOLDOUT``
relies; the names of the variables in the class maps and the form of ``normals_gt``, which are those that other public
readers of these files use (another form is refused).

Shapes: H/W the official frame, h/w the file, B frames that are read at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import PIL.Image
from tqdm.auto import tqdm

from ..errors import KitError
from . import layout, normals, nyuv2, ranges
from .mat import read_mat

LABELED, SPLITS, MAP40, MAP13 = "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat", "class13Mapping.mat"
NORMALS = "normals_gt"
FRAME = (480, 640)
LABELS = 894
CAMERA = normals.Intrinsics(fx=518.85790117450188, fy=519.46961112127485, cx=325.58244941119034, cy=253.73616633400465)
KEPT = (slice(45, 465), slice(40, 600))
BLOCK = 16  # frames in memory at once: 60 MB
_LISTS = {"train": "trainNdxs", "val": "testNdxs"}
_VARIABLES = {"images": ((3,), "u"), "depths": ((), "f"), "rawDepths": ((), "f"), "labels": ((), "u")}
_ADVICE = "data/README.md says which files and where from"


@dataclasses.dataclass(frozen=True)
class _Frame:
    """One official frame, as it was taken: (H, W) or (H, W, 3)."""

    images: np.ndarray
    depths: np.ndarray
    labels: np.ndarray
    rawDepths: np.ndarray | None = None  # noqa: N815  (the name of the variable)


def prepare(source: str | os.PathLike, root: str | os.PathLike, *, filled: bool = False) -> None:
    """See ``NYUv2.prepare``."""
    source = Path(source)
    missing = [name for name in (LABELED, SPLITS, MAP40, MAP13) if not (source / name).is_file()]
    if missing:
        raise KitError(f"{source} has no {', '.join(missing)}; {_ADVICE}")
    places, classes = _places(source / SPLITS), _classes(source)
    given = source / NORMALS if (source / NORMALS).is_dir() else None
    names = [name for name in _VARIABLES if not (filled and name == "rawDepths")]
    with (
        _opened(source / LABELED, names, len(places)) as variables,
        layout.new_folder(root) as folder,
        ThreadPoolExecutor(layout.THREADS) as pool,
        tqdm(total=len(places), desc="preparing nyuv2", unit="image") as bar,
    ):
        for part in nyuv2.COUNTS:
            for field in nyuv2.FIELDS:
                (folder / part / field).mkdir(parents=True)
        for first in range(0, len(places), BLOCK):
            block = {name: _read(variables[name], slice(first, first + BLOCK)) for name in names}
            jobs = []
            for n in range(first, min(first + BLOCK, len(places))):
                frame = _Frame(**{name: values[n - first] for name, values in block.items()})
                jobs.append(pool.submit(_write, folder, places[n], n + 1, frame, classes, given))
            for job in jobs:
                job.result()
                bar.update()
        layout.write_prepared(folder, nyuv2.NYUv2.name, about(given is not None, filled))


def about(given: bool, filled: bool) -> str:
    """One line on what was made."""
    made_normals = f"normals from {NORMALS}, signs as stored" if given else "normals ESTIMATED from depth"
    depth = "holes of the depth filled in" if filled else "depth where it was measured"
    return f"prepared from the official files by the kit's own recipe (MTAN's is lost): {made_normals}; {depth}"


# --- the small files --------------------------------------------------------------------------------------------------


def _numbers(path: Path, variable: str, count: int, last: int, first: int = 1) -> np.ndarray:
    """A list of ``count`` whole numbers first ... last from a .mat file. Raises KitError with the file's name."""
    try:
        found = read_mat(path, variable).ravel()
    except KitError as error:
        raise KitError(f"{path.name}: {error}; {_ADVICE}") from error
    if len(found) != count or (found != np.rint(found)).any() or found.min() < first or found.max() > last:
        shown = f"{len(found)} from {found.min():g} to {found.max():g}" if len(found) else "none"
        expected = f"{count} whole numbers {first} ... {last}"
        raise KitError(f"{path.name}: {variable!r} holds {shown}; expected {expected}; {_ADVICE}")
    return found.astype(int)


def _places(path: Path) -> list[tuple[str, int]]:
    """Of every frame, in order: its part, and its number there."""
    total = sum(nyuv2.COUNTS.values())
    found: dict[int, tuple[str, int]] = {}
    for part, variable in _LISTS.items():
        for number, frame in enumerate(_numbers(path, variable, nyuv2.COUNTS[part], total)):
            found[int(frame)] = (part, number)
    if len(found) != total:
        raise KitError(f"{path.name}: its lists name {len(found)} frames; expected each of {total} once; {_ADVICE}")
    return [found[frame] for frame in range(1, total + 1)]


def _classes(source: Path) -> np.ndarray:
    """Official label 0 ... 894 -> -1, 0 ... 12, float32 (895,)."""
    to_40 = _numbers(source / MAP40, "mapClass", LABELS, 40)
    to_13 = _numbers(source / MAP13, "classMapping13.labels13", 40, len(nyuv2.CLASSES), first=0)
    return np.concatenate([[-1], to_13[to_40 - 1] - 1]).astype(np.float32)


# --- the large file ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(path: Path, names: list[str], count: int) -> Iterator[dict[str, h5py.Dataset]]:
    """The variables of the large file, of the right form."""
    try:
        file = h5py.File(path, "r")
    except Exception as error:  # whatever a damaged file makes HDF5 say
        reason = " ".join(str(error).split())
        raise KitError(f"{path.name}: cannot be read; expected MATLAB 7.3 (HDF5), found: {reason}") from error
    with file:
        yield {name: _variable(file, name, count) for name in names}


def _variable(file: h5py.File, name: str, count: int) -> h5py.Dataset:
    channels, kind = _VARIABLES[name]
    # a link may lead to any file of the machine
    linked = isinstance(file.get(name, getlink=True), h5py.HardLink)
    found = file[name] if linked else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise KitError(f"{LABELED}: has no variable {name!r}; found: {', '.join(sorted(file)) or 'nothing'}; {_ADVICE}")
    expected = (count, *channels, *FRAME[::-1])
    if found.shape != expected or found.dtype.kind != kind:
        wanted = {"u": "whole numbers", "f": "floating-point numbers"}[kind]
        reason = f"{found.dtype} {found.shape}; expected {wanted} {expected}"
        raise KitError(f"{LABELED}: {name!r} is {reason}; {_ADVICE}")
    return found


def _read(variable: h5py.Dataset, frames: slice) -> np.ndarray:
    """Some frames, (B, H, W) or (B, H, W, 3)."""
    try:
        values = variable[frames]
    except Exception as error:  # whatever a damaged file makes HDF5 say
        reason = " ".join(str(error).split())
        where = f"{variable.name.lstrip('/')!r} from frame {frames.start + 1} on"
        raise KitError(f"{LABELED}: {where}: cannot be read ({reason}); fetch the file anew") from error
    return values.transpose(0, *range(values.ndim - 1, 0, -1))


# --- one frame --------------------------------------------------------------------------------------------------------


def _nearest(kept: slice, count: int) -> np.ndarray:
    """Which rows (or columns) of the frame the ``count`` rows of a file show."""
    middles = (np.arange(count) + 0.5) / count
    return kept.start + (middles * (kept.stop - kept.start)).astype(int)


_ROWS, _COLUMNS = (_nearest(kept, count) for kept, count in zip(KEPT, nyuv2.SIZE, strict=True))
_GRID = np.ix_(_ROWS, _COLUMNS)


def _write(
    folder: Path, place: tuple[str, int], number: int, frame: _Frame, classes: np.ndarray, given: Path | None
) -> None:
    """The four files of one frame, which has this official number."""
    if frame.labels.max() >= len(classes):
        raise KitError(f"{LABELED}: frame {number} has label {frame.labels.max()}; expected 0 ... {LABELS}")
    depth_HW = frame.depths if frame.rawDepths is None else np.where(frame.rawDepths > 0, frame.depths, 0)
    image = PIL.Image.fromarray(np.ascontiguousarray(frame.images[KEPT]))
    small = image.resize(nyuv2.SIZE[::-1], PIL.Image.Resampling.BILINEAR)
    made = {
        "image": np.asarray(small, dtype=np.float32) / 255,
        "label": classes[frame.labels[_GRID]],
        "depth": depth_HW[_GRID][..., None],
        "normal": normals.from_depth(depth_HW, CAMERA, _ROWS, _COLUMNS)
        if given is None
        else _given_normals(given, number)[_GRID],
    }
    part, index = place
    for field, array in made.items():
        np.save(folder / part / field / f"{index}.npy", array.astype(np.float32))


def _given_normals(folder: Path, number: int) -> np.ndarray:
    """The normals of a frame from its two pictures, (H, W, 3)."""
    stored = {}
    for kind, mode in (("normals", "RGB"), ("masks", "L")):
        place = f"{kind}/{number:04d}.png"
        try:
            stored[kind] = layout.read_image(folder / place, mode)
            if stored[kind].shape[:2] != FRAME:
                raise KitError(f"shape {stored[kind].shape[:2]}; expected {FRAME}")
            for problem in ranges.encoded_directions(stored[kind]) if kind == "normals" else ():
                raise KitError(problem)
        except KitError as error:
            raise KitError(f"{NORMALS}/{place}: {error}; {_ADVICE}") from error
    return normals.from_colours(stored["normals"]) * (stored["masks"] > 0)[..., None]
