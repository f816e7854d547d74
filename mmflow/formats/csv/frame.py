"""Lines around the records of a CSV file: those before its header, the header's own, and those at its end.

    skip_rows      3 lines that are no CSV       physical lines, whatever quotes they hold
    header         names, units                  records, numbered from 1 behind those lines
    records        ...                           up to the footer
    skip_footer    2 lines such as totals        physical lines

Invariant: a line of the footer is never decoded, and neither is one before the header.
"""

from __future__ import annotations

from mmflow.lazy.dataclasses import dataclass

__all__ = ["Frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines that are not data.

    Attributes:
        header: Numbers of the records that name the columns, from 1 behind `skip_rows`; none: no header.
        names: Names of the columns, instead of the header's; none: as the header says.
        skip_rows: Physical lines before all else.
        skip_footer: Physical lines at the end of the file.
    """

    header: tuple[int, ...] = (1,)
    names: tuple[str, ...] = ()
    skip_rows: int = 0
    skip_footer: int = 0
