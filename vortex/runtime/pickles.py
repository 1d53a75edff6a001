"""Reads pickles of data: dicts, lists, texts, numbers and arrays of numbers. Nothing of a pickle is executed.

Published files of this field are pickles, which may name any function for the reader to call. Here they find
stand-ins for arrays and numbers, and nothing else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vortex.types import FloatArray


class _NumberType:
    """Stands for numpy.dtype in a pickle: its name, and its byte order once the pickle has told it."""

    def __init__(self, name: object, *_: object) -> None:
        self.name, self.order = str(name), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])

    def read(self, content: bytes) -> FloatArray:
        if self.name not in ("f2", "f4", "f8", "i4", "i8", "u1", "i2", "b1"):
            raise pickle.UnpicklingError(f"it has an array of {self.name}, not of numbers")
        order = self.order if self.order in "<>" else "<"
        return np.frombuffer(content, np.dtype(order + self.name)).astype(np.float64)


class PickledArray:
    """Stands for numpy.ndarray in a pickle; ``values`` are float64 once the pickle has told them."""

    def __init__(self, *_: object) -> None:
        self.values: FloatArray = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the values that the pickle holds."""
        _, shape, kind, fortran, content = state
        self.values = kind.read(content).reshape(shape, order="F" if fortran else "C")


def _scalar(kind: _NumberType, content: bytes) -> float:
    return float(kind.read(content)[0])


def _buffer(content: Any, kind: _NumberType, shape: Any, order: str) -> PickledArray:
    array = PickledArray()
    array.values = kind.read(bytes(content)).reshape(shape, order="F" if order == "F" else "C")
    return array


def _latin1(text: str, encoding: str) -> bytes:
    """Return bytes that Python 2 would have written; pickles of protocol 2 name this function."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


class _Function:
    """A function that a pickle may call, but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes functions")


_BUILT: Mapping[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): PickledArray for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Function(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Function(_buffer) for core in ("core", "_core")},
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _NumberType,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _Function(_latin1),
}
"""What a pickle may name, and what is used in its place."""


class _DataUnpickler(pickle._Unpickler):
    """Builds data only: it finds the functions of :data:`_BUILT` and nothing else.

    The unpickler of Python's library that is written in Python: the one written in C fills as much memory as
    a pickle asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _BUILT:
            raise pickle.UnpicklingError(f"it wants to use {module}.{name}, which is not data")
        return _BUILT[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")

    def get_extension(self, code: int) -> Any:
        raise pickle.UnpicklingError("it refers to functions by number")


def read_pickle(content: bytes) -> Any:
    """Return what a pickle holds; its arrays are :class:`PickledArray`.

    Raises:
        pickle.UnpicklingError: it names anything but data.
        Exception: a damaged pickle raises whatever its operations raise, MemoryError included.
    """
    return _DataUnpickler(io.BytesIO(content)).load()
