"""Options of remote files: where their pages are kept, and the options of their file system.

Invariant: they hold no secret, since they travel with tasks. Credentials come from the environment and fsspec's
configuration, of each worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mmflow.errors import ConfigError
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage.url import SECRET_NAMES

__all__ = ["RemoteOptions", "current_remote_options", "seen_files", "storage_text", "using_remote_options"]


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Options of remote files.

    Attributes:
        cache_dir: Folder of pages; "": the user's cache folder, or `spill_dir` if that can't be written to.
        cache_size: Largest size of these pages, in bytes; None: 10 GiB, or half of the free space if that is less; 0:
            none.
        spill_dir: Folder for blocks that spill (`Settings.spill_dir`).
        columns: Whether decoded columns of text files are kept: off, auto or eager (`Settings.cache`).
        storage: Options of the file system, as `storage_text` gives them.
    """

    cache_dir: str = ""
    cache_size: int | None = None
    spill_dir: str = ""
    columns: str = "off"
    storage: str = ""


_current: ContextVar[RemoteOptions] = ContextVar("mmflow_reach", default=RemoteOptions())  # noqa: B039  (frozen)

_seen: ContextVar[dict[Any, Any] | None] = ContextVar("mmflow_seen", default=None)


def current_remote_options() -> RemoteOptions:
    """Return the options that `using_remote_options` set in this thread."""
    return _current.get()


def seen_files() -> dict[Any, Any]:
    """Return the remote files seen in this `using_remote_options` block; none outside a block."""
    seen = _seen.get()
    return {} if seen is None else seen


@contextmanager
def using_remote_options(remote_options: RemoteOptions) -> Iterator[None]:
    """Set the options of remote files that the block opens without any; each file is looked at once."""
    tokens = _current.set(remote_options), _seen.set({})
    try:
        yield
    finally:
        _current.reset(tokens[0])
        _seen.reset(tokens[1])


def storage_text(options: Mapping[str, Any] | str | None) -> str:
    """Return the options of an fsspec file system as canonical JSON; "" for none.

    Args:
        options: A dict, or JSON of one.

    Raises:
        ConfigError: They are not JSON, or hold a secret.

    >>> storage_text({"endpoint_url": "http://here", "anon": True})
    '{"anon": true, "endpoint_url": "http://here"}'
    """
    if isinstance(options, str) and options:
        try:
            options = json.loads(options)
        except ValueError as error:
            raise ConfigError(f"storage_options is not JSON: {error}") from error
    if not options:
        return ""
    if not isinstance(options, Mapping):
        raise ConfigError(f"storage_options must be names and values, not {type(options).__name__}")
    _refuse_secrets(options)
    try:
        return json.dumps(options, sort_keys=True)
    except TypeError as error:
        raise ConfigError(
            f"storage_options travel to workers as JSON: {error}; give such values by fsspec's configuration"
        ) from error


def _refuse_secrets(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if isinstance(value, Mapping):
            _refuse_secrets(value)
        elif (
            value is not None and not isinstance(value, bool) and (name == "key" or SECRET_NAMES.search(name))
        ):
            raise ConfigError(
                f"storage_options can't hold {name!r}: they travel with tasks, and a secret would too; give it by the "
                "environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, …) or by fsspec's "
                "configuration (FSSPEC_S3_KEY=…, ~/.config/fsspec/*.json), on every worker"
            )
