"""Lazy patterns: those of `re`, compiled at their first use."""

from __future__ import annotations

import re

import pytest

from mmflow.lazy.patterns import lazy_regex


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    wrong = lazy_regex("(")
    with pytest.raises(re.error):
        wrong.match("a")


def test_methods_are_those_of_the_pattern() -> None:
    made = lazy_regex(r"(?P<word>[a-z]+)", re.IGNORECASE)
    assert made.sub("-", "Ab 1") == "- 1"
    assert made.groupindex == {"word": 1}
    assert [m[0] for m in made.finditer("a B")] == ["a", "B"]
    assert lazy_regex(rb"\d+").findall(b"1 22") == [b"1", b"22"]
