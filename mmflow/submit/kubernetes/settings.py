"""Settings of a run's pods: the `[kubernetes]` table of a settings file.

Everything is checked before anything is rendered or sent, so that a wrong value gives an error instead of a pod that
never starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, Self

from mmflow.config import parse_size
from mmflow.errors import ConfigError
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["ENGINES", "KINDS", "TABLE", "Claim", "PodSettings", "quantity"]

TABLE = "kubernetes"
#: Engine of a run, by the kind of its pods.
ENGINES = {"job": "local", "ray": "ray", "dask": "dask"}
KINDS = tuple(ENGINES)
MIB = 1 << 20
#: Operators derive names from these: KubeRay refuses names of RayJobs beyond 47 characters.
_NAME = lazy_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
#: Ray refuses a smaller object store.
_MIN_OBJECT_STORE = 80 * MIB


def quantity(size: int) -> str:
    """Return a number of bytes in Kubernetes notation.

    >>> quantity(4 << 30), quantity(1536 << 20), quantity(1000)
    ('4Gi', '1536Mi', '1000')
    """
    for unit, power in (("Gi", 30), ("Mi", 20)):
        if size >> power and not size % (1 << power):
            return f"{size >> power}{unit}"
    return str(size)


@dataclass(frozen=True, slots=True)
class Claim:
    """PersistentVolumeClaim and its mount path in the pods."""

    path: str
    name: str
    read_only: bool

    @property
    def volume(self) -> str:
        """Name of its volume."""
        return "claim-" + re.sub(r"[^a-z0-9]+", "-", self.path.lower()).strip("-")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be text")
    return value


def _name(value: Any) -> str:
    if not _NAME.fullmatch(_text(value)):
        raise ValueError("must be a name of lower-case letters, digits and dashes")
    return str(value)


def _optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value == "" else parse(value)


def _count(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"must be a whole number, at least {least}")
        return value

    return parse


def _size(value: Any) -> int:
    """Parse a size, rounded down to whole MiB: Kubernetes accepts fractions of a byte, which are never meant."""
    size = parse_size(value)
    if size < MIB:
        raise ValueError("must be at least 1MiB")
    return size // MIB * MIB


def _kind(value: Any) -> str:
    if value not in KINDS:
        close = difflib.get_close_matches(str(value), KINDS, 1)
        raise ValueError(
            f"must be one of {', '.join(KINDS)}" + (f"; did you mean {close[0]!r}?" if close else "")
        )
    return str(value)


def _folder(value: Any) -> str:
    if not _text(value).startswith("/") and "://" not in value:
        raise ValueError("must be an absolute path in the pods, or a URL")
    return str(value).rstrip("/")


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("must be a list of names")
    return tuple(_name(v) for v in value)


def _pairs(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("must be a table of texts")
    return dict(value)


def _claims(value: Any) -> tuple[Claim, ...]:
    made = []
    for path, text in _pairs(value).items():
        name, _, access = text.partition(":")
        if not path.startswith("/") or access not in ("", "ro"):
            raise ValueError(f'{path!r} = {text!r}: write "/path" = "claim", or "claim:ro" to read only')
        made.append(Claim(path.rstrip("/"), _name(name), access == "ro"))
    return tuple(made)


def _tolerations(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ValueError("must be tables: [[kubernetes.tolerations]]")
    return tuple(value)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "namespace": _name,
    "context": _optional(_text),
    "image": _text,
    "pull_secrets": _names,
    "service_account": _name,
    "kind": _kind,
    "cluster": _optional(_name),
    "workers": _count(1),
    "max_workers": _count(0),
    "cpu": _count(1),
    "memory": _size,
    "shm": _size,
    "spill": _size,
    "spill_class": _optional(_name),
    "driver_cpu": _count(1),
    "driver_memory": _size,
    "claims": _claims,
    "runs_dir": _folder,
    "jobs_in_image": _optional(_folder),
    "config_map": _optional(_name),
    "ray_secret": _name,
    "ray_ca_secret": _optional(_name),
    "dask_secret": _name,
    "restarts": _count(0),
    "deadline": _count(0),
    "keep": _count(0),
    "environment": _pairs,
    "environment_secrets": _names,
    "node_selector": _pairs,
    "tolerations": _tolerations,
}


@dataclass(frozen=True, slots=True)
class PodSettings:
    """Settings of a run's pods; configs/k8s.toml explains each key."""

    image: str
    namespace: str = "mmflow"
    context: str | None = None
    pull_secrets: tuple[str, ...] = ()
    service_account: str = "mmflow"
    kind: str = "job"
    cluster: str | None = None
    workers: int = 2
    max_workers: int = 0
    cpu: int = 2
    memory: int = 8 << 30
    shm: int = 2 << 30
    spill: int = 10 << 30
    spill_class: str | None = None
    driver_cpu: int = 1
    driver_memory: int = 4 << 30
    claims: tuple[Claim, ...] = (Claim("/data", "mmflow-data", True), Claim("/runs", "mmflow-runs", False))
    runs_dir: str = "/runs/state"
    jobs_in_image: str | None = None
    config_map: str | None = None
    ray_secret: str = "mmflow-ray-token"
    ray_ca_secret: str | None = "mmflow-ray-ca"
    dask_secret: str = "mmflow-dask-tls"
    restarts: int = 3
    deadline: int = 0
    keep: int = 86400
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()

    @classmethod
    def load(cls, table: Mapping[str, Any], where: str) -> Self:
        """Return the settings from a `[kubernetes]` table.

        Args:
            table: Table as parsed from TOML.
            where: Path of the file, for messages.

        Raises:
            ConfigError: An unknown key, a value that does not fit, or values that don't fit together.
        """
        known = [f.name for f in fields(cls)]
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in _PARSERS:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"the keys are {', '.join(known)}"
                raise ConfigError(f"{where}: unknown key {key!r} in [{TABLE}]; {hint}")
            try:
                values[key] = _PARSERS[key](value)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{where}: [{TABLE}] {key} = {value!r}: {error}") from error
        if "image" not in values:
            raise ConfigError(
                f"{where}: [{TABLE}] needs image, of k8s/Dockerfile, in a registry that the cluster reads"
            )
        if "memory" in values and "shm" not in values:
            values["shm"] = max(values["memory"] // 4 // MIB, 1) * MIB
        made = cls(**values)
        made._check(where)
        return made

    def _check(self, where: str) -> None:
        if self.shm * 2 > self.memory:
            raise ConfigError(
                f"{where}: [{TABLE}] shm = {quantity(self.shm)} counts in memory = {quantity(self.memory)}, and may be "
                "half of it at most: give the pods more memory, or less shm"
            )
        if self.kind == "ray" and self.object_store < _MIN_OBJECT_STORE:
            raise ConfigError(
                f"{where}: [{TABLE}] shm = {quantity(self.shm)} holds Ray's object store: give it at least 100MiB"
            )
        if self.kind == "ray" and self.driver_memory < 2 << 30:
            raise ConfigError(
                f"{where}: [{TABLE}] driver_memory = {quantity(self.driver_memory)}: Ray's head, and the driver on it, "
                "need 2GiB at least"
            )
        if self.max_workers and self.kind != "ray":
            raise ConfigError(
                f"{where}: [{TABLE}] max_workers = {self.max_workers}: only Ray's clusters grow and shrink; leave it "
                "out, and say in workers how many pods there are"
            )
        if self.max_workers and self.max_workers < self.workers:
            raise ConfigError(
                f"{where}: [{TABLE}] max_workers = {self.max_workers} is below workers = {self.workers}"
            )
        if self.cluster is not None and self.kind == "job":
            raise ConfigError(f"{where}: [{TABLE}] cluster names one of Ray or Dask: set kind")
        paths = [claim.path for claim in self.claims]
        for taken in ("/tmp", "/dev/shm", "/spill", "/job", "/etc/mmflow", "/tls"):
            if taken in paths:
                raise ConfigError(f"{where}: [{TABLE}] claims: {taken} is used already; choose another path")

    # ---- sizes -------------------------------------------------------------------------------------------

    @property
    def object_store(self) -> int:
        """Bytes of a Ray node's object store: slightly less than /dev/shm, which has other users too."""
        return self.shm * 19 // 20 // MIB * MIB

    @property
    def driver_shm(self) -> int:
        """Bytes of /dev/shm of the driver, head or scheduler."""
        return self.driver_memory // 4 // MIB * MIB

    @property
    def tasks(self) -> int:
        """Concurrent tasks of all pods."""
        return self.cpu * (1 if self.kind == "job" else self.workers)

    @property
    def task_memory(self) -> int:
        """Bytes of anonymous memory for all tasks: half of what /dev/shm leaves. The other half is for the page
        cache, the interpreters and the engine.
        """
        return (self.memory - self.shm) // 2 * (self.tasks // self.cpu)
