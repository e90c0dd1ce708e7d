"""Arrays out of a pickle that is not trusted: it is read, and nothing in it is executed.

A pickle is a program: it names functions of any module and has them called. Here the few names that files of arrays need
(numpy, scipy's sparse matrices, chumpy, plain containers) stand for records, which keep what they are given and do nothing.
Any other name is refused, and no module is imported.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from .files import read_whole

ARRAYS = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"}
MAKERS = {"ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer"}  # their functions and classes that make arrays
KEPT = {"chumpy", "scipy"}  # packages whose objects become records, whatever they are
COPYING = {("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"), ("_codecs", "encode")}
CONTAINERS = {"object", "set", "frozenset", "dict", "list", "tuple", "slice", "bytes", "bytearray"}
MOST_BYTES = 2**28  # of a file; hand models have 4 MB


class Record:
    """An object of a pickle that was not made: the name of its class, what it was to be called with, and its state."""

    def __init__(self, name: str, arguments: tuple = ()):
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """What a pickle puts into such a container is not needed."""

    def append(self, value: Any) -> None:
        """The same."""


class _Named:
    """Stands for a class or function that a pickle names."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Reader(pickle._Unpickler):  # in Python, whose memory grows with the file and not with a number in it
    """Makes a `Record` wherever a pickle has something called: `dispatch` has the four ways in which it can."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> _Named:
        known = (
            (module in ARRAYS and name in MAKERS)
            or module.split(".")[0] in KEPT
            or (module, name) in COPYING
            or (module in ("__builtin__", "builtins") and name in CONTAINERS)
        )
        if not known:
            raise ValueError(f"it asks for {module}.{name}, which no file of arrays needs; nothing of it was executed")
        return _Named(f"{module}.{name}")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _recorded(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # arguments by name
        self.load_reduce()

    def _instantiate(self, named: Any, arguments: Any) -> None:
        self.append(_recorded(named, arguments))

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex


def _recorded(named: Any, arguments: Any) -> Record:
    if not isinstance(named, _Named):
        raise ValueError(f"it calls what is no function ({type(named).__name__}); nothing of it was executed")
    arguments = tuple(arguments)
    if named.name.endswith("._reconstructor") and arguments and isinstance(arguments[0], _Named):
        named, arguments = arguments[0], ()
    return Record(named.name, arguments)


def read_arrays(path: str | Path) -> dict[str, Any]:
    """The dictionary in a pickle: arrays of numpy and chumpy as numpy's, sparse matrices as scipy's, other objects as `Record`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no pickle of a dictionary, or asks for more than arrays; names the file. Nothing was executed.
    """
    path = Path(path)
    content = io.BytesIO(read_whole(path, MOST_BYTES))
    try:
        loaded = _Reader(content, encoding="latin1").load()
        if not isinstance(loaded, dict):
            raise ValueError(f"it holds no dictionary, but {type(loaded).__name__}")
        return {str(key): _value(value) for key, value in loaded.items()}
    except Exception as error:  # a damaged pickle stumbles anywhere
        text = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{path} is no pickle of arrays: {text}; fetch it again from where it is published") from error


# -- from records to arrays -------------------------------------------------------------------------------------------


def _value(x: Any) -> Any:
    """What a record stands for, if that is known."""
    if not isinstance(x, Record):
        return x
    kind = x.name.split(".")[-1]
    if kind == "_reconstruct":
        _, shape, dtype, by_columns, data = x.state
        return _array(data, dtype, shape, "F" if by_columns else "C")
    if kind == "scalar":
        return _array(x.arguments[1], x.arguments[0], ())
    if kind == "_frombuffer":
        data, dtype, shape, order = x.arguments
        return _array(data, dtype, shape, order)
    if kind in ("csc_matrix", "csr_matrix", "csc_array", "csr_array"):
        return _sparse(kind[:3], x.state)
    if x.name.startswith("chumpy.") and isinstance(x.state, dict):
        return _chumpy(x)
    return x


def _array(data: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
    dtype = _dtype(dtype)
    while isinstance(data, Record) and data.name.split(".")[-1] in ("encode", "bytes", "bytearray"):
        data = data.arguments[0] if data.arguments else b""
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes | bytearray):
        raise ValueError(f"an array's numbers are {type(data).__name__}")
    shape = tuple(int(n) for n in shape)
    return np.frombuffer(bytes(data), dtype).reshape(shape, order=order)


def _dtype(record: Any) -> np.dtype:
    if not (isinstance(record, Record) and record.name == "numpy.dtype" and isinstance(record.arguments[0], str)):
        raise ValueError("an array has no type")
    dtype = np.dtype(record.arguments[0])
    if dtype.kind not in "biuf":
        raise ValueError(f"an array holds {dtype}, not numbers")
    order = record.state[1] if record.state else "="
    return dtype.newbyteorder(order) if order in ("<", ">") else dtype


def _sparse(kind: str, state: dict) -> sparse.spmatrix:
    shape = tuple(int(n) for n in (state["_shape"] if "_shape" in state else state["shape"]))
    parts = tuple(_value(state[name]) for name in ("data", "indices", "indptr"))
    matrix = (sparse.csc_matrix if kind == "csc" else sparse.csr_matrix)(parts, shape)
    matrix.check_format(full_check=True)  # indices that point beyond the matrix
    return matrix


def _chumpy(record: Record) -> Any:
    """A chumpy array as numpy's: numbers, or some of another array's."""
    state = record.state
    if record.name.endswith(".Ch") and "x" in state:
        return _value(state["x"])
    if record.name.endswith(".Select") and {"a", "idxs", "preferred_shape"} <= state.keys():
        numbers, index = np.ravel(_value(state["a"])), np.asarray(_value(state["idxs"]))
        return numbers[index].reshape(tuple(int(n) for n in state["preferred_shape"]))
    return record
