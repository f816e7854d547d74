"""How remote files are reached: where their pages are kept, and the options of their file system.

Invariant: no secret is in it, since it travels with tasks. Credentials come from the environment and fsspec's
configuration, of each worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mmflow.errors import ConfigError
from mmflow.remote.url import SECRET_NAMES

__all__ = ["Reach", "current_reach", "reaching", "seen_before", "storage_text"]


@dataclass(frozen=True, slots=True)
class Reach:
    """How remote files are reached.

    Attributes:
        cache_dir: Where pages are kept; "": the user's cache folder, or `spill_dir` if that can't be written to.
        cache_size: Most bytes of them; None: 10 GiB, or half of what is free there if that is less; 0: keep none.
        spill_dir: See `Settings`.
        storage: Options of the file system, as `storage_text` gives them.
    """

    cache_dir: str = ""
    cache_size: int | None = None
    spill_dir: str = ""
    storage: str = ""


_current: ContextVar[Reach] = ContextVar("mmflow_reach", default=Reach())  # noqa: B039  (frozen)

_seen: ContextVar[dict[Any, Any] | None] = ContextVar("mmflow_seen", default=None)


def current_reach() -> Reach:
    """What `reaching` set, in this thread."""
    return _current.get()


def seen_before() -> dict[Any, Any]:
    """What was seen of remote files in this `reaching` block; outside of one nothing is."""
    seen = _seen.get()
    return {} if seen is None else seen


@contextmanager
def reaching(reach: Reach) -> Iterator[None]:
    """Remote files that the block opens are reached like this, where nothing else is said, and looked at once."""
    tokens = _current.set(reach), _seen.set({})
    try:
        yield
    finally:
        _current.reset(tokens[0])
        _seen.reset(tokens[1])


def storage_text(options: Mapping[str, Any] | str | None) -> str:
    """Options for an fsspec file system as canonical JSON; "" for none.

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
