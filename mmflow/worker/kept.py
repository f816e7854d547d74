"""Decoders and programs that a thread keeps from one task of a stage to the next: they are made, and learn, once."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import AggregateStep, Stage
from mmflow.worker.row_program import RowProgram

if TYPE_CHECKING:
    from mmflow.formats import NativeEnd

__all__ = ["Kept", "StageKept"]


@dataclass(slots=True)
class StageKept:
    """Objects that depend on a stage and the memory of its tasks alone. Of one thread.

    Attributes:
        stage: The stage.
        programs: Programs of its steps, by the identity of the step.
        decoders: Decoders of its files (`ScanRequest.decoders`).
        joined_decoders: Those of small files that are read together.
        end: Native steps that end its scan, which each task copies, and the aggregation; None: there are none, or
            they are not known yet.
        knows_end: Whether `end` is known.
        calls_user_code: Whether a function of the user's sees rows; None: not known yet.
    """

    stage: Stage
    programs: dict[int, RowProgram] = field(default_factory=dict)
    decoders: dict[Any, Any] = field(default_factory=dict)
    joined_decoders: dict[Any, Any] = field(default_factory=dict)
    end: tuple[NativeEnd, AggregateStep] | None = None
    knows_end: bool = False
    calls_user_code: bool | None = None


class Kept:
    """Objects that one thread keeps: of the stage of its last task only, so that they don't add up."""

    __slots__ = ("_stage",)

    def __init__(self) -> None:
        self._stage: StageKept | None = None

    def of(self, stage: Stage) -> StageKept:
        """Return what is kept for a stage of this process; nothing yet for another one than the last."""
        if self._stage is None or self._stage.stage is not stage:
            self._stage = StageKept(stage)
        return self._stage

    def clear(self) -> None:
        """Keep nothing: a task ended in the middle of what it did."""
        self._stage = None
