"""Which rows a sample holds: each is picked by a hash of its place, the seed and how many samples were drawn before.

    place --mix--> 63 bits < fraction * 2**63 ?

Invariant: rows are picked independently of one another, and of samples with another seed or of a sample.
"""

from __future__ import annotations

import math
from typing import SupportsFloat, SupportsIndex

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datafusion import Expr

from mmflow.errors import PlanError
from mmflow.exec.hashing import hash_columns, mix, mixed
from mmflow.exec.scan import place_of
from mmflow.expressions import col, lit
from mmflow.formats import PLACE
from mmflow.formats.fixed_width import numpy_values
from mmflow.udfs import Udf, udf

__all__ = ["check_fraction", "pick_numbers", "picked", "with_places"]

_BITS = 63


def _pick_number(place: pa.Array, stream: pa.Array) -> pa.Array:
    """Numbers of 63 bits, even over all of them, for places and one stream of numbers. Shape (rows,)."""
    states = numpy_values(stream).view(np.uint64)
    with np.errstate(over="ignore"):  # products of the mixer are taken modulo 2**64
        made = mix(numpy_values(place).view(np.uint64) ^ mix(states))
    return pa.array((made >> np.uint64(64 - _BITS)).view(np.int64))


_numbers: Udf = udf(["int64", "int64"], "int64", name="mmflow_pick_number")(_pick_number)


def check_fraction(fraction: object, seed: object) -> None:
    """Check the arguments of a sample.

    Raises:
        PlanError: The fraction is no number from 0 to 1, or the seed no integer.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, SupportsFloat):
        raise PlanError(f"sample({fraction!r}): a fraction is a number from 0 to 1")
    if not 0 <= float(fraction) <= 1:
        raise PlanError(f"sample({fraction}): a fraction is from 0 to 1")
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise PlanError(f"sample(seed={seed!r}): a seed is an integer")


def _stream(seed: int, before: int) -> int:
    state = mixed(hash_columns([pa.array([str(int(seed))], pa.string())]), pa.array([before], pa.int64()))
    return int(state.view(np.int64)[0])


def pick_numbers(places: pa.Array, seed: int, before: int) -> npt.NDArray[np.int64]:
    """Return the numbers below 2**63 that rows are picked by, as the query computes them. Shape (rows,)."""
    stream = pa.array(np.full(len(places), _stream(seed, before)))
    made: npt.NDArray[np.int64] = numpy_values(_pick_number(places, stream))
    return made


def picked(fraction: float, seed: int, before: int) -> Expr:
    """Return the condition for rows of a sample. `fraction` is below 1; `before`: of how many samples it is one."""
    stream = _stream(seed, before)
    threshold = math.floor(fraction * 2**_BITS)
    return _numbers(col(PLACE), lit(stream)) < lit(threshold)


def with_places(table: pa.Table) -> pa.Table:
    """Return a table with `PLACE` as its last column: rows in memory are told apart by their numbers."""
    places = place_of("", pa.array(np.arange(table.num_rows)))
    return table.append_column(PLACE, pa.array(places))
