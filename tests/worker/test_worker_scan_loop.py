"""Tasks whose scans feed native steps as they decode: the same results as batch by batch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest

import mmflow as mf
from mmflow.errors import SourceChangedError
from mmflow.formats import ScanRequest, open_format
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.mapping import MappedFile
from mmflow.shards import Shard
from mmflow.worker.aggregation import Aggregator
from tests.kernels.scan_ends import end_of, step_of

ROWS = 20_000
TYPES = {"k": "string", "x": "float64", "n": "int64", "s": "string"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows as CSV and NDJSON, some of them in spellings or with values that need a fallback."""
    folder = tmp_path_factory.mktemp("scan-loop")
    csv, ndjson = folder / "t.csv", folder / "t.ndjson"
    with csv.open("w") as one, ndjson.open("w") as other:
        one.write("k,x,n,s\n")
        for i in range(ROWS):
            n = i % 97 if i % 4973 else 1 << 62
            x = f"{i % 50}.{i % 7}" if i % 3919 else "1.5e-3"
            s = "null" if i % 11 == 0 else f'"text {i % 300:03} of the row"'
            one.write(f"{'key' * (i % 5)}{i % 5},{x},{n},{'' if s == 'null' else s}\n")
            other.write(f'{{"k":"{"key" * (i % 5)}{i % 5}","x":{x},"n":{n},"s":{s}}}\n')
    return {"csv": csv, "ndjson": ndjson}


QUERIES = [
    "SELECT k, sum(x) s, avg(x) a, min(s) m, max(s) t, count(*) c FROM t GROUP BY k ORDER BY k",
    "SELECT sum(x * 2 + 1) s, count(s) c FROM t WHERE n < 50 AND k <> 'key1'",
    "SELECT s, sum(x) s2, max(n) m FROM t WHERE x > 3.5 AND s LIKE '%7 of%' GROUP BY s ORDER BY s",
    "SELECT k, sum(x) s FROM t WHERE n * 4 > 0 GROUP BY k ORDER BY k",  # 1 << 62 overflows: an error
    "SELECT n % 10 d, sum(x) s, sum(x) FILTER (WHERE n > 40) f FROM t GROUP BY 1 ORDER BY 1",
    "SELECT upper(k) u, sum(x) s FROM t GROUP BY 1 ORDER BY 1",  # by DataFusion
]


def _outcome(query: str, path: Path, **options: Any) -> tuple[object, object]:
    with mf.Session(workers=2, **options) as session:
        try:
            table = session.sql(query, t=session.read(str(path), schema=TYPES)).to_arrow()
        except mf.MmflowError as error:
            return type(error), str(error)
        run = session.last_run
        assert run is not None
        return table.to_pylist(), (run.records, run.bytes_read, run.bad_records)


@pytest.mark.parametrize(
    ("name", "query"), [*(("csv", query) for query in QUERIES), *(("ndjson", query) for query in QUERIES[:3])]
)
def test_queries_are_the_same_whether_scans_feed_their_steps_or_not(
    files: dict[str, Path], name: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = 0
    aggregate = KernelDecoder.aggregate

    def counted(decoder: KernelDecoder, *args: Any, **options: Any) -> Any:
        nonlocal fed
        fed += 1
        return aggregate(decoder, *args, **options)

    monkeypatch.setattr(KernelDecoder, "aggregate", counted)
    with monkeypatch.context() as off:
        off.setattr(KernelDecoder, "feeds", lambda decoder, end: False)
        wanted = _outcome(query, files[name])
    assert not fed
    for options in ({"io": "mmap"}, {"io": "pread", "shard_size": "200KiB"}):
        assert _outcome(query, files[name], **options) == wanted
    assert bool(fed) == ("upper" not in query)


def test_groups_beyond_the_memory_of_a_task_are_handed_up(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("k,x,n,s\n" + "".join(f"{i % 70_000},{i}.5,,\n" for i in range(100_000)))
    query = "SELECT count(*) n, sum(s) s FROM (SELECT k, sum(x) s FROM t GROUP BY k)"
    assert _outcome(query, path, memory="16MiB") == _outcome(query, path, memory="1GiB")


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_a_file_that_is_cut_short_under_a_scan_is_found(
    files: dict[str, Path], tmp_path: Path, io: Literal["mmap", "pread"]
) -> None:
    path = tmp_path / "short.csv"
    path.write_bytes(files["csv"].read_bytes())
    form = open_format("csv", [str(path)])
    rows = pa.schema([form.schema.field(c) for c in ("k", "x", "n")])
    end = end_of(rows, Aggregator(step_of()), 1 << 16)
    end.group_bytes = 0  # it yields after each batch

    def read_on(scan: Iterator[pa.RecordBatch], file: MappedFile) -> None:
        for _ in scan:
            pass
        file.check_unchanged()

    with MappedFile.open(str(path), io=io) as file:
        request = ScanRequest(tuple(rows.names), end=end)
        scan = iter(form.scan(file, Shard(0, 0, file.size, fresh=True), request))
        assert next(scan).num_rows == 0
        assert 0 < end.rows < ROWS // 2
        os.truncate(path, 400_000)
        with pytest.raises(SourceChangedError):
            read_on(scan, file)


@pytest.mark.alone
def test_ctrl_c_within_native_calls(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_bytes(b"k,x\n" + b"some key of a row,1.25\n" * 2_000_000)
    clock = 0.0

    def interrupt() -> None:
        nonlocal clock
        clock = time.monotonic()
        signal.raise_signal(signal.SIGINT)

    def query_forever() -> None:
        while True:
            session.sql("SELECT k, sum(x) s FROM t GROUP BY k", t=session.read(str(path))).to_arrow()

    with mf.Session(workers=2) as session:
        threading.Timer(0.3, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            query_forever()
    assert time.monotonic() - clock < 1.5
