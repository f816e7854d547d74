"""Private APIs of cloudpickle, seen in 3.1: parts of its pickles that mmflow's pickler changes.

Invariant: a test of tests/api/test_api_private_apis.py fails once one of them is gone.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, TypeVar

from cloudpickle import cloudpickle

__all__ = ["reduce_class", "reduce_type_variable", "set_function_state"]


def reduce_class(cls: type) -> tuple[Any, ...]:
    """Reduce a class without the id by which cloudpickle has all pickles of a process share it, and its methods."""
    make, (*arguments, _, extra), *more = cloudpickle._dynamic_class_reduce(cls)
    return make, (*arguments, None, extra), *more


def reduce_type_variable(variable: TypeVar) -> tuple[Any, ...]:
    """Reduce a type variable without the id by which all pickles of a process share it."""
    return cloudpickle._make_typevar, (*cloudpickle._decompose_typevar(variable)[:-1], None)


def set_function_state(function: FunctionType, state: Any) -> None:
    """Set the state of a function from its pickle."""
    cloudpickle._function_setstate(function, state)
