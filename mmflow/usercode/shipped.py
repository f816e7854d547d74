"""Pickles of functions for workers, with all of the user's code that they can reach.

    job's folder, here                        worker, where there is no such folder
    function        -- by value -->           function, whose builtins have the `__import__` of a CodeSpace
      its globals   -- by value -->             its globals
      import a      -- module a by value -->    import a: from the CodeSpace
      import b      -- source of b (it is       import b: from the CodeSpace, which runs the source
                       not loaded here) -->

Each pickle has modules of its own in the worker, which nothing else there sees: two jobs, or two versions of one, have
each their own `helper`. Modules of installed packages go by reference.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import sys
import threading
import types
import typing
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from mmflow.private_apis import cloudpickle_internals
from mmflow.usercode.folder import CodeFolder, Importlib, Imports, JobFolder, folder_of
from mmflow.usercode.ownership import is_users
from mmflow.usercode.statements import (
    absolute_names,
    compiled,
    located,
    names_in,
    statements_in,
    texts_in,
)

__all__ = ["dumps"]

_LOCKS: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.local: threading.local,
}
#: Names of a module's namespace that a worker has by itself, or does not need.
_OF_IMPORT = frozenset({"__builtins__", "__cached__", "__loader__", "__spec__"})
_NAMES = ("__package__", "__name__", "__path__", "__file__")
#: Bytes of source to send at most, if the imports of code can't be known from the code.
_MOST_SOURCE = 4 << 20


def dumps(value: Any) -> bytes:
    """Pickle a value whose functions run in other processes, for `pickle.loads` there.

    Exceptions of the pickling of an object are raised as they are.
    """
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


class _Source:
    """Source of a module that is not loaded here, for the workers that import it."""

    def __init__(self, imports: Imports, name: str, path: str, data: bytes, package: str | None) -> None:
        self.imports = imports
        self.name = name
        self.path = path
        self.data = data
        #: The name that its own relative imports begin at.
        self.package = package if package is not None else ""
        self.is_package = path.endswith("__init__.py")

    def __reduce__(self) -> tuple[Any, ...]:
        return _add_source, (self.imports, self.imports.relative(self.name), self.path, self.data)


class _Fresh:
    """Lock of a module. A worker has one of its own, as if it had imported the module."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __reduce__(self) -> tuple[Any, ...]:
        return self.make, ()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickler that pickles all of the user's modules by value. It does not change other picklers of cloudpickle."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._users: dict[str, bool] = {}
        self._fresh: dict[int, _Fresh] = {}
        self._sources: dict[str, _Source] = {}
        self._importlibs: dict[str, Importlib] = {}

    def reducer_override(self, value: Any) -> Any:
        """Return how to pickle modules, functions, classes and locks of the user's code."""
        if isinstance(value, ModuleType):
            if isinstance(value, Importlib):
                return Importlib, (value.imports,)
            users = value.__name__ != "__main__" and self._is_users(value.__name__)
            return self._module(value) if users else NotImplemented
        if isinstance(value, Imports):
            return CodeSpace, (value.prefix,)
        if isinstance(value, types.MethodType) and isinstance(value.__self__, Imports):
            return getattr, (value.__self__, value.__name__)  # the method of the CodeSpace
        if isinstance(value, FunctionType):
            name = value.__globals__.get("__name__", "")
            if self._is_users(name):
                return self._function(value, name)
            if self._is_users(
                value.__module__
            ):  # a wrapper that a package made, under the name of what it wraps
                return self._dynamic_function_reduce(value)
        elif isinstance(value, type):
            if self._is_users(value.__module__):
                return cloudpickle_internals.reduce_class(value)
        elif isinstance(value, functools._lru_cache_wrapper) and self._is_users(value.__module__):
            return _cached, (value.cache_parameters(), value.__wrapped__)
        elif isinstance(value, typing.TypeVar) and self._is_users(value.__module__):
            return cloudpickle_internals.reduce_type_variable(value)
        elif isinstance(value, typing.NewType) and self._is_users(value.__module__):
            return typing.NewType, (value.__name__, value.__supertype__)
        elif isinstance(value, typing.ParamSpec | typing.TypeVarTuple) and self._is_users(value.__module__):
            return type(value), (value.__name__,)
        elif isinstance(value, functools.cached_property):  # which has a lock, before Python 3.12
            return _cached_property, (value.func, value.attrname)
        return super().reducer_override(value)

    def _is_users(self, name: Any) -> bool:
        known = self._users.get(name)
        if known is None:
            module = sys.modules.get(name)
            known = module is not None and is_users(name, getattr(module, "__file__", None))
            self._users[name] = known
        return known

    def _module(self, module: ModuleType) -> tuple[Any, ...]:
        imports = folder_of(module.__name__)
        names = {k: v for k, v in vars(module).items() if k not in _OF_IMPORT}
        made = _module, (imports, imports.relative(module.__name__), module.__name__)
        return *made, self._globals(names, imports), None, None, _fill

    def _function(self, function: FunctionType, name: str) -> tuple[Any, ...]:
        """Reduce a function so that it uses the namespace of its module, and imports modules of the pickle."""
        _, (code, others, _, _, closure), (state, slots), *_ = self._dynamic_function_reduce(function)
        imports = folder_of(name)
        names = {k: function.__globals__[k] for k in _NAMES if k in function.__globals__}
        slots["__globals__"] = self._globals(slots["__globals__"], imports)
        needed = tuple(self._imported(code, names.get("__package__") or "", imports))
        own = vars(sys.modules[name]) is function.__globals__
        # What `exec` made has a namespace of its own, under the name of its module.
        place: Any = imports.relative(name) if own else others
        arguments = imports, place, names, code, closure
        return _function, arguments, ((state, slots), needed), None, None, _finish

    def _globals(self, names: Mapping[str, Any], imports: CodeFolder) -> dict[str, Any]:
        """Return a namespace to send: with locks of its own, and an `importlib` that finds modules of the pickle."""
        made = dict(names)
        for name, value in names.items():
            if type(value) in _LOCKS:
                made[name] = self._fresh.setdefault(id(value), _Fresh(_LOCKS[type(value)]))
            elif value is importlib:
                made[name] = self._importlibs.setdefault(imports.prefix, Importlib(imports))
            elif value is importlib.import_module:
                made[name] = imports.import_module
        return made

    def _imported(self, code: CodeType, package: str, imports: CodeFolder) -> Iterator[ModuleType | _Source]:
        """Yield the user's modules that code imports when it runs, and those that the unloaded ones of them import."""
        for name in _wanted(code, package, imports):
            if name in self._sources:
                yield self._sources[name]
                continue
            place = located(name)
            if isinstance(place, ModuleType):
                if self._is_users(name) and name != "__main__":
                    yield place
                continue
            source = None if place is None else _source(place, imports)
            if source is None:
                continue
            self._sources[name] = source
            yield source
            inner = compiled(source.data, source.path)
            if inner is not None:
                yield from self._imported(inner, source.package, imports)


def _wanted(code: CodeType, package: str, imports: CodeFolder) -> Iterator[str]:
    """Yield the names in `sys.modules` of all modules that code may import."""
    for statement in statements_in(code):
        named = statement if statement.level else statement._replace(name=imports.full_name(statement.name))
        for name in absolute_names(named, package):
            if name != imports.prefix:
                yield name
    if names_in(code) & {"import_module", "__import__"}:
        for text in sorted(texts_in(code)):
            yield imports.full_name(text)
        if isinstance(imports, JobFolder):
            yield from _everything(imports)


def _everything(folder: JobFolder) -> Iterator[str]:
    total = 0
    for path in folder.files():
        total += len(folder.source(path))
        if total > _MOST_SOURCE:
            return
        parts = list(Path(path).relative_to(folder.path).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts and all(part.isidentifier() for part in parts):
            yield ".".join([folder.prefix, *parts])


def _source(place: ModuleSpec, imports: CodeFolder) -> _Source | None:
    if place.origin is None or not place.has_location or not is_users(place.name, place.origin):
        return None
    try:
        data = (
            imports.source(place.origin)
            if isinstance(imports, JobFolder)
            else Path(place.origin).read_bytes()
        )
    except OSError:  # it fails where it is imported
        return None
    return _Source(imports, place.name, place.origin, data, place.parent)


# ---- in workers -------------------------------------------------------------------------------------------


class CodeSpace(Imports):
    """Modules of the user in one pickle, by their names in the folder of the job."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._modules: dict[str, ModuleType] = {}
        self._sources: dict[str, tuple[str, bytes]] = {}
        self._lock = threading.RLock()
        self._stood_for: list[str] = []
        _take_away()
        weakref.finalize(self, _left.append, self._stood_for)

    def module(self, name: str, full_name: str) -> ModuleType:
        """Return a module of the space, empty at first."""
        with self._lock:
            known = self._modules.get(name)
            if known is None:
                known = self._modules[name] = ModuleType(full_name)
                known.__dict__["__builtins__"] = self.builtins
                if full_name.startswith(self.prefix):
                    _stand_for(full_name, self._stood_for)
            return known

    def add_source(self, name: str, path: str, data: bytes) -> None:
        """Add a module that is loaded when it is imported."""
        self._sources[name] = path, data

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Import as `importlib.import_module` does. Raises ImportError as that does."""
        full = self.relative(importlib.util.resolve_name(name, package))
        return self._loaded(full) if self._has(full) else importlib.import_module(name, package)

    def _has(self, name: str) -> bool:
        return name in self._modules or name in self._sources

    def _own(
        self,
        name: str,
        namespace: Mapping[str, Any] | None,
        names: tuple[str, ...],
        level: int,
    ) -> ModuleType | None:
        full = name
        if level:
            package = (namespace or {}).get("__package__") or ""
            full = self.relative(importlib.util.resolve_name("." * level + name, package))
        if not self._has(full) and not any(self._has(f"{full}.{n}".lstrip(".")) for n in names):
            return None
        module = self._loaded(full)
        if not names and not level:
            return self._loaded(name.partition(".")[0])
        for one in names:
            inner = f"{full}.{one}".lstrip(".")
            if not hasattr(module, one) and self._has(inner):
                setattr(module, one, self._loaded(inner))
        return module

    def _loaded(self, name: str) -> ModuleType:
        parent, _, last = name.rpartition(".")
        package = self._loaded(parent) if parent else None
        with self._lock:
            module = self._modules.get(name)
            if module is None:
                module = self._run(name)
        if package is not None and not hasattr(package, last):
            setattr(package, last, module)
        return module

    def _run(self, name: str) -> ModuleType:
        full = f"{self.prefix}.{name}"
        module = self.module(name, full)
        if name not in self._sources:  # a folder without __init__.py
            module.__path__ = []
            return module
        path, data = self._sources[name]
        is_package = path.endswith("__init__.py")
        module.__file__ = path
        module.__package__ = full if is_package else full.rpartition(".")[0]
        if is_package:
            module.__path__ = []
        stub, sys.modules[full] = sys.modules[full], module
        try:
            exec(compile(data, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  (the user's own code)
        except BaseException:
            del self._modules[name]
            raise
        finally:
            sys.modules[full] = stub
        return module


#: Empty modules in `sys.modules`, where decorators such as `dataclass` look up the module of a class. The right ones
#: would hold their CodeSpace for ever.
_stubs: Counter[str] = Counter()
_stubs_lock = threading.Lock()
#: Names of spaces that are gone. Finalizers only note them: they may run while somebody goes through `sys.modules`.
_left: list[list[str]] = []


def _stand_for(name: str, names: list[str]) -> None:
    with _stubs_lock:
        names.append(name)
        _stubs[name] += 1
        sys.modules.setdefault(name, ModuleType(name))


def _take_away() -> None:
    with _stubs_lock:
        while _left:
            for name in _left.pop():
                _stubs[name] -= 1
                if not _stubs[name]:
                    del _stubs[name]
                    sys.modules.pop(name, None)


def _module(space: CodeSpace, name: str, full_name: str) -> ModuleType:
    return space.module(name, full_name)


def _fill(module: ModuleType, names: Mapping[str, Any]) -> None:
    module.__dict__.update(names)


def _add_source(space: CodeSpace, name: str, path: str, data: bytes) -> None:
    space.add_source(name, path, data)


def _function(
    space: CodeSpace, place: str | dict[str, Any], names: dict[str, Any], code: CodeType, closure: Any
) -> FunctionType:
    if isinstance(place, str):
        namespace = space.module(place, names.get("__name__", place)).__dict__
    else:
        namespace = place
        namespace["__builtins__"] = space.builtins
    namespace.update(names)
    return types.FunctionType(code, namespace, None, None, closure)


def _finish(function: FunctionType, state: tuple[Any, Any]) -> None:
    made, _ = state
    builtins = function.__globals__["__builtins__"]
    cloudpickle_internals.set_function_state(function, made)
    function.__globals__["__builtins__"] = builtins


def _cached_property(function: Callable[[Any], Any], name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _cached(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    return functools.lru_cache(**parameters)(function)
