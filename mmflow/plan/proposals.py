"""Errors of reading CSV that say which options the file looks like."""

from __future__ import annotations

from typing import NoReturn

from mmflow.errors import BadRecordError, MmflowError, SourceError
from mmflow.formats import FORMATS
from mmflow.formats.sniffing.files import with_proposal
from mmflow.plan.stages import Plan, ScanInput

__all__ = ["raise_with_proposal"]


def raise_with_proposal(error: MmflowError, plan: Plan) -> NoReturn:
    """Raise an error of a plan; one of a CSV file with the options that its contents suggest, if they are others.

    Raises:
        MmflowError: Always.
    """
    if type(error) not in (BadRecordError, SourceError):
        raise error
    path = error.context.get("path")
    for stage in plan.stages:
        for scan in stage.inputs:
            if isinstance(scan, ScanInput) and scan.source.format.name == "csv" and path in scan.source.files:
                proposed = with_proposal(error, scan.source.format.spec(), FORMATS["csv"])
                raise proposed if proposed is not error else error
    raise error
