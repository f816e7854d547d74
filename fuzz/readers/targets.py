"""The targets: for each format its seeds, its mutations, and what must hold for each input."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq

import mmflow as mf
from fuzz.readers import mutations, own_files
from fuzz.readers.reading import FoundError, Place, compare_rows, read_every_way, save
from tests.formats.hostile_files import table_of

__all__ = ["TARGETS", "Target"]

Mutate = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """One target of the fuzzer.

    Attributes:
        seeds: Whole inputs. mutate: returns a damaged one. check: raises for what must not happen.
    """

    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    check: Callable[[Place, bytes], None]


def _one_of(data: bytes, choices: Sequence[Any]) -> Any:
    """Return the choice of an input, always the same one."""
    return choices[zlib.crc32(data) % len(choices)]


# ---- text formats ------------------------------------------------------------------------------------------------


def _csv_seeds() -> list[bytes]:
    plain = "".join(f"{i},{i / 7:.3f},name {i % 9},2024-01-{i % 28 + 1:02}\n" for i in range(500))
    quoted = "".join(
        f'{i},"a, ""b""\n{i % 5}",{"" if i % 3 else "x"},"{"long " * (i % 40)}"\n' for i in range(200)
    )
    return [
        b"id,x,name,day\n" + plain.encode(),
        b"id,text,empty,long\n" + quoted.encode(),
        b"a;b\r\n" + b"1;2,5\r\n" * 1500,
        b'a,b\n1,"x"\n',
        "ä,b\n".encode() + "é€😀,true\n".encode() * 700,
        b"a\n" + b"1\n" * 40 + b"\n\n" + b"2\n" * 3000,
        b"",
    ]


def _clean_text(data: bytes) -> str | None:
    """Return text that every reader takes for the same: UTF-8 without marks, NULs and lone carriage returns."""
    if b"\0" in data or b"\r" in data.replace(b"\r\n", b"") or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _csv_oracle(data: bytes, ds: mf.Dataset) -> list[dict[str, Any]] | None:
    text = _clean_text(data)
    if text is None or text.startswith("\ufeff"):
        return None
    try:
        rows = [r for r in csv.reader(io.StringIO(text, newline=""), strict=True) if r]
    except csv.Error:
        return None
    if not rows or rows[0] != ds.columns:
        return None
    return [dict(zip(ds.columns, (c or None for c in row), strict=False)) for row in rows[1:]]


def _check_csv(place: Place, data: bytes) -> None:
    path = save(place, "in.csv", data)
    if place.takes(0.5):
        read_every_way(place, path, lambda s, p: s.read_csv(p))
    try:
        names = place.whole.read_csv(path).columns
    except mf.MmflowError:
        return
    schema = pa.schema([(name, pa.string()) for name in names])
    options = _one_of(
        data, [{"schema": schema}, {"dialect": "auto"}, {"on_bad_record": "skip"}, {"on_bad_record": "null"}]
    )
    oracle = _csv_oracle if "schema" in options and len(names) > 1 else None
    read_every_way(place, path, lambda s, p: s.read_csv(p, **options), oracle, empty_is_null=True)


def _ndjson_seeds() -> list[bytes]:
    plain = [
        {"id": i, "x": i / 3, "s": f"text {i}", "ok": i % 2 == 0, "l": list(range(i % 4))} for i in range(120)
    ]
    nested = [{"p": {"a": i, "q": [{"b": str(i)}, None]}, "t": 'é€😀\n"\\', "m": {}} for i in range(120)]
    late = [{"a": i} for i in range(500)] + [{"a": 2**40}, {"a": None}, {}]
    return [
        *("".join(json.dumps(r) + "\n" for r in rows).encode() for rows in (plain, nested, late)),
        b'{"a": 1, "a": 2}\n{"b": [1, "x"]}\r\n\n',
        "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in nested).encode(),
    ]


class _UnclearError(ValueError):
    """JSON that has several meanings."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) < len(pairs):
        raise _UnclearError
    return dict(pairs)


def _agrees(value: Any, wanted: Any) -> bool:
    """Return whether a value of a row is that of the document, as far as its type says the same."""
    match value:
        case None:
            return wanted is None or isinstance(
                wanted, list | dict | str
            )  # null of other types: by the schema
        case dict():
            return isinstance(wanted, dict) and all(_agrees(v, wanted.get(k)) for k, v in value.items())
        case list():
            return isinstance(wanted, list) and len(value) == len(wanted) and all(map(_agrees, value, wanted))
        case bool():
            return value is wanted
        case int() | float():
            return isinstance(wanted, int | float) and (
                value == wanted or value == float(wanted) or value != value
            )
        case str():
            return not isinstance(wanted, str) or value == wanted
        case _:
            return True


def _check_ndjson(place: Place, data: bytes) -> None:
    path = save(place, "in.ndjson", data)
    table = read_every_way(place, path, lambda s, p: s.read_ndjson(p))
    text = _clean_text(data)
    if table is not None and text is not None and not text.startswith("\ufeff"):
        try:
            lines = [t for t in text.replace("\r\n", "\n").split("\n") if t.strip(" \t")]
            wanted = [json.loads(line, object_pairs_hook=_pairs) for line in lines]
        except (_UnclearError, RecursionError):
            return
        except ValueError as error:
            raise FoundError(f"read as {table.num_rows} rows, but it is no JSON: {error}") from error
        rows = table.to_pylist()
        if len(rows) != len(wanted):
            raise FoundError(f"{len(rows)} rows of {len(wanted)} lines")
        for number, (row, line) in enumerate(zip(rows, wanted, strict=True)):
            if not _agrees(row, line):
                raise FoundError(f"row {number} is {row}, the line says {line}")
    if _one_of(data, (True, False, False)):
        read_every_way(place, path, lambda s, p: s.read_ndjson(p, on_bad_record="skip"))


def _check_text(place: Place, data: bytes) -> None:
    path = save(place, "in.txt", data)
    table = read_every_way(place, path, lambda s, p: s.read_text(p))
    text = _clean_text(data)
    if table is not None and text is not None and not text.startswith("\ufeff"):
        lines = text.replace("\r\n", "\n").split("\n")
        lines = lines[:-1] if not lines[-1] else lines
        if (got := table.column(0).to_pylist()) != lines:
            where = next((i for i, (a, b) in enumerate(zip(got, lines, strict=False)) if a != b), -1)
            raise FoundError(
                f"{len(got)} lines, not {len(lines)}; {where}: {got[where : where + 1]}, {lines[where : where + 1]}"
            )
    if place.takes(0.3):
        read_every_way(place, path, lambda s, p: s.read(p))


def _text_seeds() -> list[bytes]:
    log = "".join(
        f'10.0.0.{i} - - [10/Oct/2000:13:55:{i % 60:02} -0700] "GET /{i} HTTP/1.0" 200 {i}\n'
        for i in range(200)
    )
    fields = "".join(f'level=info msg="it is {i}" n={i} t=2024-01-01T00:00:00Z\n' for i in range(200))
    return [
        log.encode(),
        fields.encode(),
        b"\n" * 5000,
        b"x" * 9000 + b"\ny",
        "é€😀\r\n".encode() * 900,
        *_csv_seeds()[:2],
    ]


def _json_seeds() -> list[bytes]:
    rows = [{"id": i, "l": [i], "o": {"t": ']}"\\', "n": None}} for i in range(250)]
    return [
        json.dumps(rows).encode(),
        json.dumps(rows, indent=2).encode(),
        json.dumps({"meta": {"n": 1}, "data": rows, "end": []}).encode(),
        b"".join(json.dumps(r, indent=1).encode() for r in rows),
    ]


def _reader(name: str, suffix: str, **options: Any) -> Callable[[Place, bytes], None]:
    def check(place: Place, data: bytes) -> None:
        path = save(place, f"in{suffix}", data)
        read_every_way(place, path, lambda s, p: getattr(s, name)(p, **options))

    return check


# ---- binary formats ----------------------------------------------------------------------------------------------


def _table(rows: int = 400) -> pa.Table:
    more = {
        "n": pa.array([i % 2 == 0 for i in range(rows)]),
        "w": pa.array(range(rows), pa.timestamp("us", "UTC")),
        "c": pa.array([None, 1, -5, 12345] * (rows // 4), pa.int64()).cast(pa.decimal128(24, 2)),
        "m": pa.array([[("k", 1)], []] * (rows // 2), pa.map_(pa.string(), pa.int8())),
    }
    table = table_of(rows)
    for name, column in more.items():
        table = table.append_column(name, column)
    return table


def _small(table: pa.Table) -> pa.Table:
    return table.select(["i", "t", "f"]).slice(0, 30)


def _check_records(place: Place, data: bytes) -> None:
    path = save(place, "in.bin", data)
    dtype = [("a", "<i4"), ("b", ">f8"), ("c", "u1")]

    def oracle(raw: bytes, ds: mf.Dataset) -> list[dict[str, Any]]:
        found = np.frombuffer(raw, np.dtype(dtype))
        return [{"a": int(a), "b": float(b), "c": int(c)} for a, b, c in found]

    if place.takes(0.3):
        read_every_way(place, path, lambda s, p: s.read_records(p, dtype=dtype), oracle)
    number, rest = {"name": "n", "type": "uint16"}, {"name": "t", "type": "char[]"}
    options, policy = _one_of(
        data,
        [
            (options, policy)
            for options in (
                {"layout": [number, rest], "record_length": "uint16"},
                {
                    "layout": [number, {"name": "t", "type": "char", "length": "uint8"}],
                    "record_length": "uint16",
                },
                {"layout": [number, {"name": "r", "type": "binary[]"}], "delimiter": "\n"},
                {
                    "layout": [{"name": "n", "type": "bool"}, {"name": "t", "type": "char[6]"}],
                    "record_size": 8,
                },
            )
            for policy in ("error", "skip")
        ],
    )
    read_every_way(place, path, lambda s, p: s.read_records(p, on_bad_record=policy, **options))


def _records_seeds() -> list[bytes]:
    fixed = np.zeros(900, np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "u1")]))
    fixed["a"], fixed["b"] = np.arange(900), np.arange(900) / 3
    texts = [f"text {i}".encode() * (i % 9) for i in range(400)]
    lengths = b"".join(struct.pack("<HH", len(t) + 2, i) + t for i, t in enumerate(texts))
    return [fixed.tobytes(), lengths, b"\n".join(bytes((i % 9 + 11,)) + t for i, t in enumerate(texts))]


def _npy_seeds() -> list[bytes]:
    made = []
    for array in (
        np.arange(3000.0).reshape(1000, 3),
        np.array(["a", "bc"] * 999),
        np.asfortranarray(np.ones((70, 30), "<i2")),
        np.zeros(600, [("a", "<i4"), ("b", "S7")]),
        np.arange(900).astype("M8[s]"),
        np.array(5),
        np.ones((50, 4, 5), ">u4"),
    ):
        raw = io.BytesIO()
        np.save(raw, array)
        made.append(raw.getvalue())
    return made


def _check_npy(place: Place, data: bytes) -> None:
    path = save(place, "in.npy", data)

    def oracle(raw: bytes, ds: mf.Dataset) -> list[dict[str, Any]] | None:
        try:
            array = np.load(io.BytesIO(raw), allow_pickle=False)
        except Exception:  # whatever the library raises: it has no rows to compare with
            return None
        if array.ndim != 1 or array.dtype.kind not in "iuf" or array.dtype.itemsize < 4:
            return None
        return [{ds.columns[0]: value} for value in array.tolist()]

    read_every_way(place, path, lambda s, p: s.read_npy(p), oracle)
    try:
        with mf.open_array(path) as array:
            shape = array.shape
            if shape and shape[0]:
                np.asarray(array[0]), np.asarray(array[-1:])
            place.says(f"array {len(shape)}")
    except mf.MmflowError as error:
        place.says(error)


def _arrow_seeds() -> list[bytes]:
    made = []
    more = _table().append_column("u", pa.array([b"x"] * 400, pa.binary_view()))
    for table in (more, _small(more), _small(more).slice(0, 0)):
        for codec in (None, "lz4", "zstd"):
            for opened in (pa.ipc.new_file, pa.ipc.new_stream):
                raw = io.BytesIO()
                with opened(raw, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                    writer.write_table(table, max_chunksize=100)
                made.append(raw.getvalue())
    return made


def _mutate_arrow(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    kind = rng.random()
    if kind < 0.35:
        return mutations.binary(rng, data, others, tail=1200)
    if kind < 0.5 and data.endswith(b"ARROW1"):
        size = int.from_bytes(data[-10:-6], "little")
        footer = data[-10 - size : -10]
        made = mutations.flatbuffer(rng, footer, others)
        return data[: -10 - size] + made + len(made).to_bytes(4, "little") + b"ARROW1"
    messages = mutations.ipc_messages(data)
    if not messages:
        return mutations.binary(rng, data, others)
    begin, end = rng.choice(messages)
    if kind < 0.9:
        return data[:begin] + mutations.flatbuffer(rng, data[begin:end], others) + data[end:]
    other = rng.choice(others)  # a message of another file in place of one
    first, last = rng.choice(mutations.ipc_messages(other) or [(0, 0)])
    return data[: begin - 8] + other[max(0, first - 8) : last] + data[end:]


def _check_arrow(place: Place, data: bytes) -> None:
    suffix = ".arrow" if data[:6] == b"ARROW1" else ".arrows"

    def oracle(raw: bytes, ds: mf.Dataset) -> list[dict[str, Any]] | None:
        opened = pa.ipc.open_file if raw[:6] == b"ARROW1" else pa.ipc.open_stream
        try:
            table = opened(raw).read_all()
            table.validate(full=True)
            rows: list[dict[str, Any]] = table.to_pylist()
        except Exception:  # whatever the library raises: it has no rows to compare with
            return None
        return rows

    path = save(place, f"in{suffix}", data)
    read_every_way(place, path, lambda s, p: s.read_arrow(p), oracle)


def _parquet_seeds() -> list[bytes]:
    made = []
    for table in (_table(), _small(_table()), _table().select(["t", "l"])):
        for options in (
            {},
            {"data_page_version": "2.0", "compression": "zstd"},
            {"use_dictionary": False, "compression": "gzip"},
            {"write_page_index": True, "compression": "lz4", "write_page_checksum": True},
            {"use_dictionary": False, "column_encoding": {"i": "DELTA_BINARY_PACKED"}, "compression": "none"},
        ):
            if "i" not in table.schema.names and "column_encoding" in options:
                continue
            raw = io.BytesIO()
            pq.write_table(table, raw, row_group_size=150, **options)
            made.append(raw.getvalue())
    return made


def _mutate_parquet(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    size = int.from_bytes(data[-8:-4], "little")
    kind = rng.random()
    if kind < 0.3 or not 0 < size < len(data) - 8:
        return mutations.binary(rng, data, others, tail=size + 8)
    body, footer = data[: -8 - size], data[-8 - size : -8]
    if kind < 0.8:
        footer = mutations.compact_thrift(rng, footer, others)
        return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    # A page's header, which stands at the begin of the file and behind each page: a small region of the body.
    begin = rng.choice((4, 4, rng.randrange(4, max(5, len(body)))))
    end = begin + rng.choice((24, 64, 200))
    return (
        body[:begin]
        + mutations.binary(rng, body[begin:end], others)[: end - begin + 8]
        + body[end:]
        + data[-8 - size :]
    )


def _check_parquet(place: Place, data: bytes) -> None:
    path = save(place, "in.parquet", data)

    def oracle(raw: bytes, ds: mf.Dataset) -> list[dict[str, Any]] | None:
        try:
            table = pq.ParquetFile(io.BytesIO(raw)).read()
            table.validate(full=True)
            rows: list[dict[str, Any]] = table.to_pylist()
        except Exception:  # whatever the library raises: it has no rows to compare with
            return None
        return rows

    read_every_way(place, path, lambda s, p: s.read_parquet(p), oracle)
    if not place.takes(0.4):
        return
    try:  # by DataFusion's own reader
        ds = place.whole.read_parquet(path)
        if {"i", "f"} <= set(ds.columns):
            query = "SELECT i, f, count(*) AS n FROM d WHERE i >= 3 GROUP BY i, f ORDER BY i"
            results = []
            for session in (place.whole, place.cut):
                try:
                    results.append(session.sql(query, d=session.read_parquet(path)).to_arrow())
                except mf.MmflowError as error:
                    if "panic" in str(error).lower():
                        raise FoundError(str(error)) from error
                    results.append(error)
            if all(isinstance(r, pa.Table) for r in results):
                compare_rows(results[0], results[1], "groups of one shard and of many")
    except mf.MmflowError as error:
        place.says(error)


def _orc_seeds() -> list[bytes]:
    made = []
    for codec in ("uncompressed", "zstd", "zlib"):
        raw = io.BytesIO()
        pa.orc.write_table(_table().drop_columns(["d", "v"]), raw, compression=codec, stripe_size=4096)
        made.append(raw.getvalue())
    return made


def _avro_seeds() -> list[bytes]:
    import fastavro  # noqa: PLC0415  (an extra)

    schema = {
        "type": "record",
        "name": "r",
        "fields": [
            {"name": "i", "type": "long"},
            {"name": "t", "type": ["null", "string"]},
            {"name": "f", "type": "double"},
            {"name": "l", "type": {"type": "array", "items": "int"}},
            {"name": "m", "type": {"type": "map", "values": "long"}},
            {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}},
        ],
    }
    rows = [
        {"i": i, "t": None if i % 5 else f"t{i}", "f": i / 3, "l": [i], "m": {"k": i}, "e": "AB"[i % 2]}
        for i in range(600)
    ]
    made = []
    for codec in ("null", "deflate"):
        raw = io.BytesIO()
        fastavro.writer(raw, schema, rows, codec=codec, sync_interval=2000, sync_marker=b"sync" * 4)
        made.append(raw.getvalue())
    return made


# ---- compressed files --------------------------------------------------------------------------------------------

_SUFFIXES = {
    b"\x1f\x8b": ".csv.gz",
    b"BZ": ".csv.bz2",
    b"\xfd7": ".csv.xz",
    b"\x28\xb5": ".csv.zst",
    b"PK": ".zip",
}


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def _zip(data: bytes, method: int) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", method) as archive:
        for name, content in (("a.csv", data), ("b/c.csv", data[:50])):
            info = zipfile.ZipInfo(name)  # of 1980: seeds are the same each time
            info.compress_type = method
            archive.writestr(info, content)
    return raw.getvalue()


def _compressed_seeds() -> list[bytes]:
    text = _csv_seeds()[0]
    return [
        _gzip(text),
        _gzip(text[:3000]) + _gzip(text[3000:]),
        bz2.compress(text),
        lzma.compress(text),
        _zstd(text),
        _zstd(text[:3000]) + _zstd(text[3000:]),
        _zip(text, zipfile.ZIP_DEFLATED),
        _zip(text, zipfile.ZIP_STORED),
        _gzip(b"a\n" + b"1\n" * 30000),
    ]


def _mutate_compressed(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if rng.random() < 0.25:
        text = mutations.text(rng, _csv_seeds()[0], _csv_seeds())
        return rng.choice((_gzip, bz2.compress, lzma.compress, _zstd))(text)
    if rng.random() < 0.1:
        return data + rng.choice((rng.choice(others), b"\0" * 512, b"junk"))
    return mutations.binary(rng, data, others, head=40, tail=200 if data[:2] == b"PK" else 16)


def _check_compressed(place: Place, data: bytes) -> None:
    suffix = _SUFFIXES.get(data[:2], ".csv.gz")
    path = save(place, f"in{suffix}", data)
    if suffix == ".zip":
        read_every_way(place, f"{path}/a.csv", lambda s, p: s.read_csv(p))
        return
    table = read_every_way(place, path, lambda s, p: s.read_csv(p))
    plain = None
    try:
        opened = {".csv.gz": gzip.decompress, ".csv.bz2": bz2.decompress, ".csv.xz": lzma.decompress}.get(
            suffix
        )
        plain = opened(data) if opened is not None else None
    except Exception:  # of three libraries, each with its own
        if table is not None:
            place.says("rows of a file that Python refuses")
        return
    if plain is not None and table is not None:
        compare_rows(
            table, place.whole.read_csv(save(place, "plain.csv", plain)).to_arrow(), "compressed and plain"
        )


# ---- all -----------------------------------------------------------------------------------------------------------


def _binary(head: int, tail: int) -> Mutate:
    return lambda rng, data, others: mutations.binary(rng, data, others, head=head, tail=tail)


TARGETS: dict[str, Target] = {
    "csv": Target(_csv_seeds, mutations.text, _check_csv),
    "ndjson": Target(_ndjson_seeds, mutations.text, _check_ndjson),
    "json": Target(_json_seeds, mutations.text, _reader("read_json", ".json")),
    "text": Target(_text_seeds, mutations.text, _check_text),
    "records": Target(_records_seeds, _binary(40, 40), _check_records),
    "npy": Target(_npy_seeds, _binary(130, 0), _check_npy),
    "arrow": Target(_arrow_seeds, _mutate_arrow, _check_arrow),
    "parquet": Target(_parquet_seeds, _mutate_parquet, _check_parquet),
    "orc": Target(_orc_seeds, _binary(0, 500), _reader("read_orc", ".orc")),
    "avro": Target(_avro_seeds, _binary(400, 0), _reader("read_avro", ".avro")),
    "compressed": Target(_compressed_seeds, _mutate_compressed, _check_compressed),
    "index": Target(own_files.index_seeds, own_files.mutate_index, own_files.check_index),
    "manifest": Target(own_files.manifest_seeds, own_files.mutate_manifest, own_files.check_manifest),
    "run": Target(own_files.run_seeds, own_files.mutate_named, own_files.check_run),
    "cache": Target(own_files.cache_seeds, own_files.mutate_named, own_files.check_cache),
}
