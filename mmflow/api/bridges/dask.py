"""Datasets as dataframes of Dask, and the other way round.

to_dask     shard 0   read ------------------------> frame        a graph of Dask, which reads as it is computed
                           settle -> prefix
            shard 1   read             |   --------> frame
                           settle <----+ -> prefix

from_dask   numbers of partitions -> map_batches: compute the partition where the task runs
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mmflow.engines.partitions import Partition, PartitionReader, Reading, Settled
from mmflow.errors import ConfigError
from mmflow.lazy.dataclasses import dataclass

if TYPE_CHECKING:
    from mmflow.api.bridges.kept import KeptReader
    from mmflow.api.verbs.persisting import PersistingVerbs

__all__ = ["DaskPartitions", "dask_schema", "to_dask"]


def _dataframes() -> Any:
    try:
        import dask.dataframe as dd  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise ConfigError(
            f"dask.dataframe is not installed: pip install 'mmflow-engine[dask]' pandas ({error})",
            code="MMF-CFG-002",
        ) from error
    return dd


def _frame(table: pa.Table) -> Any:
    """Return rows as a DataFrame of Arrow's types: its columns have nulls, and one type in all partitions."""
    import pandas as pd  # noqa: PLC0415  (optional)

    return table.to_pandas(types_mapper=pd.ArrowDtype)


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """Function of a partition, for `from_map`."""

    kept: KeptReader
    token: str

    def __call__(self, partition: Partition) -> Any:
        return _frame(self.kept(partition))

    def __dask_tokenize__(self) -> str:
        return self.token


def _read(reader: PartitionReader, partition: Partition) -> Reading:
    return reader.read(partition)


def _settle(reader: PartitionReader, partition: Partition, reading_reports: Any, before: Any) -> Settled:
    return reader.settle(partition, reading_reports, before)


def _reports(reading: Reading) -> Any:
    return reading.reports


def _prefix(settled: Settled) -> Any:
    return settled.prefix


def _chosen(reading: Reading, settled: Settled) -> Any:
    return _frame(reading.rows if settled.rows is None else settled.rows)


def to_dask(dataset: PersistingVerbs) -> Any:
    """Return the dataframe of a dataset (`Dataset.to_dask`)."""
    dd = _dataframes()
    from mmflow.api.bridges.kept import partitions_of  # noqa: PLC0415  (slow)

    kept, plan = partitions_of(dataset)
    meta = _frame(plan.reader.schema.empty_table())
    if not plan.guesses:
        return dd.from_map(_Frames(kept, uuid.uuid4().hex), plan.partitions, meta=meta, label="mmflow")
    from dask import delayed  # noqa: PLC0415  (optional)

    reader = delayed(plan.reader, name=f"mmflow-reader-{uuid.uuid4().hex}", traverse=False)
    frames, before = [], None
    for partition in plan.partitions:
        reading = delayed(_read)(reader, partition)
        settled = delayed(_settle)(
            reader, partition, delayed(_reports)(reading), None if partition.begins else before
        )
        before = delayed(_prefix)(settled)
        frames.append(delayed(_chosen)(reading, settled))
    return dd.from_delayed(frames, meta=meta, prefix="mmflow", verify_meta=False)


def dask_schema(frame: Any) -> pa.Schema:
    """Return the columns and types of a dataframe of Dask; an index with a name is a column.

    Raises:
        ConfigError: It is none, or a type is not known to Arrow.
    """
    dd = _dataframes()
    if not isinstance(frame, dd.DataFrame):
        raise ConfigError(f"from_dask: {type(frame).__name__} is no dataframe of Dask")
    from dask.dataframe.utils import meta_nonempty  # noqa: PLC0415  (optional)

    try:
        found = pa.Schema.from_pandas(_indexed(meta_nonempty(frame._meta)), preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise ConfigError(f"from_dask: {error}; give the column a type of Arrow's by astype()") from error
    return pa.schema(
        [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in found],
    )


def _indexed(frame: Any) -> Any:
    named = [n for n in frame.index.names if n is not None]
    return frame.reset_index() if named else frame


class DaskPartitions:
    """Function of numbers of partitions that returns their rows, for `map_batches`.

    A partition is computed where the task runs: by the client of this process or of this worker of Dask, or here, where
    there is none.
    """

    def __init__(self, frame: Any, schema: pa.Schema) -> None:
        self._parts = frame.to_delayed()
        self._schema = schema

    def __call__(self, batch: pa.RecordBatch) -> pa.Table:
        """Return the rows of the partitions of a batch."""
        tables = [
            pa.Table.from_pandas(
                _indexed(_computed(self._parts[number])), schema=self._schema, preserve_index=False
            )
            for number in batch.column(0).to_pylist()
        ]
        return pa.concat_tables(tables).replace_schema_metadata(None)

    def __len__(self) -> int:
        return len(self._parts)


def _computed(part: Any) -> Any:
    try:
        from distributed import get_client, get_worker, worker_client  # noqa: PLC0415  (optional)
    except ImportError:
        return part.compute(scheduler="synchronous")
    try:
        get_worker()
    except ValueError:
        try:
            client = get_client()
        except ValueError:
            return part.compute(scheduler="synchronous")
        return client.compute(part).result()
    # The slot of this task is free meanwhile: others may compute the partition there.
    with worker_client() as client:
        return client.compute(part).result()
