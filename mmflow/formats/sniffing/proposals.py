"""Proposals of the sniffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmflow.lazy.dataclasses import dataclass

__all__ = ["LIKELY", "SURE", "Proposal"]

#: Confidence from which on a proposal is called sure.
SURE = 0.8
#: Confidence below which a proposal is not used without being asked for.
LIKELY = 0.5


@dataclass(frozen=True, slots=True)
class Proposal:
    """Options that may read a file.

    Attributes:
        options: Options that differ from the defaults of `read_csv`, by name; none where the defaults fit.
        confidence: Confidence that they read the file as its writer meant it, in [0, 1].
        reasons: Reasons, a clause each, the most important first.
        columns: Number of columns of the table.
    """

    options: Mapping[str, Any]
    confidence: float
    reasons: tuple[str, ...]
    columns: int

    @property
    def sure(self) -> bool:
        """True where the confidence is at least `SURE`."""
        return self.confidence >= SURE
