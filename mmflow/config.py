"""Settings: flag over environment over file over default.

Every command, `Session(...)` and configs/*.toml share these keys; the environment spells them
`MMFLOW_SHARD_SIZE` and so on. Sizes are bytes or text such as `64MiB`, `4GB`, `512k`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

from mmflow.errors import ConfigError, plain_text
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.remote.options import RemoteOptions

__all__ = [
    "CacheName",
    "EngineName",
    "IoName",
    "Settings",
    "default_runs_dir",
    "named_sources",
    "parse_setting",
    "parse_size",
    "settings_table",
]

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _UNITS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}
_SIZE = lazy_regex(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)

EngineName = Literal["local", "ray", "dask"]
IoName = Literal["auto", "mmap", "pread"]
CacheName = Literal["off", "auto", "eager"]


def parse_size(text: str | int) -> int:
    """Return the bytes of `64MiB`, `4GB`, `512k` or a plain number; k, M, G alone mean KiB, MiB, GiB.

    Raises:
        ValueError: The text has another form.

    >>> parse_size("64MiB"), parse_size("4GB"), parse_size("512k"), parse_size(10)
    (67108864, 4000000000, 524288, 10)
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write 64MiB, 4GB, 512k or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _available_cpus() -> int:
    return len(os.sched_getaffinity(0))


def _default_memory() -> int:
    """Return half of the memory that the container may use."""
    from mmflow.mapping.system.limits import total_memory  # noqa: PLC0415  (imports pyarrow, which --help should not)

    return total_memory() // 2


def state_dir() -> Path:
    """Return the user's folder for what outlives a process: runs, and the history of the shell."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "mmflow"


def default_runs_dir() -> str:
    """Return the folder where runs are kept unless a setting names another."""
    return str(state_dir() / "runs")


def _whole(least: int) -> Callable[[str | int], int]:
    def parse(text: str | int) -> int:
        digits = str(text).strip().removeprefix("+")
        if not digits.isdecimal() or int(digits) < least:
            raise ValueError(f"must be a whole number of at least {least}")
        return int(digits)

    return parse


def _positive_size(text: str | int) -> int:
    value = parse_size(text)
    if value < 1:
        raise ValueError("must be at least one byte")
    return value


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def parse(text: Any) -> str:
        if text not in allowed:
            close = difflib.get_close_matches(str(text), allowed, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"must be one of {', '.join(allowed)}{hint}")
        return str(text)

    return parse


def _boolean(text: str | bool) -> bool:
    if isinstance(text, bool):
        return text
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _count_or_share(text: str | float) -> int | float:
    """Return a number of records (int), or a share of all (float): `0.1%`, or a number below 1 with a point."""
    wrong = ValueError("must be a count such as 100, or a share such as 0.1%")
    try:
        if isinstance(text, str) and text.endswith("%"):
            value = float(text[:-1]) / 100
        else:
            value = float(text)
            if value == int(value) and "." not in str(text):
                value = int(value)
    except (ValueError, OverflowError):  # no number; infinity or NaN
        raise wrong from None
    if value < 0 or (isinstance(value, float) and not value <= 1):
        raise wrong
    return value


def _seconds(least: float) -> Callable[[str | float], float]:
    def parse(text: str | float) -> float:
        wrong = ValueError(f"must be a number of seconds of at least {least:g}, such as 60")
        try:
            value = float(text)
        except (TypeError, ValueError):
            raise wrong from None
        if not least <= value < float("inf"):
            raise wrong
        return value

    return parse


def _folder_or_url(text: str | Path) -> str:
    """Return the path or URL of a folder."""
    path = str(text).removeprefix("file://")
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _folder(text: str | Path) -> Path:
    name = str(text)
    if plain_text(name) != name:  # DataFusion takes no other names for its files
        raise ValueError(f"{plain_text(name)} is not UTF-8; name another folder")
    return Path(name).expanduser()


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "engine": _one_of(*get_args(EngineName)),
    "address": str,
    "shard_size": _positive_size,
    "workers": _whole(1),
    "memory": _positive_size,
    "io": _one_of(*get_args(IoName)),
    "partitions": _whole(1),
    "broadcast": parse_size,
    "spill_dir": _folder,
    "cache": _one_of(*get_args(CacheName)),
    "cache_dir": _folder,
    "cache_size": parse_size,
    "runs_dir": _folder_or_url,
    "resumable": _boolean,
    "metrics": str,
    "max_bad_records": _count_or_share,
    "retries": _whole(0),
    "stall_after": _seconds(0.1),
    "stall_timeout": _seconds(0.0),
}
_SOURCES = "sources"
#: Tables of a settings file, with the commands that read them.
_TABLES = {"kubernetes": "mmflow submit, status, logs, cancel, list and k8s"}
_MAY_BE_NONE = {
    "address",
    "cache_dir",
    "cache_size",
    "shard_size",
    "partitions",
    "metrics",
    "max_bad_records",
}


def parse_setting(key: str, value: Any) -> Any:
    """Return the value of a setting, parsed.

    Raises:
        TypeError, ValueError: It does not fit.
    """
    return None if key in _MAY_BE_NONE and value in ("", None) else _PARSERS[key](value)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a session. They decide how a plan is run, never what it computes.

    Attributes:
        engine: Engine that runs tasks: local, ray or dask.
        address: Address of the cluster; None starts one here.
        shard_size: Bytes of a file that one task reads; rounded up to whole pages. None: chosen from the size of
            what is read (`shards.default_shard_size`).
        workers: Number of tasks that run at once.
        memory: Bytes of anonymous memory of all workers together; beyond it, blocks go to `spill_dir`.
        io: Way of reading files: auto, mmap or pread.
        partitions: Number of partitions of every exchange; None: chosen from estimated sizes.
        broadcast: Largest side of a join, in bytes, that is copied to every task.
        spill_dir: Folder for blocks and operators that spill.
        cache: Whether columns of text files are kept as they are converted, for later queries: off, auto (from the
            second query on that reads them) or eager (from the first).
        cache_dir: Folder for pages of remote files and for these columns; None: the user's cache folder, or
            `spill_dir` where that can't be written to.
        cache_size: Largest size of these, in bytes; None: 10 GiB, or half of the free space if that is
            less; 0: none.
        runs_dir: Folder of recorded runs, or a URL that fsspec knows.
        resumable: Whether outputs of a recorded run's tasks are kept until its end, so that it can be resumed.
        metrics: Port for Prometheus, or a path that ends in .prom; None: no metrics.
        max_bad_records: Largest number (int) of bad records, or their share of all records (float), with which a run
            succeeds, whatever `on_bad_record` is; None: any number.
        retries: Number of further attempts of a task that failed for a reason that may pass.
        stall_after: Seconds without any movement after which a task is said to be stalled, and gets a second attempt.
        stall_timeout: Seconds without any movement after which the run fails; 0: never.
    """

    engine: EngineName
    address: str | None
    shard_size: int | None
    workers: int
    memory: int
    io: IoName
    partitions: int | None
    broadcast: int
    spill_dir: Path
    cache: CacheName
    cache_dir: Path | None
    cache_size: int | None
    runs_dir: str
    resumable: bool
    metrics: str | None
    max_bad_records: int | float | None
    retries: int
    stall_after: float
    stall_timeout: float

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        file: str | Path | None = None,
        base: Mapping[str, Any] | None = None,
        tables: Collection[str] = (),
    ) -> Settings:
        """Load settings from flags, environment, a TOML file, a base and defaults, in this order of precedence.

        Args:
            flags: Values by key; None counts as not given.
            env: Environment variables; None: this process's.
            file: TOML file of keys.
            base: Settings of the run that is resumed.
            tables: Tables of the file that others read (`settings_table`).

        Raises:
            ConfigError: A key is unknown, or a value does not fit; names the key, the value and its source.
        """
        values: dict[str, Any] = {}
        for key, value in (base or {}).items():
            values[key] = _parsed(key, value, "the run that is resumed")
        for key, value in _from_file(file, tables).items():
            values[key] = _parsed(key, value, f"file {file}")
        environment = os.environ if env is None else env
        for name in sorted(name for name in environment if name.startswith("MMFLOW_")):
            key = name.removeprefix("MMFLOW_").lower()
            if key in _PARSERS:
                values[key] = _parsed(key, environment[name], f"environment variable {name}")
        for key, value in (flags or {}).items():
            if value is not None:
                values[key] = _parsed(key, value, "argument")
        return cls(**{**_defaults(values), **values})

    @classmethod
    def given(
        cls, flags: Mapping[str, Any], *, file: str | Path | None = None, tables: Collection[str] = ()
    ) -> dict[str, str]:
        """Return the settings from flags, environment and file, as text for flags. Raises as `load`."""
        loaded = cls.load(flags, file=file, tables=tables).plain()
        keys = set(_from_file(file, tables)) | {k for k, v in flags.items() if v is not None}
        keys |= {k for k in loaded if f"MMFLOW_{k.upper()}" in os.environ}
        return {k: _text(loaded[k]) for k in loaded if k in keys}

    @property
    def named_after(self) -> float:
        """Seconds without movement after which a task is stalled: it is named before it fails the run."""
        return min(self.stall_after, self.stall_timeout or self.stall_after)

    @property
    def remote_options(self) -> RemoteOptions:
        """Options of remote files, without a source's own."""
        folder = "" if self.cache_dir is None else os.path.abspath(self.cache_dir)
        return RemoteOptions(folder, self.cache_size, os.path.abspath(self.spill_dir), self.cache)

    def plain(self) -> dict[str, Any]:
        """Return the settings as values for JSON, which `load` accepts as `base`."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    lazy: dict[str, Callable[[], Any]] = {
        "engine": lambda: "local",
        "address": lambda: None,
        "shard_size": lambda: None,
        "workers": _available_cpus,
        "memory": _default_memory,
        "io": lambda: "auto",
        "partitions": lambda: None,
        "broadcast": lambda: 32 << 20,
        "spill_dir": lambda: Path(tempfile.gettempdir()),
        "cache": lambda: "off",
        "cache_dir": lambda: None,
        "cache_size": lambda: None,
        "runs_dir": default_runs_dir,
        "resumable": lambda: True,
        "metrics": lambda: None,
        "max_bad_records": lambda: None,
        "retries": lambda: 3,
        "stall_after": lambda: 60.0,
        "stall_timeout": lambda: 0.0,
    }
    return {key: default() for key, default in lazy.items() if key not in given}


def settings_table(file: str | Path | None, name: str) -> dict[str, Any] | None:
    """Return a table of a settings file; None: it has none of that name.

    Raises:
        ConfigError: The file can't be read, or the name is not that of a table.
    """
    table = _read_file(file).get(name)
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{file}: {name} must be a table: [{name}]")
    return table


def named_sources(file: str | Path | None) -> dict[str, dict[str, Any]]:
    """Return the tables `[sources.NAME]` of a settings file: a path, and options of its format, for each name in SQL.

    Raises:
        ConfigError: The file can't be read, or a source has no path or a value that is no text, number or list of them.
    """
    sources = settings_table(file, _SOURCES) or {}
    for name, source in sources.items():
        if not isinstance(source, dict) or "path" not in source:
            raise ConfigError(f"{file}: [{_SOURCES}.{name}] needs a path")
        try:
            json.dumps(source)
        except TypeError as error:
            raise ConfigError(f"{file}: [{_SOURCES}.{name}]: {error}; write it as text") from error
    return sources


def _from_file(file: str | Path | None, tables: Collection[str] = ()) -> dict[str, Any]:
    read = _read_file(file)
    for name in [n for n, value in read.items() if isinstance(value, dict)]:
        if name in tables or name == _SOURCES:
            del read[name]
        elif name in _TABLES:
            raise ConfigError(
                f"{file}: [{name}] is for {_TABLES[name]}; leave --config out, or take another file"
            )
    return read


def _read_file(file: str | Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    import tomllib  # noqa: PLC0415  (slow)

    try:
        with Path(file).open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise ConfigError(f"can't read the configuration {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration {file} is not TOML: {error}") from error


def _parsed(key: str, value: Any, where: str) -> Any:
    if key not in _PARSERS:
        known = [f.name for f in fields(Settings)]
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"the keys are {', '.join(known)}"
        raise ConfigError(f"unknown setting {key!r} in {where}; {hint}")
    try:
        return parse_setting(key, value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {key} = {value!r}: {error}") from error
