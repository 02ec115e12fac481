"""Any dataset on disk as a packed cache: its samples, read once, in memory-mapped arrays (see ``pack``).

    $MTLKIT_CACHE/packed/<fingerprint>/             the cache; the fingerprint is the dataset's and the version of FORMS
    $MTLKIT_CACHE/packed/<fingerprint>.files.json   root; size, time and sha256 of every file that it was made from

``mtlkit data pack NAME`` makes it, ``packed = true`` (an option of every dataset) reads it. Without it a sample of
NYUv2 is 7 MB of float64 in four files; here it is 2 MB in the types below, on average in a tenth of the time.

What it costs: ``image`` and ``albedo`` are rounded to 1/255, once, so that one stored otherwise, as the float64 of
NYUv2 are, is at most 1/510 off. Images that come from 8-bit files, and everything else, are read bit for bit as the
dataset gives them. A run on packed data has an id of its own, because the fingerprint is another.

A cache is refused when a file of the dataset is missing or of another size, or is of another time and holds something
else than when it was packed. These are the files that the dataset's own fingerprint looks at.

Shapes: C channels, H/W size.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import files
from ..errors import KitError
from . import layout, pack
from .base import DATASETS, MultiTaskDataset, SampleInfo

VERSION = 1  # of FORMS: raise it when the same sample would be stored otherwise
_TABLE = ".files.json"
_FEW = 2000  # samples, which are packed sooner than processes have loaded torch
_MANY_CLASSES = 2**15  # what int16 holds; for labels of which no task says how many classes there are


# --- how a field is stored --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Form:
    """How a field is stored, and read.

    Attributes:
        dtype: number of classes (0 where there are none) -> the type of the packed array.
        store: the sample contract -> numbers that this type holds.
        load: stored, of this type or one as exact -> the contract, in memory of its own.
        error: the most that reading changes a value.
    """

    dtype: Callable[[int], str]
    store: Callable[[Tensor], Tensor]
    load: Callable[[Tensor], Tensor]
    error: float = 0.0


def _smallest(classes: int) -> str:
    return "int8" if classes <= 2**7 else "int16" if classes <= 2**15 else "int32"


def _as_it_is(value: Tensor) -> Tensor:
    return value


def _bytes(colours_3HW: Tensor) -> Tensor:
    return (colours_3HW * 255).round()


def _colours(stored_3HW: Tensor) -> Tensor:
    return stored_3HW.float().div_(255)  # a division: k / 255 is then the nearest number, as in an unpacked sample


def _float(stored: Tensor) -> Tensor:
    return stored.to(torch.float32, copy=True)


def _normals(stored_3HW: Tensor) -> Tensor:
    """float32 as it is; float16 made unit vectors again, bit for bit as ``torch.nn.functional.normalize`` does it,
    which takes 50 times longer on this layout.
    """
    if stored_3HW.dtype != torch.float16:
        return _float(stored_3HW)
    x_3HW = stored_3HW.float()
    length_HW = x_3HW[0].square().add_(x_3HW[1].square()).add_(x_3HW[2].square())
    np.sqrt(length_HW.numpy(), out=length_HW.numpy())  # torch's own is off by a bit here and there
    return x_3HW.div_(length_HW.clamp_min_(1e-12))


_COLOURS = Form(lambda _: "uint8", _bytes, _colours, error=1 / 510 + 1e-6)
_CLASSES = Form(_smallest, _as_it_is, Tensor.long)
_YES_OR_NO = Form(lambda _: "int8", _as_it_is, Tensor.float)  # or -1
_NUMBERS = Form(lambda _: "float32", _as_it_is, _float)
_LABEL = Form(lambda _: "int64", _as_it_is, Tensor.clone)  # one for an image

# normals are no float16 here: half the size, but making them unit vectors again takes longer than all the rest
FORMS = {
    "image": _COLOURS, "albedo": _COLOURS,
    "semantic": _CLASSES, "parts": _CLASSES, "motion": _CLASSES,
    "edges": _YES_OR_NO, "saliency": _YES_OR_NO,
    "depth": _NUMBERS, "disparity": _NUMBERS, "flow": _NUMBERS,
    "normals": dataclasses.replace(_NUMBERS, load=_normals),
}  # fmt: skip


def _form(name: str, value: Tensor) -> Form:
    if name in FORMS:
        return FORMS[name]
    if value.dtype == torch.int64 and value.ndim == 0:
        return _LABEL
    raise KitError(f"field {name!r}, {value.dtype} {tuple(value.shape)}, has no packed form; add it to packed.FORMS")


class Reader:
    """Items of a cache as samples of the contract, every tensor in memory of its own. A loading process is sent the
    place of the cache alone.
    """

    def __init__(self, made: pack.Pack, fields: Iterable[str]):
        self.pack, self.fields = made, tuple(fields)
        with warnings.catch_warnings():  # the maps are read-only, and torch would rather write; nothing here does
            warnings.simplefilter("ignore")
            stored = {name: torch.from_numpy(made.arrays[name]) for name in self.fields}
        self._stored = [(name, array, _form(name, array[0]).load) for name, array in stored.items()]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {name: load(array[index]) for name, array, load in self._stored}
        return sample | {"index": torch.tensor(index)}

    def __reduce__(self) -> tuple:
        return Reader, (self.pack, self.fields)


# --- the dataset ------------------------------------------------------------------------------------------------------


class Packed(MultiTaskDataset):
    """One split of a dataset, read from its packed cache; what is no sample is answered by the dataset itself.

    Attributes:
        original: the dataset.
        pack: the cache.
    """

    def __init__(self, original: MultiTaskDataset, made: pack.Pack):
        self.original, self.pack = original, made
        self.about, self.licence, self.source = original.about, original.licence, original.source
        self.tasks, self.labelled = original.tasks, original.labelled
        self.domains, self.indices, self.moments = original.domains, original.indices, original.moments
        self.fingerprint = made.directory.name
        self._read = Reader(made, made.arrays)

    def __getattr__(self, name: str) -> Any:
        """Its name, split, size, and what else this dataset has, such as ``groups``."""
        if name in ("original", "tasks"):  # not there yet, or no more, in a process that is sent this one
            raise AttributeError(name)
        return getattr(self.original, name)

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self._check_index(index)
        return self._read[index]

    def info(self, index: int) -> SampleInfo:
        return self.original.info(index)

    def glance(self, count: int) -> list[int]:
        return self.original.glance(count)

    @classmethod
    def folder(cls, root: str | os.PathLike | None = None) -> Path:
        """Where the caches are: ``root``, else ``$MTLKIT_CACHE/packed``, else in the user's cache directory."""
        return files.cache_dir() / "packed" if root is None else Path(root)

    @classmethod
    def check(cls, root: str | os.PathLike | None = None, *, contents: bool = True) -> list[str]:
        """Every damaged cache; what they were made from is not looked at."""
        return pack.problems(cls.folder(root), contents)


def find(name: str, split: str, **options: Any) -> Packed:
    """One split of dataset ``name`` with these options, from its packed cache.

    Raises:
        KitError: as the dataset does; where there is no such cache, a file of the dataset has changed since it was
            made, or the cache is damaged. It says what to type.
    """
    return _Source(name, split, options).open()


def make(name: str, split: str, *, workers: int | None = None, **options: Any) -> Packed:
    """The same, made first where it is not there, or is no longer right. A build that was stopped goes on.

    Args:
        name: of the dataset.
        split: of the dataset.
        workers: processes; 0 works in this one; None does so for less than 2000 samples, else is one for each core.
        options: of the dataset.

    Raises:
        KitError: as the dataset does; for images of different sizes, a field that cannot be stored, and as
            ``pack.build``.
    """
    source = _Source(name, split, options)
    if source.there:
        try:
            return source.open()
        except KitError as error:
            print(f"{str(error).partition('; ')[0]}: packed anew", file=sys.stderr)
            shutil.rmtree(source.place, ignore_errors=True)
    return source.build(workers)


def splits(name: str, **options: Any) -> list[str]:
    """The splits that dataset ``name`` has with these options: train and test, and validation where there is one.

    Raises:
        KitError: where packed samples of it would serve nothing.
    """
    _check(name, options)
    try:
        DATASETS[name]("validation", **options)
    except KitError:
        return ["train", "test"]
    return ["train", "validation", "test"]


def _check(name: str, options: Mapping[str, Any]) -> None:
    DATASETS.check(name, dict(options))
    if DATASETS[name].cached:
        raise KitError(f"the samples of {name} are read from a cache that is made on first use; leave packed out")


class _Source:
    """A split that is or will be packed.

    Attributes:
        dataset: the split itself.
        roots: the files that its fingerprint looks at: place under a root -> this root.
        place: of the cache.
        command: what to type to make it.
    """

    def __init__(self, name: str, split: str, options: Mapping[str, Any]):
        _check(name, options)
        with layout.watching() as self.roots:
            self.dataset = DATASETS[name](split, **options)
            fingerprint = f"{self.dataset.fingerprint}-packed{VERSION}"
        self.place = Packed.folder() / fingerprint
        self.shown, self.command = f"{name}/{split}", _command(name, options)
        self._table = self.place.with_name(f"{fingerprint}{_TABLE}")

    @property
    def there(self) -> bool:
        return (self.place / "manifest.json").is_file()

    def open(self) -> Packed:
        """Raises KitError as ``find``."""
        try:
            if not self.there:
                self._name_what_changed()
                raise KitError(f"{self.shown} is not packed as its files are now; type: {self.command}")
            made, table = pack.open(self.place), files.read_json(self._table)
            if table is None or made.fingerprint != self._identity(table):
                raise KitError(f"{self._table} is missing, or is not that of {self.place}; type: {self.command}")
            self._check(table, self.roots)
            return Packed(self.dataset, made)
        except (KeyError, TypeError, AttributeError) as error:
            raise KitError(
                f"a list of files *{_TABLE} in {self.place.parent} is damaged; delete it ({error!r})"
            ) from error

    def _name_what_changed(self) -> None:
        """Raise KitError where a file has changed since it was packed: the fingerprint is then another."""
        here = {str(root.absolute()) for root in self.roots.values()}
        for path in sorted(self.place.parent.glob(f"*{_TABLE}")):
            table = files.read_json(path)
            if table["root"] in here and table["files"].keys() & self.roots.keys():
                self._check(table, dict.fromkeys(table["files"], Path(table["root"])))

    def _check(self, table: Mapping[str, Any], roots: Mapping[str, Path]) -> None:
        """Raise KitError for the first file that is not what it was."""
        entries = table["files"].items()
        for place, entry in tqdm(entries, desc=f"files of {self.shown}", unit="file", delay=2, leave=False):
            pack.check_file(roots[place] / place, entry, f"type: {self.command}")

    def build(self, workers: int | None) -> Packed:
        """Read every file, note what it holds, and pack the samples."""
        fields, count = self._fields(), len(self.dataset)
        workers = 0 if workers is None and count < _FEW else workers
        bar = tqdm(self.roots.items(), desc=f"reading {self.shown}", unit="file", disable=not self.roots)
        stamps = {place: pack.stamp(root / place) for place, root in bar}
        table = {"root": str(next(iter(self.roots.values()), Path()).absolute()), "files": stamps}
        try:
            self._table.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(self._table, table)
        except OSError as error:
            raise pack.unwritable(self.place, error) from error
        produce = functools.partial(_stored, self.dataset, fields)
        identity, description = self._identity(table), f"packing {self.shown}"
        made = pack.build(self.place, count, fields, produce, identity, workers=workers, description=description)
        self._check(table, self.roots)  # nothing has changed in the meantime
        return Packed(self.dataset, made)

    def _identity(self, table: Mapping[str, Any]) -> str:
        """The dataset's fingerprint, with the whole contents of its files."""
        contents = {place: entry["sha256"] for place, entry in table["files"].items()}
        return f"{self.place.name}-{hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]}"

    def _fields(self) -> dict[str, pack.Field]:
        """As the first sample has them."""
        fields = {}
        for name, value in self.dataset[0].items():
            if name != "index":
                classes = self.dataset.tasks[name].channels if name in self.dataset.tasks else _MANY_CLASSES
                fields[name] = pack.Field(_form(name, value).dtype(classes), tuple(value.shape))
        return fields


def _stored(dataset: MultiTaskDataset, fields: Mapping[str, pack.Field], index: int) -> pack.Item:
    """A sample in the types of ``fields``. Raises KitError where it cannot be read again as it was."""
    sample, item = dataset[index], {}
    for name, field in fields.items():
        value, form = sample[name], _form(name, sample[name])
        if tuple(value.shape) != field.shape:
            found = f"shape {tuple(value.shape)}; expected {field.shape}, as in the first sample"
            raise KitError(
                f"{dataset.info(index).name}: {name}: {found}: only images of one size are packed; leave packed out"
            )
        stored = form.store(value).to(getattr(torch, field.dtype))
        if not bool(((form.load(stored) - value).abs() <= form.error).all()):  # NaN is refused as well
            found = f"values {value.min().item():g} ... {value.max().item():g} cannot be stored as {field.dtype}"
            raise KitError(f"{dataset.info(index).name}: {name}: {found}; type: mtlkit data check {dataset.name}")
        item[name] = stored.numpy()
    return item


def _command(name: str, options: Mapping[str, Any]) -> str:
    """What makes the caches of every split."""
    words = ["mtlkit", "data", "pack", name]
    for option, value in options.items():
        if value is not None:
            words += ["--root", str(value)] if option == "root" else ["-p", f"{option}={json.dumps(value)}"]
    return shlex.join(words)
