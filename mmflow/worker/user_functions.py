"""Calls of the user's functions: their errors, and the batches that they return.

Invariant: an exception of a user's function is an error of that function, and never ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

from mmflow.errors import MmflowError
from mmflow.plan.stages import MapStep, Stage
from mmflow.usercode.failures import function_error

__all__ = ["describe_functions", "function_label", "list_batches", "user_function_errors"]


@contextmanager
def user_function_errors(where: str, name: str, check: Callable[[], None]) -> Iterator[None]:
    """Turn each exception of a user's function, SystemExit and KeyboardInterrupt included, into UserFunctionError.

    Args:
        where: The function and its rows, for the message.
        name: Name of the function.
        check: Raises if the task itself is being stopped, which Ray does by a KeyboardInterrupt.

    Raises:
        UserFunctionError: The function raised.
    """
    try:
        yield
    except MmflowError:
        raise
    except BaseException as error:
        check()
        raise function_error(where, error, name) from error


def describe_functions(stage: Stage) -> str:
    """Return a clause about the functions of a stage that may have ended their worker; "" if it has none."""
    names = [repr(getattr(s.function, "__name__", "function")) for s in stage.steps if isinstance(s, MapStep)]
    if not names:
        return ""
    return f"; it calls {', '.join(names)}: a segmentation fault or os._exit in it ends the worker, too"


def function_label(function: object) -> str:
    """Return a function as messages name it: with the verb that it was passed to."""
    verb = getattr(function, "verb", "map_batches")
    return f"{verb} function {getattr(function, '__name__', 'function')!r}"


def list_batches(result: object) -> list[pa.RecordBatch]:
    """Return the batches in the result of a user's function.

    Raises:
        TypeError: It is none of the forms of rows, nor an iterable of them.
    """
    if isinstance(result, pa.RecordBatch):
        return [result]
    if isinstance(result, Mapping):
        return [pa.RecordBatch.from_pydict({name: _array(values) for name, values in result.items()})]
    if type(result).__module__.partition(".")[0] == "pandas" and hasattr(result, "columns"):
        return [pa.RecordBatch.from_pandas(result, preserve_index=False)]
    if isinstance(result, pa.Table) or hasattr(result, "__arrow_c_stream__"):
        return pa.table(result).to_batches()  # type: ignore[no-any-return]  # pyarrow has no types
    if isinstance(result, Iterable) and not isinstance(result, str | bytes):
        return [b for item in result for b in list_batches(item)]
    raise TypeError(
        f"it returned {type(result).__name__}, expected a RecordBatch, a Table, a dict of arrays, a DataFrame of "
        "pandas or Polars, or an iterable of them"
    )


def _array(values: object) -> pa.Array:
    """Return a column; an array of several dimensions is one of lists."""
    if isinstance(values, Iterable) and getattr(values, "ndim", 1) > 1:
        return pa.array(list(values))
    return pa.array(values)
