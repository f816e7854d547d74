"""Bytes of files to record batches."""

from mmflow.formats.base import (
    VIRTUAL_COLUMNS,
    BadRecordPolicy,
    Comparison,
    Format,
    Reject,
    Scan,
    ScanReport,
    ScanRequest,
)

__all__ = [
    "VIRTUAL_COLUMNS",
    "BadRecordPolicy",
    "Comparison",
    "Format",
    "Reject",
    "Scan",
    "ScanReport",
    "ScanRequest",
]
