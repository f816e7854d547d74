"""Plugin of narwhals (entry point `narwhals.plugins`): code written for narwhals runs on datasets, lazily.

    nw.from_native(dataset)    ->  this module says that it is a dataset, and gives the namespace
    nw.col("a").sum()          ->  expressions.py makes `mf.col("a").sum()` of it
    .group_by("k").agg(...)    ->  frames.py, groups.py call the verbs of the dataset
    .collect()                 ->  the plan runs

Invariant: narwhals loads this module when it is given an object that it does not know, so it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmflow.integrations.narwhals.namespace import MmflowNamespace

__all__ = ["NATIVE_PACKAGE", "is_native"]

#: Package of the objects that narwhals asks about.
NATIVE_PACKAGE = "mmflow"


def __narwhals_namespace__(version: Any) -> MmflowNamespace:  # noqa: N807  (narwhals' name)
    """Return the functions of narwhals for datasets, in one version of its API."""
    from mmflow.integrations.narwhals.namespace import MmflowNamespace  # noqa: PLC0415  (slow)

    return MmflowNamespace(version=version)


def is_native(native_object: object) -> bool:
    """Return whether an object is a dataset."""
    from mmflow.api.dataset import Dataset  # noqa: PLC0415  (slow)

    return isinstance(native_object, Dataset)
