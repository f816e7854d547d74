"""Partitions of a dataset for other schedulers, and the run context that keeps its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmflow.engines.partitions import Partition, PartitionedPlan, PartitionReader, partitioned
from mmflow.lazy.dataclasses import dataclass

if TYPE_CHECKING:
    import pyarrow as pa

    from mmflow.api.run_context import RunContext
    from mmflow.api.verbs.persisting import PersistingVerbs

__all__ = ["KeptReader", "partitions_of"]


@dataclass(frozen=True, slots=True, eq=False)
class KeptReader:
    """Reader of partitions, which here keeps the files of rows that were computed; it is sent without them."""

    reader: PartitionReader
    context: RunContext | None

    def __call__(self, partition: Partition) -> pa.Table:
        """Return the rows of a partition, where none is guessed."""
        return self.reader.rows(partition)

    def __reduce__(self) -> tuple[type[KeptReader], tuple[PartitionReader, None]]:
        return KeptReader, (self.reader, None)


def partitions_of(dataset: PersistingVerbs) -> tuple[KeptReader, PartitionedPlan]:
    """Return the partitions of a dataset; one whose partitions depend on one another is computed first.

    Raises:
        MmflowError: Planning or computing fails.
    """
    found = _partitioned(dataset)
    if found is None:
        dataset = dataset.persist()
        found = _partitioned(dataset)
        assert found is not None  # files of rows
    return KeptReader(found.reader, dataset.context), found


def _partitioned(dataset: PersistingVerbs) -> PartitionedPlan | None:
    context = dataset.context
    return partitioned(dataset._plan(), context.settings, dataset._table_schema())
