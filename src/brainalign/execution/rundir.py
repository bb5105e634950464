"""The folder of a run: who may write there, and how."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.errors import InputError
from brainalign.files import atomic_write, read_json, write_error, write_json, write_text

CHECKPOINTS = "checkpoints"


class RunDirectory:
    """A run's folder, made on first use; every file in it is written atomically.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    InputError
        If the path is a file or cannot be made.
    """

    def __init__(self, path: str | Path) -> None:
        self.root = Path(path)
        if self.root.exists() and not self.root.is_dir():
            raise InputError("is a file, not a folder", where=path, hint="choose another --out")

    def make(self) -> None:
        """Make the folder."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, self.root) from error

    def discard(self, names: Iterable[str]) -> None:
        """Remove files of the run, and folders that this leaves empty."""
        for name in names:
            self.path(name).unlink(missing_ok=True)
            for folder in (self.path(name).parent, self.root):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def path(self, name: str) -> Path:
        """A file of the run."""
        return self.root / name

    def has(self, name: str) -> bool:
        """Whether a file of the run is there."""
        return self.path(name).is_file()

    def read_json(self, name: str) -> Any:
        """A JSON file of the run."""
        return read_json(self.path(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        write_json(self.path(name), value)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run."""
        write_text(self.path(name), text)

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows with the same keys as CSV; see `write_csv`."""
        write_csv(self.path(name), rows)

    def write_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write arrays of plain types as one compressed `.npz`."""
        with atomic_write(self.path(name)) as file:
            np.savez_compressed(file, **arrays)

    def checkpoint(self, config_hash: str) -> Path:
        """Stem of the names of a run's checkpoints. It names the run: what another one left here half trained, with
        other settings or data, is not gone on with.
        """
        return self.path(CHECKPOINTS) / f"training-{config_hash[:16]}"

    def discard_checkpoints(self) -> None:
        """Remove all checkpoints: the choice is frozen."""
        self.discard([f"{CHECKPOINTS}/{file.name}" for file in self.path(CHECKPOINTS).glob("*")])

    def claim(self, config_hash: str) -> str:
        """How far a run with this hash has come here.

        Returns
        -------
        {'new', 'frozen', 'done'}
            Nothing yet; trained and chosen but not scored; scored.

        Raises
        ------
        InputError
            If the folder holds another run.
        """
        for name, state in (("result.json", "done"), ("fit.json", "frozen")):
            if self.has(name):
                held = self.read_json(name).get("config_hash")
                if held != config_hash:
                    raise InputError(
                        f"holds another run ({str(held)[:12]})", where=self.root, hint="choose another --out"
                    )
                return state
        return "new"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, atomically; the columns are those of the first row.

    For tables that our own code reads back (`history.csv`, `candidates.csv`, `steps.csv`, `sweep.csv`): cells stand as
    they are, also those that a spreadsheet would take for a formula, as names in them lead to folders and are compared.
    Tables for people are made by `brainalign.report.page.csv_text`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
