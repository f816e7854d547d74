"""Where blocks live between tasks."""

from mmflow.store.folder import RunFolder, run_folders, sweep
from mmflow.store.memory import LocalStore
from mmflow.store.shared import SharedStore, shared_memory_folder

__all__ = ["LocalStore", "RunFolder", "SharedStore", "run_folders", "shared_memory_folder", "sweep"]
