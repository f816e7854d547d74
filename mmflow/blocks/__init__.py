"""Blocks: record batches between tasks, their references and stores."""

from mmflow.blocks.memory import LocalStore
from mmflow.blocks.run_folder import Found, RunFolder, found, run_folders, sweep, sweep_seldom
from mmflow.blocks.shared_memory import SharedStore, read_span, shared_host, shared_memory_folder

__all__ = [
    "Found",
    "LocalStore",
    "RunFolder",
    "SharedStore",
    "found",
    "read_span",
    "run_folders",
    "shared_host",
    "shared_memory_folder",
    "sweep",
    "sweep_seldom",
]
