"""`storage_options` wherever a URL is read or written: readers, writers, SQL functions, TOML, the command line.

The environment names an endpoint at which nobody is, so only the option can lead to the server.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.orc
import pytest
import xlsxwriter

import mmflow as mf
from mmflow.api.options import FileOptions, WriteOptions
from mmflow.api.sql.table_functions import READERS
from mmflow.cli.main import main
from mmflow.errors import ConfigError

ROWS = [{"a": 1}, {"a": 2}]
_TABLE = pa.table({"a": [1, 2]})


def _avro() -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}, ROWS)
    return out.getvalue()


def _orc() -> bytes:
    out = pa.BufferOutputStream()
    pyarrow.orc.write_table(_TABLE, out)
    return bytes(out.getvalue().to_pybytes())


def _excel() -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for number, value in enumerate(("a", 1, 2)):
            sheet.write(number, 0, value)
    return out.getvalue()


#: Files of formats that mmflow doesn't write: name, bytes, options of the reader.
FOREIGN: dict[str, tuple[str, Callable[[], bytes], dict[str, Any]]] = {
    "read": ("a.tsv", lambda: b"a\n1\n2\n", {}),
    "read_avro": ("a.avro", _avro, {}),
    "read_excel": ("a.xlsx", _excel, {}),
    "read_fwf": ("a.fwf", lambda: b"a \n1 \n2 \n", {"widths": [2]}),
    "read_json": ("a.json", lambda: b'[{"a": 1}, {"a": 2}]', {}),
    "read_orc": ("a.orc", _orc, {}),
    "read_records": ("a.dat", lambda: np.array([1, 2], "<i8").tobytes(),
                     {"layout": '[{"name": "a", "type": "int64", "offset": 0}]'}),
    "read_text": ("a.log", lambda: b"1\n2\n", {"pattern": "(?P<a>[0-9]+)"}),
}  # fmt: skip
#: Tables in local folders, whose readers and writers know no object store.
LOCAL = {"delta", "iceberg"}
#: Writers, and names of files that they write.
WRITERS = {
    "write": "b.csv", "write_arrow": "a.arrow", "write_csv": "a.csv", "write_ndjson": "a.ndjson",
    "write_npy": "a.npy", "write_parquet": "a.parquet",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(s3: Callable[[], str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A bucket, and the options that lead to it."""
    bucket, options = s3(), {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        files = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        for name, made, _ in FOREIGN.values():
            files.pipe_file(f"{bucket}/{name}", made())
        dataset = mf.from_arrow(_TABLE)
        for writer, name in WRITERS.items():
            assert getattr(dataset, writer)(f"{bucket}/{name}", storage_options=options).rows == 2
        yield bucket, options


def test_the_lists_here_are_complete() -> None:
    local = {f"{verb}_{name}" for verb in ("read", "write") for name in LOCAL}
    readers = {name for name in mf.__all__ if name == "read" or name.startswith("read_")} - local
    written = {writer.replace("write", "read") for writer in WRITERS}
    assert readers == FOREIGN.keys() | written
    assert readers == READERS.keys() - local  # of SQL
    writers = {name for name in dir(mf.Dataset) if name == "write" or name.startswith("write_")}
    assert writers - local == WRITERS.keys()
    for name in readers:
        assert "storage_options" in inspect.signature(getattr(mf, name)).parameters
    for options in (FileOptions, WriteOptions):
        assert "storage_options" in typing.get_type_hints(options)


@pytest.mark.parametrize("reader", sorted({*FOREIGN, *(w.replace("write", "read") for w in WRITERS)}))
def test_readers_and_sql_functions(store: tuple[str, dict[str, Any]], reader: str) -> None:
    bucket, options = store
    name, _, given = FOREIGN.get(reader, (WRITERS.get(reader.replace("read", "write"), ""), None, {}))
    url = f"{bucket}/{name}"
    dataset = getattr(mf, reader)(url, storage_options=options, **given)
    column = dataset.schema.names[0]  # npy has no names
    assert [row[column] for row in dataset.to_dicts()] == [1, 2]
    more = "".join(
        f", {key} => {value if isinstance(value, list) else repr(value)}" for key, value in given.items()
    )
    for text in (f"'{json.dumps(options)}'", f"{{'endpoint_url': '{options['endpoint_url']}'}}"):
        found = mf.sql(f"FROM {reader}('{url}', storage_options => {text}{more})")
        assert [row[column] for row in found.to_dicts()] == [1, 2]


def test_folders_and_appended_files(store: tuple[str, dict[str, Any]]) -> None:
    bucket, options = store
    dataset = mf.from_arrow(pa.table({"k": [1, 1, 2], "v": [1, 2, 3]}))
    for mode in ("error", "append", "replace-partitions"):
        dataset.write_parquet(
            f"{bucket}/out", partition_by="k", if_exists=typing.cast("Any", mode), storage_options=options
        )
    found = mf.read(f"{bucket}/out", storage_options=json.dumps(options))
    assert sorted(found.to_arrow().to_pydict()["v"]) == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"storage_options can't hold 'secret'"):
        dataset.write_parquet(f"{bucket}/out", storage_options={"secret": "x"})


def test_toml_and_the_command_line(
    store: tuple[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket, options = store
    monkeypatch.chdir(tmp_path)
    address = options["endpoint_url"]
    table = f"path = '{bucket}/a.csv'\nstorage_options = {{ endpoint_url = '{address}' }}\n"
    Path("mmflow.toml").write_text(f"[sources.t]\n{table}")
    assert main(["sql", "--config", "mmflow.toml", "FROM t", "--format", "ndjson"]) == 0
    option = f"t.storage_options={json.dumps(options)}"
    command = ["sql", "FROM t", "--table", f"t={bucket}/a.csv", "--opt", option, "--format", "ndjson"]
    assert main(command) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [*ROWS, *ROWS]
    Path("job.toml").write_text(
        f"sql = 'SELECT a + 1 AS a FROM t'\n[sources.t]\n{table}[output]\npath = '{bucket}/job.parquet'\n"
        f"storage_options = {{ endpoint_url = '{address}' }}\n"
    )
    assert main(["run", "job.toml"]) == 0
    assert mf.read(f"{bucket}/job.parquet", storage_options=options).to_dicts() == [{"a": 2}, {"a": 3}]
