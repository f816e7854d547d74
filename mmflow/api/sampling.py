"""Sampling: a row is picked by a hash of its place, the seed and the number of samples drawn before.

    place --mix--> 63 bits < fraction * 2**63 ?

Invariant: rows are picked independently of one another, and of samples with another seed or of a sample.
"""

from __future__ import annotations

import math
from typing import SupportsFloat, SupportsIndex

import numpy as np
import pyarrow as pa

from mmflow.api.expressions import Expr, col, lit
from mmflow.api.udf import Udf, udf
from mmflow.errors import PlanError
from mmflow.formats import PLACE
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.lazy import array_types as npt
from mmflow.worker.hashing import hash_columns, mix, mixed
from mmflow.worker.scan import place_of

__all__ = ["check_sample", "pick_number", "pick_numbers", "threshold", "with_places"]

_BITS = 63


def _pick_number(place: pa.Array, stream: pa.Array) -> pa.Array:
    """Numbers of 63 bits, even over all of them, for places and one stream of numbers. Shape (rows,)."""
    states = numpy_values(stream).view(np.uint64)
    with np.errstate(over="ignore"):  # products of the mixer are taken modulo 2**64
        made = mix(numpy_values(place).view(np.uint64) ^ mix(states))
    return pa.array((made >> np.uint64(64 - _BITS)).view(np.int64))


_numbers: Udf = udf(["int64", "int64"], "int64", name="mmflow_pick_number")(_pick_number)


def check_sample(fraction: object, n: object, seed: object) -> None:
    """Check the arguments of a sample.

    Raises:
        PlanError: The fraction is no number from 0 to 1, the number of rows no natural one, or the seed no integer.
    """
    if (fraction is None) == (n is None):
        raise PlanError("sample: give either a fraction of the rows, or their number n")
    if n is None:
        if isinstance(fraction, bool) or not isinstance(fraction, SupportsFloat):
            raise PlanError(f"sample({fraction!r}): a fraction is a number from 0 to 1")
        if not 0 <= float(fraction) <= 1:
            raise PlanError(f"sample({fraction}): a fraction is from 0 to 1")
    elif isinstance(n, bool) or not isinstance(n, SupportsIndex) or int(n) < 0:
        raise PlanError(f"sample(n={n!r}): a number of rows is a natural number")
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


def pick_number(seed: int, before: int) -> Expr:
    """Return the numbers below 2**63 that rows are picked by. `before`: samples drawn before this one."""
    numbers: Expr = _numbers(col(PLACE), lit(_stream(seed, before)))
    return numbers


def threshold(fraction: float) -> int:
    """Return the number below which rows are picked. `fraction` is below 1."""
    return math.floor(fraction * (1 << _BITS))


def with_places(table: pa.Table) -> pa.Table:
    """Return a table with `PLACE` as its last column: rows in memory are told apart by their numbers."""
    places = place_of("", pa.array(np.arange(table.num_rows)))
    return table.append_column(PLACE, pa.array(places))
