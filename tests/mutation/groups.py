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
            "tests/sinks/test_sinks_commit_steps.py", "-k", "not root and not array and not checkpoint and not index and not cache",
        ),
    ),
}  # fmt: skip
