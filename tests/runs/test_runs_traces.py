"""Traces of runs, at a collector that reads OTLP over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

JOB = """
import mmflow as mf
from mmflow import col

@mf.job
def sums(session, *, source: str):
    return session.read_csv(source, schema={"k": "int64"}).group_by("k").agg(n=col("k").sum())
"""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RUN = (
    "import sys; from mmflow.cli.main import main; code = main(sys.argv[1:]); "
    "print(any(name.startswith('opentelemetry') for name in sys.modules)); sys.exit(code)"
)


class Collector(ThreadingHTTPServer):
    """Collector that keeps the spans that it gets, with the names of their services."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.services |= {
                a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def _run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    (folder / "job.py").write_text(JOB)
    (folder / "a.csv").write_text("k\n" + "1\n2\n" * 100)
    path = "/usr/bin:/bin"
    return subprocess.run(
        [sys.executable, "-c", RUN, "run", "job.py", "--output", "out.parquet", "--name", "r1", *words],
        cwd=folder, env={"PATH": path, "MMFLOW_RUNS_DIR": str(folder / "runs"), **environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _attributes(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


def test_a_run_has_spans_below_the_parent_of_the_environment(tmp_path: Path, collector: Collector) -> None:
    done = _run(
        tmp_path, "--source", "a.csv", "--shard-size", "128",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}", TRACEPARENT=f"00-{TRACE}-{PARENT}-01",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert collector.services == {"mmflow"}
    spans = {span.span_id: span for span in collector.spans}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    (run,) = [span for span in spans.values() if span.name == "run r1"]
    assert run.parent_span_id.hex() == PARENT
    assert _attributes(run)["mmflow.state"] == "done"
    stages = [span for span in spans.values() if span.parent_span_id == run.span_id]
    assert stages
    assert all(span.name.startswith("stage ") for span in stages)
    tasks = [span for span in spans.values() if span.name.startswith("task ")]
    assert {span.parent_span_id for span in tasks} == {span.span_id for span in stages}
    assert len(tasks) >= 2
    read = [_attributes(span)["mmflow.bytes_read"] for span in tasks]
    assert sum(int(str(n)) for n in read) >= 400
    for span in spans.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert abs(span.start_time_unix_nano / 1e9 - time.time()) < 600


def test_a_run_that_fails_has_the_code_of_its_error(tmp_path: Path, collector: Collector) -> None:
    done = _run(
        tmp_path, "--source", "none.csv",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{collector.server_port}/v1/traces",
    )  # fmt: skip
    assert done.returncode == 1
    (run,) = collector.spans
    assert not run.parent_span_id
    assert _attributes(run)["error.type"] == "MMF-SRC-002"
    assert run.status.message.startswith("no such file or folder")


def test_a_collector_that_is_silent_costs_a_warning_and_bounded_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        done = _run(
            tmp_path, "--source", "a.csv",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
        )  # fmt: skip
        assert time.monotonic() - began < 30
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the collector has not taken all spans") == 1
    assert (tmp_path / "out.parquet").exists()


def test_a_collector_that_is_not_there_costs_one_warning(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        done = _run(
            tmp_path, "--source", "a.csv",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{taken.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("spans could not be sent to the collector") == 1
    assert "Traceback" not in done.stderr


def test_nothing_is_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert _run(tmp_path, "--source", "a.csv").stdout == "False\n"
