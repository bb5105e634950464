"""Stand-ins for the numpy names in a pickle: they rebuild arrays from checked parts, and can do nothing else.

Numpy's own ``__setstate__`` methods trust what a pickle says about shapes, dtypes and flags; these do not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from brainalign.datasets.pickle_scan import DEPTH_MAX, REMEDY
from brainalign.errors import InputError

_DTYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU][1-9]\d{0,8}|O[48]?")


def refuse_global(name: str, path: object) -> NoReturn:
    """Refuse a file because of a name it wants to import."""
    raise InputError(f"would run code: {ascii(name[:100])[1:-1]}", where=path, hint=REMEDY)


class Maker:
    """A callable for the unpickler that a pickle can call, but not change (a plain function it could)."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        """Do what the name stands for."""
        return self._make(*args)

    def __setstate__(self, state: object) -> None:
        """Refuse to be changed."""
        raise ValueError("state for a function")


def stand_ins(path: object, size: int) -> dict[tuple[str, str], Maker]:
    """What each name that a pickle may use stands for, keyed by (module, name); every other name is refused.

    Parameters
    ----------
    path : object
        The file's name for messages.
    size : int
        Its size in bytes: all copies that the stand-ins make together stay within twice that.
    """
    left = 2 * size

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise InputError("asks for more memory than it fills", where=path, hint=REMEDY)

    def encode(text: object, codec: object = None) -> bytes:  # how protocol 2 spells bytes
        if type(text) is not str or codec != "latin1":
            refuse_global(f"_codecs.encode(..., {codec!r})", path)
        spend(len(text))
        return text.encode("latin1")

    def reconstruct(kind: object, shape: object, typecode: object) -> ArrayBox:
        if kind is not ndarray:
            raise ValueError("an array of another class than numpy.ndarray")
        return ArrayBox(spend)

    def from_buffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> ArrayBox:
        box = ArrayBox(spend)
        box.fill(data, dtype, shape, "C" if order == "K" else order)
        if order == "K" and axes is not None and box.array is not None:
            box.array = box.array.transpose(_whole_numbers(axes))
        return box

    def scalar(dtype: object, data: object) -> Any:
        array = from_buffer(data, dtype, (), "C").array
        if array is None:
            raise ValueError("a scalar of objects")
        spend(array.nbytes)
        return array[()]

    ndarray = Maker(_forbidden)
    names = {("numpy", "ndarray"): ndarray, ("numpy", "dtype"): Maker(DtypeBox)}
    names["_codecs", "encode"] = Maker(encode)
    for core in ("numpy.core", "numpy._core"):  # numpy < 2, numpy >= 2
        names[f"{core}.multiarray", "_reconstruct"] = Maker(reconstruct)
        names[f"{core}.multiarray", "scalar"] = Maker(scalar)
        names[f"{core}.numeric", "_frombuffer"] = Maker(from_buffer)
    for builtins in ("__builtin__", "builtins"):
        names[builtins, "bytes"] = Maker(lambda: b"")  # how protocol 2 spells empty bytes
    names["collections", "OrderedDict"] = Maker(_ordered)
    return names


def _ordered() -> dict[Any, Any]:
    """Later opcodes fill it; taking an argument, as dict does, would copy one dictionary without end."""
    return {}


def _forbidden(*_: object) -> NoReturn:
    raise ValueError("numpy.ndarray called directly")


class DtypeBox:
    """Stands in for `numpy.dtype`: bool, numbers and fixed-width strings; object only to be recognised."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_align_and_copy: object) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"the dtype {code!r}")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order; ValueError if the dtype is not plain."""
        version, order, subdtype, names, fields = state[:5]
        plain = len(state) == 8 and version == 3 and (subdtype, names, fields) == (None, None, None)
        if not plain or order not in ("<", ">", "|", "="):
            raise ValueError("a structured dtype, or one with metadata")
        self.dtype = self.dtype.newbyteorder(order)


class ArrayBox:
    """Stands in for `numpy.ndarray`: a checked `array`, or the flat and still unchecked `items` of an object array."""

    __slots__ = ("_spend", "array", "items", "shape")

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self.array: NDArray[Any] | None = None
        self.items: list[Any] | None = None
        self.shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take what `numpy.ndarray.__reduce__` wrote; ValueError if its parts do not fit."""
        version, shape, dtype, is_fortran, data = state
        if version != 1:
            raise ValueError(f"an array state of version {version!r}")
        self.fill(data, dtype, shape, "F" if is_fortran else "C")

    def fill(self, data: object, dtype_box: object, shape: object, order: object) -> None:
        """Take data (bytes, or a list of objects) for a shape; ValueError if they do not fit."""
        if not isinstance(dtype_box, DtypeBox) or order not in ("C", "F"):
            raise ValueError(f"an array of order {order!r} with a {type(dtype_box).__name__} as dtype")
        self.shape, dtype = _whole_numbers(shape), dtype_box.dtype
        if dtype.hasobject:
            if type(data) is not list or len(data) != math.prod(self.shape) or (order == "F" and len(self.shape) > 1):
                raise ValueError(f"objects that do not fill the shape {self.shape}")
            self.items = data
            return
        if type(data) is str:  # bytes of Python 2
            self._spend(len(data))
            data = data.encode("latin1")
        if not isinstance(data, bytes | bytearray) or len(data) != math.prod(self.shape) * dtype.itemsize:
            got = len(data) if isinstance(data, bytes | bytearray) else type(data).__name__
            raise ValueError(f"{got} bytes for the shape {self.shape} of {dtype}")
        self.array = np.ndarray(self.shape, dtype, buffer=data, order="F" if order == "F" else "C")


def _whole_numbers(value: object) -> tuple[int, ...]:
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) > DEPTH_MAX or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise ValueError("a shape that is not a few whole numbers")
    return numbers
