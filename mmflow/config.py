"""Settings: flag over environment over file over default.

Every command, `Session(...)` and configs/*.toml share these keys; the environment spells them
`MMFLOW_SHARD_SIZE` and so on. Sizes are bytes or text such as `64MiB`, `4GB`, `512k`.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mmflow.errors import ConfigError, plain_text
from mmflow.remote.reach import Reach

__all__ = ["Settings", "parse_size", "settings_table"]

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _UNITS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Bytes from `64MiB`, `4GB`, `512k` or a plain number; k, M, G alone mean KiB, MiB, GiB.

    Raises:
        ValueError: It is none of these.

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
    """Half of what the container may use."""
    from mmflow.mapping.limits import total_memory  # noqa: PLC0415  (imports pyarrow, which --help should not)

    return total_memory() // 2


def _state_home() -> Path:
    home = os.environ.get("XDG_STATE_HOME")
    return Path(home) if home else Path.home() / ".local" / "state"


def _positive(text: str | int) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _natural(text: str | int) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must not be negative")
    return value


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
    """A number of records, or a share of all: `0.1%`, or a number below 1 with a point."""
    if isinstance(text, str) and text.endswith("%"):
        value = float(text[:-1]) / 100
    else:
        value = float(text)
        if value == int(value) and "." not in str(text):
            value = int(value)
    if value < 0 or (isinstance(value, float) and value > 1):
        raise ValueError("must be a count such as 100, or a share such as 0.1%")
    return value


def _place(text: str | Path) -> str:
    """A folder, or the URL of one."""
    path = str(text).removeprefix("file://")
    return path if "://" in path else str(Path(path).expanduser().absolute())


def _folder(text: str | Path) -> Path:
    name = str(text)
    if plain_text(name) != name:  # DataFusion takes no other names for its files
        raise ValueError(f"{plain_text(name)} is not UTF-8; name another folder")
    return Path(name).expanduser()


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "engine": _one_of("local", "ray", "dask"),
    "address": str,
    "shard_size": _positive_size,
    "workers": _positive,
    "memory": _positive_size,
    "io": _one_of("auto", "mmap", "pread"),
    "partitions": _positive,
    "broadcast": parse_size,
    "spill_dir": _folder,
    "cache_dir": _folder,
    "cache_size": parse_size,
    "runs_dir": _place,
    "resumable": _boolean,
    "metrics": str,
    "max_bad_records": _count_or_share,
    "retries": _natural,
}
#: Tables of a settings file, and which commands they are for.
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


@dataclass(frozen=True, slots=True)
class Settings:
    """How things are run; never what is computed.

    Attributes:
        engine: local, ray or dask.
        address: Of the cluster; None starts one here.
        shard_size: Bytes of a file that one task reads; rounded up to whole pages. None: chosen from the size of
            what is read (`shards.default_shard_size`).
        workers: Tasks at once.
        memory: Bytes of anonymous memory over all workers; beyond it, blocks go to `spill_dir`.
        io: auto, mmap or pread.
        partitions: Of every exchange; None: chosen from estimated sizes.
        broadcast: Bytes up to which one side of a join is copied to every task.
        spill_dir: Where blocks and operators spill.
        cache_dir: Where pages of remote files are kept; None: the user's cache folder, or `spill_dir` where that can't
            be written to.
        cache_size: Most bytes of them; None: 10 GiB, or half of what is free there if that is less; 0: none.
        runs_dir: Where runs are kept: a folder, or a URL that fsspec knows.
        resumable: Keep the outputs of a recorded run's tasks until its end, so that it can be resumed.
        metrics: For Prometheus: a port, or a path that ends in .prom; None: none.
        max_bad_records: A run with more bad records than this fails, whatever `on_bad_record` does with them: a count
            (int) or a share of all records (float); None: any number.
        retries: Further attempts of a task that failed for a reason that may pass.
    """

    engine: str
    address: str | None
    shard_size: int | None
    workers: int
    memory: int
    io: str
    partitions: int | None
    broadcast: int
    spill_dir: Path
    cache_dir: Path | None
    cache_size: int | None
    runs_dir: str
    resumable: bool
    metrics: str | None
    max_bad_records: int | float | None
    retries: int

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
        """Settings from flags, environment, a TOML file, a base and defaults, in this order of precedence.

        Args:
            flags: By key; None values count as not given.
            env: Environment; None: this process's.
            file: A TOML file of keys.
            base: Of a run that is resumed: what it had.
            tables: Of the file, that somebody else reads (`settings_table`).

        Raises:
            ConfigError: An unknown key, or a value that does not fit; names key, value and where it came from.
        """
        values: dict[str, Any] = {}
        for key, value in (base or {}).items():
            values[key] = _parsed(key, value, "the run that is resumed")
        for key, value in _from_file(file, tables).items():
            values[key] = _parsed(key, value, f"file {file}")
        for name, value in sorted((os.environ if env is None else env).items()):
            key = name.removeprefix("MMFLOW_").lower()
            if name.startswith("MMFLOW_") and key in _PARSERS:
                values[key] = _parsed(key, value, f"environment variable {name}")
        for key, value in (flags or {}).items():
            if value is not None:
                values[key] = _parsed(key, value, "argument")
        return cls(**{**_defaults(values), **values})

    @classmethod
    def given(
        cls, flags: Mapping[str, Any], *, file: str | Path | None = None, tables: Collection[str] = ()
    ) -> dict[str, str]:
        """What of the settings is given by flags, environment or file, as text that flags take. Raises as `load`."""
        loaded = cls.load(flags, file=file, tables=tables).plain()
        keys = set(_from_file(file, tables)) | {k for k, v in flags.items() if v is not None}
        keys |= {k for k in loaded if f"MMFLOW_{k.upper()}" in os.environ}
        return {k: _text(loaded[k]) for k in loaded if k in keys}

    @property
    def reach(self) -> Reach:
        """How remote files are reached, but for a source's own options."""
        folder = "" if self.cache_dir is None else os.path.abspath(self.cache_dir)
        return Reach(folder, self.cache_size, os.path.abspath(self.spill_dir))

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, and `load` takes it back."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}


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
        "cache_dir": lambda: None,
        "cache_size": lambda: None,
        "runs_dir": lambda: str(_state_home() / "mmflow" / "runs"),
        "resumable": lambda: True,
        "metrics": lambda: None,
        "max_bad_records": lambda: None,
        "retries": lambda: 3,
    }
    return {key: default() for key, default in lazy.items() if key not in given}


def settings_table(file: str | Path | None, name: str) -> dict[str, Any] | None:
    """A table of a settings file; None: it has none of that name.

    Raises:
        ConfigError: The file can't be read, or this is no table.
    """
    table = _read_file(file).get(name)
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{file}: {name} must be a table: [{name}]")
    return table


def _from_file(file: str | Path | None, tables: Collection[str] = ()) -> dict[str, Any]:
    read = _read_file(file)
    for name in [n for n, value in read.items() if isinstance(value, dict)]:
        if name in tables:
            del read[name]
        elif name in _TABLES:
            raise ConfigError(
                f"{file}: [{name}] is for {_TABLES[name]}; leave --config out, or take another file"
            )
    return read


def _read_file(file: str | Path | None) -> dict[str, Any]:
    if file is None:
        return {}
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
    if key in _MAY_BE_NONE and value in ("", None):
        return None
    try:
        return _PARSERS[key](value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {key} = {value!r}: {error}") from error
