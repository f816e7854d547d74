"""Arguments of public functions against their annotations, once a call has failed: a wrong one is told by its name.

    ds.limit("x")  -->  TypeError deep inside  -->  count: int  -->  TypeError: limit(): count = 'x': must be int

Invariant: a value is wrong only if its annotation says so for certain; a call with right arguments that fails is a bug.
"""

from __future__ import annotations

import ast
import collections.abc
import importlib
import inspect
import itertools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["find_wrong_argument"]

#: Elements of a list or dict that are looked at.
_MOST = 100
_MOST_TEXT = 60
#: Types as messages name them.
_NAMES = {
    "Sequence": "list",
    "Iterable": "list",
    "Mapping": "dict",
    "PathLike": "a path",
    "DataType": "an Arrow type",
}


def find_wrong_argument(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return what is wrong with the first argument that does not fit its annotation; None: all may fit."""
    try:
        hints = typing.get_type_hints(function, localns=_CheckedNames(function))
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (
        NameError,
        TypeError,
        AttributeError,
    ):  # names that only checkers import; arguments that do not fit
        return None
    owner = type(args[0]) if args else object  # of `Self`, which only methods have
    kinds = {p.name: p.kind for p in bound.signature.parameters.values()}
    for name, value in bound.arguments.items():
        if name not in hints:
            continue
        if kinds[name] is inspect.Parameter.VAR_POSITIONAL:
            values, shown = list(value), f"one of {name}"
        elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
            values, shown = list(value.values()), f"one of {name}"
        else:
            values, shown = [value], name
        for each in values:
            if not _fits(each, hints[name], owner):
                return f"{shown} = {_shortened(each)}: must be {_words(hints[name], owner)}"
    return None


class _CheckedNames(dict[str, Any]):
    """Names that a module imports for type checkers only, imported where an annotation has one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module = inspect.getmodule(inspect.unwrap(function))
        tree = ast.parse("" if module is None else inspect.getsource(module))
        blocks = [b for b in tree.body if isinstance(b, ast.If) and ast.unparse(b.test) == "TYPE_CHECKING"]
        self._imports = {
            name.asname or name.name: statement
            for block in blocks
            for statement in block.body
            if isinstance(statement, ast.ImportFrom)
            for name in statement.names
        }

    def __missing__(self, name: str) -> Any:
        statement = self._imports[name]  # a KeyError says: look into the module
        found = next(n.name for n in statement.names if name in (n.name, n.asname))
        return getattr(importlib.import_module(str(statement.module)), found)


def _shortened(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _fits(value: Any, hint: Any, owner: type) -> bool:
    """Return whether a value may be of a type; True where that can't be told."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is typing.Self:
        return isinstance(value, owner)
    if isinstance(hint, typing.TypeVar):
        return hint.__bound__ is None or _fits(value, hint.__bound__, owner)
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, h, owner) for h in arguments)
    if origin is typing.Literal:
        return any(value is a or (type(value) is type(a) and value == a) for a in arguments)
    if origin is typing.Annotated:
        return _fits(value, arguments[0], owner)
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) or hasattr(value, "__float__")
    if hint is int:
        return isinstance(value, int) or hasattr(value, "__index__")
    kind = origin or hint
    if not isinstance(kind, type) or getattr(kind, "_is_protocol", False) or typing.is_typeddict(kind):
        return True
    if not isinstance(value, kind):
        return False
    if isinstance(value, str | bytes) and len(arguments) == 1:
        return not value or _fits(value[:1], arguments[0], owner)
    if isinstance(value, list | tuple | set | frozenset | dict) and len(arguments) == 1:
        return all(_fits(v, arguments[0], owner) for v in itertools.islice(value, _MOST))
    if isinstance(value, dict) and len(arguments) == 2:
        few = itertools.islice(value.items(), _MOST)
        return all(_fits(k, arguments[0], owner) and _fits(v, arguments[1], owner) for k, v in few)
    return True


def _words(hint: Any, owner: type) -> str:
    """Return a type as messages name it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return "None"
    if hint is typing.Self:
        return owner.__name__
    if isinstance(hint, typing.TypeVar) and hint.__bound__ is not None:
        return _words(hint.__bound__, owner)
    if origin in (typing.Union, types.UnionType):
        words = list(dict.fromkeys(_words(a, owner) for a in arguments))
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin is typing.Annotated:
        return _words(arguments[0], owner)
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return "a function"
    kind = origin or hint
    if isinstance(kind, typing.ForwardRef):
        return kind.__forward_arg__
    name = str(getattr(kind, "__name__", kind))
    name = _NAMES.get(name, name)
    if name in ("list", "tuple") and arguments and arguments[0] is not Any:
        return f"{name} of {_words(arguments[0], owner)}"
    return name
