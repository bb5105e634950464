"""From a name on the command line to a data set."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from brainalign.datasets.base import Dataset
from brainalign.errors import InputError, unknown_name

# name -> "module:class"; a new data set is one file and one line here.
DATASETS: dict[str, str] = {
    "bids": "brainalign.datasets.bids:BidsDataset",
    "eeg-imagenet": "brainalign.datasets.eeg_imagenet:EEGImageNet",
    "human-fmri-78": "brainalign.datasets.human_fmri_78:HumanFMRI78",
    "macaque-v4": "brainalign.datasets.macaque_v4:MacaqueV4",
    "nsd": "brainalign.datasets.nsd:NSD",
    "things-eeg2": "brainalign.datasets.things_eeg2:ThingsEEG2",
    "things-fmri": "brainalign.datasets.things_fmri:ThingsFMRI",
    "things-meg": "brainalign.datasets.things_meg:ThingsMEG",
    "virtual-eeg": "brainalign.datasets.virtual.virtual_eeg:VirtualEEG",
    "virtual-fmri": "brainalign.datasets.virtual.virtual_fmri:VirtualFMRI",
    "virtual-meg": "brainalign.datasets.virtual.virtual_meg:VirtualMEG",
}


def dataset_class(name: str) -> type[Dataset]:
    """The class behind a registry name.

    Raises
    ------
    InputError
        If there is no such data set; names the nearest one.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    module, _, attribute = DATASETS[name].partition(":")
    found: type[Dataset] = getattr(importlib.import_module(module), attribute)
    return found


def open_dataset(
    name: str, root: str | Path | None = None, *, cache_dir: str | Path | None = None, **options: Any
) -> Dataset:
    """Open a data set by name (`virtual-eeg`, `virtual-eeg:full`), or a folder of own recordings or BIDS by its path.

    Parameters
    ----------
    name : str
        A registry name with an optional `:preset`, or an existing folder.
    root : path-like, optional
        Where the files of a named data set lie.
    cache_dir : path-like, optional
        Where derived data are kept; the user's cache folder by default.
    **options
        Options of a virtual data set or of `bids`.

    Raises
    ------
    InputError
        If the name is neither known nor a folder.
    """
    base, _, preset = name.partition(":")
    if base in DATASETS:
        found = dataset_class(base)
        if options and not _takes_options(found):
            problem = f"dataset '{base}' takes no option '{sorted(options)[0]}'"
            raise InputError(problem, hint="only virtual data sets and bids do")
        return found(root, preset=preset or None, cache_dir=cache_dir, **options)
    if (Path(name) / "dataset_description.json").is_file() and not (Path(name) / "dataset.yaml").exists():
        return dataset_class("bids")(name, cache_dir=cache_dir, **options)
    if Path(name).is_dir() or "/" in name:
        from brainalign.datasets.folder import FolderDataset

        if options:
            raise InputError(f"a folder of own recordings takes no option '{sorted(options)[0]}'", where=name)
        return FolderDataset(name)
    raise unknown_name("dataset", base, DATASETS)


def _takes_options(found: type[Dataset]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(found).parameters.values())
