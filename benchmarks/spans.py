"""Cost of a span: processor time that an event of a finished task takes more with traces, where no collector is there.

python benchmarks/spans.py
"""

from __future__ import annotations

import json
import time

from mmflow.runs.traces import open_traces

#: Fewer than the queue of OpenTelemetry holds, 2,048.
_SPANS = 2000


def main() -> None:
    """Print microseconds for each span of a task: decoding the event's line, and making the span."""
    traces = open_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    if traces is None:
        raise SystemExit("pip install 'mmflow-engine[otel]'")
    now = time.time()
    traces.event({"event": "run_started", "t": now, "run": "r", "opening": 0})
    line = json.dumps({
        "v": 2, "t": now, "event": "task_done", "plan": 0, "stage": 0, "number": 1, "attempt": 0, "worker": "w",
        "started": now, "seconds": 0.5, "rows_in": 5, "rows_out": 5, "bytes_read": 9, "bytes_out": 9, "cached": 0,
    })  # fmt: skip
    best = float("inf")
    for _ in range(5):
        began = time.thread_time()
        for _ in range(_SPANS // 5):
            traces.event(json.loads(line))
        best = min(best, (time.thread_time() - began) / (_SPANS // 5))
    print(f"{best * 1e6:.1f} µs a span")


if __name__ == "__main__":
    main()
