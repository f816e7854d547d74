"""Settings as the command line gives them."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["flags_of"]

_SETTINGS = (
    "engine", "address", "shard_size", "workers", "memory", "io", "partitions", "broadcast", "spill_dir", "runs_dir",
    "resumable", "metrics", "max_bad_records",
)  # fmt: skip


def flags_of(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that flags of this command give; None where they don't."""
    return {key: getattr(options, key, None) for key in _SETTINGS}
