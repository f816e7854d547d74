"""Modules whose changes must be noticed, and the tests that judge them: those that reach them within a second or two."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GROUPS", "Group"]


@dataclass(frozen=True, slots=True)
class Group:
    """Modules, and arguments of pytest."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_COMMIT = "mmflow/sinks/commit"
_BLOCKS = "not commit: and not array: and not run: and not index and not cache and not larger_than_memory and not object"
GROUPS = {
    "boundary": Group(
        ("mmflow/shards/boundary_check.py",),
        ("mmflow/shards/boundary_check.py", "tests/shards/test_shards_boundary_check.py"),
    ),
    "journal": Group(
        ("mmflow/runs/journal.py",), ("mmflow/runs/journal.py", "tests/runs/test_runs_journal.py")
    ),
    "local": Group(
        tuple(
            f"{_COMMIT}/{name}.py"
            for name in ("atomic", "lock", "staging", "protocol", "local", "destination", "manifest")
        ),
        (
            _COMMIT, "tests/mutation/judges.py", "tests/sinks/test_sinks_commit.py", "tests/sinks/test_sinks_links.py",
            "tests/sinks/test_sinks_commit_steps.py",
            "-k", "not root and not array and not checkpoint and not index and not cache and not object",
        ),
    ),
    "object": Group(
        tuple(
            f"{_COMMIT}/{name}.py"
            for name in ("object_commit", "object_destination", "object_lock", "object_paths", "destination_store")
        ),
        (
            "tests/sinks/test_sinks_objects.py", "tests/sinks/test_sinks_objects_lock.py",
            "tests/sinks/test_sinks_objects_steps.py", "tests/mutation/judges.py",
            "-k", "not s3 and not processes and not only_urls and not not_there and not after_a_crash and not local",
        ),
    ),
    "undo": Group(
        ("mmflow/arrays/undo.py",),
        (
            "tests/arrays/test_arrays_undo.py", "tests/arrays/test_arrays_interrupts.py", "tests/mutation/judges.py",
            "-k", "test_arrays or array:",
        ),
    ),
    "blocks": Group(
        tuple(f"mmflow/blocks/{name}.py" for name in ("memory", "checkpoints")),
        (
            "mmflow/blocks", "tests/blocks", "tests/mutation/judges.py",
            "-k", _BLOCKS,
        ),
    ),
    "shared": Group(
        tuple(f"mmflow/blocks/{name}.py" for name in ("files", "shared_memory", "run_folder", "streams")),
        (
            # Those that mount a disk for all would leave it where a change ends them.
            "mmflow/blocks", "tests/blocks", "tests/mutation/judges.py",
            "-k", f"{_BLOCKS} and not histor and not says_where_how_much and not full_memory_folder",
        ),
    ),
}  # fmt: skip
