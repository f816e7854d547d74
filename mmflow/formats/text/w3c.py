"""Logs in the extended format of W3C, as IIS and CloudFront write them: a line `#Fields:` names the columns.

Lines that begin with `#` are no records. Values are separated by blanks or tabs, and `-` is null.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.csv.header import unique_names
from mmflow.formats.decoding.fixed_width import numpy_values
from mmflow.formats.encodings.encoding import UTF8, Encoding
from mmflow.formats.encodings.files import first_text
from mmflow.formats.text.splitting import RegexSplitter, Split
from mmflow.lazy import compute as pc
from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex
from mmflow.mapping import MappedFile

__all__ = ["W3cSplitter", "w3c_splitter"]

_DIRECTIVE = lazy_regex(rb"^#Fields:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)
_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class W3cSplitter:
    """Splits lines of one file.

    Attributes:
        path: Path of the file, for messages.
        directive: Its line of fields.
        lines: Splits by the pattern of these.
    """

    path: str
    directive: str
    lines: RegexSplitter
    verbatim: bool = False  # a changed line of fields must be seen

    @property
    def names(self) -> tuple[str, ...]:
        return self.lines.names

    def split(self, lines: pa.Array, wanted: tuple[str, ...]) -> Split:
        """Split lines.

        Raises:
            SourceError: The fields change within the file.
        """
        directives = numpy_values(pc.starts_with(lines, "#Fields:"))
        for row in np.flatnonzero(directives).tolist():
            if lines[row].as_py().partition(":")[2].split() != self.directive.split():
                raise SourceError(
                    f"can't read {self.path}: its fields change within the file, from {self.directive!r} to "
                    f"{lines[row].as_py().partition(':')[2].strip()!r}; cut it there, and read the parts as sources "
                    "of their own",
                    path=self.path,
                )
        return self.lines.split(lines, wanted)


def w3c_splitter(file: MappedFile, encoding: Encoding = UTF8) -> W3cSplitter:
    """Return the splitter for a file, whose first bytes name its fields.

    Raises:
        SourceError: They don't, or can't be read.
    """
    found = _DIRECTIVE.search(first_text(file, _HEAD, encoding).text)
    directive = "" if found is None else found[1].decode("utf-8", "replace")
    if not directive:
        raise SourceError(
            f"can't read {file.path} as a W3C log: its first {_HEAD:,} bytes have no line '#Fields: ...' that names "
            "the columns; read it by a pattern of its own, pattern='(?P<name>...)'",
            path=file.path,
        )
    names = unique_names(directive.split())
    groups = {f"field{i}": name for i, name in enumerate(names)}
    pattern = "^" + r"[ \t]+".join(rf"(?P<{group}>[^ \t]+)" for group in groups) + r"[ \t]*$"
    return W3cSplitter(file.path, directive, RegexSplitter(pattern, groups, "the W3C log format", "#"))
