"""Reading other people's `.npy`, pickle and `.pt` files without running anything they hold.

THINGS-EEG2 is published as pickled dictionaries, partly inside `.npy`, partly bare. A pickle is a program: it names
functions and calls them. Three walls stand between such a file and this process:

1. `pickle_scan.scan` walks over the opcodes without executing them: lengths must fit into the file, memo indices and
   nesting stay small, no persistent ids, no out-of-band buffers.
2. `_Unpickler.find_class` imports nothing. It looks a name up in a table of the few that numpy arrays need, and hands
   out the stand-ins of `pickle_numpy`: numpy's own ``__setstate__`` never sees what the file says.
3. `_Plain` rebuilds the result from the types it knows and refuses every other.

`.pt` files go through ``torch.load(weights_only=True)`` with the same scan, the same stand-ins and the same rebuilding.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.pickle_numpy import ArrayBox, DtypeBox, Maker, refuse_global, stand_ins
from brainalign.datasets.pickle_scan import DEPTH_MAX, ITEMS_MAX, PLAIN_OPCODES, REMEDY, scan
from brainalign.errors import InputError

if TYPE_CHECKING:
    import torch

BYTES_MAX = 64 * 2**30
_NPY = b"\x93NUMPY"


def load_untrusted_npy(
    path: str | os.PathLike[str], *, max_bytes: int = BYTES_MAX, mmap_mode: Literal["r"] | None = None
) -> NDArray[Any] | dict[Any, Any]:
    """Read an array, or a pickled dictionary of arrays, from a file that nobody vouches for.

    Three layouts are read: a `.npy` of a plain dtype; a `.npy` whose only element is a pickled dictionary (THINGS-EEG2
    as published by Gifford et al., NeuroImage 264, 2022); a bare pickle of a dictionary, whatever its suffix (the
    preprocessing scripts of NICE and ATM).

    Parameters
    ----------
    path : path-like
        The file.
    max_bytes : int
        Larger files are refused. Memory used stays near the file's size.
    mmap_mode : {'r', None}
        Map a plain array instead of reading it. Pickles are always read.

    Returns
    -------
    numpy.ndarray or dict
        The plain array in its own shape and dtype, or the dictionary: keys str or int; values numpy arrays, numpy
        scalars, None, bool, int, float, complex, str, bytes, and list, tuple, dict of these. Object arrays inside
        become nested lists. Arrays out of a pickle may be read-only: copy before writing into them.

    Raises
    ------
    InputError
        If the file is missing, too large, truncated, of another layout, or names anything but plain data.

    Examples
    --------
    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "eeg.npy")
    >>> np.save(path, {"ch_names": ["O1", "Oz"], "times": np.linspace(0, 1, 3)})
    >>> load_untrusted_npy(path)["ch_names"]
    ['O1', 'Oz']
    """
    size = _size(path, max_bytes)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            if start.startswith(_NPY):
                shape, dtype = _npy_header(file, path)
                if not dtype.hasobject:
                    return _plain_npy(path, mmap_mode, shape, dtype, size - file.tell())
                return _pickled_npy(file, path, shape, dtype, size)
            if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
                file.seek(0)
                return _dictionary(_unpickle(file, path, size), _Plain(path, size))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path, hint="check the path") from error
    kind = "a zip archive (.npz or .pt)" if start.startswith(b"PK") else "of an unknown kind"
    raise InputError(f"is {kind}, expected .npy or a pickle of protocol 2 to 5", where=path, hint="check the path")


def load_untrusted_torch(path: str | os.PathLike[str], *, max_bytes: int = BYTES_MAX) -> dict[Any, Any] | torch.Tensor:
    """Read a dictionary of tensors, or one tensor, from a `.pt` file that nobody vouches for.

    ``torch.load(weights_only=True)``, memory-mapped on the CPU. Numpy arrays inside are rebuilt by this module.

    Parameters
    ----------
    path : path-like
        File written by ``torch.save`` (torch 1.6 or later), for example `train.pt` of UBP.
    max_bytes : int
        Larger files are refused.

    Returns
    -------
    dict or torch.Tensor
        Values as in `load_untrusted_npy`, and CPU tensors in their own shape and dtype (memory-mapped: read them
        piecewise, or copy).

    Raises
    ------
    InputError
        If the file is missing, too large, truncated, not of this format, or names anything but plain data and tensors.
    """
    import torch

    size = _size(path, max_bytes)
    pickled = _scan_torch(path, size)
    names = stand_ins(path, pickled).items()
    makers = [(maker, ".".join(name)) for name, maker in names if name[0].startswith(("numpy", "builtins"))]
    boxes = [(DtypeBox, "brainalign.DtypeBox"), (ArrayBox, "brainalign.ArrayBox")]
    try:
        with torch.serialization.safe_globals([*makers, *boxes]):
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except InputError:
        raise
    except Exception as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            refuse_global(named[1], path)
        raise InputError(f"is damaged ({_short(error)})", where=path, hint="get the file anew") from error
    tensor = _plain_tensor(value)
    return _dictionary(value, _Plain(path, size, other=_plain_tensor)) if tensor is None else tensor


def _size(path: str | os.PathLike[str], max_bytes: int) -> int:
    file = Path(path)
    if not file.is_file():
        raise InputError("no such file", where=path, hint="check the path")
    size = file.stat().st_size
    if size > max_bytes:
        problem = f"holds {size} bytes, at most {max_bytes} are read"
        raise InputError(problem, where=path, hint="raise max_bytes if this is right")
    return size


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return ascii(text[:120])[1:-1] if text else type(error).__name__


# --- .npy -----------------------------------------------------------------------------------------------------------


def _npy_header(file: IO[bytes], path: object) -> tuple[tuple[int, ...], np.dtype[Any]]:
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}, expected (1, 0) or (2, 0)")
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
    except Exception as error:  # numpy parses the header with Python's own parser, whose errors are of many kinds
        problem = f"has a damaged .npy header ({_short(error)})"
        raise InputError(problem, where=path, hint="get the file anew") from error
    if any(n < 0 for n in shape) or len(shape) > DEPTH_MAX:
        raise InputError(f"declares the shape {shape}", where=path, hint="get the file anew")
    return shape, dtype


def _plain_npy(
    path: str | os.PathLike[str], mode: Literal["r"] | None, shape: tuple[int, ...], dtype: np.dtype[Any], size: int
) -> NDArray[Any]:
    declared = math.prod(shape) * dtype.itemsize
    if declared > size:
        problem = f"declares {shape} of {dtype} ({declared} bytes) but holds {size} bytes"
        raise InputError(problem, where=path, hint="the file is truncated; get it anew")
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False, mmap_mode=mode if declared else None)
    except (ValueError, MemoryError) as error:
        raise InputError(f"cannot be read ({_short(error)})", where=path, hint="get the file anew") from error
    return array


def _pickled_npy(
    file: IO[bytes], path: object, shape: tuple[int, ...], dtype: np.dtype[Any], size: int
) -> dict[Any, Any]:
    if dtype != np.dtype(object) or math.prod(shape) != 1:
        problem = f"holds objects of shape {shape} and dtype {dtype}, expected one pickled dictionary"
        raise InputError(problem, where=path, hint="check the path")
    box = _unpickle(file, path, size)
    if not isinstance(box, ArrayBox) or box.items is None or len(box.items) != 1:
        raise InputError("holds another object than its header says", where=path, hint=REMEDY)
    return _dictionary(box.items[0], _Plain(path, size))


def _dictionary(value: Any, plain: _Plain) -> dict[Any, Any]:
    if not isinstance(value, dict):
        kind = "array" if isinstance(value, ArrayBox) else type(value).__name__
        raise InputError(f"holds one {kind}, expected a dictionary", where=plain.path, hint="check the path")
    result: dict[Any, Any] = plain(value)
    return result


# --- second wall: no name is imported -------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: object, size: int) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote array bytes as str
        self._path, self._table = path, stand_ins(path, size)

    def find_class(self, module: str, name: str) -> Any:
        return self._table.get((module, name)) or refuse_global(f"{module}.{name}", self._path)


def _unpickle(file: IO[bytes], path: object, size: int) -> Any:
    scan(file, path, size)
    try:
        return _Unpickler(file, path, size).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        problem = f"is damaged, or more than plain data ({_short(error)})"
        raise InputError(problem, where=path, hint=REMEDY) from error


# --- third wall: only known types come out --------------------------------------------------------------------------


class _Plain:
    """Rebuild a value from known types; sharing and cycles run into the limits on depth and on the number of items."""

    def __init__(self, path: object, size: int, other: Callable[[Any], Any] | None = None) -> None:
        self.path, self._other, self._left = path, other, min(ITEMS_MAX, 4 * size)

    def __call__(self, value: Any, depth: int = 0, in_objects: bool = False) -> Any:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            raise InputError("nests or repeats more than plain data does", where=self.path, hint=REMEDY)
        kind = type(value)
        if kind in (type(None), bool, int, float, complex, str, bytes) or isinstance(value, np.generic):
            return value
        if kind in (list, tuple):
            return kind(self(item, depth + 1, in_objects) for item in value)
        if not in_objects:
            if kind in (dict, OrderedDict):
                return {self._key(key): self(item, depth + 1) for key, item in value.items()}
            if kind is ArrayBox:
                return self._array(value, depth)
            result = self._other(value) if self._other else None
            if result is not None:
                return result
        self._refuse(kind, " inside an object array" if in_objects else "")

    def _array(self, box: ArrayBox, depth: int) -> Any:
        if box.items is None:
            return self._refuse(ArrayBox, " that was never filled") if box.array is None else box.array
        if 0 in box.shape:
            return []
        items: Iterable[Any] = [self(item, depth + 1, in_objects=True) for item in box.items]
        for n in reversed(box.shape[1:]):
            items = [list(group) for group in zip(*[iter(items)] * n, strict=True)]
        return list(items) if box.shape else next(iter(items))

    def _key(self, key: Any) -> str | int:
        if isinstance(key, str):
            return str(key)
        if type(key) is int:
            return key
        return self._refuse(type(key), " as a key")

    def _refuse(self, kind: type, where: str) -> NoReturn:
        name = {ArrayBox: "ndarray", DtypeBox: "dtype", Maker: "function"}.get(kind, kind.__name__)
        raise InputError(f"holds a {name}{where}, expected arrays and plain values", where=self.path, hint=REMEDY)


# --- torch ----------------------------------------------------------------------------------------------------------


def _scan_torch(path: str | os.PathLike[str], size: int) -> int:
    """Check the archive and the pickle inside it; give the pickle's size in bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                problem = f"holds {len(pickles)} entries data.pkl, expected 1"
                raise InputError(problem, where=path, hint="give a file written by torch.save")
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > size:
                raise InputError("is compressed, which torch.save never does", where=path, hint=REMEDY)
            with archive.open(pickles[0]) as file:
                scan(file, path, pickles[0].file_size, PLAIN_OPCODES | {"BINPERSID"})
            return pickles[0].file_size
    except InputError:
        raise
    except Exception as error:  # zipfile raises errors of many kinds on a damaged archive
        hint = "the file is truncated, or written by torch before 1.6: get it anew, or save it again with a newer torch"
        raise InputError(f"is not a file of torch.save ({_short(error)})", where=path, hint=hint) from error


def _plain_tensor(value: Any) -> torch.Tensor | None:
    """The tensor without gradient and attributes; None if it is not dense, or spans more than its storage."""
    import torch

    if type(value) is not torch.Tensor or value.layout != torch.strided or value.device.type != "cpu":
        return None
    fits = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    return value.detach() if fits and not value.is_quantized else None
