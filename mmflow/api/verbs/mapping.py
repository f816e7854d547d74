"""Python functions over rows, and partitions of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import pyarrow as pa

from mmflow.api.options import SchemaLike
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import ConfigError, MmflowError, PlanError, UserFunctionError
from mmflow.formats.schemas.arrow_types import check_wanted, plan_schema
from mmflow.formats.schemas.schema import parse_schema, public_schema
from mmflow.plan.catalog import MapLeaf, RepartitionLeaf, planning
from mmflow.plan.stages import NO_NEEDS, Needs
from mmflow.usercode.failures import function_error

if TYPE_CHECKING:
    from mmflow.config import Settings
    from mmflow.worker.batch_functions import BatchFormat

__all__ = ["MappingVerbs"]


class MappingVerbs(DatasetCore):
    """Verbs that call functions of the user, or say how rows are spread over tasks."""

    def repartition(self, partitions: int, *keys: str) -> Self:
        """Return the same rows over `partitions` tasks (and files, if they are written next).

        Parameters
        ----------
        partitions
            Number of partitions.
        keys
            Columns whose equal values stay together. Without any, rows are dealt out in turn.

        Raises
        ------
        PlanError
            An unknown column, fewer than one partition, or more than 1,048,576.
        """
        if partitions < 1:
            raise PlanError(f"repartition({partitions}): at least one partition")
        if not isinstance(partitions, int) or partitions > _MOST_PARTITIONS:
            raise PlanError(
                f"repartition({partitions}): must be a whole number of at most {_MOST_PARTITIONS:,}"
            )
        self._check(keys)
        numbers = tuple(self.columns.index(k) for k in keys)
        schema = self.context.catalog.schema(self.frame)
        return self._new(self.context.catalog.add(RepartitionLeaf(self.frame, partitions, numbers, schema)))

    def map_batches(
        self,
        function: Callable[..., Any],
        schema: SchemaLike | None = None,
        *,
        batch_format: BatchFormat = "pyarrow",
        batch_rows: int | None = None,
        processes: bool = False,
        concurrency: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        fn_args: Sequence[Any] = (),
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Sequence[Any] = (),
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Apply a Python function, or instances of a class, to the rows, batch by batch.

        Parameters
        ----------
        function
            Function of a batch that returns rows: a RecordBatch or Table, a dict of arrays, a DataFrame of pandas or
            Polars, or several of them. Or a class whose instances are called so: each worker makes one instance and
            keeps it, so that a model is loaded once, and not for each batch.
        schema
            Schema of the result. By default that of the return annotation (a TypedDict of Python and numpy types), else
            that of the result for no rows, or for the first ones, which are then computed at once.
        batch_format
            Form of the batches that the function is given: `pyarrow` (a RecordBatch), `numpy` (a dict of arrays),
            `pandas` or `polars` (a DataFrame).
        batch_rows
            Most rows of one call. By default as they come.
        processes
            Whether the function runs in other processes: for functions that hold the GIL.
        concurrency
            Most tasks that call the function at a time, and so most instances that are in use.
        num_cpus, num_gpus
            Resources that Ray or Dask keep for each of these tasks. Local threads and processes share what there is.
        fn_args, fn_kwargs
            Further arguments of each call.
        fn_constructor_args, fn_constructor_kwargs
            Arguments of the class.

        Raises
        ------
        UserFunctionError
            The function fails on the first rows, and no schema was given.
        PlanError
            The result has a column of a type that plans can't carry, or that can't be known: pass `schema`.
        ConfigError
            An unknown form, arguments for the constructor of a function, or numbers that are not positive. At the run:
            there are not so many GPUs.

        Examples
        --------
        >>> import mmflow as mf
        >>> def double(columns):
        ...     return {"b": 2 * columns["a"]}
        >>> mf.from_arrow({"a": [1, 2]}).map_batches(double, batch_format="numpy").to_arrow().to_pydict()
        {'b': [2, 4]}
        >>> class Adder:
        ...     def __init__(self, number):
        ...         self.number = number
        ...     def __call__(self, frame):
        ...         return frame + self.number
        >>> ds = mf.from_arrow({"a": [1, 2]})
        >>> ds.map_batches(Adder, batch_format="pandas", fn_constructor_args=[10]).to_arrow().to_pydict()
        {'a': [11, 12]}
        """
        from mmflow.worker.batch_functions import BatchFormat  # noqa: PLC0415  (slow)

        if batch_format not in get_args(BatchFormat):
            raise ConfigError(
                f"batch_format = {batch_format!r}: must be one of {', '.join(get_args(BatchFormat))}"
            )
        for name, number in (("concurrency", concurrency), ("batch_rows", batch_rows)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ConfigError(f"{name} = {number!r}: must be a positive integer")
        for name, wanted in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
            if wanted is not None and not wanted >= 0:
                raise ConfigError(f"{name} = {wanted!r}: must be a number of at least 0")
        called: Callable[[pa.RecordBatch], Any]
        call = (batch_format, fn_args, fn_kwargs or {})
        if isinstance(function, type):
            constructor = (tuple(fn_constructor_args), dict(fn_constructor_kwargs or {}))
            from mmflow.worker.batch_functions import StatefulFunction  # noqa: PLC0415  (slow)

            called = StatefulFunction(function, constructor, *call)
        elif fn_constructor_args or fn_constructor_kwargs:
            raise ConfigError("map_batches: fn_constructor_args are for classes, but this is a function")
        else:
            plain = batch_format == "pyarrow" and not fn_args and not fn_kwargs
            from mmflow.worker.batch_functions import BatchFunction  # noqa: PLC0415  (slow)

            called = function if plain else BatchFunction(function, *call)
        if schema is not None:
            made = parse_schema(schema)
        else:
            annotated = function.__call__ if isinstance(function, type) else function
            from mmflow.api.verbs.annotations import annotated_schema  # noqa: PLC0415  (slow)

            made = annotated_schema(annotated) or self._found_schema(
                called, "map_batches", by_no_rows=batch_format in ("pyarrow", "polars")
            )
        needs = Needs(concurrency, num_cpus, num_gpus)
        return self._mapped(called, made, "map_batches", batch_rows, processes, needs)

    def map(
        self,
        function: Callable[[dict[str, Any]], Mapping[str, Any]],
        schema: SchemaLike | None = None,
        *,
        processes: bool = False,
    ) -> Self:
        """Apply a Python function to each row. It is slow: 300,000 values a second and core; `map_batches` is fast.

        Parameters
        ----------
        function
            Function of a dict that returns one.
        schema, processes
            As of `map_batches`, which also says what is raised.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).map(lambda row: {"b": row["a"] + 0.5}).to_arrow().to_pydict()
        {'b': [1.5, 2.5]}
        """
        return self._rows(function, "map", schema, processes)

    def flat_map(
        self,
        function: Callable[[dict[str, Any]], Iterable[Mapping[str, Any]]],
        schema: SchemaLike | None = None,
        *,
        processes: bool = False,
    ) -> Self:
        """Apply a Python function that returns any number of rows to each row. It is as slow as `map`.

        Parameters
        ----------
        function
            Function of a dict that returns a list of them.
        schema, processes
            As of `map_batches`, which also says what is raised.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": ["x y", "z"]})
        >>> ds.flat_map(lambda row: [{"w": word} for word in row["a"].split()]).to_arrow().to_pydict()
        {'w': ['x', 'y', 'z']}
        """
        return self._rows(function, "flat_map", schema, processes)

    def _rows(
        self, function: Callable[..., Any], kind: Literal["map", "flat_map"], schema: Any, processes: bool
    ) -> Self:
        from mmflow.worker.batch_functions import RowFunction  # noqa: PLC0415  (slow)

        if schema is not None:
            made = parse_schema(schema)
        else:
            from mmflow.api.verbs.annotations import annotated_schema  # noqa: PLC0415  (slow)

            annotated = annotated_schema(function) if kind == "map" else None
            made = annotated or self._found_schema(RowFunction(function, kind, None), kind, by_no_rows=False)
        return self._mapped(RowFunction(function, kind, public_schema(made)), made, kind, processes=processes)

    def _filter_rows(self, function: Callable[[dict[str, Any]], Any]) -> Self:
        """Return the rows for which a Python function of a dict gives a true value."""
        from mmflow.worker.batch_functions import RowFunction  # noqa: PLC0415  (slow)

        return self._mapped(RowFunction(function, "filter", None), self.schema, "filter")

    def _mapped(
        self,
        function: Callable[[pa.RecordBatch], Any],
        schema: pa.Schema,
        what: str,
        batch_rows: int | None = None,
        processes: bool = False,
        needs: Needs = NO_NEEDS,
    ) -> Self:
        returned = plan_schema(schema)
        check_wanted(returned, f"{what}: ")
        leaf = MapLeaf(self.frame, function, returned, batch_rows, processes, needs)
        return self._new(self.context.catalog.add(leaf))

    def _found_schema(
        self, function: Callable[[pa.RecordBatch], Any], what: str, *, by_no_rows: bool
    ) -> pa.Schema:
        """Return the schema of a function's result: for no rows, if it is known from them, else for the first ones."""
        given = public_schema(self._plan_schema())
        if by_no_rows:
            empty = pa.RecordBatch.from_arrays([pa.nulls(0, t) for t in given.types], schema=given)
            with contextlib.suppress(UserFunctionError):
                found = _result_schema(function, empty, what, self.context.settings)
                if found is not None and not _unknown(found):
                    return found
        with planning(what):
            first = self._new(self.frame.limit(_FIRST_ROWS, 0)).to_arrow()
        batch = first.combine_chunks().to_batches()[0] if first.num_rows else None
        found = None if batch is None else _result_schema(function, batch, what, self.context.settings)
        if found is None:
            where = "there are no rows" if batch is None else "the first rows give none"
            raise PlanError(
                f"{what}: the columns of its result are not known, since {where}; pass schema=",
                code="MMF-PLN-005",
            )
        if unknown := _unknown(found):
            raise PlanError(
                f"{what}: the type of column {unknown!r} is not known, since its first values are null; pass schema="
            )
        return found


#: Each is a task.
_MOST_PARTITIONS = 1 << 20
#: Rows that a function is called with to find the schema of its result.
_FIRST_ROWS = 100


def _unknown(schema: pa.Schema) -> str | None:
    """Return the first column whose type is null, or of nulls."""
    return next((f.name for f in schema if _of_nulls(f.type)), None)


def _of_nulls(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_of_nulls(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_null(kind))


def _result_schema(
    function: Callable[[pa.RecordBatch], Any], batch: pa.RecordBatch, what: str, settings: Settings
) -> pa.Schema | None:
    """Return the schema of a function's result; None: it has no batch and no columns.

    Raises:
        UserFunctionError: The function raised.
        StalledError: It did not move for longer than `stall_timeout`.
    """
    name = getattr(function, "__name__", "function")
    where = f"{what} function {name!r}, called with {batch.num_rows} rows to find its schema,"
    try:
        from mmflow.worker.user_functions import list_batches  # noqa: PLC0415  (slow)
        from mmflow.worker.watched_call import watched_call  # noqa: PLC0415  (slow)

        with watched_call(where, settings.named_after, settings.stall_timeout):
            batches = list_batches(function(batch))
    except (Exception, SystemExit) as error:  # whatever the user's function raised
        if isinstance(error, MmflowError):
            raise
        raise function_error(where, error, name, "; pass schema= to spare this call") from error
    return next((b.schema for b in batches if b.num_columns), None)
