"""Context of planning one query, which all operators share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from datafusion import DataFrame, LogicalPlan
from substrait.algebra_pb2 import Rel
from substrait.plan_pb2 import Plan as SubstraitPlan

from mmflow.config import Settings
from mmflow.plan.catalog import Catalog
from mmflow.plan.logical.encoding import Encoded
from mmflow.plan.optimizer.estimates import exchange_partitions, partition_bytes
from mmflow.plan.pipeline import Builder, Pipeline
from mmflow.plan.rewrites.exact import Exact
from mmflow.plan.rewrites.null_aware import NullAware
from mmflow.plan.stages import FilesInput, Function, Hash
from mmflow.plan.substrait import RelationBuilder

__all__ = ["PlanContext", "WholeFiles"]

#: Files that are read whole, by the name of their leaf and the wanted columns (`whole.py`).
WholeFiles = Mapping[tuple[str, tuple[str, ...]], FilesInput]


class PlanContext(ABC):
    """State of planning one query: its catalog, settings, builder of stages and function space.

    Attributes:
        encoded: Frame that is being planned, as Substrait.
        planned: Pipelines that rewritten relations read from, by made-up table name.
        checked: Checked functions that the plan calls, by name.
        whole: Files of the part that is being planned, if it runs whole; else empty.
        not_whole: Why the last part that reads Parquet does not.
    """

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self.partition_bytes = partition_bytes(settings.memory, settings.workers)
        self.null_aware = NullAware([])
        self.encoded = Encoded(SubstraitPlan(), has_subqueries=False, has_windows=False, tables=frozenset())
        self.planned: dict[str, Pipeline] = {}
        self.checked: dict[str, Function] = {}
        self.whole: WholeFiles = {}
        self.not_whole = ""
        self._builder: Builder | None = None

    @abstractmethod
    def plan_frame(
        self, frame: DataFrame, made: LogicalPlan | None = None, *, as_sql: bool = True
    ) -> Pipeline:
        """Plan a frame. The plans of leaves inside it (map_batches) share its stages and names.

        Args:
            frame: Frame to plan.
            made: Its optimized plan; None: it is not at hand.
            as_sql: Run a query that Substrait can't carry as SQL that DataFusion writes; if false, it is an error.
        """

    @abstractmethod
    def plan_relation(self, rel: Rel) -> Pipeline:
        """Return a pipeline with the layout of a relation."""

    @property
    def builder(self) -> Builder:
        assert self._builder is not None  # made by the first call of `plan_frame`
        return self._builder

    @property
    def rels(self) -> RelationBuilder:
        return self.builder.rels

    @property
    def exact(self) -> Exact:
        return Exact(self.rels, self.use_function)

    def use_function(self, function: Function) -> int:
        """Declare a checked function in the plan, and return its anchor."""
        self.checked.setdefault(function.name, function)
        return self.rels.use(function)

    def hashed(self, keys: tuple[int, ...], partitions: int) -> Hash:
        """Return the output of a stage whose readers take as many partitions together as their sizes allow."""
        return Hash(keys, partitions, 0 if self.settings.partitions else self.partition_bytes)

    def count_partitions(self, nbytes: int) -> int:
        """Return the number of partitions for an exchange of some bytes."""
        return exchange_partitions(nbytes, self.partition_bytes, self.settings.partitions)
