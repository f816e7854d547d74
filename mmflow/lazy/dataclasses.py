"""Dataclasses that are finished when they are first used.

`dataclasses.dataclass` compiles up to ten functions for each class, 0.7 ms: a query of two lines took 140 ms for 185
classes, of which it used 60. Here a class gets its slots at once, and the rest with its first use, when one function is
compiled, `__init__`. The others need no code of their own.

    @dataclass(frozen=True, slots=True)     slots, and the functions that are the same for all classes
    Point(1, 2)                             makes __init__
    fields(Point), replace(point, x=3)      make __dataclass_fields__

Invariant: what a class does is what it would do as one of `dataclasses.dataclass`, but for a docstring where it has
none, and `InitVar` and `kw_only`, which nobody needs here.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import reprlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        *, frozen: bool = False, slots: bool = False, eq: bool = True, order: bool = False
    ) -> Callable[[type], type]:
        """Return a decorator, as `dataclasses.dataclass` does; only for classes with slots."""
        assert slots  # the descriptors of slots are what `__init__` sets fields by
        return functools.partial(_decorated, frozen=frozen, eq=eq, order=order)


__all__ = ["dataclass"]

_lock = threading.RLock()


def _decorated(cls: type, *, frozen: bool, eq: bool, order: bool) -> type:
    own = [name for name, kind in cls.__annotations__.items() if not str(kind).startswith("ClassVar")]
    inherited = {name for base in cls.__mro__[1:-1] for name in vars(base).get("__slots__", ())}
    space = {k: v for k, v in vars(cls).items() if k not in {"__dict__", "__weakref__", *own}}
    space["__slots__"] = tuple(name for name in own if name not in inherited)
    space["__qualname__"] = cls.__qualname__
    unfinished = _Unfinished(cls, frozen=frozen)
    parts: dict[str, Any] = {name: _Part(unfinished, name) for name in _PARTS}
    parts["__repr__"] = _repr
    if frozen:
        parts |= {"__setattr__": _refuse_setting, "__delattr__": _refuse_deletion}
        parts |= {"__getstate__": _state, "__setstate__": _set_state}
    if eq:
        parts["__eq__"] = _equal
        parts["__hash__"] = _hash if frozen else None
    if order:
        parts |= _ORDER
    if space.get("__hash__", _hash) is None:  # Python's, since the class has an `__eq__`
        del space["__hash__"]
    made = type(cls)(cls.__name__, cls.__bases__, parts | space)
    unfinished.made = made
    return made


class _Unfinished:
    """Class as it was written, until its first use."""

    made: type

    def __init__(self, cls: type, *, frozen: bool) -> None:
        self._cls: type | None = cls
        self._frozen = frozen

    def finish(self) -> None:
        with _lock:
            if self._cls is None:
                return
            cls, made = self._cls, self.made
            cls.__doc__ = cls.__doc__ or cls.__name__  # else Python 3.11 writes one, which takes 10 ms
            known: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
            fields = dataclasses.fields(known)
            names = tuple(f.name for f in fields if f.compare)
            parts: dict[str, Any] = {
                "__dataclass_fields__": vars(known)["__dataclass_fields__"],
                "__dataclass_params__": vars(known)["__dataclass_params__"],
                "__match_args__": tuple(f.name for f in fields if f.init),
                "_compared": _values(names),
            }
            if isinstance(vars(made)["__init__"], _Part):
                parts["__init__"] = _init(made, fields)
            for name, part in parts.items():
                setattr(made, name, part)
            self._cls = None


class _Part:
    """Attribute of an unfinished class."""

    def __init__(self, unfinished: _Unfinished, name: str) -> None:
        self._unfinished = unfinished
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        self._unfinished.finish()
        return getattr(owner if instance is None else instance, self._name)


_PARTS = ("__init__", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "_compared")


def _values(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return the function that gives the values of fields by which instances are compared."""
    if len(names) > 1:
        return staticmethod(operator.attrgetter(*names))
    return staticmethod(lambda instance: tuple(getattr(instance, name) for name in names))


def _init(cls: type, fields: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    """Return `__init__`: it sets the slots, then calls `__post_init__`."""
    given: dict[str, Any] = {}
    parameters, body = ["self"], []
    missing = dataclasses.MISSING
    for f in fields:
        value = f.name
        if f.default_factory is not missing:
            given[f"_new_{f.name}"] = f.default_factory
            value = f"_new_{f.name}()"
        elif f.default is not missing:
            given[f"_default_{f.name}"] = f.default
            value = f"_default_{f.name}" if not f.init else value
        elif not f.init:
            continue
        if f.init:
            has_default = f"_default_{f.name}" in given
            if f.default_factory is not missing:
                given["_missing"] = missing
                parameters.append(f"{f.name}=_missing")
                value = f"{value} if {f.name} is _missing else {f.name}"
            else:
                parameters.append(f"{f.name}=_default_{f.name}" if has_default else f.name)
        given[f"_set_{f.name}"] = getattr(cls, f.name).__set__
        body.append(f"_set_{f.name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    code = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"])
    exec(code, given)  # noqa: S102  (of names of fields, as Python's own does)
    made: Callable[..., None] = given["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {f.name: f.type for f in fields if f.init} | {"return": None}
    return made


# ---- functions that are the same for all classes --------------------------------------------------


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self is other or self._compared(self) == other._compared(other)


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _compare(operation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def compare(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return operation(self._compared(self), other._compared(other))

    return compare


_ORDER = {f"__{name}__": _compare(getattr(operator, name)) for name in ("lt", "le", "gt", "ge")}


def _refuse_setting(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, f.name) for f in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for f, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, f.name, value)
