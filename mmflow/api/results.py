"""Results of runs: numbers for people and programs."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import BadFile
from mmflow.scheduler.progress import Progress

__all__ = ["BadFilesWarning", "BadRecordsWarning", "RunSummary", "WriteResult", "written_sentence"]


class BadRecordsWarning(UserWarning):
    """Bad records were dropped, quarantined or given nulls, as `on_bad_record` says, or records were repaired."""


class BadFilesWarning(UserWarning):
    """Files that can't be read were left out, as `skip_bad_files` says."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Numbers of a run that reached its end. `Session.last_run` and `WriteResult.run` have it.

    Attributes
    ----------
    run
        Name of the run.
    rows
        Number of rows of the result, or written.
    records
        Number of records read.
    bytes_read
        Bytes of the inputs, including pruned parts and holes. Of a compressed file whose blocks all workers decode,
        bytes of its text.
    bad_records
        Number of records dropped, quarantined or given nulls.
    repaired
        Number of repairs, which options such as `ragged` and `lenient` of CSV ask for. The first ones of each file are
        in `quarantine` with their places.
    quarantine
        Arrow IPC file or URL of the quarantined records, and of repairs. None: there are none.
    pruned
        Number of files that their paths let skip, and of row groups that statistics let skip.
    retries
        Number of attempts after a failure.
    reruns
        Number of shards read again after a wrong guess of their first record.
    stragglers
        Number of slow tasks that got a speculative attempt, or whose remainder went to other workers.
    restored
        Number of finished tasks taken from the journal of a resumed run.
    seconds
        Duration of the run.
    reasons
        Ways in which files were read, each with its reason.
    skipped_files
        Files that `skip_bad_files` left out, each with its reason.

    Examples
    --------
    >>> import mmflow as mf
    >>> mf.from_arrow({"a": [1, 2]}).write_csv("a.csv").run.rows
    2
    """

    run: str
    rows: int
    records: int
    bytes_read: int
    bad_records: int
    repaired: int
    quarantine: str | None
    pruned: int
    retries: int
    reruns: int
    stragglers: int
    restored: int
    seconds: float
    reasons: tuple[str, ...]
    skipped_files: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        run: str,
        progress: Progress,
        *,
        quarantine: str | None,
        rows: int | None = None,
        reasons: tuple[str, ...] = (),
        skipped_files: tuple[tuple[str, str], ...] = (),
    ) -> Self:
        """Return the summary of a run, from its progress at its end. `rows` are those written, where it writes."""
        p = progress
        return cls(
            run, p.rows if rows is None else rows, p.records, p.bytes_done, p.bad, p.repaired, quarantine, p.pruned,
            p.retries, p.reruns, p.stragglers, p.restored, p.elapsed, reasons, skipped_files,
        )  # fmt: skip

    def bad_message(self) -> str:
        """Return one sentence about bad records and repairs."""
        texts = []
        from mmflow.runs.report.formatting import plural  # noqa: PLC0415  (slow)

        if self.bad_records:
            were = "was" if self.bad_records == 1 else "were"
            texts.append(f"{plural(self.bad_records, 'bad record')} {were} dropped or given nulls")
        if self.repaired:
            texts.append(f"{plural(self.repaired, 'repair')} {'was' if self.repaired == 1 else 'were'} made")
        text = (
            f"{' and '.join(texts)} (of {self.records:,} records read)"
            if self.repaired
            else f"{texts[0]} (of {self.records:,} read)"
        )
        what = "the first of them are described in" if self.repaired else "those in quarantine are in"
        return f"{text}; {what} {self.quarantine}" if self.quarantine else text

    def skipped_message(self) -> str:
        """Return one sentence about files that were left out."""
        from mmflow.plan.bad_files import bad_files_message  # noqa: PLC0415  (slow)

        return bad_files_message([BadFile(*each) for each in self.skipped_files])

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Committed write. Its text is one sentence about it.

    Attributes
    ----------
    path
        Path or URL of the output.
    files
        Number of files written.
    rows
        Number of rows written.
    nbytes
        Size of these files, in bytes.
    run
        Summary of the run.

    Examples
    --------
    >>> import mmflow as mf
    >>> print(mf.from_arrow({"a": [1, 2]}).write_csv("a.csv"))  # doctest: +ELLIPSIS
    wrote 2 rows in 1 file (6 bytes) to .../a.csv
    """

    path: str
    files: int
    rows: int
    nbytes: int
    run: RunSummary

    def __str__(self) -> str:
        return written_sentence(self.rows, self.files, self.nbytes, self.path)


def written_sentence(rows: int, files: int, nbytes: int, path: str) -> str:
    """Return one sentence about a committed write."""
    return f"wrote {rows:,} row{'s' * (rows != 1)} in {files:,} file{'s' * (files != 1)} ({nbytes:,} bytes) to {path}"
