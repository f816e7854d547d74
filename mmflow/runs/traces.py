"""Spans of a run for OpenTelemetry: the run, its stages and their tasks, made from the events of the run.

    run nightly                       TRACEPARENT in the environment is its parent
    └── stage 0: scan                 begins with the first of its tasks that is reported
        ├── task 0
        └── task 1

Spans go where the standard variables of OpenTelemetry say (OTEL_EXPORTER_OTLP_ENDPOINT and others), from a thread of
its own.

Invariant: neither a missing package nor a collector that fails or hangs fails a run: it costs a warning, and the end
of the run waits for `_CLOSE_SECONDS` at most. Nothing of OpenTelemetry is imported unless a variable asks for it.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmflow.distribution import VERSION, install_command

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

__all__ = ["Traces", "open_traces"]

_CLOSE_SECONDS = 5.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
#: Fields of `task_done` that become attributes of its span.
_TASK = tuple(
    (name, f"mmflow.{name}")
    for name in ("attempt", "worker", "rows_in", "rows_out", "bytes_read", "bytes_out", "cached", "fetched")
)
_RUN = ("run", "opening", "engine", "job", "host", "pid")

_log = logging.getLogger(__name__)


def open_traces(environ: Mapping[str, str] = os.environ) -> Traces | None:
    """Return the traces of a run, if the environment asks for them; None: it does not, or the packages are missing."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp")
    if exporter != "otlp" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if not any(environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        return Traces(environ)
    except ImportError as error:
        _log.warning("traces need packages: %s (%s); this run has none", install_command("otel"), error)
        return None


class Traces:
    """Spans of one opening of a run. Calls come from one thread at a time.

    Args:
        environ: Environment with TRACEPARENT and TRACESTATE.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        from opentelemetry import trace  # noqa: PLC0415  (an extra)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  (an extra)
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  (an extra)
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: PLC0415  (an extra)
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415  (an extra)
            BatchSpanProcessor,
            SpanExportResult,
        )
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415  (an extra)
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415  (an extra)
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415  (an extra)
            TraceContextTextMapPropagator,
        )

        class Exporter(OTLPSpanExporter):
            """Exporter that warns once."""

            warned = False

            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                try:
                    result = super().export(spans)
                except Exception as error:  # noqa: BLE001  (of whatever the transport raises)
                    result, why = SpanExportResult.FAILURE, f": {error}"
                else:
                    why = ""
                if result is not SpanExportResult.SUCCESS and not self.warned:
                    self.warned = True
                    _log.warning("spans could not be sent to the collector%s; the run goes on", why)
                return result

        # Its exporter logs each attempt that fails.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        service = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "mmflow"}
        self._trace = trace
        self._provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(Exporter())
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("mmflow", VERSION)
        self._ids = RandomIdGenerator()
        self._readable = functools.partial(
            ReadableSpan,
            resource=self._provider.resource,
            status=trace.Status(),
            instrumentation_scope=InstrumentationScope("mmflow", VERSION),
        )
        carrier = {name.lower(): environ[name] for name in ("TRACEPARENT", "TRACESTATE") if name in environ}
        self._parent = TraceContextTextMapPropagator().extract(carrier)
        self._run: Span | None = None
        self._titles: dict[tuple[int, int], str] = {}
        self._stages: dict[tuple[int, int], Span] = {}
        self._makers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "run_started": self._run_started,
            "plan": self._plan,
            "task_done": self._task_done,
            "task_failed": self._task_failed,
            "stage_ended": self._stage_ended,
            "run_ended": self._run_ended,
        }

    def event(self, facts: Mapping[str, Any]) -> None:
        """Make spans of an event of the run, as docs/runs.md lists them."""
        made = self._makers.get(facts["event"])
        if made is None:
            return
        try:
            made(facts)
        except Exception as error:  # noqa: BLE001  (whatever a span can't hold must not fail the run)
            self._makers = {}
            _log.warning("spans end here, the run goes on: %s: %s", type(error).__name__, error)

    def close(self) -> None:
        """Send what is left, for a bounded time."""
        sender = threading.Thread(target=self._provider.shutdown, name="mmflow-traces", daemon=True)
        sender.start()
        sender.join(_CLOSE_SECONDS)
        if sender.is_alive():
            _log.warning("the collector has not taken all spans within %.0f s", _CLOSE_SECONDS)

    # ---- events ------------------------------------------------------------------------------------

    def _run_started(self, facts: Mapping[str, Any]) -> None:
        self._run = self._tracer.start_span(
            f"run {facts['run']}",
            self._parent,
            attributes={f"mmflow.{n}": facts[n] for n in _RUN if facts.get(n) is not None},
            start_time=_nanoseconds(facts["t"]),
        )

    def _plan(self, facts: Mapping[str, Any]) -> None:
        for stage in facts["stages"]:
            self._titles[facts["plan"], stage["id"]] = stage["title"]

    def _task_done(self, facts: Mapping[str, Any]) -> None:
        begin = _nanoseconds(facts["started"])
        key = facts["plan"], facts["stage"]
        stage = self._stages.get(key)
        if stage is None:
            stage = self._stages[key] = self._tracer.start_span(
                f"stage {key[1]}: {self._titles.get(key, '')}",
                self._below(self._run),
                attributes={"mmflow.plan": key[0], "mmflow.stage": key[1]},
                start_time=begin,
            )
        # A span that begins and ends at once needs neither locks nor checks of its attributes, which take 40 µs.
        parent = stage.get_span_context()
        if stage.is_recording():
            context = self._trace.SpanContext(
                parent.trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=parent.trace_flags
            )
            self._processor.on_end(
                self._readable(
                    f"task {facts['number']}",
                    context,
                    parent,
                    attributes={shown: facts[n] for n, shown in _TASK if facts.get(n) is not None},
                    start_time=begin,
                    end_time=begin + _nanoseconds(facts["seconds"]),
                )
            )

    def _task_failed(self, facts: Mapping[str, Any]) -> None:
        if self._run is not None:
            shown = {f"mmflow.{n}": facts[n] for n in ("stage", "number", "attempt", "reason", "retried")}
            self._run.add_event("task_failed", shown, _nanoseconds(facts["t"]))

    def _stage_ended(self, facts: Mapping[str, Any]) -> None:
        span = self._stages.pop((facts["plan"], facts["stage"]), None)
        if span is not None:
            counts = {
                f"mmflow.{n}": facts[n] for n in ("tasks", "rows", "bytes", "pruned", "bad") if n in facts
            }
            span.set_attributes(counts)
            span.end(_nanoseconds(facts["t"]))

    def _run_ended(self, facts: Mapping[str, Any]) -> None:
        end = _nanoseconds(facts["t"])
        for span in self._stages.values():
            span.end(end)
        self._stages.clear()
        if self._run is None:
            return
        self._run.set_attribute("mmflow.state", facts["state"])
        error = facts.get("error")
        if error is not None:
            self._run.set_attribute("error.type", error.get("code") or error["class"])
            self._run.set_status(self._trace.StatusCode.ERROR, error["message"])
        self._run.end(end)

    def _below(self, span: Span | None) -> Any:
        return self._parent if span is None else self._trace.set_span_in_context(span, self._parent)


def _nanoseconds(seconds: float) -> int:
    """Return seconds since 1970 as whole nanoseconds, exact to the microsecond.

    >>> _nanoseconds(1.5)
    1500000000
    """
    return round(seconds * 1e6) * 1000
