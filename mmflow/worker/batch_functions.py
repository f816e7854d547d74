"""Functions of users in the form that a task calls: of a record batch, whatever they are given and return.

    record batch --> the form that the function asks for --> function, or an instance of a class --> record batches

Invariant: a class is made at most once for each thread that calls it at the same time, in each process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import pyarrow as pa

from mmflow.errors import UserFunctionError
from mmflow.formats.decoding.fixed_width import numpy_column
from mmflow.formats.decoding.python_rows import python_rows
from mmflow.worker.movement import steps_of
from mmflow.worker.user_functions import list_batches

__all__ = ["BatchFormat", "BatchFunction", "RowFunction", "StatefulFunction"]

BatchFormat = Literal["pyarrow", "numpy", "pandas", "polars"]


def _polars(batch: pa.RecordBatch) -> object:
    import polars as pl  # noqa: PLC0415  (optional)

    return pl.from_arrow(batch)


#: What a function is given, by the name of the form.
_GIVEN: Mapping[str, Callable[[pa.RecordBatch], object]] = {
    "pyarrow": lambda batch: batch,
    "numpy": lambda batch: {
        n: numpy_column([c], c.type) for n, c in zip(batch.schema.names, batch.columns, strict=True)
    },
    "pandas": lambda batch: batch.to_pandas(),
    "polars": _polars,
}


class BatchFunction:
    """Function of batches in some form, with further arguments."""

    def __init__(
        self,
        function: Callable[..., object],
        form: BatchFormat,
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> None:
        self._function = function
        self._form = form
        self._args = tuple(args)
        self._kwargs = dict(kwargs)
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, batch: pa.RecordBatch) -> object:
        return self._function(_GIVEN[self._form](batch), *self._args, **self._kwargs)


class StatefulFunction:
    """Class whose instances are called with batches. Pickled without its instances."""

    def __init__(
        self,
        made_by: Callable[..., Callable[..., object]],
        constructor: tuple[Sequence[object], Mapping[str, object]],
        form: BatchFormat,
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> None:
        self._recipe = made_by, constructor, form, args, kwargs
        self._free: deque[BatchFunction] = deque()
        self.__name__ = getattr(made_by, "__name__", "function")

    def __reduce__(self) -> tuple[type[StatefulFunction], tuple[object, ...]]:
        return StatefulFunction, self._recipe

    def __call__(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        try:
            called = self._free.pop()
        except IndexError:
            made_by, (args, kwargs), form, more, named = self._recipe
            called = BatchFunction(made_by(*args, **kwargs), form, more, named)
        try:
            return list_batches(called(batch))
        finally:
            self._free.append(called)


class RowFunction:
    """Function of rows as dicts: to rows (`map`), to several rows (`flat_map`) or to a truth (`filter`)."""

    def __init__(
        self,
        function: Callable[[dict[str, object]], object],
        kind: Literal["map", "flat_map", "filter"],
        schema: pa.Schema | None,
    ) -> None:
        self._function = function
        self._kind = kind
        self.verb = kind
        self._schema = schema
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows: Iterator[dict[str, object]] = steps_of(python_rows(batch))
        function = self._function
        if self._kind == "filter":
            return batch.filter(pa.array([bool(function(row)) for row in rows], pa.bool_()))
        made = [function(row) for row in rows]
        return rows_batch(made if self._kind == "map" else _flat(made), self._schema)


def _flat(made: Iterable[object]) -> Iterator[object]:
    """Yield the rows of each result.

    Raises:
        TypeError: A result is no iterable.
    """
    for several in made:
        if not isinstance(several, Iterable):
            raise TypeError(
                f"it returned {type(several).__name__}, expected an iterable of dicts for each row"
            )
        yield from several


def rows_batch(rows: Iterable[object], schema: pa.Schema | None) -> pa.RecordBatch:
    """Return rows that a function returned, with columns of a schema; without one, of all their names.

    pyarrow's own `from_pylist` drops values whose names the first row does not have.

    Raises:
        TypeError: A row is no dict.
        UserFunctionError: A row has a value of another name than the schema's.
    """
    listed: list[Mapping[str, object]] = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"it returned {type(row).__name__}, expected a dict for each row")
        listed.append(row)
    names = dict.fromkeys(name for row in listed for name in row)
    if schema is None:
        return pa.RecordBatch.from_pydict({n: [row.get(n) for row in listed] for n in names})
    if unknown := [n for n in names if n not in schema.names]:
        raise UserFunctionError(
            f"a row has a value of the name {unknown[0]!r}; pass schema= with all columns"
        )
    columns = [pa.array([row.get(f.name) for row in listed], f.type) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
