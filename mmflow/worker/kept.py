"""Decoders and programs that a thread keeps from one task of a stage to the next: they are made, and learn, once."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import MappedFile
from mmflow.plan.stages import AggregateStep, Stage
from mmflow.worker.row_program import RowProgram

if TYPE_CHECKING:
    from mmflow.formats import NativeEnd
    from mmflow.worker.column_cache import ColumnCache

__all__ = ["Kept", "StageKept"]


@dataclass(slots=True)
class StageKept:
    """Objects that depend on a stage and the memory of its tasks alone. Of one thread.

    Attributes:
        stage: The stage.
        programs: Programs of its steps, by the identity of the step.
        decoders: Decoders of its files (`ScanRequest.decoders`).
        joined_decoders: Those of small files that are read together.
        whole_decoders: Those of scans that leave no row out.
        column_cache: Columns of its files that are kept; None: none are, or it is not opened yet.
        schema: Names and types of the batches of its scan; None: not known yet.
        end: Native steps that end its scan, which each task copies, and the aggregation; None: there are none, or
            they are not known yet.
        knows_end: Whether `end` is known.
        file: File of its last shard, open.
        calls_user_code: Whether a function of the user's sees rows; None: not known yet.
    """

    stage: Stage
    programs: dict[int, RowProgram] = field(default_factory=dict)
    decoders: dict[Any, Any] = field(default_factory=dict)
    joined_decoders: dict[Any, Any] = field(default_factory=dict)
    whole_decoders: dict[Any, Any] = field(default_factory=dict)
    column_cache: ColumnCache | None = None
    schema: pa.Schema | None = None
    end: tuple[NativeEnd, AggregateStep] | None = None
    knows_end: bool = False
    calls_user_code: bool | None = None
    file: MappedFile | None = None

    def take_file(self) -> MappedFile | None:
        """Return the file that was kept, which is the caller's now; None: there is none."""
        file, self.file = self.file, None
        return file

    def keep_file(self, file: MappedFile) -> None:
        """Keep a file open, or close it: small ones are read whole, and others have more than a descriptor."""
        if type(file) is MappedFile and not file.whole:
            self.file = file
        else:
            file.close()


class Kept:
    """Objects that one thread keeps: of the stage of its last task only, so that they don't add up."""

    __slots__ = ("_stage",)

    def __init__(self) -> None:
        self._stage: StageKept | None = None

    def __del__(self) -> None:
        self.clear()

    def of(self, stage: Stage) -> StageKept:
        """Return what is kept for a stage of this process; nothing yet for another one than the last."""
        if self._stage is None or self._stage.stage is not stage:
            self.clear()
            self._stage = StageKept(stage)
        return self._stage

    def clear(self) -> None:
        """Keep nothing: a task ended in the middle of what it did, or was the last one."""
        file = None if self._stage is None else self._stage.take_file()
        if file is not None:
            file.close()
        self._stage = None
