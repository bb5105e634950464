"""The betas of one subject inside an HDF5 file that pandas wrote: voxels x trials, read with h5py alone.

pandas would unpickle the labels of the columns. They are not opened here: the columns of a stored block are in the
order of the table of trials, and their number is checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.hdf5 import opened
from brainalign.errors import InputError

if TYPE_CHECKING:
    import h5py

GROUP = "ResponseData"


@dataclass(frozen=True)
class Betas:
    """Open betas.

    Attributes
    ----------
    values : h5py.Dataset of shape (n_voxels, n_columns)
    first : int
        Column of the first trial (1 where a column with voxel numbers stands before the trials).
    n_trials : int
    voxel_ids : array of shape (n_voxels,), or None where the file names none
    """

    values: h5py.Dataset
    first: int
    n_trials: int
    voxel_ids: NDArray[np.int64] | None

    @property
    def n_voxels(self) -> int:
        """Rows."""
        return int(self.values.shape[0])

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Betas of some voxels, (stop - start, n_trials)."""
        block: NDArray[np.float64] = self.values[start:stop, self.first : self.first + self.n_trials]
        return block


@contextlib.contextmanager
def open_betas(path: Path, n_trials: int) -> Iterator[Betas]:
    """Open the betas of a file in pandas' fixed format, or of one plain data set of that name.

    Parameters
    ----------
    path : Path
    n_trials : int
        Trials in the table beside it.

    Raises
    ------
    InputError
        If the file is damaged, of another layout, has another number of trials, holds objects or links elsewhere.
    """
    with opened(path, missing="get it too") as file:
        yield _find(file, path, n_trials)


def _find(file: h5py.File, path: Path, n_trials: int) -> Betas:
    import h5py

    names = list(file)
    name = GROUP if GROUP in names else names[0] if len(names) == 1 else None
    if name is None:
        raise InputError(f"holds {', '.join(names[:8]) or 'nothing'}, expected {GROUP}", where=path, hint="get it anew")
    found = _member(file, name, path)
    if isinstance(found, h5py.Dataset):
        return _betas(_plain(found, path), None, None, path, n_trials)
    members = list(found)
    if "table" in members:
        hint = "write it anew with pandas' format='fixed', or get the published file"
        raise InputError("is stored as a pandas table, expected pandas' fixed format", where=path, hint=hint)
    blocks = [m.removesuffix("_values") for m in members if m.startswith("block") and m.endswith("_values")]
    if not blocks:
        hint = "expected block0_values of a pandas frame"
        raise InputError(f"holds {', '.join(members[:8]) or 'nothing'} in {name}", where=path, hint=hint)
    stored = {block: _plain(_member(found, f"{block}_values", path), path) for block in blocks}
    main = max(stored, key=lambda block: stored[block].shape[1])
    ids = None
    for block, values in stored.items():
        if block != main and _labels(found, block, path) == ["voxel_id"]:
            ids = _voxel_ids(values[:, 0], path)
    return _betas(stored[main], ids, _labels(found, main, path), path, n_trials)


def _betas(
    values: h5py.Dataset, ids: NDArray[np.int64] | None, labels: list[str] | None, path: Path, n_trials: int
) -> Betas:
    if values.dtype.kind != "f":
        raise InputError(f"has {values.dtype} betas, expected a float type", where=path, hint="get it anew")
    first = 1 if labels and labels[0] == "voxel_id" else 0
    if values.shape[1] - first != n_trials:
        problem = f"has {values.shape[0]} voxels x {values.shape[1] - first} trials, the table of trials has {n_trials}"
        raise InputError(problem, where=path, hint="both must be of one subject and version")
    if first and ids is None:
        ids = _voxel_ids(values[:, 0], path)
    if ids is not None and len(ids) != values.shape[0]:
        raise InputError(f"names {len(ids)} voxels for {values.shape[0]} rows", where=path, hint="get it anew")
    return Betas(values, first, n_trials, ids)


def _member(group: Any, name: str, path: Path) -> Any:
    """A member that lies in this file: a link could name any file of this machine."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"'{name}' is a link to elsewhere", where=path, hint="do not trust this file; get it anew")
    return group[name]


def _plain(data: Any, path: Path) -> h5py.Dataset:
    import h5py

    if not isinstance(data, h5py.Dataset):
        raise InputError("holds a group where betas were expected", where=path, hint="get it anew")
    if data.dtype.hasobject:
        name = data.name.rpartition("/")[2]
        raise InputError(f"'{name}' holds pickled objects, expected numbers", where=path, hint="do not trust this file")
    if data.is_virtual or data.external:
        raise InputError("takes its numbers from other files", where=path, hint="do not trust this file; get it anew")
    if data.ndim != 2 or 0 in data.shape:
        problem = f"has betas of shape {data.shape}, expected (voxels, trials)"
        raise InputError(problem, where=path, hint="get it anew")
    return data


def _labels(group: Any, block: str, path: Path) -> list[str] | None:
    """Column labels stored as plain text; None where they are pickled, which is never opened."""
    items = _member(group, f"{block}_items", path) if f"{block}_items" in group else None
    if items is None or items.dtype.kind != "S" or items.ndim != 1:
        return None
    return [value.decode("utf-8", "replace") for value in items[:]]


def _voxel_ids(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise InputError("has voxel numbers that are no whole numbers", where=path, hint="get it anew")
    return numbers.astype(np.int64)
