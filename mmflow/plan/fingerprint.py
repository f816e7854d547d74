"""Digests of what a task computes: equal ones compute equal outputs, in any process.

Values are digested by their content: dataclasses field by field, sets and dicts sorted, Arrow types and tables by their
bytes. The user's functions and classes are digested with all that they can reach (`plan.reachable`):

    function --> its code, defaults, closure --> values
             --> globals that it names       --> values, functions, classes, ...
             --> its module, by its source   --> modules that this imports, anywhere in it --> ...
                                             --> installed packages, by name and version

What is none of these is digested as it pickles, and by its class alone where it doesn't. A digest that differs without
need costs a task run again, never a wrong row.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

import pyarrow as pa

from mmflow.distribution import VERSION
from mmflow.plan.reachable import Reached, source_digest
from mmflow.usercode.folder import Importlib, Imports, folder_of
from mmflow.usercode.shipped import dumps
from mmflow.usercode.statements import names_in

__all__ = ["computing", "digest"]

_T = TypeVar("_T")
_BYTES = 16
_PLAIN = frozenset({type(None), bool, int, float, complex, str})
_MAPPINGS, _SEQUENCES = (dict, types.MappingProxyType), (list, tuple)
#: From so many values on, those that are plain are encoded at once.
_MANY = 100
#: Values that lie deeper in others are encoded as they pickle, which takes less of the stack.
_DEEPEST = 60
#: Attributes of a class that follow from the others, or differ from process to process.
_OF_CLASSES = frozenset(
    {"__abstractmethods__", "__annotations__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__",
     "__firstlineno__", "__module__", "__qualname__", "__static_attributes__", "__weakref__", "_abc_impl"}
)  # fmt: skip


def digest(*values: object) -> str:
    """Digest of values, as 32 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=_BYTES)
    encoder = _Encoder()
    for value in values:
        made.update(encoder.encoded(value))
    made.update(encoder.reached())
    return made.hexdigest()


def _tagged(tag: str, *parts: bytes) -> bytes:
    """Return a tag and its parts, each with its length, so that no two lists of parts give the same bytes."""
    return b"".join((tag.encode(), b":", *(b"%d:%b" % (len(p), p) for p in parts), b";"))


class _Encoder:
    """Encodes values for one digest. Single-threaded."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._held: list[object] = []  # so that no other value gets their ids
        self._code = Reached()

    def encoded(self, value: object) -> bytes:
        """Return the content of a value as bytes."""
        if type(value) is str and value.startswith("mmflow_job_"):
            value = folder_of(value).relative(value)  # the name of a logger, for instance
        if type(value) in _PLAIN:
            return _tagged(type(value).__name__, _repr(value))
        if id(value) in self._open:
            return _tagged("cycle")
        if len(self._open) >= _DEEPEST:
            return _tagged("deep", _pickled(value))
        self._open.add(id(value))
        try:
            return self._compound(value)
        finally:
            self._open.discard(id(value))

    def reached(self) -> bytes:
        """Return the digests of all modules that the functions and classes among the values can reach."""
        records = []
        while values := self._code.new_values():
            for module, name, value in values:
                records.append(_tagged("global", module.encode(), name.encode(), self.encoded(value)))
        records += [_tagged("module", *parts) for parts in self._code.sources()]
        return _tagged("reached", *sorted(records)) if records else b""

    def _all(self, values: Iterable[object]) -> list[bytes]:
        return [self.encoded(v) for v in values]

    def _compound(self, value: object) -> bytes:
        match value:
            case bytes() | bytearray() | memoryview():
                return _tagged("bytes", bytes(value))
            case set() | frozenset():
                return _tagged("set", *sorted(map(self.encoded, value)))
            case os._Environ():
                return _tagged("environment")  # jobs declare what they need of it
            case dict() | types.MappingProxyType() if type(value) in _MAPPINGS:
                return self._mapping(value)
            case list() | tuple() if type(value) in _SEQUENCES:
                return _tagged("list", *([_repr(value)] if _is_plain(value) else self._all(value)))
            case pa.Schema():
                return _tagged("schema", value.serialize().to_pybytes())
            case pa.DataType() | pa.Field():
                return _tagged("type", str(value).encode())
            case pa.Table() | pa.RecordBatch():
                return _tagged("rows", _rows(value))
            case types.FunctionType():
                return self._once("function", value, self._function)
            case type():
                return self._once("class", value, self._class)
            case types.ModuleType():
                return self._module(value)
            case types.CodeType():
                return _code(value)
            case _:
                return self._object(value)

    def _mapping(self, value: Mapping[object, object]) -> bytes:
        if _is_plain(value) and _is_plain(value.values()):
            items = value.items() if self._code.active else sorted(value.items(), key=repr)
            return _tagged("plain", _repr(list(items)))
        encoded = sorted(((self.encoded(k), v) for k, v in value.items()), key=lambda item: item[0])
        made = _tagged("map", *(key + self.encoded(v) for key, v in encoded))
        if self._code.active:  # code may go through it in order
            made += _tagged("order", *self._all(value))
        return made

    def _object(self, value: object) -> bytes:
        match value:
            case types.MethodType():
                return _tagged("method", *self._all((value.__self__, value.__func__)))
            case types.BuiltinFunctionType():
                of = None if isinstance(value.__self__, types.ModuleType) else value.__self__
                return _tagged("name", f"{value.__module__}.{value.__qualname__}".encode(), self.encoded(of))
            case functools.partial():
                return _tagged("partial", *self._all((value.func, value.args, value.keywords, vars(value))))
            case staticmethod() | classmethod():
                return _tagged(type(value).__name__, self.encoded(value.__func__))
            case property():
                return _tagged("property", *self._all((value.fget, value.fset, value.fdel)))
            case functools.cached_property():
                return _tagged("cached", self.encoded(value.func))
            case types.CellType():
                return self._cell(value)
            case Imports():
                return _tagged("imports")
        if dataclasses.is_dataclass(value):
            fields = (self.encoded(getattr(value, f.name)) for f in dataclasses.fields(value))
            return _tagged("dataclass", self.encoded(type(value)), *fields)
        return self._once("object", value, self._reduced)

    def _once(self, tag: str, value: _T, parts: Callable[[_T], Iterable[bytes]]) -> bytes:
        known = self._numbers.get(id(value))
        if known is not None:
            return _tagged("again", b"%d" % known)
        self._numbers[id(value)] = len(self._numbers)
        self._held.append(value)
        return _tagged(tag, *parts(value))

    def _cell(self, cell: types.CellType) -> bytes:
        try:
            return self.encoded(cell.cell_contents)
        except ValueError:
            return _tagged("empty")

    # ---- code ------------------------------------------------------------------------------------------

    def _module(self, module: types.ModuleType) -> bytes:
        if not isinstance(module, Importlib):
            self._code.add_module(module.__name__)
        return _tagged("name", folder_of(module.__name__).relative(module.__name__).encode())

    def _function(self, function: types.FunctionType) -> Iterable[bytes]:
        module = function.__globals__.get("__name__") or ""
        yield f"{folder_of(module).relative(module)}.{function.__qualname__}".encode()
        users = self._code.is_users(module)
        if users:
            self._code.add_code(function.__code__, module)
        else:
            self._code.add_module(module)
            if module.partition(".")[0] == "mmflow":  # which has one version for long while it is worked on
                yield source_digest(function.__globals__.get("__file__"))
            if _is_found(function, module):
                return
        yield _code(function.__code__)
        yield self.encoded([function.__defaults__, function.__kwdefaults__, vars(function)])
        yield from map(self._cell, function.__closure__ or ())
        if users:
            for name in sorted(names_in(function.__code__) & function.__globals__.keys()):
                yield _tagged(name, self.encoded(function.__globals__[name]))

    def _class(self, cls: type) -> Iterable[bytes]:
        module = cls.__module__ if isinstance(cls.__module__, str) else ""
        yield f"{folder_of(module).relative(module)}.{cls.__qualname__}".encode()
        self._code.add_module(module)
        if not self._code.is_users(module):
            return
        yield self.encoded(type(cls))
        yield from self._all(cls.__bases__)
        for name, value in sorted(vars(cls).items()):
            if name not in _OF_CLASSES and not isinstance(value, types.GetSetDescriptorType):
                slot = isinstance(value, types.MemberDescriptorType)
                yield _tagged(name, _tagged("slot") if slot else self.encoded(value))

    def _reduced(self, value: object) -> Iterable[bytes]:
        wrapped = getattr(value, "__wrapped__", None)
        if callable(wrapped):  # functools.cache, compilers: they pickle by name
            yield self.encoded(wrapped)
        try:
            reducer = copyreg.dispatch_table.get(type(value))  # of regular expressions, for instance
            reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        except Exception:  # noqa: BLE001  (whatever an object's own pickling raises)
            yield self.encoded(type(value))
            return
        if isinstance(reduced, str):
            module = getattr(value, "__module__", None) or type(value).__module__
            self._code.add_module(module)
            yield self.encoded([folder_of(module).relative(module), reduced])
            return
        yield from self._all(reduced[:3])
        for more in reduced[3:]:
            yield self.encoded(None if more is None else more if callable(more) else list(more))


def _rows(rows: pa.Table | pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write(rows)
    return hashlib.blake2b(sink.getvalue()).digest()


def _pickled(value: object) -> bytes:
    try:
        return dumps(value)
    except Exception:  # noqa: BLE001  (whatever an object's own pickling raises)
        return os.urandom(_BYTES)  # equal to nothing


def _is_plain(values: Collection[object]) -> bool:
    return len(values) >= _MANY and {type(v) for v in values} <= _PLAIN


def _repr(value: object) -> bytes:
    return repr(value).encode("utf-8", "surrogatepass")


def _code(code: types.CodeType) -> bytes:
    """Return the content of code, without the place of its file."""
    constants = (_code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts)
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return _tagged("code", code.co_code, code.co_exceptiontable, repr((names, shape)).encode(), *constants)


def _constant(constant: object) -> bytes:
    if isinstance(constant, frozenset):
        return _tagged("frozenset", *sorted(map(_constant, constant)))
    if isinstance(constant, tuple):
        return _tagged("tuple", *map(_constant, constant))
    return _tagged(type(constant).__name__, _repr(constant))


def _is_found(function: types.FunctionType, module: str) -> bool:
    """Return whether a package has the function under its name, so that the package's version identifies it."""
    found: object = sys.modules.get(module)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function


@functools.cache
def computing() -> tuple[str, ...]:
    """Return the versions of mmflow and of the libraries that compute."""
    others = (f"{name} {importlib.metadata.version(name)}" for name in ("datafusion", "pyarrow"))
    return (f"mmflow {VERSION}", *others)
