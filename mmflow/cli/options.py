"""Settings, and options of formats, from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mmflow.api.dataset import Dataset
from mmflow.api.session import Session
from mmflow.cli.parsing import Options
from mmflow.config import named_sources
from mmflow.errors import ConfigError

__all__ = ["flags_of", "option_value", "pair", "read_source", "session_of", "sources_of"]

_SETTINGS = (
    "engine", "address", "shard_size", "workers", "memory", "io", "partitions", "broadcast", "spill_dir",
    "cache", "cache_dir", "cache_size", "runs_dir", "resumable", "metrics", "max_bad_records",
    "stall_after", "stall_timeout",
)  # fmt: skip


def sources_of(options: Options) -> dict[str, Any]:
    """Return the named sources of a job: those of `--config`, and those that `mmflow submit` hands on."""
    return {**json.loads(options.sources or "{}"), **named_sources(options.config)}


def flags_of(options: Options) -> dict[str, Any]:
    """Return the settings that flags of this command give; None where they don't."""
    return {key: getattr(options, key, None) for key in _SETTINGS}


def session_of(options: Options) -> Session:
    """Return a session with the settings of the command line."""
    return Session(config=options.config, **flags_of(options))


def pair(text: str, flag: str) -> tuple[str, str]:
    """Return the key and value of `key=value`.

    Raises:
        ConfigError: The text has another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{flag} {text!r}: write key=value")
    return key, value


def option_value(text: str) -> Any:
    """Return the value of an option: lists and objects of JSON as such, all else as text.

    >>> option_value('["NA", "-"]'), option_value("[x")
    (['NA', '-'], '[x')
    """
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_source(session: Session, path: str, options: Sequence[str]) -> Dataset:
    """Return the dataset of the files at a path, with options of their format as `key=value`."""
    given: dict[str, Any] = {}
    for text in options:
        key, value = pair(text, "--opt")
        given[key] = option_value(value)
    return session.read(path, given.pop("format", None), **given)
