"""Settings, and options of formats, as the command line gives them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmflow.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.session import Session

__all__ = ["flags_of", "opened", "pair"]

_SETTINGS = (
    "engine", "address", "shard_size", "workers", "memory", "io", "partitions", "broadcast", "spill_dir",
    "cache_dir", "cache_size", "runs_dir",    "resumable", "metrics", "max_bad_records",
)  # fmt: skip


def flags_of(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that flags of this command give; None where they don't."""
    return {key: getattr(options, key, None) for key in _SETTINGS}


def pair(text: str, flag: str) -> tuple[str, str]:
    """Key and value of `key=value`.

    Raises:
        ConfigError: It is something else.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{flag} {text!r}: write key=value")
    return key, value


def opened(session: Session, path: str, options: Sequence[str]) -> Dataset:
    """The files at a path, with options of their format as `key=value`."""
    given: dict[str, Any] = dict(pair(text, "--opt") for text in options)
    return session.read(path, given.pop("format", None), **given)
