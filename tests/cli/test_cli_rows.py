"""head, tail and take, as somebody who tries them would."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.cli.main import main

MMFLOW = str(Path(sys.executable).with_name("mmflow"))


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("k,v\n" + "".join(f'"k\n{i}",{i}\n' for i in range(1000)))
    return path


def rows(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> list[int]:
    """Column v of what is printed."""
    assert main([str(arguments[0]), "--format", "json", *map(str, arguments[1:])]) == 0
    found: list[int] = [row["v"] for row in json.loads(capfd.readouterr().out)]
    return found


def refused(capfd: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> str:
    assert main([*map(str, arguments)]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    return err


def test_head_and_tail(csv: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert rows(capfd, "head", csv) == list(range(10))
    assert rows(capfd, "head", csv, "-n", "3") == [0, 1, 2]
    assert rows(capfd, "tail", csv, "-n", "2") == [998, 999]
    assert rows(capfd, "tail", csv, "-n", "2000") == list(range(1000))
    assert rows(capfd, "tail", csv, "-n", "0") == rows(capfd, "head", csv, "-n", "0") == []


def test_take(
    csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows(capfd, "take", csv, "5", "17", "5", "-1") == [5, 17, 5, 999]
    assert rows(capfd, "take", csv, "7", "10:13", "998:", "2") == [7, 10, 11, 12, 998, 999, 2]
    assert rows(capfd, "take", "--columns", "v", "--opt", "header=true", csv, "--", "-2:", "3") == [
        998,
        999,
        3,
    ]
    listed = tmp_path / "rows"
    listed.write_text("3 4\n5:7\n")
    assert rows(capfd, "take", csv, "1", f"@{listed}") == [1, 3, 4, 5, 6]
    with listed.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert rows(capfd, "take", csv, "-", "9") == [3, 4, 5, 6, 9]
    assert main(["take", str(csv), "3", "--columns", "_line,v", "--columns", "k", "--format", "csv"]) == 0
    assert capfd.readouterr().out == '_line,v,k\n8,3,"k\n3"\n'


def test_arrow_output(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as stream:
        subprocess.run([MMFLOW, "take", str(csv), "0:600", "--format", "arrow"], stdout=stream, check=True)
    assert pa.ipc.open_stream(out.read_bytes()).read_all()["v"].to_pylist() == list(range(600))


def test_what_can_only_be_read_from_its_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"v\n" + b"".join(b"%d\n" % i for i in range(200_000))))
    assert rows(capfd, "head", packed, "-n", "2") == [0, 1]
    assert rows(capfd, "tail", packed, "-n", "2") == [199_998, 199_999]
    assert "decompress it" in refused(capfd, 1, "take", packed, "2")


def test_mistakes(csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" in refused(capfd, 1, "head", tmp_path / "a.cvs")
    told = refused(capfd, 1, "head", csv, "--columns", "w")
    assert "no column 'w'" in told
    assert "(at " not in told
    assert "has 1,000 rows, so there is no row 1,000" in refused(capfd, 1, "take", csv, "1000")
    assert "no row -1,001" in refused(capfd, 1, "take", csv, "-1001")
    assert "10:20" in refused(capfd, 2, "take", csv, "5-7")
    assert "nowhere" in refused(capfd, 2, "take", csv, f"@{tmp_path}/nowhere")
    assert "table, csv, json, ndjson, markdown, arrow, parquet or npy" in refused(
        capfd, 2, "tail", csv, "--format", "xml"
    )
    assert "write key=value" in refused(capfd, 2, "tail", csv, "--opt", "header")
    assert "must be a whole number from 0, not '-3'" in refused(capfd, 2, "head", csv, "-n", "-3")
    assert "did you mean --columns?" in refused(capfd, 2, "take", csv, "--colums", "v", "5")
    empty = tmp_path / "e.log"
    empty.touch()
    for command in ("head", "tail"):
        assert main([command, str(empty)]) == 0
    capfd.readouterr()
    assert "has 0 rows" in refused(capfd, 1, "take", empty, "0")


def test_ctrl_c_while_the_index_is_built(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    piece = b'"k",1\n' * (1 << 16)
    with path.open("wb") as file:
        file.write(b"k,v\n")
        for _ in range(600):  # 240 MB, which an escape leaves to the slow decoder
            file.write(piece)
    process = subprocess.Popen(
        [MMFLOW, "tail", str(path), "--opt", "escape=\\", "--opt", "schema=k:string,v:int64"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while str(path) not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")
    assert not list(tmp_path.glob(".*"))
