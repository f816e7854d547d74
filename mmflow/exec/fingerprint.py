"""Digests of what a task computes: equal ones compute equal outputs, in any process.

Values are digested by their content: dataclasses field by field, sets and dicts sorted, Arrow types and tables by their
bytes, functions by their code, their closure and the file they stand in. What is none of these is digested as it
pickles. A digest that differs without need costs a task run again, never a wrong row.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import marshal
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cloudpickle
import pyarrow as pa

__all__ = ["computing", "digest"]

_BYTES = 16


def digest(*values: Any) -> str:
    """A digest of values, as 32 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=_BYTES)
    for value in values:
        made.update(_encoded(value))
    return made.hexdigest()


def _tagged(tag: str, *parts: bytes) -> bytes:
    """Parts that can't be taken for others: each with its length."""
    return b"".join((tag.encode(), b":", *(b"%d:%b" % (len(p), p) for p in parts), b";"))


def _encoded(value: Any) -> bytes:
    match value:
        case None | bool() | int() | float() | str():
            return _tagged(type(value).__name__, repr(value).encode())
        case bytes() | bytearray() | memoryview():
            return _tagged("bytes", bytes(value))
        case set() | frozenset():
            return _tagged("set", *sorted(map(_encoded, value)))
        case Mapping():
            return _tagged("map", *sorted(_encoded(k) + _encoded(v) for k, v in value.items()))
        case pa.Schema():
            return _tagged("schema", value.serialize().to_pybytes())
        case pa.DataType() | pa.Field():
            return _tagged("type", str(value).encode())
        case pa.Table() | pa.RecordBatch():
            return _tagged("rows", _rows(value))
        case types.FunctionType():
            return _tagged("function", *_function(value))
        case types.ModuleType() | type() | types.BuiltinFunctionType():
            return _tagged("name", f"{getattr(value, '__module__', '')}.{value.__name__}".encode())
        case types.MethodType():
            return _tagged("method", _encoded(value.__self__), _encoded(value.__func__))
        case functools.partial():
            return _tagged("partial", *map(_encoded, (value.func, value.args, value.keywords)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (_encoded(getattr(value, f.name)) for f in dataclasses.fields(value))
        return _tagged(type(value).__qualname__, *fields)
    if isinstance(value, Sequence):
        return _tagged("list", *map(_encoded, value))
    return _tagged("object", *_reduced(value))


def _rows(rows: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write(rows)
    return hashlib.blake2b(sink.getvalue()).digest()


def _function(function: types.FunctionType) -> Iterable[bytes]:
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    yield f"{function.__module__}.{function.__qualname__}".encode()
    if file is None:  # of a notebook: by value, with the globals that it uses
        yield cloudpickle.dumps(function)
        return
    yield _file(file)
    yield marshal.dumps(function.__code__, 2)  # later versions write how often values are shared, too
    yield _encoded([function.__defaults__, function.__kwdefaults__])
    yield _encoded([cell.cell_contents for cell in function.__closure__ or ()])


@functools.cache
def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read()).digest()


def _reduced(value: Any) -> Iterable[bytes]:
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        yield _encoded(f"{type(value).__module__}.{reduced}")
        return
    yield from map(_encoded, reduced[:3])
    for more in reduced[3:]:
        yield _encoded(None if more is None else list(more))


@functools.cache
def computing() -> tuple[str, ...]:
    """The versions of what computes."""
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in ("mmflow", "datafusion", "pyarrow"))
