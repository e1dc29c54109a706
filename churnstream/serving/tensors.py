"""Tensors as the Open Inference Protocol writes them: their names, types and shapes, in JSON or as bytes behind it.

The types and the two forms: the protocol's "Tensor Data" and its binary extension (kserve/open-inference-protocol; Triton's
"Binary Tensor Data Extension"): numbers are little-endian; a text has its length before it, in four bytes.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isinf, nan
from typing import Any

import numpy as np

from churnstream.errors import BadRequest

TEXT, DOUBLE, FLAG = "BYTES", "FP64", "BOOL"
NUMPYS = {
    "BOOL": np.dtype("?"),
    **{f"{sign}INT{bits}": np.dtype(f"<{kind}{bits // 8}") for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
TYPES = (*NUMPYS, TEXT)
FLOATS = frozenset({"FP16", "FP32", "FP64"})
LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """``data`` is flat, row after row; what its values are is looked into by who takes them."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]

    @property
    def rows(self) -> int:
        """Its first dimension."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """How many values stand in a row."""
        return len(self.data) // self.rows

    def vectors(self) -> list[Sequence[float]]:
        """One list a row; raises BadRequest."""
        flat, wide = self.numbers(), self.columns
        return [flat] if self.rows == 1 else [flat[start : start + wide] for start in range(0, len(flat), wide)]

    def numbers(self) -> Sequence[float]:
        """Its values as doubles, NaN where one is missing (null, or NaN); raises BadRequest."""
        if self.datatype == DOUBLE and set(map(type, self.data)) == {float} and not any(map(isinf, self.data)):
            return self.data
        if self.datatype == TEXT:
            raise BadRequest(f"the tensor {self.name} holds texts; a feature is a number")
        kind = {FLAG: bool}.get(self.datatype, int)
        allowed: Any = (int, float, type(None)) if self.datatype in FLOATS else kind
        for place, value in enumerate(self.data):
            if not isinstance(value, allowed) or (isinstance(value, bool) and kind is int):
                raise BadRequest(f"the tensor {self.name} is {self.datatype}, and its value {place} is a {type(value).__name__}")
        return self._in_its_type()

    def _in_its_type(self) -> list[float]:
        values = [nan if value is None else value for value in self.data]
        try:
            with np.errstate(over="ignore"):
                told = np.array(values, np.float64 if self.datatype in FLOATS else None).astype(NUMPYS[self.datatype])
            fits = self.datatype in FLOATS or told.tolist() == values
        except OverflowError:
            fits = False
        if not fits or np.isinf(told.astype(float)).any():
            raise BadRequest(
                f"the tensor {self.name} has a value that is no finite {self.datatype}; a missing number is null, or NaN"
            )
        return told.astype(np.float64).tolist()

    def texts(self) -> Sequence[str]:
        """Its values as texts; raises BadRequest."""
        if self.datatype != TEXT or not all(isinstance(each, str) for each in self.data) or self.columns != 1:
            raise BadRequest(f"the tensor {self.name} is {self.datatype} {list(self.shape)}; it holds one text ({TEXT}) a row")
        return self.data


def read(inputs: Sequence[Any]) -> list[Tensor]:
    """The tensors of a request's ``inputs``, at least one row each; raises BadRequest."""
    read = [_tensor(each) for each in inputs]
    if len({each.name for each in read}) < len(read):
        raise BadRequest(f"two tensors are called {read[0].name}" if len(read) == 2 else "two tensors have the same name")
    return read


def _tensor(given: Any) -> Tensor:
    data = given.get("data") if isinstance(given, Mapping) else None
    if not isinstance(data, list):
        raise BadRequest("an input is no tensor: it takes a name, a shape, a datatype, and its data as a list")
    name, datatype, shape = given.get("name", "features"), given.get("datatype", DOUBLE), given.get("shape")
    if not isinstance(name, str):
        raise BadRequest("a tensor's name is no text")
    if not isinstance(datatype, str) or datatype not in TYPES:
        raise BadRequest(f"the tensor {name} has the datatype {str(datatype)[:20]!r}; there are {', '.join(TYPES)}")
    nested = bool(data) and type(data[0]) is list
    if shape is None:
        shape = _shape(data) if nested else [len(data)]
    if nested:
        data = list(_flat(data))
    if not _is_shape(shape) or _size(shape) != len(data):
        raise BadRequest(f"the tensor {name} has shape {shape} and {len(data)} values")
    return Tensor(name, datatype, tuple(shape), data)


def _is_shape(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(each) is int and each > 0 for each in given)


def _size(shape: Iterable[int]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size


def _flat(data: Sequence[Any]) -> Iterable[Any]:
    for each in data:
        if isinstance(each, list):
            yield from _flat(each)
        else:
            yield each


def _shape(data: Any) -> list[int]:
    return [len(data), *_shape(data[0])] if isinstance(data, list) and data else []


# -- the binary extension -------------------------------------------------------------------------------------------------


def take_bytes(inputs: Any, rest: bytes) -> None:
    """Give tensors whose ``parameters`` have a ``binary_data_size`` their data, which follows the JSON; raises BadRequest."""
    start = 0
    for each in inputs if isinstance(inputs, list) else ():
        parameters = each.get("parameters") if isinstance(each, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            continue
        name, datatype = each.get("name"), each.get("datatype")
        if type(size) is not int or size < 0 or start + size > len(rest) or datatype not in TYPES:
            raise BadRequest(f"the tensor {name} says that {size} bytes are {datatype}; {len(rest) - start} bytes are left")
        part = rest[start : start + size]
        start += size
        if datatype == TEXT:
            each["data"] = list(_texts(part, name))
        elif size % NUMPYS[datatype].itemsize:
            raise BadRequest(f"the tensor {name} has {size} bytes, which are no {datatype} values")
        else:
            each["data"] = np.frombuffer(part, NUMPYS[datatype]).tolist()
    if start != len(rest):
        raise BadRequest(f"{len(rest) - start} bytes follow the JSON and belong to no tensor")


def _texts(part: bytes, name: Any) -> Iterable[str]:
    start = 0
    while start < len(part):
        end = start + LENGTH.size
        if end > len(part) or (end := end + LENGTH.unpack_from(part, start)[0]) > len(part):
            raise BadRequest(f"the tensor {name} ends within a text")
        try:
            yield part[start + LENGTH.size : end].decode()
        except UnicodeDecodeError:
            raise BadRequest(f"the tensor {name} holds a text that is no UTF-8") from None
        start = end


def as_bytes(datatype: str, data: Sequence[Any]) -> bytes:
    """Flat values as the binary extension writes them."""
    if datatype == TEXT:
        texts = [str(each).encode() for each in data]
        return b"".join(LENGTH.pack(len(each)) + each for each in texts)
    return np.array([nan if each is None else each for each in data]).astype(NUMPYS[datatype]).tobytes()
