"""Statements in lines of text: SQL ends with `;`, a command that begins with a dot at the end of its line."""

from __future__ import annotations

from collections.abc import Iterator

from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tokens import Token, tokens

__all__ = ["Splitter", "Statement", "is_command", "is_complete", "unterminated"]


@dataclass(frozen=True, slots=True)
class Statement:
    """Statement without its `;`.

    Attributes:
        text: SQL, or a command with its dot.
        line: Number of the line on which it begins, from 1.
    """

    text: str
    line: int


class Splitter:
    """Statements of lines that come one after the other."""

    def __init__(self) -> None:
        self._pending = ""
        self._line = 1

    def feed(self, line: str) -> Iterator[Statement]:
        """Take in a line with its line break, and yield the statements that end in it."""
        if is_command(line) and not self._is_open():
            number = self._line + self._pending.count("\n")
            self._pending, self._line = "", number + line.count("\n")
            yield Statement(line.strip(), number)
            return
        self._pending += line
        if ";" not in line:
            return
        text, cut = self._pending, 0
        for token in tokens(text):
            if unterminated(token):
                break
            if token.text == ";" and token.kind == "sign":
                made = self._statement(text[cut : token.start])
                self._line += text.count("\n", cut, token.end)
                cut = token.end
                if made is not None:
                    yield made
        self._pending = text[cut:]

    def end(self) -> Statement | None:
        """Return the statement that the end of the text ends, if there is one."""
        text, self._pending = self._pending, ""
        return self._statement(text)

    def _is_open(self) -> bool:
        """Return whether a statement or comment has begun that has not ended."""
        # Nothing but comments stands there, and another word would not be in one.
        return len(tokens(f"{self._pending}\nx")) != 1

    def _statement(self, text: str) -> Statement | None:
        listed = tokens(text)
        if not listed:
            return None
        return Statement(text.strip(), self._line + text.count("\n", 0, listed[0].start))


def is_command(line: str) -> bool:
    """Return whether a line at the beginning of a statement is a command."""
    return line.lstrip().startswith(".")


def is_complete(text: str) -> bool:
    """Return whether text is empty, a command, or statements of which the last one has ended.

    >>> is_complete("SELECT 1;"), is_complete("SELECT ';"), is_complete(".help"), is_complete("SELECT 1; SELECT")
    (True, False, True, False)
    """
    if not text.strip() or is_command(text):
        return True
    splitter = Splitter()
    for line in text.splitlines(keepends=True):
        for _ in splitter.feed(line):
            pass
    return not splitter._is_open()


def unterminated(token: Token) -> bool:
    """Return whether a token is a quote that the text does not close."""
    return token.kind == "sign" and token.text in ("'", '"', "`", "$")
