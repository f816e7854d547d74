"""Names of the window functions that mmflow's own kernel computes (`kernels/sort/row_order.h`)."""

from __future__ import annotations

__all__ = ["FUNCTIONS", "RANKS", "SHARES", "SHIFTS", "VALUES"]

#: Functions by their number in the kernel.
FUNCTIONS = (
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "partition_last_value",
)
#: Functions of a row's place in its partition.
RANKS = frozenset(FUNCTIONS[:5])
#: Those whose results are doubles; those of the others are uint64.
SHARES = frozenset({"percent_rank", "cume_dist"})
#: Functions of a row some rows away.
SHIFTS = frozenset({"lag", "lead"})
#: Functions of a row at an end of the frame.
VALUES = frozenset({"first_value", "last_value"})
