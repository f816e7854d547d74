"""Where blocks live between tasks."""

from mmflow.store.folder import Found, RunFolder, found, run_folders, sweep
from mmflow.store.memory import LocalStore
from mmflow.store.shared import SharedStore, Span, read_span, shared_host, shared_memory_folder

__all__ = [
    "Found",
    "LocalStore",
    "RunFolder",
    "SharedStore",
    "Span",
    "found",
    "read_span",
    "run_folders",
    "shared_host",
    "shared_memory_folder",
    "sweep",
]
