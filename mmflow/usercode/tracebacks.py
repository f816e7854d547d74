"""Tracebacks of errors that leave mmflow: they end at the user's line, without the frames and causes inside.

    user's line --> [public function --> mmflow, Arrow, DataFusion, threads --> ] user's function
                     cut, unless MMFLOW_TRACEBACK=1                               kept

Invariant: bugs are shown whole. An error is one of the user's only if it is an MmflowError, or a `raise` of mmflow's
own, or a call whose arguments do not fit the function.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from opcode import opmap
from types import CodeType, FunctionType, GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from mmflow.errors import MmflowError, suggest
from mmflow.lazy.patterns import lazy_regex

__all__ = [
    "VARIABLE",
    "PublicApi",
    "format_user_frames",
    "near",
    "public",
    "restored",
    "show_all",
    "shows_all",
]

P = ParamSpec("P")
R = TypeVar("R")

#: Environment variable that shows tracebacks whole.
VARIABLE = "MMFLOW_TRACEBACK"
_PACKAGE = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}"
_RAISE = opmap["RAISE_VARARGS"]
#: Special methods that people call by syntax, and that can fail.
_SPECIAL = frozenset(
    f"__{name}__"
    for name in (
        "init", "call", "enter", "exit", "getitem", "setitem", "getattr", "len", "bool", "iter", "next", "array",
        "arrow_c_stream", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv",
        "rfloordiv", "mod", "rmod", "pow", "rpow", "and", "rand", "or", "ror", "xor", "rxor", "invert", "neg",
        "eq", "ne", "lt", "le", "gt", "ge",
    )
)  # fmt: skip


def shows_all() -> bool:
    """Return whether tracebacks are shown whole: MMFLOW_TRACEBACK is set, and not to 0."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def show_all() -> None:
    """Show tracebacks whole from now on, also in processes that this one starts."""
    os.environ[VARIABLE] = "1"


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore whether tracebacks are shown whole, at the end of the block."""
    before = os.environ.get(VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Make the tracebacks of a function's errors end at the line that calls it, as a decorator.

    A bare `raise` adds no entry to a traceback, so the frame of the wrapper is not seen either.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            if isinstance(error, TypeError) and _ends_here(error.__traceback__):
                _explain_call(error, function, kwargs)
            wrong = _wrong_argument(error, function, args, kwargs)
            if wrong is None:
                _cut(error)
                raise
            try:
                raise wrong
            except TypeError:
                _cut(wrong)
                raise
        return cast("R", _public_rows(result)) if isinstance(result, GeneratorType) else result

    return call


class PublicApi:
    """Base of classes that people use: tracebacks of their methods' errors end at the user's line (`public`)."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            if name.startswith("_") and name not in _SPECIAL:
                continue
            # A dataclass with slots is made twice: its methods are wrapped once.
            wrapped: Any = None
            if isinstance(value, FunctionType) and value.__code__ is not _WRAPPER:
                wrapped = public(value)
            elif isinstance(value, property) and value.fget is not None:
                wrapped = property(public(value.fget), value.fset, value.fdel, value.__doc__)
            elif isinstance(value, classmethod | staticmethod):
                wrapped = type(value)(public(value.__func__))
            if wrapped is not None:
                setattr(cls, name, wrapped)

    if not TYPE_CHECKING:  # checkers know the names that there are

        @public
        def __getattr__(self, name: str) -> Any:
            """Say what was meant by an unknown name. Python does so itself, but not in notebooks and logs."""
            if hasattr(type(self), name):  # a property of this name raised an AttributeError
                return object.__getattribute__(self, name)
            owner = getattr(type(self), "_label", type(self).__name__)
            message = f"{owner} has no attribute {name!r}"
            if not name.startswith("_"):
                known = [n for n in dir(type(self)) if not n.startswith("_")]
                message += near(name, known, owner)
            # Python adds a suggestion of its own, if it knows the object.
            raise AttributeError(message, name=name, obj=None)


def format_user_frames(error: BaseException) -> tuple[str, str]:
    """Return where a user's function failed, as `file:line`, and its traceback, in the user's own frames only.

    The place is "" where none of the frames is the user's: a function of a package was passed.
    """
    import traceback  # noqa: PLC0415  (for errors only)

    frames = _user_frames(error.__traceback__)
    shown = traceback.TracebackException(type(error), error, frames)
    place = shown.stack[-1] if shown.stack else None
    return "" if place is None else f"{place.filename}:{place.lineno}", "".join(shown.format(chain=False))


def _public_rows(rows: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    try:
        return (yield from rows)
    except Exception as error:
        _cut(error)
        raise


def _cut(error: Exception) -> None:
    if sys.is_finalizing():  # what __del__ raises is printed as it is: nothing can be imported any more
        return
    known = isinstance(error, MmflowError) or hasattr(error, _CUT) or _raised_on_purpose(error.__traceback__)
    if shows_all() or not known:
        return
    if isinstance(error, MmflowError) and "IPython" in sys.modules:
        error.message = _CELL.sub(_cell, error.message)
        error.args = (error.message,)
    setattr(error, _CUT, True)  # frames that it passes through from here on are mmflow's, too
    error.__traceback__ = _user_frames(error.__traceback__)
    error.__cause__ = None  # also hides the context


def _wrong_argument(
    error: Exception, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TypeError | None:
    """Return the error for a wrong argument, if that explains an error that nobody raised on purpose.

    The function that the user called knows best: it replaces what was said of those that it calls.
    """
    if isinstance(error, MmflowError) or shows_all():
        return None
    if not hasattr(error, _ARGUMENT) and _raised_on_purpose(error.__traceback__):
        return None
    from mmflow.usercode.arguments import find_wrong_argument  # noqa: PLC0415  (for errors only)

    wrong = find_wrong_argument(function, args, kwargs)
    if wrong is None:
        return None
    made = TypeError(f"{_name(function)}(): {wrong}")
    setattr(made, _ARGUMENT, True)
    setattr(made, _CUT, True)
    return made


def _name(function: Callable[..., Any]) -> str:
    return function.__qualname__.removesuffix(".__init__").rpartition(".")[2]


def _cell(match: re.Match[str]) -> str:
    """Return a line of a notebook's temporary file as that of its cell, as IPython names it."""
    shell = sys.modules["IPython"].get_ipython()
    named = None if shell is None else shell.compile.format_code_name(match[1])
    return match[0] if named is None else f"{named[0]} {named[1]}, line {match[2]}"


def _raised_on_purpose(trace: TracebackType | None) -> bool:
    """Return whether a traceback ends at a `raise` in mmflow, or at the call of a public function."""
    if trace is None:
        return False
    last = _last(trace)
    code = last.tb_frame.f_code
    return _is_ours(code) and (code is _WRAPPER or code.co_code[last.tb_lasti] == _RAISE)


def _ends_here(trace: TracebackType | None) -> bool:
    """Return whether a call failed before the function began: its arguments do not fit."""
    return trace is not None and trace.tb_next is None


def near(name: str, known: Iterable[str], owner: str = "") -> str:
    """Return a clause that says what to write for a name of another library, or the nearest name; "": none is near."""
    from mmflow.usercode.other_names import find_other_name  # noqa: PLC0415  (for errors only)

    if other := find_other_name(owner, name):
        return f"; write {other}"
    said = suggest(name, known, "")
    return f"; {said}" if said.startswith("did") else ""


def _last(trace: TracebackType) -> TracebackType:
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _explain_call(error: TypeError, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Say what is wrong with the arguments of a call: Python names an unknown one, but not those that there are."""
    import inspect  # noqa: PLC0415  (for errors only)

    name = _name(function)
    parameters = inspect.signature(function).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [n for n in named if n != "self"]
    unknown = [n for n in kwargs if n not in known]
    if "unexpected keyword argument" in str(error) and unknown:
        if name == "filter":
            hint = f"; write mf.col({unknown[0]!r}) == …"
        elif not known:
            hint = "; it takes none by name"
        else:
            hint = near(unknown[0], known, name) or f"; {suggest(unknown[0], known, 'arguments')}"
        error.args = (f"{name}() has no argument {unknown[0]!r}{hint}",)
    else:
        error.args = (str(error).replace(f"{function.__qualname__}()", f"{name}()"),)


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_PACKAGE)


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of mmflow, of packages and of Python."""
    from mmflow.usercode.ownership import is_users  # noqa: PLC0415  (slow to import, and for errors only)

    kept = []
    while trace is not None:
        code = trace.tb_frame.f_code
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if not _is_ours(code) and (name == "__main__" or is_users(name, code.co_filename)):
            kept.append(trace)
        trace = trace.tb_next
    made = None
    for each in reversed(kept):
        made = TracebackType(made, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return made


#: Place in a cell of a notebook, whose code has the name of a file.
_CELL = lazy_regex(r"(\S*ipykernel_\d+/\d+\.py|<ipython-input-[^>]*>):(\d+)")
#: Attribute of errors whose tracebacks are cut.
_CUT = "_mmflow_cut"
#: Attribute of errors about an argument.
_ARGUMENT = "_mmflow_argument"
#: Code of the wrapper: a call whose arguments do not fit fails there.
_WRAPPER = public(shows_all).__code__
