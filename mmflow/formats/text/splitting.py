"""Splitting of lines into fields: the part that a pattern, logfmt, W3C logs and text of fixed width have of their own.

lines (string)  --split-->  texts of the wanted fields (string), lines that don't fit with the reasons, lines left out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

import numpy as np
import pyarrow as pa

from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.text.patterns import with_groups
from mmflow.lazy import array_types as npt
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass

__all__ = ["RegexSplitter", "Split", "Splitter"]


@dataclass(slots=True)
class Split:
    """Fields of some lines.

    Attributes:
        texts: Texts of the wanted fields (string), one for each line; anything for lines of `bad`.
        bad: Reasons by line that has not the form; these lines are bad records.
        left_out: Whether a line is no record (a comment, an empty line), shape (lines,); None: all are records.
    """

    texts: dict[str, pa.Array]
    bad: dict[int, str] = field(default_factory=dict)
    left_out: npt.NDArray[np.bool_] | None = None


class Splitter(Protocol):
    """Splits lines into fields; stateless.

    Attributes:
        names: Names of all fields; of logfmt those that are known.
        verbatim: A field's text stands in its line byte by byte, so a line without it can't have it.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def verbatim(self) -> bool: ...

    def split(self, lines: pa.Array, wanted: tuple[str, ...]) -> Split:
        """Split lines of `string`, none of which is null."""
        ...


@dataclass(frozen=True, slots=True)
class RegexSplitter:
    """Splits by a regular expression, which is looked for anywhere in a line. A group without a part in it is empty.

    Attributes:
        pattern: Expression as `read_pattern` returns it.
        columns: Names of the columns by the names of their groups.
        title: Form of the lines, for messages.
        comment: Beginning of lines that are no records; empty: there are none.
    """

    pattern: str
    columns: Mapping[str, str]
    title: str = "the pattern"
    comment: str = ""
    verbatim: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns.values())

    def split(self, lines: pa.Array, wanted: tuple[str, ...]) -> Split:
        groups = {column: group for group, column in self.columns.items() if column in wanted}
        if groups:
            found = pc.extract_regex(lines, with_groups(self.pattern, groups.values()))
            texts = {column: found.field(group) for column, group in groups.items()}
            matched = numpy_values(found.is_valid())
        else:
            texts, matched = {}, numpy_values(pc.match_substring_regex(lines, self.pattern))
        empty = numpy_values(pc.equal(pc.binary_length(lines), pa.scalar(0, pa.int32())))
        left_out = empty & ~matched
        if self.comment:
            left_out |= numpy_values(pc.starts_with(lines, self.comment))
        bad = dict.fromkeys(
            np.flatnonzero(~matched & ~left_out).tolist(), f"the line does not fit {self.title}"
        )
        return Split(texts, bad, left_out if left_out.any() else None)
