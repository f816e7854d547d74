"""Files that are damaged on purpose, and a child process that reads them: a death of it is noticed.

Run as a program with a folder, it reads all files of it by every way there is, and prints the name of each before; it
ends with 0 if each gave rows or an error of mmflow.
"""

from __future__ import annotations

import base64
import contextlib
import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

import mmflow as mf
from mmflow.errors import MmflowError
from mmflow.rows.selection import Selection

__all__ = ["encrypted_parquet", "mutants", "seeds", "survives"]


class _Keys(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, config: Any) -> None:
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def encrypted_parquet(path: Path, table: pa.Table, column: str, *, plaintext_footer: bool) -> None:
    """Write a Parquet file with one encrypted column."""
    factory = pe.CryptoFactory(_Keys)
    config = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": [column]}, plaintext_footer=plaintext_footer, double_wrapping=False
    )
    made = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(path, table.schema, encryption_properties=made) as writer:
        writer.write_table(table, row_group_size=2)


def table_of(rows: int) -> pa.Table:
    """Return a table with columns of several kinds."""
    return pa.table(
        {
            "i": pa.array(range(rows), pa.int64()),
            "t": pa.array([None if i % 7 == 0 else f"text {i % 5} " * (i % 4) for i in range(rows)]),
            "l": pa.array([list(range(i % 4)) for i in range(rows)], pa.list_(pa.int32())),
            "s": pa.array([{"a": i, "b": str(i)} for i in range(rows)]),
            "d": pa.array([f"k{i % 3}" for i in range(rows)]).dictionary_encode(),
            "f": pa.array(np.arange(rows) / 3),
            "v": pa.array([[1.0, 2.0]] * rows, pa.list_(pa.float32(), 2)),
        }
    )


def seeds() -> dict[str, bytes]:
    """Small files of each kind, by the suffix that mutants of them get."""
    table, made = table_of(40), {}
    for name, options in {"plain": {}, "v2": {"data_page_version": "2.0", "compression": "zstd"}}.items():
        raw = io.BytesIO()
        pq.write_table(table, raw, row_group_size=15, **options)
        made[f"{name}.parquet"] = raw.getvalue()
    more = table.append_column("u", pa.array([b"x"] * 40, pa.binary_view()))
    for codec in (None, "lz4", "zstd"):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        for suffix, opened in (("arrow", pa.ipc.new_file), ("arrows", pa.ipc.new_stream)):
            raw = io.BytesIO()
            with opened(raw, more.schema, options=options) as writer:
                writer.write_table(more, max_chunksize=15)
            made[f"{codec or 'plain'}.{suffix}"] = raw.getvalue()
    for name, array in {"numbers": np.arange(60.0).reshape(20, 3), "text": np.array(["a", "bc"] * 9)}.items():
        raw = io.BytesIO()
        np.save(raw, array)
        made[f"{name}.npy"] = raw.getvalue()
    return made


def mutants(seed: bytes, random_: random.Random) -> Iterator[bytes]:
    """Yield damaged copies without end: mostly of the last third, where footers are, or the first."""
    size = len(seed)
    while True:
        data = bytearray(seed)
        for _ in range(random_.choice((1, 1, 2, 4, 16))):
            third = random_.choice((0, size // 3, 2 * size // 3, 2 * size // 3))
            at = min(len(data) - 1, third + random_.randrange(size // 3 + 1))
            match random_.randrange(6):
                case 0:
                    data[at] ^= 1 << random_.randrange(8)
                case 1:
                    data[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
                case 2:
                    width = random_.choice((2, 4, 8))
                    data[at : at + width] = (
                        random_.choice((0, 1, -1, 1 << 30, 1 << 40)) % (1 << 8 * width)
                    ).to_bytes(width, "little")
                case 3:
                    del data[at : at + random_.choice((1, 4, 8))]
                case 4:
                    data[at:at] = bytes(data[at : at + random_.choice((1, 4, 8))])
                case _:
                    other = random_.randrange(len(data))
                    data[at : at + 4] = data[other : other + 4]
        yield bytes(data)


def survives(folder: Path, *, memory: int = 4 << 30) -> str | None:
    """Read all files of a folder in a child process.

    Returns:
        None: It lived, and every file gave rows or an error of mmflow. Else what happened.
    """
    command = [sys.executable, "-m", "tests.formats.hostile_files", str(folder), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode == 0:
        return None
    return f"exit {done.returncode} at {done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"


def _read(session: mf.Session, path: Path) -> None:
    """Read a file by every way there is."""
    ds = session.read(path)
    names = ds.columns
    queries = ["SELECT count(*) AS n FROM d", "SELECT * FROM d"]
    if names:
        first = names[0].replace('"', '""')
        queries += [f'SELECT "{first}" FROM d', f'SELECT count(*) AS n FROM d WHERE "{first}" > 7']
        # By DataFusion's own reader.
        queries += ["SELECT i, t, f, count(*) AS n FROM d WHERE i >= 3 GROUP BY i, t, f"]
    for query in queries:
        try:
            session.sql(query, d=ds).to_arrow().validate(full=True)
        except MmflowError:
            continue
    assert isinstance(ds._selection, Selection)
    with contextlib.suppress(MmflowError):
        ds.take([0, 17])


def main(folder: str, memory: str) -> None:
    """Read the files of a folder."""
    import faulthandler
    import resource

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    session = mf.Session(workers=1, memory="256MiB")
    for path in sorted(Path(folder).iterdir()):
        print(path.name, flush=True)
        try:
            _read(session, path)
        except MmflowError:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
