"""Rows for other libraries, and their number."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datafusion import functions

from mmflow.api import expressions as ex
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import ConfigError, PlanError
from mmflow.formats.schemas.schema import type_text
from mmflow.lazy import array_types as npt

__all__ = ["CollectingVerbs"]


class CollectingVerbs(DatasetCore):
    """Verbs that run the plan, and return its rows in the form of some library."""

    def to_pandas(self) -> Any:
        """Return all rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return all rows as a Polars DataFrame."""
        import polars as pl  # noqa: PLC0415  (optional)

        return pl.from_arrow(self.to_arrow())

    def to_polars_lazy(self) -> Any:
        """Return the rows as a lazy frame of Polars, which reads what its plan needs as it is collected.

        Columns that are used, comparisons in filters and the number of rows of a `head` go into mmflow's plan. Rows
        come batch by batch, so that Polars' streaming engine holds few of them.

        Returns
        -------
        polars.LazyFrame
            The rows, in their order.

        Raises
        ------
        ConfigError
            Polars is not installed. As it is collected, running the query raises as `to_arrow`.

        Examples
        --------
        >>> import mmflow as mf, polars as pl
        >>> lf = mf.from_arrow({"a": [1, 2, 3], "b": ["x", "y", "z"]}).to_polars_lazy()
        >>> lf.filter(pl.col("a") > 1).select("b").collect()["b"].to_list()
        ['y', 'z']
        """
        from mmflow.api.bridges.polars import to_polars_lazy  # noqa: PLC0415  (slow)

        return to_polars_lazy(self)

    def to_dask(self) -> Any:
        """Return the rows as a dataframe of Dask, whose workers read its partitions when they are computed.

        A plan that scans files, filters and computes values has a partition for each shard. Any other plan (groups,
        joins, a sort, a limit, bad records that are kept) runs now, as by `persist`, and partitions read the files of
        its rows. No rows come to this process. Columns have Arrow's types. Workers need mmflow, and must see the files.

        Returns
        -------
        dask.dataframe.DataFrame
            Partitions in the order of the rows.

        Raises
        ------
        ConfigError
            Dask or pandas is not installed.
        MmflowError
            Planning or running fails; later, as partitions are computed: reading them fails.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2, 3]}).filter(mf.col("a") > 1).to_dask().compute()["a"].tolist()
        [2, 3]
        """
        from mmflow.api.bridges.dask import to_dask  # noqa: PLC0415  (slow)

        return to_dask(self)  # type: ignore[arg-type]  # every dataset has all verbs

    def to_ray(self) -> Any:
        """Return the rows as a dataset of Ray Data, whose tasks read its blocks.

        A block is a partition, as of `to_dask`. Files whose cuts are known (Parquet, Arrow IPC, whole small files) are
        read as Ray Data asks for them. Shards of text are read by tasks that begin now, since each has to continue the
        one before; their blocks lie in Ray's object store. Workers need mmflow, and must see the files.

        Returns
        -------
        ray.data.Dataset
            Blocks in the order of the rows.

        Raises
        ------
        ConfigError
            Ray Data is not installed.
        MmflowError
            Planning or running fails; later: reading a block fails.
        """
        from mmflow.api.bridges.ray import to_ray  # noqa: PLC0415  (slow)

        return to_ray(self)  # type: ignore[arg-type]  # every dataset has all verbs

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return all rows as dicts of Python values.

        Instants and spans in nanoseconds are `Timestamp` and `Timedelta` of pandas where it is installed.

        Raises
        ------
        PlanError
            A value is none of Python's, such as a date in the year 10000. Running the query raises as `to_arrow`.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, None]}).to_dicts()
        [{'a': 1}, {'a': None}]
        """
        from mmflow.formats.decoding.python_rows import python_rows  # noqa: PLC0415  (slow)

        return [row for batch in self.iter_batches() for row in python_rows(batch)]

    def to_numpy(self) -> npt.NDArray[Any]:
        """Return all rows as an array of shape (rows, columns). Its type is one that all columns have in common.

        It is found by numpy's rules. Nulls are NaN, which makes integers floats, or None in a column without numbers.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2], "b": [0.5, None]}).to_numpy()
        array([[1. , 0.5],
               [2. , nan]])
        """
        table = self.to_arrow()
        from mmflow.formats.decoding.fixed_width import numpy_column  # noqa: PLC0415  (slow)

        columns = [numpy_column(column.chunks, column.type) for column in table.columns]
        return np.column_stack(columns) if columns else np.empty((table.num_rows, 0))

    def to_torch(self, return_type: Literal["tensor", "dict"] = "tensor") -> Any:
        """Return all rows as a tensor of PyTorch, for columns of numbers and truth values.

        Parameters
        ----------
        return_type
            `tensor`: one of shape (rows, columns), of the type of `to_numpy`; `dict`: one of shape (rows,) for each
            column, by name. Nulls are NaN, which makes integers floats.

        Raises
        ------
        ConfigError
            PyTorch is not installed, or there is no such form.
        PlanError
            A column holds something else, or truth values with nulls.
        """
        if return_type not in ("tensor", "dict"):
            raise ConfigError(f"to_torch({return_type!r}): must be tensor or dict")
        try:
            import torch  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  (optional)
        except ImportError as error:
            raise ConfigError(
                f"to_torch() needs PyTorch: pip install torch ({error})", code="MMF-CFG-002"
            ) from error
        for field in self.schema:
            kind = field.type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
                raise PlanError(
                    f"to_torch: column {field.name!r} is {type_text(kind)}, which tensors do not hold; cast it, or "
                    "select others"
                )
        table = self.to_arrow()
        from mmflow.formats.decoding.fixed_width import numpy_column  # noqa: PLC0415  (slow)

        arrays = {
            name: numpy_column(column.chunks, column.type)
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
        for name, array in arrays.items():
            if array.dtype == object:
                raise PlanError(f"to_torch: column {name!r} of truth values has nulls; fill_null it before")
        if return_type == "dict":
            return {name: torch.from_numpy(_writable(array)) for name, array in arrays.items()}
        both = np.column_stack([*arrays.values()]) if arrays else np.empty((table.num_rows, 0))
        return torch.from_numpy(_writable(both))

    def collect_schema(self) -> pa.Schema:
        """Return the columns and types of the rows, as `schema`."""
        return self.schema

    def __len__(self) -> int:
        """Return the number of rows, as `count`: it runs the plan."""
        return self.count()

    def __bool__(self) -> bool:
        """Raise TypeError: it would take a run to say whether there are rows.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("a dataset is neither true nor false: ask len(ds) > 0, or `ds is not None`")

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the rows for any library that takes Arrow streams: Polars, DuckDB, pandas, pyarrow."""
        reader = pa.RecordBatchReader.from_batches(self._table_schema(), self.iter_batches())
        return reader.__arrow_c_stream__(requested_schema)

    def count(self) -> int:
        """Return the number of rows."""
        counted = self.frame.aggregate([], [functions.count(ex.literal(1)).alias("n")])
        table = self._new(counted).to_arrow()
        return int(table.column(0)[0].as_py())


def _writable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that may be written to: the bytes of Arrow may not, and tensors know no such thing."""
    return array if array.flags.writeable else array.copy()
