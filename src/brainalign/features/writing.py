"""Writing one bank row by row, so that a killed program goes on where it stopped."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import InputError
from brainalign.features.bank import ARRAY, META
from brainalign.files import existing_parent, read_json, write_error, write_json

PLAN = "plan.json"
PARTIAL = ".partial"
FLOAT16_MAX = float(np.finfo(np.float16).max)


class BankWriter:
    """Rows of one bank on their way to the disk, in `<folder>.partial` until all are there.

    The array file grows batch by batch and is its own record of progress: its size says how many batches are whole. The
    same batches are computed after a kill, so that the finished file has the same bytes as one written without it.

    Parameters
    ----------
    folder : Path
        Where the finished bank will lie.
    n_images, dim : int
        Shape of the array.
    dtype : {'float16', 'float32'}
        float16 becomes float32 if a feature does not fit; the bank is then computed from its start again.
    batch_size : int
    """

    def __init__(self, folder: Path, *, n_images: int, dim: int, dtype: str, batch_size: int) -> None:
        self.folder, self.partial = folder, folder.with_name(folder.name + PARTIAL)
        self.shape, self.batch_size, self.dtype = (n_images, dim), batch_size, np.dtype(dtype)
        self.done = 0
        if (kept := self._kept()) in ("float16", "float32"):
            self.dtype = np.dtype(kept)
            self.done = self._whole_rows()
        self._file: IO[bytes] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all rows are written."""
        return self.done == self.shape[0]

    @property
    def missing_bytes(self) -> int:
        """Bytes still to be written."""
        return (self.shape[0] - self.done) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return self.shape[1] * self.dtype.itemsize

    def _plan(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "batch_size": self.batch_size, "dtype": self.dtype.name}

    def _kept(self) -> str:
        """The type of what an earlier program left; '' if its batches were others: they may differ in the last bits."""
        try:
            plan = read_json(self.partial / PLAN)
            return str(plan["dtype"]) if {**plan, "dtype": self.dtype.name} == self._plan() else ""
        except (InputError, TypeError, KeyError):
            return ""

    def _whole_rows(self) -> int:
        """Rows that stand in the file, in whole batches."""
        try:
            rows = ((self.partial / ARRAY).stat().st_size - len(self._header())) // self._row_bytes
        except OSError:
            return 0
        return self.shape[0] if rows >= self.shape[0] else max(0, rows // self.batch_size * self.batch_size)

    def _header(self) -> bytes:
        """What a `.npy` file of this shape begins with."""
        buffer = io.BytesIO()
        facts = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        return buffer.getvalue()

    def open(self) -> None:
        """Make or cut the file so that it ends after the last whole batch.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        header = self._header()
        try:
            if self.done == 0:
                shutil.rmtree(self.partial, ignore_errors=True)
                self.partial.mkdir(parents=True)
                (self.partial / ARRAY).write_bytes(header)
                (self.partial / PLAN).write_text(json.dumps(self._plan()))  # damaged, it only costs a new beginning
            self._file = open(self.partial / ARRAY, "r+b", buffering=0)  # noqa: SIM115 - closed by `close`
            self._file.truncate(len(header) + self.done * self._row_bytes)
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise write_error(error, self.partial) from error

    def close(self) -> None:
        """Close the file; what it holds is kept for the next time."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, first: int, rows: NDArray[np.float32]) -> bool:
        """Add a batch.

        Parameters
        ----------
        first : int
            Its first row; a batch that is there already is passed over.
        rows : ndarray of shape (n, dim)

        Returns
        -------
        bool
            False if a value does not fit into float16. The bank then begins again as float32, in the next pass.

        Raises
        ------
        InputError
            If a value is NaN or infinite, or the disk is full.
        """
        if first != self.done:
            return True
        largest = float(np.abs(rows).max())
        if not np.isfinite(largest):
            raise InputError("the model gives NaN or infinite features", where=self.folder, hint="choose another layer")
        if self.dtype == np.float16 and largest > FLOAT16_MAX:
            self.close()
            self.dtype, self.done = np.dtype(np.float32), 0
            return False
        assert self._file is not None
        try:
            data = memoryview(np.ascontiguousarray(rows, dtype=self.dtype).view(np.uint8).reshape(-1).data)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise write_error(error, self.partial) from error
        self.done += len(rows)
        return True

    def finish(self, meta: dict[str, Any]) -> None:
        """Describe the bank and move it to its place.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        n_images, dim = self.shape
        try:
            with open(self.partial / ARRAY, "rb") as file:
                os.fsync(file.fileno())
            write_json(self.partial / META, {**meta, "n_images": n_images, "dim": dim, "dtype": self.dtype.name})
            shutil.rmtree(self.folder, ignore_errors=True)  # a bank that lost its description
            os.replace(self.partial, self.folder)
            (self.folder / PLAN).unlink(missing_ok=True)  # last: without it a killed program would begin again
        except OSError as error:
            raise write_error(error, self.folder) from error


def check_room(writers: Iterable[BankWriter], where: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    InputError
        Saying how much is needed and how much is free.
    """
    needed = sum(writer.missing_bytes for writer in writers)
    free = shutil.disk_usage(existing_parent(where)).free
    if needed > free:
        text = f"{needed / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free"
        raise InputError(text, where=where, hint="free space, give another --cache, or ask for fewer layers")
