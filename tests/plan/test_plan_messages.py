"""Messages of DataFusion, in words of mmflow."""

from __future__ import annotations

from mmflow.plan.errors import explain_failed_value


def test_a_long_value_is_not_searched_for_words_of_messages() -> None:
    """A value of 18 kB took seven seconds, one of a megabyte would have taken hours."""
    said = explain_failed_value(f"Arrow error: Cannot cast string '{'x' * (1 << 20)}' to value of Int64 type")
    assert said.startswith("'xxx")
    assert said.endswith("xxx' is no int64; TRY_CAST, or cast(..., strict=False), gives null for such values")
    assert 2000 < len(said) < 2200
    short = explain_failed_value("Arrow error: Cannot cast string 'seven' to value of Int64 type")
    assert short == "'seven' is no int64; TRY_CAST, or cast(..., strict=False), gives null for such values"
