"""Expressions whose nulls DataFusion 55 may lose, found in plans as they are shown.

Those of plans that are split are rewritten (`rewrites/nulls.py`). What runs as SQL can't be, and is refused.
"""

from __future__ import annotations

from mmflow.lazy.patterns import lazy_regex

__all__ = ["may_lose_nulls", "not_as_sql"]

_ANY_SHOWN = lazy_regex(r'(?:~\*? |regexp_like\([^"]*)Utf8(?:View)?\("\.\*"\)')
_WITHOUT_TEXT = lazy_regex(r'"(?:[^"\\]|\\.)*"')
_LISTS = lazy_regex(
    r"(?P<value>[^\s()]+) (?P<first>NOT )?IN \(\[[^\]]*\]\) (?P<op>AND|OR) (?P=value) (?P<second>NOT )?IN \(\["
)


def may_lose_nulls(shown: str) -> bool:
    """Return whether DataFusion may lose nulls of a plan, given as it is shown."""
    return ('(".*")' in shown and _ANY_SHOWN.search(shown) is not None) or shown.count(" IN ([") > 1


def not_as_sql(shown: str) -> str | None:
    """Return why a plan must not run as SQL, in which nothing can be rewritten; None: it may."""
    if " SIMILAR TO " in _WITHOUT_TEXT.sub("", shown):
        return (
            "SIMILAR TO: DataFusion looks for a regular expression anywhere in the text; write "
            "text ~ '^(?:expression)$', with .* for % and . for _"
        )
    if _ANY_SHOWN.search(shown):
        return "a regular expression '.*' in a query that can't be split; write '(?:.*)'"
    for where in _LISTS.finditer(shown):
        if not (where["first"] or "") == (where["second"] or "") == ("NOT " if where["op"] == "AND" else ""):
            return (
                f"{where['value']} is tested by two lists in a query that can't be split, and DataFusion would lose "
                "nulls; write one list, or comparisons (x = 1 OR x = 2)"
            )
    return None
