"""Files as windows: mapped where that is possible and wise, else read, with one interface for both.

It knows nothing of shards, records or formats.
"""

from mmflow.mapping.access_policy import Access, Advice, Decision, FileFacts, Io, decide, read_facts
from mmflow.mapping.file import MappedFile, default_budget
from mmflow.mapping.identity import FileIdentity
from mmflow.mapping.page_cache import resident_bytes
from mmflow.mapping.readable import as_arrow_file
from mmflow.mapping.window import Window

__all__ = [
    "Access",
    "Advice",
    "Decision",
    "FileFacts",
    "FileIdentity",
    "Io",
    "MappedFile",
    "Window",
    "as_arrow_file",
    "decide",
    "default_budget",
    "read_facts",
    "resident_bytes",
]
