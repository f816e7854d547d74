"""Names of the objects of a destination, computed from the spec and the run alone by every worker and the driver.

s3://bucket/out                                        a folder of files
    part-RUN-00007-8d03a5f1.parquet                    unique to the driver: nothing is ever overwritten
    _mmflow_manifest.json                              files that count; written last
    _mmflow_lock.json                                  held by the run that may commit
    _mmflow/RUN/open.json                              exists as long as tasks of the run may write
    _mmflow/RUN/intent-0.json                          objects that its commit is about to add and to delete;
                                                       intent-1.json: that of a driver that resumed it
    _mmflow/RUN/s2-t7-a0-4f1c9b/part-….parquet.staged  output of an attempt

s3://bucket/out.csv                                    one file; all else beside it
    _mmflow_lock-out.csv.json, _mmflow-out.csv/RUN/…

Spark, pyarrow and mmflow ignore names that start with `_`. DuckDB's `**/*.parquet` doesn't, so staged objects end in
`.staged`.
"""

from __future__ import annotations

from uuid import uuid4

from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.sinks.base import SinkAttempt, SinkSpec
from mmflow.sinks.commit.manifest import NAME

__all__ = ["ObjectPaths"]

_RUN = lazy_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, slots=True)
class ObjectPaths:
    """Names of objects, relative to `base`.

    Attributes:
        base: URL of the folder, or of the file's parent folder.
        file: Name of the file; empty for a folder.
    """

    base: str
    file: str

    @classmethod
    def of(cls, spec: SinkSpec) -> ObjectPaths:
        """Return the object names of a destination."""
        url = spec.path.rstrip("/")
        if spec.is_folder:
            return cls(url, "")
        base, _, file = url.rpartition("/")
        return cls(base + "/" if base.endswith(":/") else base, file)  # memory://out.csv

    @property
    def manifest(self) -> str:
        return NAME

    @property
    def lock(self) -> str:
        return f"_mmflow_lock{self._suffix}.json"

    @property
    def runs(self) -> str:
        """Folder of all runs' staging."""
        return f"_mmflow{self._suffix}"

    def staging(self, run: str) -> str:
        assert _RUN.fullmatch(run), f"{run!r} can't be part of an object's name"
        return f"{self.runs}/{run}"

    def open(self, run: str) -> str:
        return f"{self.staging(run)}/open.json"

    def intent(self, run: str, number: int) -> str:
        return f"{self.staging(run)}/intent-{number}.json"

    def attempt(self, attempt: SinkAttempt) -> str:
        """Return a new folder for one attempt; an attempt that a dead driver left running can't write into it."""
        return f"{self.staging(attempt.run)}/{attempt.name}-{uuid4().hex[:8]}"

    def is_internal(self, name: str) -> bool:
        """Return whether the name is the lock's or in the staging of any run."""
        return name == self.lock or name.startswith(self.runs + "/")

    @property
    def _suffix(self) -> str:
        return f"-{self.file}" if self.file else ""
