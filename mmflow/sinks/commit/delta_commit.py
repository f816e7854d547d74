"""Commit protocol of Delta tables at local paths: one new version of the table, or none.

    prepare   lock the table; delete what dead runs placed and never logged; check table and schema; staging
    (tasks    write and fsync files into staging/attempts/..., as for a folder of Parquet files)
    commit    1 note in staging which files are placed; move them into the table's folder, where no version names them
              2 fsync their folders
              3 log them: one version with the files that are added, those that are removed, and the run
                (txn appId = "mmflow:RUN"); deltalake writes it, and refuses if another writer changed the same files
              4 fsync the log; record it in the journal; delete staging; unlock
    abort     delete what was placed; delete staging; unlock

A run that is resumed asks the table for its txn: if there is one, step 3 was done, whoever has written since. Files of
runs whose txn the table lacks are in no version, so they may be deleted.

Invariant: readers see the version before step 3 or the one of step 3, and no later driver of the run logs another.
Between step 3 and 4 a power cut may lose the new version, or leave it empty: deltalake does not sync its file.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa

from mmflow.errors import MmflowError, SinkError
from mmflow.formats.schemas.hive import hive_values
from mmflow.formats.schemas.schema import public_schema, type_text
from mmflow.sinks.base import CommitResult, SinkSpec, StagedFile
from mmflow.sinks.commit.atomic import fsync_folder, walk
from mmflow.sinks.commit.destination import check_sources, refuse_link, repair
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.sinks.commit.local import LocalCommit
from mmflow.sinks.commit.staging import (
    attempts_folder,
    note_placed,
    read_placed,
    run_of,
    stale_paths,
)
from mmflow.storage import disk
from mmflow.tables.delta_log import AddedFile, DeltaLog, add_version

__all__ = ["DeltaCommit"]

_REMOVES: dict[str, Literal["none", "all", "partitions"]] = {
    "error": "none", "append": "none", "replace": "all", "replace-partitions": "partitions",
}  # fmt: skip


class DeltaCommit(LocalCommit):
    """Commit to a Delta table at a local path."""

    def __init__(self, spec: SinkSpec, run: str, *, resumable: bool = False) -> None:
        super().__init__(spec, run, resumable=resumable)
        self._schema: pa.Schema | None = None

    def prepare(self, sources: Iterable[str] = (), schema: pa.Schema | None = None) -> None:
        self._schema = schema
        super().prepare(sources, schema)

    # ---- before ---------------------------------------------------------------------------------

    def _recover_stale_runs(self) -> None:
        log = self._log()
        for folder in stale_paths(self.spec, self.run)[0]:
            self._delete_placed(run_of(self.spec, folder), log)
        repair(self.spec, self.run)
        refuse_link(self._path.parent, f"{self._staging.name}/attempts/x", self.spec.path)

    def _prepare_staging(self, sources: Iterable[str]) -> None:
        # Files of a table never change, so rows may be computed from an older version of it.
        outside = [s for s in sources if self._path not in Path(os.path.realpath(s)).parents]
        check_sources(self.spec, outside)
        self._check_table(self._log(), self._schema)
        disk.makedirs(attempts_folder(self.spec, self.run), exist_ok=True)

    def _check_table(self, log: DeltaLog | None, schema: pa.Schema | None) -> None:
        """Check that the table may get a version by this run.

        Raises:
            SinkError: It may not; says what to do.
        """
        if log is None:
            self._check_free()
            return
        if self.spec.if_exists == "error":
            raise SinkError(
                f"{self._path} exists; choose another output, or say --if-exists append, replace or replace-partitions "
                "(in Python: if_exists=…)",
                path=self.spec.path,
                code="MMF-OUT-002",
            )
        log.check_writable(removes=self.spec.if_exists != "append")
        if self.spec.partition_by != log.partition_by:
            have = f"partitioned by {', '.join(log.partition_by)}" if log.partition_by else "not partitioned"
            raise SinkError(
                f"the Delta table {self._path} is {have}: give partition_by={list(log.partition_by)}",
                path=self.spec.path,
            )
        if schema is not None:
            self._check_columns(log, public_schema(schema))

    def _check_columns(self, log: DeltaLog, schema: pa.Schema) -> None:
        have = {field.name: field.type for field in public_schema(log.schema)}
        for name in (*schema.names, *have):
            here = None if name not in schema.names else schema.field(name).type
            if have.get(name) != here:
                table, rows = (
                    "lacks it" if kind is None else f"has it as {type_text(kind)}"
                    for kind in (have.get(name), here)
                )
                raise SinkError(
                    f"column {name!r}: the Delta table {self._path} {table}, and the output {rows}; select its "
                    "columns, and cast them",
                    path=self.spec.path,
                    column=name,
                )

    def _check_free(self) -> None:
        """Check that the folder of a new table holds nothing but what this run placed."""
        if self._path.exists() and not self._path.is_dir():
            raise SinkError(f"{self._path} is a file, and the output is a Delta table; choose another output",
                            path=self.spec.path)  # fmt: skip
        placed = {self._path / path for path in read_placed(self.spec, self.run)}
        for here, _, names in walk(self._path):
            for name in names:
                if Path(here, name) not in placed:
                    raise SinkError(
                        f"{self._path} holds {os.path.relpath(os.path.join(here, name), self._path)}, and is no Delta "
                        "table; choose another output",
                        path=self.spec.path,
                    )

    # ---- publishing -----------------------------------------------------------------------------

    def _publish_folder(self, files: Sequence[StagedFile], schema: pa.Schema) -> None:
        written = [file for file in files if file.rows]
        partitions = {file.path: self._partition(file) for file in written}
        placed = read_placed(self.spec, self.run)
        note_placed(self.spec, self.run, [f for f in written if os.path.exists(f.staged)])
        disk.makedirs(self._path, exist_ok=True)
        for file in written:
            self._place(file, self._path, moved=placed.get(file.path) == file.staged)
            failpoint("placed")
        for path in placed.keys() - {file.path for file in written}:  # the job was corrected since
            self._delete_file(path)
        for folder in _folders(file.path for file in written):
            fsync_folder(self._path / folder)
        fsync_folder(self._path.parent)
        fsync_folder(self._staging)
        failpoint("synced")
        log = self._log()
        self._check_table(log, schema)
        own = {
            "files": len(written),
            "rows": sum(f.rows for f in written),
            "bytes": sum(f.nbytes for f in written),
        }
        add_version(
            self.spec.path,
            log,
            self._application,
            [AddedFile(file.path, file.nbytes, partitions[file.path]) for file in written],
            public_schema(schema),
            self.spec.partition_by,
            removes=_REMOVES[self.spec.if_exists],
            facts={"mmflow.run": self.run, "mmflow.result": json.dumps(own)},
        )
        failpoint("published")
        self._sync_published()

    def _partition(self, file: StagedFile) -> dict[str, str | None]:
        found = hive_values(file.path)
        values = {name: found[name] for name in self.spec.partition_by}
        if empty := [name for name, value in values.items() if value == ""]:
            raise SinkError(
                f"column {empty[0]!r} has an empty text, which a partition of a Delta table does not distinguish from "
                "null; replace it (NULLIF)",
                path=self.spec.path,
                column=empty[0],
            )
        return values

    def _sync_published(self) -> None:
        log = self._path / "_delta_log"
        for name in sorted(os.listdir(log))[-2:]:
            with contextlib.suppress(FileNotFoundError):
                disk.sync_file(log / name)
        fsync_folder(log)
        fsync_folder(self._path)

    # ---- resumed and dead runs ------------------------------------------------------------------

    @property
    def _application(self) -> str:
        return f"mmflow:{self.run}"

    def _log(self) -> DeltaLog | None:
        return DeltaLog.at(self.spec.path)

    def _is_committed(self) -> bool:
        log = self._log()
        return log is not None and log.holds(self._application)

    def _earlier_result(self) -> CommitResult:
        log = self._log()
        assert log is not None  # it says that this run wrote it
        found = json.loads(
            log.fact("mmflow.run", self.run, "mmflow.result") or '{"files": 0, "rows": 0, "bytes": 0}'
        )
        return CommitResult(self.spec.path, found["files"], found["rows"], found["bytes"])

    def _clean_up(self, *, keep: bool = False) -> None:
        if self._lock is not None and not self.done and not keep:
            with contextlib.suppress(MmflowError, OSError):  # the first error is the one that counts
                self._delete_placed(self.run, self._log())
        super()._clean_up(keep=keep)

    def _delete_placed(self, run: str, log: DeltaLog | None) -> None:
        """Delete the files that a run placed, unless the table has a version of the run."""
        placed = read_placed(self.spec, run)
        if not placed or (log is not None and log.holds(f"mmflow:{run}")):
            return
        for path in placed:
            self._delete_file(path)
        for folder in _folders(placed):
            with contextlib.suppress(OSError):  # it is not empty
                disk.rmdir(self._path / folder)

    def _delete_file(self, path: str) -> None:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        refuse_link(self._path, path, self.spec.path)
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(self._path / path)


def _folders(paths: Iterable[str]) -> Iterator[str]:
    """Yield the folders of these files, and those above them down to the table's own, the lowest first."""
    found = {""}
    for path in paths:
        folder = posixpath.dirname(path)
        while folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    yield from sorted(found, key=lambda folder: (-len(folder), folder))
