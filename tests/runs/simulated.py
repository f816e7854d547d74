"""Events of a run that never was, as docs/runs.md describes them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mmflow.formats.rejects import SCHEMA

START = 1_780_000_000.0
HOSTILE = "</script><script>document.documentElement.dataset.owned=1</script><img src=x onerror=alert(1)>\u202e\x1b[31m"
PLAN = """\
stage 0: filter and partial aggregate
  reads   lineitem.csv (csv, 12 files): 7 of 16 columns: l_returnflag, l_linestatus, l_quantity, l_shipdate
  prunes  l_shipdate <= 1998-09-02
  gives   hash exchange on l_returnflag, l_linestatus into 16
stage 1: join with orders and final aggregate
  reads   stage 0, by partition
  gives   range exchange on revenue desc into up to 8
stage 2: sort
  reads   stage 1, by partition
  gives   files: parquet in /data/out/summary
"""
TITLES = ("filter and partial aggregate", "join with orders and final aggregate", "sort")


def run(
    tasks: tuple[int, ...] = (240, 64, 16),
    *,
    workers: int = 8,
    end: str | None = "done",
    seconds: float = 0.5,
    resumed_at: float | None = None,
    seed: int = 7,
    trouble: bool = True,
    names: str = "host-a/{}",
) -> Iterator[dict[str, Any]]:
    """Events in order.

    Args:
        tasks: Number of tasks of each stage; the first reads files, each other the one before.
        end: State at the end; None: the events stop as if the process had been killed.
        seconds: Duration of a usual task.
        resumed_at: Share of the first stage after which the run died, to be resumed an hour later.
        trouble: Tasks fail, are slow, are read again.
    """
    made = _Simulation(random.Random(seed), tasks, workers, seconds, trouble, names)
    if resumed_at is None:
        yield from made.opening(0, begin=START, first=0, end=end)
    else:
        first = int(tasks[0] * resumed_at)
        yield from made.opening(0, begin=START, first=0, end=None, stop_after=first)
        yield from made.opening(1, begin=made.now + 3600, first=first, end=end)


class _Simulation:
    def __init__(
        self,
        chance: random.Random,
        tasks: tuple[int, ...],
        workers: int,
        seconds: float,
        trouble: bool,
        names: str,
    ) -> None:
        self.chance, self.tasks, self.workers, self.seconds = chance, tasks, workers, seconds
        self.trouble, self.names, self.now = trouble, names, START
        self.counts = dict.fromkeys(
            ("retries", "reruns", "stragglers", "bad", "rows", "records", "restored"), 0
        )

    def opening(
        self, opening: int, *, begin: float, first: int, end: str | None, stop_after: int | None = None
    ) -> Iterator[dict[str, Any]]:
        self.begin = self.now = begin
        shard = 64 << 20
        yield self._event(
            "run_started", run="20261125-213500-a1b2", opening=opening, job="pricing_summary", engine="local",
            memory=8 << 30, host="host-a", pid=4321,
        )  # fmt: skip
        stages = [
            {"id": n, "title": TITLES[n % 3], "reads": [n - 1] if n else [], "scan": n == 0,
             "notes": ["mapped: the files are in the page cache"] if n == 0 else []}
            for n in range(len(self.tasks))
        ]  # fmt: skip
        yield self._event("plan", slots=self.workers, stages=stages)
        for number in range(first):
            self.counts["restored"] += 1
            yield self._event("task_restored", stage=0, number=number, rows_out=4)
        reported = begin
        for stage, total in enumerate(self.tasks):
            after = stop_after if stage == 0 else None
            for event in self._stage(stage, total, first if stage == 0 else 0, shard):
                while event["t"] - reported >= 1:
                    reported += 1
                    yield self._progress(reported, stage, event["number"], shard)
                yield event
                if after is not None and event["event"] == "task_done" and event["number"] >= after:
                    return
            rows = total * (4 if stage == 0 else 1000)
            yield self._event(
                "stage_ended", stage=stage, tasks=total, rows=rows, bytes=rows * 40, pruned=12 * (stage == 0),
                bad=self.counts["bad"] * (stage == 0),
            )  # fmt: skip
            if end == "failed" and stage == len(self.tasks) - 2:
                break
        yield self._progress(self.now, stage, total, shard)
        if end is None:
            return
        if end == "done":
            yield self._event("committed", path="/data/out/summary", files=8, rows=16_000, bytes=5 << 20)
        message = f"column 'l_tax' overflows in lineitem.csv {HOSTILE}\n  lower shard_size, or cast it first"
        error = {"class": "UserFunctionError", "message": message} if end == "failed" else None
        yield self._event(
            "run_ended", state=end, error=error, seconds=self.now - begin, rows=16_000 * (end == "done"),
            records=self.counts["records"], bad=self.counts["bad"],
        )  # fmt: skip

    def _stage(self, stage: int, total: int, first: int, shard: int) -> Iterator[dict[str, Any]]:
        """Workers take the next task as soon as they are free."""
        free = [(self.now + 0.002 * w, w) for w in range(self.workers)]
        events: list[dict[str, Any]] = []
        for number in range(first, total):
            at, worker = heapq.heappop(free)
            took = self.seconds * self.chance.lognormvariate(0, 0.25) * (1 if stage == 0 else 0.6)
            attempt = 0
            if self.trouble and self.chance.random() < 0.02:
                self.counts["retries"] += 1
                reason = (
                    "WorkerLostError: the worker died under the task" if number % 2 else f"OSError: {HOSTILE}"
                )
                events.append(
                    self._at(
                        at + took / 2,
                        "task_failed",
                        stage=stage,
                        number=number,
                        attempt=0,
                        reason=reason,
                        retried=True,
                    )
                )
                at, attempt = at + took / 2, 1
            if self.trouble and self.chance.random() < 0.01:
                took *= 6
                self.counts["stragglers"] += 1
                events.append(
                    self._at(at + took / 2, "speculative_attempt", stage=stage, number=number, attempt=1)
                )
            if self.trouble and stage == 0 and self.chance.random() < 0.01:
                self.counts["reruns"] += 1
                events.append(self._at(at, "rerun", stage=stage, number=number, begin=number * shard + 17))
            cached = shard if self.chance.random() < 0.6 else shard // 3
            self.counts["records"] += 600_000 * (stage == 0)
            self.counts["bad"] += stage == 0 and number % 40 == 3
            events.append(
                self._at(
                    at + took, "task_done", stage=stage, number=number, attempt=attempt, worker=self.names.format(worker),
                    started=at, seconds=took, rows_in=600_000 if stage == 0 else 4_000, rows_out=4 if stage == 0 else 1000,
                    bytes_read=shard if stage == 0 else 0, bytes_out=160 if stage == 0 else 40_000,
                    cached=cached if stage == 0 else 0,
                    anonymous=int((300 << 20) + (200 << 20) * self.chance.random() + (150 << 20) * stage),
                )
            )  # fmt: skip
            heapq.heappush(free, (at + took, worker))
        events.sort(key=lambda e: e["t"])
        self.now = max([self.now, *(e["t"] for e in events)]) + 0.01
        yield from events

    def _progress(self, t: float, stage: int, number: int, shard: int) -> dict[str, Any]:
        done = min(number, self.tasks[0]) if stage == 0 else self.tasks[0]
        stages = [
            {"id": n, "done": total if n < stage else number if n == stage else 0, "running": self.workers * (n == stage),
             "total": total if n <= stage else None, "rows": 4 * number if n == stage else 0}
            for n, total in enumerate(self.tasks)
        ]  # fmt: skip
        return self._at(
            t, "progress", bytes_done=done * shard, bytes_total=self.tasks[0] * shard, quarantined=self.counts["bad"],
            pruned=12, running=self.workers, elapsed=t - self.begin, stages=stages, **self.counts,
        )  # fmt: skip

    def _event(self, event: str, **more: Any) -> dict[str, Any]:
        return self._at(self.now, event, **more)

    @staticmethod
    def _at(t: float, event: str, **more: Any) -> dict[str, Any]:
        return {"v": 1, "t": t, "event": event, **more}


FACTS: dict[str, Any] = {
    "run": "20261125-213500-a1b2",
    "job": "jobs/pricing_summary.py",
    "name": "pricing_summary",
    "parameters": {"source": "/data/lineitem/*.csv", "until": "1998-09-02", "top": 10},
    "engine": "local",
    "settings": {"workers": 8, "memory": 8 << 30, "shard_size": 64 << 20, "io": "auto", "spill_dir": "/tmp"},
    "versions": ["mmflow 0.1.0", "datafusion 55.0.0", "pyarrow 26.0.1"],
    "folder": "/home/ada",
    "started": "2026-05-28T20:26:40+00:00",
    "sources": [
        {
            "path": f"/data/lineitem/part-{n:04}.csv",
            "size": (1280 << 20) + 4097 * n,
            "mtime_ns": 1_779_990_000_000_000_000,
        }
        for n in range(12)
    ],
    "destination": "/data/out/summary",
}


def rejects(rows: int = 120) -> pa.Table:
    """Bad records, hostile ones and some that are no text."""
    kinds = [
        ("l_quantity", "'12x' is not int64", b"1|155190|7706|1|12x|21168.23|0.04|0.02|N|O\r\n"),
        (None, "9 fields, expected 16", b'77|"' + HOSTILE.encode() + b'"|3\n'),
        ("l_comment", "not UTF-8", b"\xff\xfe\x00bin\x80ary" * 60),
    ]
    picked = [kinds[0 if n % 5 else 1 + n % 2] for n in range(rows)]
    return pa.table(
        {
            "path": [f"/data/lineitem/part-{n % 12:04}.csv" for n in range(rows)],
            "byte_offset": [n * 1_000_003 for n in range(rows)],
            "record": [n * 9_871 for n in range(rows)],
            "line": [n * 9_871 + 1 for n in range(rows)],
            "column": [k[0] for k in picked],
            "reason": [k[1] for k in picked],
            "raw": [k[2] for k in picked],
        },
        schema=SCHEMA,
    )
