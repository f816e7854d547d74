"""Tokens of SQL, as DataFusion 55 reads them: what a query names is found, and replaced, by its place in the text.

DataFusion parses; nothing here knows the grammar. The text is never written anew from a tree, so that no query comes to
mean something else: only the tokens that are replaced change.

    SELECT a FROM read_csv('x', delimiter => $d)
    word   word word word  sign text  word sign parameter
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from mmflow.lazy.dataclasses import dataclass
from mmflow.lazy.patterns import lazy_regex

__all__ = ["Token", "closing", "parameters_of", "quoted", "replaced", "split_arguments", "tokens"]

Kind = Literal["word", "quoted", "text", "parameter", "number", "sign"]


@dataclass(frozen=True, slots=True)
class Token:
    """Token of a query.

    Attributes:
        kind: Kind of the token: a bare word, a quoted name, text, `$name`, a number, or a sign.
        text: Token as it is written.
        start: Offset of its first character in the query.
        upper: The word in upper case; empty: it is none.
    """

    kind: Kind
    text: str
    start: int
    upper: str = ""

    @property
    def end(self) -> int:
        """Offset behind its last character."""
        return self.start + len(self.text)

    @property
    def name(self) -> str:
        """Name or text that it stands for, without its quotes; the case is kept."""
        if self.kind == "parameter":
            return self.text[1:]
        if self.kind not in ("quoted", "text") or self.text[0] not in "'\"`":
            return self.text
        quote = self.text[0]
        return self.text[1:-1].replace(quote * 2, quote)

    def is_word(self, *words: str) -> bool:
        """Return whether it is one of these keywords."""
        return self.upper in words


_TOKEN = lazy_regex(
    r"""
    (?P<passed> \s+ | --[^\n]* | /\* )
  | (?P<text> [eE]'(?:[^'\\]|\\.|'')*' | [nNxX]?'(?:[^']|'')*' | \$(?P<tag>[^\W\d]?\w*)\$.*?\$(?P=tag)\$ )
  | (?P<quoted> "(?:[^"]|"")*" | `(?:[^`]|``)*` )
  | (?P<parameter> \$\w+ )
  | (?P<number> (?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)? )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<sign> => | := | <= | >= | <> | != | :: | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = lazy_regex(r"/\*|\*/")


@functools.lru_cache(maxsize=64)
def tokens(query: str) -> tuple[Token, ...]:
    """Return the tokens of a query, without white space and comments."""
    found: list[Token] = []
    at = 0
    while (match := _TOKEN.match(query, at)) is not None:
        at = match.end()
        if match.lastgroup == "passed" or match["passed"]:
            if match["passed"] == "/*":
                at = _comment_end(query, at)
            continue
        kind = next(
            k for k in ("text", "quoted", "parameter", "number", "word", "sign") if match[k] is not None
        )
        upper = match[0].upper() if kind == "word" else ""
        found.append(Token(kind, match[0], match.start(), upper))  # type: ignore[arg-type]  # one of the groups' names
    return tuple(found)


def _comment_end(query: str, at: int) -> int:
    """Return the end of the comment that was opened before `at`. Comments nest."""
    depth = 1
    for mark in _COMMENT.finditer(query, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(query)


def parameters_of(query: str) -> dict[str, None]:
    """Return the names of the parameters `$name` of a query, in their order, each once."""
    return dict.fromkeys(t.name for t in tokens(query) if t.kind == "parameter")


def closing(listed: Sequence[Token], opening: int) -> int | None:
    """Return the number of the token that closes the bracket of token `opening`. None: the query ends before."""
    depth = 0
    for number in range(opening, len(listed)):
        text = listed[number].text if listed[number].kind == "sign" else ""
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        if depth == 0:
            return number
    return None


def split_arguments(listed: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Split tokens at the commas outside of brackets."""
    start = depth = 0
    for number, token in enumerate(listed):
        if token.kind == "sign":
            depth += (token.text in "([{") - (token.text in ")]}")
        if token.text == "," and depth == 0:
            if number > start:
                yield listed[start:number]
            start = number + 1
    if len(listed) > start:
        yield listed[start:]


def replaced(query: str, parts: Iterable[tuple[int, int, str]]) -> str:
    """Return a query with the text between each pair of offsets replaced. The parts are in order."""

    def pieces() -> Iterator[str]:
        at = 0
        for start, end, text in parts:
            yield query[at:start]
            yield text
            at = end
        yield query[at:]

    return "".join(pieces())


def quoted(name: str) -> str:
    """Return a name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'
