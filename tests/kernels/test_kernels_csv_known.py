"""Records whose keys the CSV kernel finds among those seen before: the same groups, reports and errors as batch by batch."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmflow as mf
from mmflow.formats import NativeEnd, ScanReport, ScanRequest, open_format
from mmflow.formats.csv.decoder import CsvTypes
from mmflow.formats.csv.kernel import csv_decoder
from mmflow.formats.csv.structure import Dialect
from mmflow.formats.decoding.kernel_types import KernelDecoder
from mmflow.mapping import MappedFile
from mmflow.plan.native_aggregate import AggregateStep, Measure, distinct_states, result_type, state_type
from mmflow.shards import Shard
from mmflow.worker.aggregation import Aggregator
from tests.kernels.guarded import guarded
from tests.kernels.scan_ends import end_of

FILE = pa.schema(
    [("x", pa.float64()), ("k", pa.string_view()), ("other", pa.string_view()), ("n", pa.int32())]
)
READ = pa.schema([FILE.field(name) for name in ("k", "x", "n")])
MEASURES = (Measure("sum", 1), Measure("avg", 1), Measure("min", 1), Measure("max", 2), Measure("count"))


def _step() -> AggregateStep:
    kind = {m: None if m.column is None else READ.types[m.column] for m in MEASURES}
    states = [
        pa.field(f"s{n}", state_type(m.function, kind[m])) for n, m in enumerate(distinct_states(MEASURES))
    ]
    results = [pa.field(f"r{n}", result_type(m.function, kind[m])) for n, m in enumerate(MEASURES)]
    return AggregateStep(
        (0,), MEASURES, "final", READ, pa.schema([READ[0], *states]), pa.schema([READ[0], *results])
    )


def _bits(value: object) -> object:
    return struct.pack("d", value) if isinstance(value, float) else value


def _groups(aggregator: Aggregator) -> list[tuple[object, ...]]:
    """Return groups in their order, floats as bits."""
    return [tuple(map(_bits, row.values())) for made in aggregator.results() for row in made.to_pylist()]


def _scanned(
    path: Path, policy: str, shard: Shard, window: int, *, fed: bool
) -> tuple[list[tuple[object, ...]], ScanReport, NativeEnd]:
    form = open_format("csv", [str(path)], FILE, on_bad_record=policy, header=False, delimiter=";")
    aggregator = Aggregator(_step())
    end = end_of(READ, aggregator, 1)
    request = ScanRequest(tuple(READ.names), window_bytes=window, end=end if fed else None)
    with MappedFile.open(str(path), io="pread") as file:
        scan = form.scan(file, shard, request)
        for made in scan:
            aggregator.update(made)
    return _groups(aggregator), scan.report, end


KEYS = [b"a", b"ab", b"Station 53905", "Zürich".encode(), b"0123456789abcdef", b"0123456789abcdefg"]
KEYS += [b"0123456789abcdef0123456X", b"0123456789abcdef0123456Y", b"a\x01"]
ODD_KEYS = [b"", b'"a"', b'"a;b"', b"\xff", b"a\0", b"\0", b"l" * 25, b'"two\nlines"', b'"q""q"', b'a"']
NUMBERS = [b"12.3", b"-0.1", b"-0", b"7", b"99999999", b"1234.5678", b"-123456.789012", b"1e3", b"0.1"]
ODD_NUMBERS = [
    b"",
    b"x",
    b"1e400",
    b"+1",
    b" 1",
    b'"5"',
    b"1.",
    b".5",
    b"nan",
    b"-inf",
    b"1\r",
    b"12.3.4",
    b"00",
]
WHOLE = [b"1", b"-12", b"2147483647", b"0", b"12345678"]
ODD_WHOLE = [b"", b"2147483648", b"1.0", b"x", b"1;2", b"1\r"]


@st.composite
def _records(draw: Callable[..., Any]) -> bytes:
    """Make records of few keys, mostly plain."""

    def some(plain: list[bytes], odd: list[bytes]) -> st.SearchStrategy[bytes]:
        return st.sampled_from(plain * (40 // len(plain)) + odd[: draw(st.sampled_from([0, 1, len(odd)]))])

    fields = [
        some(NUMBERS, ODD_NUMBERS),
        some(KEYS, ODD_KEYS),
        st.sampled_from([b"", b"o", b"other"]),
        some(WHOLE, ODD_WHOLE),
    ]
    lines = draw(st.lists(st.tuples(*fields), min_size=1, max_size=60))
    text = b"1;a;;1\n" + b"".join(b";".join(line) + b"\n" for line in lines)
    return text[: draw(st.sampled_from([None, -1, -3]))]


@settings(max_examples=60, deadline=None)
@given(
    text=_records(),
    policy=st.sampled_from(["error", "error", "skip", "null"]),
    window=st.sampled_from([40, 150, 1 << 20]),
    begin=st.integers(0, 100),
)
def test_known_keys_give_what_batches_give(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, policy: str, window: int, begin: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "known.csv"
    path.write_bytes(text)
    for shard in (Shard(0, 0, len(text)), Shard(0, min(begin, len(text) - 1), len(text))):
        wanted, report, _ = _scanned(path, policy, shard, window, fed=False)
        got, fed, end = _scanned(path, policy, shard, window, fed=True)
        assert got == wanted
        for name in ("first", "next", "records", "lines", "bad", "rejects", "bytes_read"):
            assert getattr(fed, name) == getattr(report, name), name
        assert str(fed.error) == str(report.error)
        assert end.known <= end.rows <= fed.records


@pytest.mark.parametrize("side", ["front", "back"])
def test_most_rows_of_plain_records_are_known(simd: str, side: Literal["front", "back"]) -> None:
    # Three pieces, which the kernel reads without touching a byte beyond them.
    lines = [f"{i % 997 / 10};{KEYS[i % len(KEYS)].decode()};;{i % 50}\n".encode() for i in range(6000)]
    aggregator, plain = Aggregator(_step()), Aggregator(_step())
    types = CsvTypes(tuple(FILE.names), dict(zip(FILE.names, FILE.types, strict=True)), ("",))
    decoder = csv_decoder(tuple(READ.names), types, Dialect(b";"), "error")
    assert isinstance(decoder, KernelDecoder)
    end = end_of(READ, aggregator, 1)
    for begin in range(0, 6000, 2000):
        data = guarded(b"".join(lines[begin : begin + 2000]), side)
        done = 0
        while done < data.size:
            rest = data[done:]
            consumed, _, _ = decoder.aggregate(end, rest, rest.size, final=True)
            assert consumed
            done += consumed
        plain.update(decoder.decode(data, data.size, final=True, located=False).batch)
    assert _groups(aggregator) == _groups(plain)
    assert end.rows == 6000
    assert end.known >= 3900


def test_groups_of_a_file_are_those_of_pyarrow(tmp_path: Path) -> None:
    rows = [
        (f"{'Bay' if i % 3 else 'Station of some length'} {i * i % 211}", i * 7919 % 997 / 10 - 40)
        for i in range(30_000)
    ]
    (tmp_path / "t.csv").write_text("k;x\n" + "".join(f"{k};{x}\n" for k, x in rows))
    with mf.Session() as session:
        t = session.read_csv(str(tmp_path / "t.csv"), delimiter=";")
        found = session.sql(
            "SELECT k, min(x) AS a, max(x) AS b, sum(x) AS c, count(*) AS n FROM t GROUP BY k", t=t
        ).to_arrow()
    table = pa.table({"k": [k for k, _ in rows], "x": [x for _, x in rows]})
    least = table.group_by("k").aggregate([("x", "min"), ("x", "max"), ("x", "count")])
    wanted = {k: (a, b, n) for k, a, b, n in zip(*(c.to_pylist() for c in least.columns), strict=True)}
    of_key: dict[str, list[float]] = {}
    for k, x in rows:
        of_key.setdefault(k, []).append(x)
    assert {r["k"]: (r["a"], r["b"], r["n"]) for r in found.to_pylist()} == wanted
    assert {r["k"]: r["c"] for r in found.to_pylist()} == {k: math.fsum(xs) for k, xs in of_key.items()}
