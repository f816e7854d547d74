"""Faults of mmflow's own planner, told as such: no traceback for whoever wrote a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmflow.errors import MmflowError, PlanError

__all__ = ["no_bug_seen"]


@contextmanager
def no_bug_seen(what: str) -> Iterator[None]:
    """Turn what nobody foresaw into an error that asks for a report.

    Tests let such errors through as they are (`tests/conftest.py`), so that none is taken for a refusal.

    Raises:
        PlanError: Something raised that is no MmflowError.
    """
    try:
        yield
    except MmflowError:
        raise
    except Exception as error:
        raise unforeseen(error, what) from error


def asking_for_report(error: Exception, what: str) -> Exception:
    """Return the error for whoever wrote the query."""
    return PlanError(
        f"mmflow could not {what}, a bug: {type(error).__name__}: {error}; please report it (--traceback shows where)"
    )


#: What a bug becomes. Tests have it stay as it is.
unforeseen = asking_for_report
