"""Rows that are written into streams."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mmflow as mf

_ROWS = mf.from_arrow({"a": range(30_000), "s": [f"text {i % 7}" for i in range(30_000)]})


class _Reader(threading.Thread):
    """Thread that reads a named pipe to its end, or the first bytes of it."""

    def __init__(self, path: Path, size: int = -1) -> None:
        super().__init__()
        os.mkfifo(path)
        self._path, self._size = path, size
        self.data = b""
        self.start()

    def run(self) -> None:
        with self._path.open("rb", buffering=0) as file:
            self.data = (file.read(self._size) if self._size > 0 else file.readall()) or b""


@pytest.mark.parametrize(
    ("format", "options"),
    [
        (None, {}),
        ("csv", {"delimiter": ";", "header": False}),
        ("csv", {"compression": "gzip"}),
        ("ndjson", {}),
        ("ndjson", {"compression": "zstd"}),
        ("arrow", {}),
        ("arrow", {"compression": "lz4"}),
    ],
)
def test_a_named_pipe_gets_what_a_file_would(
    tmp_path: Path, format: str | None, options: dict[str, Any]
) -> None:
    reader = _Reader(tmp_path / "pipe")
    written = _ROWS.write(str(tmp_path / "pipe"), format, **options)
    reader.join()
    assert (written.rows, written.nbytes) == (30_000, len(reader.data))
    if format == "arrow":
        assert (
            pa.ipc.open_stream(reader.data).read_all().combine_chunks() == _ROWS.to_arrow().combine_chunks()
        )
        return
    _ROWS.write(str(tmp_path / "out"), format or "csv", **options)
    (file,) = (tmp_path / "out").glob("part*")
    data = reader.data
    if options.get("compression") == "gzip":
        assert gzip.decompress(data) == gzip.decompress(file.read_bytes())
    elif "compression" not in options:
        assert data == file.read_bytes()
    else:
        (tmp_path / "x.ndjson.zst").write_bytes(data)
        assert mf.read(tmp_path / "x.ndjson.zst").to_arrow() == _ROWS.to_arrow()


def test_a_reader_that_leaves_is_an_error(tmp_path: Path) -> None:
    reader = _Reader(tmp_path / "pipe", 100)
    with pytest.raises(mf.SinkError, match=r"was closed by its reader after [\d,]+ rows"):
        _ROWS.write(str(tmp_path / "pipe"), "ndjson")
    reader.join()


def test_descriptors_and_what_streams_can_t_have(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _ROWS.limit(2).write("-")
    assert capfd.readouterr().out == "a,s\n0,text 0\n1,text 1\n"
    _ROWS.limit(1).write("/dev/fd/1", "ndjson")
    assert capfd.readouterr().out == '{"a":0,"s":"text 0"}\n'
    for format, options, words in (
        ("parquet", {}, "can't write parquet to -, a stream: write one of csv, ndjson, arrow"),
        ("csv", {"partition_by": "a"}, "partition_by are for files and folders"),
        ("csv", {"if_exists": "replace"}, "partition_by are for files and folders"),
    ):
        with pytest.raises(mf.ConfigError, match=words):
            _ROWS.write("-", format, **options)  # type: ignore[arg-type]


def test_a_stream_through_mmflow(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    writing = threading.Thread(target=_ROWS.write, args=(str(tmp_path / "in"), "arrow"))
    writing.start()
    reader = _Reader(tmp_path / "out")
    mf.read(tmp_path / "in").filter(mf.col("a") < 3).select("a").write(str(tmp_path / "out"))
    writing.join()
    reader.join()
    assert reader.data == b"a\n0\n1\n2\n"
