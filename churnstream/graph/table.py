"""Arrays as the compiled code of this room passes them around: a pointer, a length and a width, and nothing to count.

Numba counts references to an array at every call that it is passed to, and looks for negative indices at every access; with a
dozen arrays and functions of a few instructions that costs more than the work. A ``Table`` is a C-contiguous array of one or two
dimensions without either: it must not outlive the array it was made from, and its indices are within bounds, never negative.
"""

import operator
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

# Numba looks for changes in a function's own file only, and would go on with what it compiled from another.
SOURCES = sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()[:12]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call; what was compiled is kept beside the source, until anything in this room changes."""
    return _compile(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into each place that calls it."""
    return _compile(function, forceinline=True)


def _intrinsic(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    function.__qualname__ += f"-{SOURCES}"
    return njit(cache=True, error_model="numpy", **options)(function)


class Table(types.Type):
    """The type of a table of bytes, int64 or float64."""

    def __init__(self, dtype: Any, ndim: int):
        self.dtype = dtype
        self.ndim = ndim
        super().__init__(name=f"Table({dtype}, {ndim}d)")


@register_model(Table)
class _TableModel(models.StructModel):
    def __init__(self, manager: Any, table: Table):
        members = [("data", types.CPointer(table.dtype)), ("length", types.intp), ("width", types.intp)]
        super().__init__(manager, table, members)


@_intrinsic
def table(_: Any, array: Any) -> Any:
    """The table of an array, inside compiled code."""
    if not isinstance(array, types.Array) or array.layout != "C" or array.ndim not in (1, 2):
        return None
    made = Table(array.dtype, array.ndim)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(array)(context, builder, arguments[0])
        shape = cgutils.unpack_tuple(builder, source.shape)
        into = cgutils.create_struct_proxy(made)(context, builder)
        into.data, into.length = source.data, shape[0]
        into.width = shape[1] if array.ndim == 2 else context.get_constant(types.intp, 1)
        return into._getvalue()

    return made(array), codegen


@_intrinsic
def _load(_: Any, source: Any, row: Any, column: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature, arguments))

    return source.dtype(source, row, column), codegen


@_intrinsic
def _store(_: Any, source: Any, row: Any, column: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        cast = context.cast(builder, arguments[3], value, source.dtype)
        builder.store(cast, _place(context, builder, signature, arguments))
        return context.get_dummy_value()

    return types.void(source, row, column, value), codegen


@_intrinsic
def fetch(_: Any, source: Any, row: Any, column: Any) -> Any:
    """Have the processor fetch the line of an element that will be written or read soon, and go on without waiting for it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        at = builder.bitcast(_place(context, builder, signature, arguments), pointer)
        builder.call(prefetch, [at, number(1), number(3), number(1)])  # to be written, kept as near as can be, data
        return context.get_dummy_value()

    return types.void(source, row, column), codegen


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The address of an element; int8 and the wider numbers need no more than their natural alignment."""
    source, row, column = signature.args[:3]
    held = cgutils.create_struct_proxy(source)(context, builder, arguments[0])
    row = context.cast(builder, arguments[1], row, types.intp)
    column = context.cast(builder, arguments[2], column, types.intp)
    if source.ndim == 2:
        row = builder.add(builder.mul(row, held.width), column)
    return builder.gep(held.data, [row])


@_intrinsic
def word_at(_: Any, source: Any, place: Any) -> Any:
    """Eight bytes of a table of bytes as a uint64, the first one lowest; they need not be aligned, but must be there."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = cgutils.create_struct_proxy(source)(context, builder, arguments[0])
        place = context.cast(builder, arguments[1], signature.args[1], types.intp)
        at = builder.bitcast(builder.gep(held.data, [place]), context.get_value_type(types.uint64).as_pointer())
        return builder.load(at, align=1)

    return types.uint64(source, place), codegen


@overload(operator.getitem)
def _getitem(source, place):
    if not isinstance(source, Table):
        return None
    if isinstance(place, types.Integer):
        return lambda source, place: _load(source, place, 0)
    return lambda source, place: _load(source, place[0], place[1])


@overload(operator.setitem)
def _setitem(source, place, value):
    if not isinstance(source, Table):
        return None
    if isinstance(place, types.Integer):
        return lambda source, place, value: _store(source, place, 0, value)
    return lambda source, place, value: _store(source, place[0], place[1], value)


@_intrinsic
def width_of(_: Any, source: Any) -> Any:
    """How many columns a table has."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return cgutils.create_struct_proxy(source)(context, builder, arguments[0]).width

    return types.intp(source), codegen


@_intrinsic
def length_of(_: Any, source: Any) -> Any:
    """How many rows a table has."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return cgutils.create_struct_proxy(source)(context, builder, arguments[0]).length

    return types.intp(source), codegen


@overload(len)
def _len(source):
    return (lambda source: length_of(source)) if isinstance(source, Table) else None
