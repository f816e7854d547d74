"""Names of runs that users choose: the same command gives the same name, so that its repetition is the same run."""

from __future__ import annotations

import datetime as dt
import re

from mmflow.errors import ConfigError
from mmflow.lazy.patterns import lazy_regex

__all__ = ["expand_name"]

#: A name is part of the names of staged files and of objects, and a dot begins the number of a run's further plans.
_NAME = lazy_regex(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MOST_CHARACTERS = 100
_PLACEHOLDER = lazy_regex(r"\{([^{}]*)\}")


def expand_name(template: str, *, job: str, now: dt.datetime) -> str:
    """Return the name of a run.

    Args:
        template: Text with the placeholders `{date}` (2026-11-30), `{hour}` (2026-11-30-07) and `{job}`.
        job: Name of the job.
        now: Local time, in which dates and hours are counted.

    Raises:
        ConfigError: There is no such placeholder, or the name has characters that names can't have.

    >>> expand_name("nightly-{date}", job="sums", now=dt.datetime(2026, 11, 30, 7, 15))
    'nightly-2026-11-30'
    >>> expand_name("{job}-{hour}", job="top errors", now=dt.datetime(2026, 11, 30, 7, 15))
    'top-errors-2026-11-30-07'
    """
    known = {
        "date": f"{now:%Y-%m-%d}",
        "hour": f"{now:%Y-%m-%d-%H}",
        "job": re.sub(r"[^A-Za-z0-9_-]+", "-", job).strip("-_"),
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ConfigError(f"name {template!r}: {match[0]} is unknown; use {{date}}, {{hour}} or {{job}}")
        return known[match[1]]

    name = _PLACEHOLDER.sub(fill, template)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r}: use letters, digits, - and _, and begin with a letter or a digit; "
            "{date}, {hour} and {job} are filled in"
        )
    if len(name) > _MOST_CHARACTERS:
        raise ConfigError(f"name {name!r} has {len(name)} characters; use at most {_MOST_CHARACTERS}")
    return name
