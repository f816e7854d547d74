"""Files of another version of mmflow's own formats are refused with what to do, or rebuilt; each format is here."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import mmflow as mf
from mmflow.arrays.undo import UndoLog
from mmflow.config import Settings
from mmflow.distribution import VERSION
from mmflow.remote.cache.folder import PageCache
from mmflow.rows.index_file import sidecar_paths
from mmflow.runs.directory import RunDirectory
from mmflow.runs.journal import encode_line
from mmflow.runs.recorded_run import RecordedRun
from mmflow.storage import format_versions
from mmflow.storage.format_versions import Format
from mmflow.submit.cleaning import remove_run
from mmflow.submit.kubernetes.log_protocol import outcome_lines, parse_outcome
from mmflow.submit.status import run_state

ROOT = Path(mf.__file__).parent
FORMATS = {name: made for name, made in vars(format_versions).items() if isinstance(made, Format)}


@contextmanager
def another_mmflow(other: Format, version: int) -> Iterator[None]:
    """In the block, mmflow writes another version of a format."""
    own = other.version
    object.__setattr__(other, "version", version)
    try:
        yield
    finally:
        object.__setattr__(other, "version", own)


# ---- what is refused ----------------------------------------------------------------------------------


def _write_run(folder: Path) -> None:
    settings = Settings.load({"runs_dir": str(folder)})
    with RecordedRun.begin("r", settings, {"job": "j", "parameters": {}}) as run:
        run.recorder.line(encode_line({"kind": "consumed", "stage": "s"}))
        run.done({})


def _resume(folder: Path) -> None:
    assert run_state(RunDirectory(folder, "r")).state == "done"  # what there is to see is shown
    try:
        with RecordedRun.resume("r", Settings.load({"runs_dir": str(folder)})):
            pass
    finally:  # in any version, it can be removed
        assert remove_run(str(folder), run_state(RunDirectory(folder, "r")))


def _write_table(folder: Path) -> None:
    mf.from_arrow({"x": [1], "k": ["a"]}).write(str(folder / "out"), format="parquet", partition_by=["k"])


def _append(folder: Path) -> None:
    mf.from_arrow({"x": [2], "k": ["b"]}).write(
        str(folder / "out"), format="parquet", partition_by=["k"], if_exists="append"
    )


def _change_array(folder: Path) -> None:
    path = folder / "a.npy"
    np.save(path, np.arange(9000))
    with open(path, "r+b") as file:
        log = UndoLog(str(path), file.fileno(), 4096)
        log.save(4096, 8192)
        os.pwrite(file.fileno(), bytes(4096), 4096)
        log.abandon()


def _open_array(folder: Path) -> None:
    assert np.array_equal(mf.open_array(folder / "a.npy")[...], np.arange(9000))


_shared: dict[Path, mf.SharedTable] = {}


def _share(folder: Path) -> None:
    _shared[folder] = mf.share({"x": [1, 2]})


def _attach(folder: Path) -> None:
    with _shared.pop(folder) as handle:
        assert mf.attach(str(handle)).num_rows == 2


REFUSED: dict[str, tuple[type[mf.MmflowError], str, Callable[[Path], None], Callable[[Path], None]]] = {
    "RUN": (mf.ConfigError, "run.json", _write_run, _resume),
    "JOURNAL": (mf.ConfigError, "journal", _write_run, _resume),
    "MANIFEST": (mf.SinkError, "_mmflow_manifest.json", _write_table, _append),
    "UNDO_LOG": (mf.SinkError, ".a.npy.mmflow~", _change_array, _open_array),
    "BLOCK": (mf.SourceError, ".table", _share, _attach),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mmflow_does_not_know_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    error, where, write, read = REFUSED[name]
    known = FORMATS[name]
    for version in (known.version + 1, known.version - 1, known.version):
        folder = tmp_path / str(version)
        folder.mkdir()
        with another_mmflow(known, version):
            write(folder)
        if version == known.version:
            read(folder)
            continue
        with pytest.raises(error) as caught:
            read(folder)
        text = str(caught.value)
        assert where in text
        assert known.remedy in text
        assert (
            f"{known.what} of version {version}, and mmflow {VERSION} reads version {known.version}" in text
        )


# ---- what is rebuilt ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, -1])
def test_a_row_index_of_another_version_is_built_anew(step: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n" + "1234567\n" * 300_000)
    os.utime(path, (time.time() - 10,) * 2)
    sidecar = Path(next(sidecar_paths(str(path))))
    known = format_versions.ROW_INDEX
    for version in (known.version + step, known.version):
        with another_mmflow(known, version):
            os.utime(path, (time.time() - 10 - version,) * 2)  # not the index that this process remembers
            assert mf.read_csv(str(path))[-1] == {"x": 1_234_567}
        assert int.from_bytes(sidecar.read_bytes()[8:12], "little") == version


@pytest.mark.parametrize("step", [1, -1])
def test_a_cache_of_another_version_is_removed_once_nobody_uses_it(step: int, tmp_path: Path) -> None:
    with another_mmflow(format_versions.PAGES, format_versions.PAGES.version + step):
        other = PageCache(str(tmp_path), None)
    os.makedirs(tmp_path / "pages of my own")
    now = PageCache(str(tmp_path), None)
    assert os.path.exists(other.folder)
    assert other.folder != now.folder
    os.close(other._alive)  # its process ends
    assert PageCache(str(tmp_path), None).folder == now.folder
    assert sorted(os.listdir(tmp_path)) == sorted(["pages of my own", os.path.basename(now.folder)])


@pytest.mark.parametrize("step", [1, -1])
def test_events_and_output_of_a_driver_of_another_version_break_nothing(step: int, tmp_path: Path) -> None:
    events, end = format_versions.EVENTS, format_versions.POD_END
    with another_mmflow(events, events.version + step), another_mmflow(end, end.version + step):
        _write_run(tmp_path)
        printed = list(outcome_lines(RunDirectory(tmp_path, "r"), 0))
    assert parse_outcome(printed) is None
    assert parse_outcome(outcome_lines(RunDirectory(tmp_path, "r"), 0)) is not None
    _resume(tmp_path)


# ---- every format is here, and every writer has one ---------------------------------------------------

#: Modules that write files, and the formats of these; or, in small letters, why they need none.
WRITERS = {
    "cache/store.py": "CACHE_ENTRY",
    "formats/checkpoints.py": "an entry of the cache",
    "worker/column_cache.py": "COLUMNS",
    "arrays/change.py": "npy",
    "arrays/holes.py": "what is in the file",
    "arrays/opening.py": "npy",
    "arrays/regions.py": "npy",
    "arrays/undo.py": "UNDO_LOG",
    "blocks/checkpoints.py": "arrow, where the journal says",
    "blocks/files.py": "BLOCK",
    "cli/runs.py": "RUN",
    "cli/shell/prompt.py": "text",
    "mapping/system/owner_lock.py": "a lock",
    "mapping/system/unix.py": "what its callers write",
    "remote/cache/entry.py": "what is in the folder, which has the version",
    "remote/cache/folder.py": "PAGES",
    "rows/index_file.py": "ROW_INDEX",
    "runs/directory.py": "what its callers write",
    "runs/journal.py": "JOURNAL",
    "runs/lock.py": "a lock",
    "runs/quarantine.py": "arrow",
    "runs/recorded_run.py": "RUN",
    "runs/recorder.py": "EVENTS",
    "sinks/commit/destination_store.py": "what its callers write",
    "sinks/commit/local.py": "staging, of the run's version",
    "sinks/commit/manifest.py": "MANIFEST",
    "sinks/commit/object_commit.py": "staging, of the run's version",
    "sinks/commit/object_lock.py": "a lock",
    "sinks/commit/staging.py": "staging, of the run's version",
    "sinks/object_sink.py": "outputs",
    "sinks/streamed.py": "outputs",
    "sinks/writers/npy.py": "npy",
    "sinks/writers/rows.py": "outputs",
    "submit/base.py": "text",
    "submit/kubernetes/backend.py": "what the pod wrote",
    "submit/kubernetes/log_protocol.py": "POD_END",
    "submit/kubernetes/pod_main.py": "what the pod's end says",
}
_WRITES = {"write_file", "write", "write_all", "pwrite", "ftruncate"}
_OWNERS = {"directory", "self.directory", "self._directory", "store", "self._store"}
_SENDS = {"write", "write_bytes", "create", "upload"}


def _writes(node: ast.AST) -> bool:
    """Return whether a call writes a file, or opens one for that."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    owner, _, method = called.rpartition(".")
    mode = node.args[1] if len(node.args) > 1 else None
    return (
        (owner == "disk" and method in _WRITES)
        or (owner in _OWNERS and method in _SENDS)
        or called == "self._store.put"
        or called == "LogWriter"
        or any(isinstance(n, ast.Attribute) and n.attr == "O_CREAT" for n in ast.walk(node))
        or (called == "open" and isinstance(mode, ast.Constant) and bool(set(str(mode.value)) & set("wxa")))
    )


def _has_version_of_its_own(node: ast.AST) -> bool:
    """Return whether an object is written with a version that is not of `format_versions`."""
    return isinstance(node, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value in ("v", "version") and isinstance(value, ast.Constant)
        for key, value in zip(node.keys, node.values, strict=True)
    )


def test_each_module_that_writes_files_has_a_format_and_each_format_is_tested() -> None:
    writing = set()
    for path in ROOT.rglob("*.py"):
        source = path.read_text()
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("storage/"):  # the seams
            continue
        nodes = list(ast.walk(ast.parse(source)))
        assert not any(map(_has_version_of_its_own, nodes)), name
        if any(map(_writes, nodes)):
            writing.add(name)
            assert name in WRITERS, (
                f"{name} writes files: give them a format's version (storage/format_versions.py)"
            )
        known = WRITERS.get(name, "")
        if known.isupper():
            assert f"{known}.version" in source or f"{known}.mark(" in source, name
    assert {name for name, known in WRITERS.items() if not known.isupper()} <= writing
    assert {known for known in WRITERS.values() if known.isupper()} == FORMATS.keys()
    assert FORMATS.keys() == REFUSED.keys() | {
        "ROW_INDEX",
        "PAGES",
        "EVENTS",
        "POD_END",
        "CACHE_ENTRY",
        "COLUMNS",
    }
