"""Bytes of files to record batches."""

from mmflow.formats.base import (
    PLACE,
    VIRTUAL_COLUMNS,
    BadRecordPolicy,
    Comparison,
    Format,
    Reject,
    Scan,
    ScanReport,
    ScanRequest,
)
from mmflow.formats.detect import detect
from mmflow.formats.registry import FORMATS, from_spec, open_format

__all__ = [
    "FORMATS",
    "PLACE",
    "VIRTUAL_COLUMNS",
    "BadRecordPolicy",
    "Comparison",
    "Format",
    "Reject",
    "Scan",
    "ScanReport",
    "ScanRequest",
    "detect",
    "from_spec",
    "open_format",
]
