"""Targets of the files that mmflow writes for itself: row indexes, manifests, folders of runs, cache entries.

Whoever can write them can change results (SECURITY.md), so a file whose checksum was made right again may give other
rows. It must not end the process, and damage without such care must be noticed.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import hashlib
import io
import os
import random
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

import mmflow as mf
from fuzz.readers import mutations
from fuzz.readers.reading import FoundError, Place, compare_rows, save
from mmflow.cli.main import main

__all__ = [
    "check_cache",
    "check_index",
    "check_manifest",
    "check_run",
    "index_seeds",
    "manifest_seeds",
    "run_seeds",
]
__all__ += ["cache_seeds", "mutate_index", "mutate_manifest", "mutate_named"]

#: Where an index file says to which file it belongs, and the bytes of its checksum.
_IDENTITY, _CHECKSUM = slice(32, 64), 16


def _template(place: Place, name: str) -> str:
    """Return a folder that inputs of one worker share."""
    return os.path.join(os.path.dirname(place.folder), "templates", name)


# ---- row index ---------------------------------------------------------------------------------------------------


@cache
def _rows() -> bytes:
    """A file that is large enough for an index on disk."""
    return b"a,b\n" + b"".join(b"%d,text %d\n" % (i, i % 977) for i in range(150_000))


def _data_file(folder: str) -> str:
    path = os.path.join(folder, "rows.csv")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        Path(path).write_bytes(_rows())
        os.utime(path, (1_700_000_000, 1_700_000_000))  # a file that was just written gets no index
    return path


def index_seeds() -> list[bytes]:
    """Index files of the rows, whole and of a beginning."""
    made = []
    with tempfile.TemporaryDirectory(prefix="readers-") as folder:
        path = _data_file(folder)
        for row in (149_000, 120_000):
            mf.Session(workers=1).read_csv(path).take([row])
            sidecar = os.path.join(folder, ".rows.csv.mmflow-index")
            made.append(Path(sidecar).read_bytes()[:-_CHECKSUM])
            os.unlink(sidecar)
            os.utime(path, (1_700_000_001, 1_700_000_001))
    return made


def mutate_index(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the body of a damaged index file, mostly with a list of places that could be one."""
    return mutations.binary(rng, data, others, head=120)


def check_index(place: Place, data: bytes) -> None:
    """Read rows by number through an index, which belongs to the file and, mostly, has a right checksum."""
    template = _data_file(_template(place, "index"))
    path = os.path.join(place.folder, "rows.csv")
    os.link(template, path)
    status = os.stat(path)
    identity = b"".join(
        n.to_bytes(8, "little") for n in (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    )
    body = bytearray(data)
    body[_IDENTITY] = identity
    sealed = zlib.crc32(data) % 4 > 0
    check = hashlib.blake2b(body if sealed else data, digest_size=_CHECKSUM).digest()
    save(place, ".rows.csv.mmflow-index", bytes(body) + check)
    ds = place.whole.read_csv(path)
    numbers = [0, 4097, 50_000, 79_998]
    try:
        rows = ds.take(numbers)
        place.says(ds.slice(70_000, 3).to_arrow().num_rows)
    except mf.errors.MmflowError as error:
        if not sealed:
            raise FoundError(f"an index that is damaged is an error: {error}") from error
        place.says(error)
        return
    place.says(rows.num_rows)
    if not sealed and rows["a"].to_pylist() != numbers:
        raise FoundError(f"rows {numbers} are {rows['a'].to_pylist()}")


# ---- manifest ----------------------------------------------------------------------------------------------------

_MANIFEST = "_mmflow_manifest.json"


def _write_output(folder: str) -> None:
    table = pa.table({"k": [1, 1, 2, 2], "v": ["a", "b", "c", "d"]})
    mf.from_arrow(table).write_csv(folder, partition_by=["k"])


def manifest_seeds() -> list[bytes]:
    """Manifest of an output with partitions."""
    with tempfile.TemporaryDirectory(prefix="readers-") as folder:
        _write_output(f"{folder}/out")
        return [Path(f"{folder}/out/{_MANIFEST}").read_bytes()]


def mutate_manifest(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a damaged JSON file."""
    return mutations.json_file(rng, data, others)


def check_manifest(place: Place, data: bytes) -> None:
    """Read a folder with this manifest, append to it, and replace it."""
    template = _template(place, "manifest")
    if not os.path.exists(template):
        _write_output(template)
    out = f"{place.folder}/out"
    shutil.copytree(template, out)
    save(place, f"out/{_MANIFEST}", data)
    results = []
    for session in (place.whole, place.cut):
        try:
            results.append(session.read(out).to_arrow())
        except mf.errors.MmflowError as error:
            results.append(error)
            place.says(error)
    compare_rows(results[0], results[1], "one shard and many")
    more = mf.from_arrow(pa.table({"k": [2, 3], "v": ["e", "f"]}))
    for if_exists in ("append", "replace-partitions", "replace"):
        try:
            more.write_csv(out, partition_by=["k"], if_exists=if_exists)
            place.says(if_exists)
        except mf.errors.MmflowError as error:
            place.says(error)


# ---- runs --------------------------------------------------------------------------------------------------------

_JOB = """
import os
import mmflow as mf

def late(batch):
    if os.path.exists("stop"):
        raise ValueError("stop")
    return batch

@mf.job
def work(session):
    rows = session.read_csv("in.csv", schema={"k": "int64", "v": "int64"}, on_bad_record="quarantine")
    sums = session.sql("SELECT k, sum(v) AS s FROM rows GROUP BY k ORDER BY k", rows=rows)
    return sums.map_batches(late, schema={"k": "int64", "s": "int64"})
"""
_EXPECTED = "k,s\n0,666333\n1,667000\n2,665667\n"
_ROOT = b"@ROOT@"


def _cli(place: Place, *arguments: str) -> tuple[int, str]:
    """Run `mmflow`; return its exit code, and what it said to people."""
    said = io.StringIO()
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        code = main(arguments)
    place.says(f"{arguments[0]} {code} {said.getvalue()[:300].replace(place.folder, '')}")
    if code not in (0, 1, 2):
        raise FoundError(f"mmflow {' '.join(arguments)}: exit code {code}: {said.getvalue()}")
    return code, said.getvalue()


def _make_run(place: Place, folder: str) -> None:
    """Make a run in a folder that failed near its end."""
    os.makedirs(folder)
    os.chdir(folder)
    Path("job.py").write_text(_JOB)
    Path("in.csv").write_text("k,v\n" + "".join(f"{i % 3},{i}\n" for i in range(2000)) + "bad,row,here\n")
    Path("stop").touch()
    options = ["--shard-size", "4KiB", "--workers", "1", "--memory", "256MiB", "--runs-dir", f"{folder}/runs"]
    code, said = _cli(place, "run", "job.py", "--name", "r1", "--output", f"{folder}/out.csv", *options)
    if code != 1 or "stop" not in said:
        raise RuntimeError(f"the run does not fail as meant: {said}")
    os.unlink("stop")


def _run_files(root: str) -> list[bytes]:
    files = []
    for name in sorted(glob.glob("**", root_dir=f"{root}/runs/r1", recursive=True)):
        path = f"{root}/runs/r1/{name}"
        if os.path.isfile(path) and name not in ("report.html", "driver", "plan.txt"):
            content = Path(path).read_bytes().replace(root.encode(), _ROOT)
            files.append(name.encode() + b"\n" + content)
    return files


def run_seeds() -> list[bytes]:
    """Each file of a run's folder, behind a line with its name."""
    with tempfile.TemporaryDirectory(prefix="readers-") as folder:
        before = os.getcwd()
        place = Place(f"{folder}/input", mf.Session(), mf.Session())
        try:
            _make_run(place, f"{folder}/run")
            made = _run_files(f"{folder}/run")
        finally:
            os.chdir(before)
    handle = b'"handle": {"pid": 999999999, "began": 7}'
    submitted = (
        b'submitted.json\n{"v": 1, "backend": "local", %s, "t": 1.7e9, "at": "2024-01-01T00:00:00+00:00"}'
        % handle
    )
    return [*made, submitted]


def mutate_named(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a damaged file behind the line with its name."""
    name, _, content = data.partition(b"\n")
    bodies = [other.partition(b"\n")[2] for other in others]
    if name.startswith(b"journal"):
        choice = rng.random()
        mutate = mutations.sealed_lines if choice < 0.6 else mutations.json_lines
        if choice < 0.6 and not name.endswith(b"!"):
            name += b"!"  # with right checksums
    elif name.endswith(b".jsonl"):
        mutate = mutations.json_lines
    elif name.endswith(b".json"):
        mutate = mutations.json_file
    elif name.endswith(b".arrow"):
        mutate = mutations.binary
    else:
        mutate = mutations.binary
    return name + b"\n" + mutate(rng, content, bodies)


def check_run(place: Place, data: bytes) -> None:
    """Look at a run of which one file is damaged in every way, and resume it."""
    template = _template(place, "run")
    root = os.path.join(os.path.dirname(place.folder), "root")
    if not os.path.exists(template):
        _make_run(place, root)
        os.chdir("/")
        shutil.copytree(root, template)
    os.chdir(root)  # its inputs stay, since others of the same content are others to a run
    shutil.rmtree("runs")
    shutil.copytree(f"{template}/runs", "runs")
    for left in glob.glob("out.csv*") + glob.glob(".out.csv*"):
        shutil.rmtree(left) if os.path.isdir(left) else os.unlink(left)
    name, _, content = data.partition(b"\n")
    content = content.replace(_ROOT, root.encode())
    sealed = name.endswith(b"!")
    if sealed:
        lines = (line.partition(b" ")[2] for line in content.splitlines())
        content = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)
    shown = os.fsdecode(name.rstrip(b"!"))
    if ".." in shown or shown.startswith("/") or "\0" in shown:
        return
    file = Path(root, "runs/r1", shown)
    if file.is_dir() or not file.parent.is_dir():
        return
    if shown.startswith("blocks/") and not file.exists():  # its name is a digest of the code that wrote it
        found = sorted(glob.glob(f"{root}/runs/r1/blocks/*/*"))
        file = Path(found[zlib.crc32(name) % len(found)])
    file.write_bytes(content)
    runs = ("--runs-dir", f"{root}/runs")
    _cli(place, "list", *runs)
    _cli(place, "list", "--json", *runs)
    _cli(place, "status", "r1", *runs)
    _cli(place, "status", "r1", "--json", *runs)
    _cli(place, "logs", "r1", *runs)
    _cli(place, "quarantine", "show", "r1", *runs)
    _cli(place, "clean", "--dry-run", *runs)
    if shown in ("run.json", "submitted.json"):  # they say which code runs, and where it writes
        return
    code, said = _cli(place, "run", "--resume", "r1", *runs)
    if not sealed:
        out = Path(root, "out.csv")
        # A list of inputs that says others is an error: they changed, as far as anybody can know.
        if (code or not out.exists()) and shown != "sources.jsonl":
            raise FoundError(f"the run can't be resumed: {said}")
        if not code and out.read_text() != _EXPECTED:
            raise FoundError(f"the resumed run wrote {out.read_text()!r}")


# ---- cache -------------------------------------------------------------------------------------------------------


def _remote_file() -> str:
    memory = fsspec.filesystem("memory")
    if not memory.exists("/readers/in.csv"):
        memory.pipe("/readers/in.csv", b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 2) for i in range(20_000)))
    return "memory://readers/in.csv"


def cache_seeds() -> list[bytes]:
    """Each file of a cache entry, behind a line with its suffix."""
    made = []
    with tempfile.TemporaryDirectory(prefix="readers-") as folder:
        mf.Session(workers=1, cache_dir=folder).read_csv(_remote_file()).to_arrow()
        for path in sorted(glob.glob(f"{folder}/**", recursive=True)):
            if os.path.isfile(path):
                end = os.path.splitext(path)[1] or os.path.basename(path)
                made.append(end.encode() + b"\n" + Path(path).read_bytes())
    return made


def check_cache(place: Place, data: bytes) -> None:
    """Read a remote file of which one file of the cache entry is damaged."""
    end, _, content = data.partition(b"\n")
    options: dict[str, Any] = {"workers": 1, "cache_dir": f"{place.folder}/cache", "memory": "256MiB"}
    session = mf.Session(**options)
    session.read_csv(_remote_file()).to_arrow()
    session.close()
    del session
    gc.collect()
    for path in glob.glob(f"{place.folder}/cache/**", recursive=True):
        if os.path.isfile(path) and path.endswith(os.fsdecode(end).replace("\0", "?")):
            # Another file in its place: who cuts a file that is mapped, ends whoever maps it.
            Path(f"{path}.new").write_bytes(content)
            os.replace(f"{path}.new", path)
    with contextlib.closing(mf.Session(**options)) as session:
        ds = session.read_csv(_remote_file())
        place.says(ds.to_arrow().num_rows)
        place.says(ds.take([0, 19_000]).num_rows)
