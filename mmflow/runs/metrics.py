"""Metrics of a run's progress for Prometheus: on a port, or in a file for node_exporter's textfile collector.

    metrics = open_metrics("9105", {"job": "pricing_summary"})     # or "/var/lib/node_exporter/mmflow.prom"
    metrics.update(progress)
    metrics.close()

Each run has a registry of its own, which holds nothing else of this process and nothing of other runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from mmflow.distribution import install_command
from mmflow.errors import ConfigError
from mmflow.scheduler.progress import Progress

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

__all__ = ["Metrics", "open_metrics"]

_DEFAULT_ADDRESS = "127.0.0.1"
# Progress comes ten times a second; a collector reads the file every 15 seconds or so.
_WRITE_SECONDS = 1.0
_JOIN_SECONDS = 5.0

#: Attribute of `Progress`, name, help. Names of counters get `_total`.
_COUNTERS = (
    (
        "bytes_done",
        "mmflow_input_done_bytes",
        "Bytes of the inputs that are done, holes and pruned parts included.",
    ),
    ("rows", "mmflow_rows", "Rows of the result, or written."),
    ("records", "mmflow_records", "Records read, bad ones included."),
    ("repaired", "mmflow_repairs", "Repairs of records, by ragged and lenient CSV."),
    ("bad", "mmflow_bad_records", "Bad records that were dropped, quarantined or set to null."),
    ("quarantined", "mmflow_quarantined_records", "Bad records that were quarantined."),
    ("pruned", "mmflow_pruned_groups", "Groups that were skipped by their statistics."),
    ("retries", "mmflow_retries", "Attempts that were retried after a failure."),
    ("reruns", "mmflow_reruns", "Shards that were read again from another first record."),
    (
        "stragglers",
        "mmflow_stragglers",
        "Slow tasks helped by a speculative attempt or a split shard.",
    ),
    ("stalls", "mmflow_stalls", "Attempts that did not move for a while (stall_after)."),
    ("restored", "mmflow_restored_tasks", "Finished tasks restored from the journal of the run."),
)


class Metrics:
    """Exporter of a run's metrics. `update` may be called at any rate."""

    def __init__(self, collector: _Collector) -> None:
        self._collector = collector

    def update(self, progress: Progress) -> None:
        """Export this progress from now on."""
        self._collector.progress = progress

    def close(self) -> None:
        """Stop exporting. Idempotent."""


class _MetricsServer(Metrics):
    def __init__(self, collector: _Collector, server: WSGIServer, thread: threading.Thread) -> None:
        super().__init__(collector)
        self._server, self._thread = server, thread

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_JOIN_SECONDS)


class _MetricsFile(Metrics):
    """Exporter to a file, which keeps the last values when the run is over."""

    def __init__(self, collector: _Collector, registry: CollectorRegistry, path: str) -> None:
        super().__init__(collector)
        self._registry, self._path = registry, path
        try:
            self._write()
        except OSError as error:
            raise ConfigError(
                f"metrics {path}: can't write there: {error.strerror or error}", path=path
            ) from error

    def update(self, progress: Progress) -> None:
        super().update(progress)
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self._try_write()

    def close(self) -> None:
        self._try_write()

    def _try_write(self) -> None:
        # A disk that is full for a while must not end a run of hours.
        with contextlib.suppress(OSError):
            self._write()

    def _write(self) -> None:
        from prometheus_client import write_to_textfile  # noqa: PLC0415  (an extra)

        self._written = time.monotonic()
        write_to_textfile(self._path, self._registry)


def open_metrics(target: str, labels: Mapping[str, str]) -> Metrics:
    """Start exporting metrics.

    Args:
        target: A port (`9105`, of this host only; `0.0.0.0:9105` for other hosts too), or a path that ends in `.prom`.
        labels: Labels of all metrics.

    Raises:
        ConfigError: The target is neither, is taken or can't be written, or prometheus-client isn't installed.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise ConfigError(
            f"metrics need prometheus-client: {install_command('metrics')} ({error})", code="MMF-CFG-002"
        ) from error
    bad = [
        n for n in labels if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", n) or n in ("stage", "title", "state")
    ]
    if bad:
        raise ConfigError(
            f"metrics: {bad[0]!r} can't be a label; letters, digits and _, not stage, title or state"
        )
    collector = _Collector(labels)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    if target.endswith(".prom"):
        return _MetricsFile(collector, registry, os.path.abspath(target))
    address, port = _address(target)
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise ConfigError(
            f"metrics {target!r}: can't listen on port {port} of {address}: {error.strerror or error}; "
            "name another port, or a file that ends in .prom"
        ) from error
    return _MetricsServer(collector, server, thread)


def _address(target: str) -> tuple[str, int]:
    """Parse an address and port.

    >>> _address("9105"), _address("0.0.0.0:9105"), _address("[::1]:9105")
    (('127.0.0.1', 9105), ('0.0.0.0', 9105), ('::1', 9105))
    """
    address, _, port = target.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"metrics {target!r}: write a port (9105), address:port, or a path that ends in .prom"
        )
    return address.strip("[]") or _DEFAULT_ADDRESS, int(port)


class _Collector:
    """Collector of the latest `Progress`, called by the server's threads at each scrape."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._names, self._values = list(labels), list(labels.values())
        self.progress: Progress | None = None

    def collect(self) -> Iterator[Metric]:
        progress = self.progress  # read once: the run's thread may replace it at any time
        if progress is None:
            return
        for attribute, name, text in _COUNTERS:
            yield self._counter(name, text, getattr(progress, attribute))
        yield self._gauge("mmflow_input_bytes", "Bytes of all inputs.", [((), progress.bytes_total)])
        yield self._gauge(
            "mmflow_elapsed_seconds", "Seconds since the run started.", [((), progress.elapsed)]
        )
        yield from self._stages(progress)

    def _stages(self, progress: Progress) -> Iterator[Metric]:
        tasks: list[tuple[tuple[str, ...], float]] = []
        rows: list[tuple[tuple[str, ...], float]] = []
        complete: list[tuple[tuple[str, ...], float]] = []
        for s in progress.stages:
            stage = str(s.id)
            tasks += [((stage, "done"), s.done), ((stage, "running"), s.running)]
            if s.total is not None:
                tasks.append(((stage, "waiting"), max(0, s.total - s.done - s.running)))
            rows.append(((stage,), s.rows))
            complete.append(((stage, s.title), float(s.complete)))
        text = "Tasks; waiting ones are missing until their number is known."
        yield self._gauge("mmflow_tasks", text, tasks, ("stage", "state"))
        yield self._gauge(
            "mmflow_stage_rows", "Rows that finished tasks of the stage returned.", rows, ("stage",)
        )
        yield self._gauge("mmflow_stage_complete", "1: all its tasks are done.", complete, ("stage", "title"))

    def _counter(self, name: str, text: str, value: float) -> Metric:
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415  (an extra)

        family = CounterMetricFamily(name, text, labels=self._names)
        family.add_metric(self._values, value)
        return family

    def _gauge(
        self, name: str, text: str, values: list[tuple[tuple[str, ...], float]], more: tuple[str, ...] = ()
    ) -> Metric:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  (an extra)

        family = GaugeMetricFamily(name, text, labels=[*self._names, *more])
        for labels, value in values:
            family.add_metric([*self._values, *labels], value)
        return family
