"""Text that a regular expression requires: every match holds it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmflow.plan.optimizer.literal_prefilter import required_text, required_texts

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "/",
        " ",
        ".",
        "[ab]",
        "[^a]",
        "[]a]",
        "(?:ab)",
        "(a|b)",
        "(a(b)[)])",
        r"\.",
        r"\d",
        r"\*",
        r"\(",
        "^",
        "$",
        "é",
    ]
)
QUANTIFIERS = st.sampled_from(["", "", "", "", "+", "*", "?", "+?", "*?", "{2}", "{0,1}"])


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("item/4[0-9]9 .* 50[03] ", "item/4"),
        ("abc", "abc"),
        ("ab*c", "a"),
        ("ab+cd", "bcd"),
        ("(?:abc)+de", "de"),
        ("a|bcd", ""),
        ("(?i)abc", ""),
        (r"\<abc", ""),
        (r"a\.b", "a.b"),
        (r"\x61bc", ""),
        ("[[:alpha:]]bc", ""),
        ("abc(", ""),
        ("abc{2}", "ab"),
    ],
)
def test_required_text(pattern: str, text: str) -> None:
    assert required_text(pattern) == text


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("item/4[0-9]9 .* 50[03] ", ["item/4", "9 ", " 50", " "]),
        ("ab+cd", ["ab", "cd"]),
        ("(a)b*", []),
        ("a|b", []),
    ],
)
def test_required_texts_follow_one_another(pattern: str, texts: list[str]) -> None:
    assert required_texts(pattern) == texts


@given(parts=st.lists(st.tuples(ATOMS, QUANTIFIERS), max_size=6), text=st.text("ab/ .*(é1", max_size=12))
@example(parts=[("a", "{0,1}"), ("b", "")], text="b")
@example(parts=[("a", "+"), ("b", "")], text="ab")
def test_every_match_holds_the_required_text(parts: list[tuple[str, str]], text: str) -> None:
    pattern = "".join(atom + ("" if atom in "^$" else quantifier) for atom, quantifier in parts)
    if re.search(pattern, text):
        assert required_text(pattern) in text
        at = 0
        for part in required_texts(pattern):
            assert part in text[at:]
            at = text.index(part, at) + len(part)
