"""Bytes of files to record batches."""

from mmflow.formats.base import (
    PLACE,
    VIRTUAL_COLUMNS,
    BadRecordPolicy,
    Comparison,
    Format,
    NativeEnd,
    Reject,
    Scan,
    ScanReport,
    ScanRequest,
)
from mmflow.formats.registry import FORMATS, from_spec, open_format, proposing, with_dialect
from mmflow.formats.schemas.detection import check_one_format, detect

__all__ = [
    "FORMATS",
    "PLACE",
    "VIRTUAL_COLUMNS",
    "BadRecordPolicy",
    "Comparison",
    "Format",
    "NativeEnd",
    "Reject",
    "Scan",
    "ScanReport",
    "ScanRequest",
    "check_one_format",
    "detect",
    "from_spec",
    "open_format",
    "proposing",
    "with_dialect",
]
