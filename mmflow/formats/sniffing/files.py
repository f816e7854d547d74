"""Sniffer of files: samples of one, the options that `dialect="auto"` binds, and proposals in errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mmflow.errors import MmflowError, SourceError
from mmflow.formats.schemas.sampling import Sample, sample_file
from mmflow.formats.sniffing.proposals import LIKELY, Proposal
from mmflow.formats.sniffing.sniffer import sniff
from mmflow.lazy.dataclasses import dataclass

__all__ = [
    "DEFAULTS",
    "Sniffed",
    "bind_dialect",
    "option_texts",
    "python_call",
    "sniff_file",
    "with_proposal",
]

#: Options that the sniffer proposes, and what they are where nothing is said.
DEFAULTS: dict[str, Any] = {
    "encoding": "utf-8", "delimiter": ",", "quote": '"', "escape": "", "trim": False, "skip_rows": 0,
    "skip_footer": 0, "comment": "", "header": True, "decimal": ".", "thousands": "", "date_format": None,
    "timestamp_format": None, "null": "",
}  # fmt: skip
#: Bytes of each piece of a sample, and the most that a start of long lines grows to.
_PIECE, _MOST = 1 << 15, 1 << 22
_PROPOSES = "the file looks like"
_STRUCTURE = ("encoding", "delimiter", "quote", "escape", "header", "skip_rows")


@dataclass(frozen=True, slots=True)
class Sniffed:
    """Options that were found for a source.

    Attributes:
        options: Options of the format, those that were given among them.
        note: What was found and how sure that is, for people.
    """

    options: dict[str, Any]
    note: str


def sniff_file(path: str, known: Iterable[str], given: Mapping[str, Any] | None = None) -> list[Proposal]:
    """Return proposals of options for a file, the best first; none where it is empty, or no text.

    Args:
        path: Path of the file.
        known: Names of the options of CSV.
        given: Options that are known.

    Raises:
        SourceError: It can't be read.
    """
    sample = _sample(path)
    others = [piece for piece in sample.others if piece]
    ends = sample.whole or bool(sample.others and sample.others[-1])
    return sniff([sample.start, *others], ends=ends, given=given, known=frozenset(known))


def _sample(path: str) -> Sample:
    def enough(start: bytes) -> bool:
        return start.count(b"\n") > 3 or (b"\n" not in start and b"\r" in start)

    sample = sample_file(path, piece=_PIECE, enough=enough, most=_MOST)
    if sample.whole or sample.others or sample.compression is not None:
        return sample
    return sample_file(path, piece=2 * max(_PIECE, len(sample.start)), most=_MOST)  # so that its end is seen


def bind_dialect(path: str, known: Iterable[str], given: Mapping[str, Any]) -> Sniffed:
    """Return the options that a file's contents and the given ones say together: those that are given win.

    Raises:
        SourceError: The contents leave it open how the file is to be read.
    """
    found = sniff_file(path, known, given)
    if not found:
        return Sniffed(dict(given), "nothing: the file is empty")
    best = found[0]
    if best.confidence < LIKELY:
        listed = "".join(f"\n  {_percent(p)} sure: {_shown(p)}" for p in found)
        raise SourceError(
            f"{path}: dialect='auto' can't tell how it is to be read; the likeliest are{listed}\n"
            "  set the options that you know, such as delimiter= and header=; the others are found to go with them",
            path=path,
        )
    return Sniffed({**given, **best.options}, f"{_shown(best)} ({_percent(best)} sure)")


def _percent(proposal: Proposal) -> str:
    return f"{proposal.confidence:.0%}"


def _shown(proposal: Proposal) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in proposal.options.items()) or "the defaults"


def option_texts(options: Mapping[str, Any]) -> str:
    """Return options as a shell takes them: `--opt delimiter=';' --opt skip_rows=3`."""
    return " ".join(f"--opt {name}={_shell_text(value)}" for name, value in options.items())


def _shell_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text == "\t":
        text = "\\t"
    if any(ord(c) < 32 for c in text):
        return "$'" + "".join(f"\\x{ord(c):02x}" if ord(c) < 32 else c for c in text) + "'"
    quoted = text.replace("'", "'\"'\"'")
    return text if text and all(c.isalnum() or c in "._-%/" for c in text) else f"'{quoted}'"


def python_call(path: str, options: Mapping[str, Any]) -> str:
    """Return the call of Python that reads a file with options."""
    return f"mf.read_csv({', '.join([repr(path), *(f'{k}={v!r}' for k, v in options.items())])})"


def with_proposal(error: MmflowError, spec: Mapping[str, Any], known: Iterable[str]) -> MmflowError:
    """Return an error of reading a CSV file, with the options that the sniffer is sure of, if it has others.

    Args:
        error: Error, whose context names the file.
        spec: Options with which it was read (`Format.spec`).
        known: Names of the options of CSV.
    """
    path = error.context.get("path")
    if not isinstance(path, str) or _PROPOSES in error.message:
        return error
    try:
        found = sniff_file(path, known)
    except MmflowError:
        return error
    if not found or not found[0].sure:
        return error
    other = other_options(found[0], spec)
    if not other or not set(other) <= set(known):
        return error
    if set(other) in ({"delimiter"}, {"encoding"}) and all(
        f"set {k}={v!r}" in error.message for k, v in other.items()
    ):
        return error
    shown = ", ".join(f"{k}={v!r}" for k, v in other.items())
    # Messages have three lines at most.
    joint = "; " if error.message.count("\n") > 1 else "\n  "
    message = (
        f"{error.message}{joint}{_PROPOSES} {shown} ({_percent(found[0])} sure), and dialect='auto' uses that"
    )
    return type(error)(message, **error.context)


def other_options(proposal: Proposal, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a proposal that are others than those with which a file is read (`Format.spec`)."""
    proposed = proposal.options
    other = {k: v for k in DEFAULTS if (v := proposed.get(k, DEFAULTS[k])) != _bound(spec, k)}
    if spec.get("encoding", "utf-8") != "utf-8":
        other.pop("encoding", None)  # several read the same bytes, and one was chosen
    # Styles of values that are set may be set by column, and those that the sniffer does without are no fault.
    return {
        k: v
        for k, v in other.items()
        if k in _STRUCTURE or (k in proposed and _bound(spec, k) == DEFAULTS[k])
    }


def _bound(spec: Mapping[str, Any], name: str) -> Any:
    """Return the value of an option in a spec, in the form in which the sniffer says it."""
    value = spec.get(name)
    if name == "header":
        rows = [1] if value is None else [int(value)] if isinstance(value, int) else list(value)
        return True if rows == [1] else [row for row in rows if row] or False
    if value is None or (not value and not isinstance(DEFAULTS[name], str)):
        return DEFAULTS[name]
    return DEFAULTS[name] if name == "null" and list(value) == [""] else value
