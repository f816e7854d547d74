"""Datasets as datasets of Ray Data, and the other way round.

to_ray      cuts that are known     a datasource, whose read tasks run as the rows are asked for
            cuts that are guessed   tasks of Ray that read and settle; their blocks lie in the object store

from_ray    blocks in the object store, held by an actor <- map_batches: get the block where the task runs
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mmflow.engines.partitions import Partition, PartitionReader
from mmflow.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from mmflow.api.bridges.kept import KeptReader
    from mmflow.api.verbs.persisting import PersistingVerbs

__all__ = ["RayBlocks", "to_ray"]

_NAMESPACE = "mmflow"


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415  (optional)
        import ray.data  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise ConfigError(
            f"Ray Data is not installed: pip install 'mmflow-engine[ray]' 'ray[data]' ({error})",
            code="MMF-CFG-002",
        ) from error
    return ray


def _rows(kept: KeptReader, partition: Partition) -> Iterable[pa.Table]:
    yield kept(partition)


def _read(reader: PartitionReader, partition: Partition) -> tuple[pa.Table, Any]:
    reading = reader.read(partition)
    return reading.rows, reading.reports


def _settle(
    reader: PartitionReader, partition: Partition, reports: Any, before: Any
) -> tuple[Any, pa.Table | None]:
    settled = reader.settle(partition, reports, before)
    return settled.prefix, settled.rows


def _chosen(rows: pa.Table, again: pa.Table | None) -> pa.Table:
    return rows if again is None else again


def to_ray(dataset: PersistingVerbs) -> Any:
    """Return the dataset of Ray Data of a dataset (`Dataset.to_ray`)."""
    ray = _ray()
    from mmflow.api.bridges.kept import partitions_of  # noqa: PLC0415  (slow)

    kept, plan = partitions_of(dataset)
    if not plan.guesses:
        source = _datasource()(kept, plan.partitions)
        return ray.data.read_datasource(source, override_num_blocks=len(plan.partitions))
    reader = ray.put(plan.reader)
    read, settle = (ray.remote(num_returns=2)(f) for f in (_read, _settle))
    chosen = ray.remote(_chosen)
    blocks, before = [], None
    for partition in plan.partitions:
        rows, reports = read.remote(reader, partition)
        before, again = settle.remote(reader, partition, reports, None if partition.begins else before)
        blocks.append(chosen.remote(rows, again))
    return ray.data.from_arrow_refs(blocks)


@cache
def _datasource() -> Callable[[KeptReader, Sequence[Partition]], Any]:
    from ray.data import Datasource, ReadTask  # noqa: PLC0415  (optional)
    from ray.data.block import BlockMetadata  # noqa: PLC0415  (optional)

    class MmflowDatasource(Datasource):  # type: ignore[misc, unused-ignore]  # Ray has no types
        """Partitions of a plan, of which each is read by a task."""

        def __init__(self, kept: KeptReader, partitions: Sequence[Partition]) -> None:
            super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
            self._kept = kept
            self._partitions = partitions

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[Any]:
            del parallelism, data_context
            return [
                ReadTask(
                    partial(_rows, self._kept, partition),
                    BlockMetadata(None, None, None),
                    schema=self._kept.reader.schema,
                    per_task_row_limit=per_task_row_limit,
                )
                for partition in self._partitions
            ]

    return MmflowDatasource


class _Holder:
    """Actor that holds the references of blocks, so that a name stands for them wherever a task runs."""

    def __init__(self, blocks: list[Any]) -> None:
        self._blocks = blocks

    def reference(self, number: int) -> list[Any]:
        """Return the reference of a block, in a list: Ray would send the block in its place."""
        return [self._blocks[number]]


def _schema_of(block: pa.Table) -> pa.Schema:
    return block.schema


class RayBlocks:
    """Function of numbers of blocks that returns their rows, for `map_batches`.

    Raises:
        ConfigError: It is made of something else than a dataset of Ray Data.
    """

    def __init__(self, dataset: Any) -> None:
        ray = _ray()
        if not isinstance(dataset, ray.data.Dataset):
            raise ConfigError(f"from_ray: {type(dataset).__name__} is no dataset of Ray Data")
        blocks = dataset.to_arrow_refs()
        self.count = len(blocks)
        found = ray.get(ray.remote(_schema_of).remote(blocks[0])) if blocks else pa.schema([])
        self.schema = found.remove_metadata()
        self._name = f"mmflow-blocks-{uuid.uuid4().hex}"
        actor = ray.remote(num_cpus=0)(_Holder)
        # The blocks go with this handle.
        self._handle = actor.options(name=self._name, namespace=_NAMESPACE).remote(blocks)

    def __reduce__(self) -> tuple[Callable[..., RayBlocks], tuple[str, pa.Schema]]:
        return _sent, (self._name, self.schema)

    def __call__(self, batch: pa.RecordBatch) -> pa.Table:
        """Return the rows of the blocks of a batch."""
        ray = _ray()
        if not ray.is_initialized():
            raise EngineError("from_ray: this worker is not in the cluster of Ray; use engine local or ray")
        holder = ray.get_actor(self._name, namespace=_NAMESPACE)
        tables: list[pa.Table] = []
        for number in batch.column(0).to_pylist():
            (block,) = ray.get(holder.reference.remote(number))
            tables.append(ray.get(block).select(self.schema.names).cast(self.schema))
        return pa.concat_tables(tables)


def _sent(name: str, schema: pa.Schema) -> RayBlocks:
    made = RayBlocks.__new__(RayBlocks)
    made._name, made.schema = name, schema
    return made
