"""Scans that feed native steps as they decode: the same groups, reports and errors as batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.formats import ScanReport, ScanRequest, open_format
from mmflow.mapping import MappedFile
from mmflow.shards import Shard
from mmflow.worker.aggregation import Aggregator
from tests.kernels.scan_ends import SCHEMA, end_of, step_of


def _scanned(
    path: Path, policy: str, shard: Shard, window: int, batch: int | None
) -> tuple[list[dict[str, Any]], ScanReport, int]:
    """Return the groups of a shard, its report, and the rows that were taken; `batch` None: batch by batch."""
    form = open_format("csv", [str(path)], SCHEMA, on_bad_record=policy, header=False)
    aggregator = Aggregator(step_of())
    end = None if batch is None else end_of(SCHEMA, aggregator, batch)
    with MappedFile.open(str(path), io="pread") as file:
        scan = form.scan(file, shard, ScanRequest(tuple(SCHEMA.names), window_bytes=window, end=end))
        for made in scan:
            aggregator.update(made)
    rows = [row for made in aggregator.results() for row in made.to_pylist()]
    return sorted(rows, key=str), scan.report, 0 if end is None else end.rows


PLAIN = [
    b"a,1.5,3\n",
    b"b,-2,4\n",
    b"c,0.1,\n",
    b',7,"8"\n',
    b'"q, ""r""",1e3,5\n',
    b'"two\nlines",2,6\r\n',
    b"\n",
]
ODD = [
    b"a,1.5,3,4\n",
    b"b\n",
    b"a,x,1\n",
    b"\xff,1,2\n",
    b"\0\0\0\n",
    b"c,+1e400,0x10\n",
    b'a,"5" ,1\n',
    b"z" * 200 + b",1,2\n",
]


@st.composite
def _cases(draw: Callable[..., Any]) -> tuple[bytes, str, tuple[int, int], int, int]:
    records = draw(st.lists(st.sampled_from([*PLAIN * 6, *ODD]), min_size=1, max_size=80))
    # A file that begins with NULs is refused as one of UTF-32.
    text = b"".join([PLAIN[0], *records])[: draw(st.sampled_from([None, -1]))]
    cuts = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    policy = draw(st.sampled_from(["error", "skip", "null", "quarantine"]))
    return (
        text,
        policy,
        (cuts[0], cuts[1]),
        draw(st.sampled_from([60, 333, 1 << 20])),
        draw(st.sampled_from([16, 100, 5000])),
    )


@settings(max_examples=60, deadline=None)
@given(case=_cases())
def test_a_scan_that_feeds_native_steps_gives_what_batches_give(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[bytes, str, tuple[int, int], int, int]
) -> None:
    text, policy, (begin, stop), window, batch = case
    path = tmp_path_factory.getbasetemp() / "scan-loop.csv"
    path.write_bytes(text)
    shard = Shard(0, begin, stop or 1)
    wanted, report, _ = _scanned(path, policy, shard, window, None)
    got, fed, taken = _scanned(path, policy, shard, window, batch)
    assert got == wanted
    for name in ("first", "next", "records", "lines", "bad", "rejects", "bytes_read"):
        assert getattr(fed, name) == getattr(report, name), name
    assert str(fed.error) == str(report.error)
    assert taken <= fed.records
