"""Where blocks live between tasks."""

from mmflow.store.folder import RunFolder, sweep
from mmflow.store.memory import LocalStore
from mmflow.store.shared import SharedStore, Span, read_span, shared_memory_folder

__all__ = ["LocalStore", "RunFolder", "SharedStore", "Span", "read_span", "shared_memory_folder", "sweep"]
