"""Patterns of LIKE and of functions of text, as tokens of the kernel (text.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

__all__ = ["like_tokens", "text_tokens", "texts_tokens"]

_ANY = b"%"


def like_tokens(pattern: str) -> bytes:
    """Return the tokens of a pattern of LIKE. A backslash takes the next character as it is; at the end, itself.

    >>> like_tokens("a%_")
    b'c\\x01\\x00\\x00\\x00a%_'
    """
    made, literal = bytearray(), ""
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character in "%_":
            made += _literal(literal) + character.encode()
            literal = ""
        elif character == "\\" and at < len(pattern):
            literal += pattern[at]
            at += 1
        else:
            literal += character
    return bytes(made + _literal(literal))


def text_tokens(function: str, text: str) -> bytes:
    """Return the tokens of `starts_with`, `ends_with` or `contains`."""
    before = b"" if function == "starts_with" else _ANY
    after = b"" if function == "ends_with" else _ANY
    return before + _literal(text) + after


def texts_tokens(texts: Iterable[str]) -> bytes:
    """Return the tokens of a text that holds others, one behind the other."""
    return _ANY + b"".join(_literal(text) + _ANY for text in texts)


def _literal(text: str) -> bytes:
    raw = text.encode()
    return b"c" + struct.pack("<i", len(raw)) + raw if raw else b""
