"""The table of what was shown: one row an image."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from brainalign.errors import InputError
from brainalign.stimuli.images import IMAGE_SUFFIXES, open_image, read_image_bytes

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = ("stimulus_id", "path", "concept", "category", "caption")


class StimulusSet:
    """Images shown in an experiment, joined with everything else by `stimulus_id`, never by row order.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `stimulus_id` (unique, the data set's canonical name such as `things/aardvark_01b`) and `path` (a file
        or `archive.zip!member`); optionally `concept`, `category` and `caption` (empty string where unknown).
    root : path-like, optional
        Folder that relative paths start from.

    Raises
    ------
    InputError
        If a column is missing, the table is empty, or a `stimulus_id` stands twice.

    Examples
    --------
    >>> import pandas as pd
    >>> shown = StimulusSet(pd.DataFrame({"stimulus_id": ["a/1", "a/2"], "path": ["1.png", "2.png"]}))
    >>> len(shown), shown.ids, shown.has_concepts
    (2, ('a/1', 'a/2'), False)
    """

    def __init__(self, table: pd.DataFrame, root: str | Path | None = None) -> None:
        for column in ("stimulus_id", "path"):
            if column not in table.columns:
                raise InputError(f"the stimulus table has no column '{column}'", hint=f"it has {list(table.columns)}")
        if table.empty:
            raise InputError("the stimulus table is empty", where=root, hint="give at least two images")
        table = table.reset_index(drop=True)
        table = table.reindex(columns=[*COLUMNS, *(c for c in table.columns if c not in COLUMNS)])
        table[list(COLUMNS)] = table[list(COLUMNS)].fillna("").astype(str)
        twice = table["stimulus_id"][table["stimulus_id"].duplicated()]
        if len(twice):
            raise InputError(
                f"stimulus_id '{twice.iloc[0]}' stands twice", where=root, hint="give every image its own id"
            )
        self.table = table
        self.root = Path(root) if root is not None else None

    @classmethod
    def from_folder(cls, folder: str | Path, *, prefix: str = "") -> StimulusSet:
        """All images below a folder; the id is the relative path without its suffix, the concept the subfolder.

        Raises
        ------
        InputError
            If the folder is missing or holds no image.
        """
        root = Path(folder)
        if not root.is_dir():
            raise InputError("is not a folder", where=folder, hint="give the folder that holds the images")
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not files:
            raise InputError(
                "holds no image", where=folder, hint=f"put {', '.join(sorted(IMAGE_SUFFIXES))} files there"
            )
        names = [p.relative_to(root) for p in files]
        rows = {
            "stimulus_id": [prefix + n.with_suffix("").as_posix() for n in names],
            "path": [n.as_posix() for n in names],
            "concept": [n.parent.as_posix() if len(n.parts) > 1 else "" for n in names],
        }
        return cls(pd.DataFrame(rows), root)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        concepts = f", {self.table['concept'].nunique()} concepts" if self.has_concepts else ""
        return f"StimulusSet({len(self)} images{concepts})"

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """Stimulus ids in row order."""
        return tuple(self.table["stimulus_id"])

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    @property
    def has_concepts(self) -> bool:
        """Whether every image has a concept."""
        return bool((self.table["concept"] != "").all())

    def row(self, stimulus_id: str) -> int:
        """Row number of a stimulus.

        Raises
        ------
        InputError
            If the id is not in the table.
        """
        try:
            return self._rows[stimulus_id]
        except KeyError:
            raise InputError(f"no stimulus '{stimulus_id}' among {len(self)} images", where=self.root) from None

    def rows(self, stimulus_ids: Iterable[str]) -> list[int]:
        """Row numbers of several stimuli, in the order given."""
        return [self.row(name) for name in stimulus_ids]

    def column(self, name: str, stimulus_ids: Iterable[str]) -> list[str]:
        """Values of a text column (`concept`, `category`, `caption`) for the stimuli given, in their order."""
        values = self.table[name].to_numpy()
        return [str(values[row]) for row in self.rows(stimulus_ids)]

    def path(self, row: int) -> str:
        """Full path of an image (or `archive.zip!member`)."""
        name = str(self.table["path"].iloc[row])
        return str(self.root / name) if self.root is not None else name

    def image(self, row: int) -> Image.Image:
        """The decoded RGB image of a row."""
        return open_image(self.path(row))

    @functools.cached_property
    def image_ids(self) -> tuple[str, ...]:
        """sha256 of every file's bytes, in row order: the key feature caches join on. Reads every file once."""
        return tuple(hashlib.sha256(read_image_bytes(self.path(row))).hexdigest() for row in range(len(self)))

    def select(self, stimulus_ids: Sequence[str]) -> StimulusSet:
        """The same table restricted to some stimuli, in the order given."""
        return StimulusSet(self.table.iloc[self.rows(stimulus_ids)], self.root)
