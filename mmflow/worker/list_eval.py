"""Function of lists that runs a fragment over the items of a batch of lists at once."""

from __future__ import annotations

import pyarrow as pa

from mmflow.errors import MmflowError
from mmflow.plan.errors import build_refusal
from mmflow.plan.functions.base import PlanFunction
from mmflow.plan.functions.lists import Lists, list_array, type_digest
from mmflow.plan.stages import FragmentStep, Functions, OrderedStep, ProgramStep, Step
from mmflow.worker.fragment import Fragment

__all__ = ["ListEval"]

_MEMORY = 256 << 20


class ListEval(PlanFunction):
    """Scalar function from lists to lists of what fragments make of their items, one row for each.

    Args:
        given: Type of the lists.
        result: Type of the lists that it returns.
        steps: Fragments over a table of the items, one after the other. Those that programs compute run as fragments
            here, too: a list has few items.
        functions: Functions that they call.
    """

    def __init__(
        self, given: pa.DataType, result: pa.DataType, steps: tuple[Step, ...], functions: Functions
    ) -> None:
        fragments = (step.fallback if isinstance(step, ProgramStep | OrderedStep) else step for step in steps)
        self._steps = [step for step in fragments if isinstance(step, FragmentStep)]
        self._functions = functions
        self._idle: list[list[Fragment]] = []

        def call(array: pa.Array) -> pa.Array:
            lists = Lists.of(array)
            return list_array(result, self._evaluated(lists.items()), lists.lengths, lists.missing)

        plans = [(s.plan, [t for _, schema in s.inputs for t in schema.types]) for s in self._steps]
        name = f"mmflow_eval_{type_digest(given, result, plans)}"
        super().__init__(name, call, [given], result, (given, result, steps, functions))

    def _evaluated(self, items: pa.Array) -> pa.Array:
        """Run the fragments in a thread of their own: DataFusion 55 refuses a plan in a thread that runs one."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (slow: it imports logging)

        with ThreadPoolExecutor(1, "mmflow-list-eval") as thread:
            try:
                return thread.submit(self._values, items).result()
            except MmflowError as error:
                # DataFusion keeps the text of errors only.
                raise build_refusal(error.message) from error

    def _values(self, items: pa.Array) -> pa.Array:
        try:
            fragments = self._idle.pop()
        except IndexError:  # other threads run those that there are
            fragments = self._fragments()
        batches = [pa.RecordBatch.from_arrays([items], ["element"])]
        for fragment in fragments:
            (table, schema), *_ = fragment.step.inputs
            kinds = [b.column(0).cast(schema.field(0).type) for b in batches]
            batches = [pa.RecordBatch.from_arrays([k], schema=schema) for k in kinds]
            batches = list(fragment.run({table: batches}))
        self._idle.append(fragments)
        columns = [b.column(0) for b in batches]
        return (
            pa.concat_arrays(columns)
            if columns
            else items.slice(0, 0).cast(fragments[-1].step.schema.types[0])
        )

    def _fragments(self) -> list[Fragment]:
        # Nobody would remove a folder of theirs: the function lives as long as the process.
        return [Fragment(step, self._functions, memory=_MEMORY, spill=None) for step in self._steps]
