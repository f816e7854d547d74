"""DataFusion's errors in words for people who wrote a query.

DataFusion 55 raises Exception, ValueError and RuntimeError. Their text is a chain: rules that failed, prefixes that
name its own modules, the cause last. The cause is what helps.
"""

from __future__ import annotations

import re

__all__ = ["is_datafusions", "plain"]

_PREFIX = re.compile(
    r"(DataFusion error|Error during planning|SQL error|External error|Execution error|Schema error"
    r"|Arrow error|Cast error|Internal error|Substrait error|Invalid argument error|This feature is not implemented): ?"
)
_UNSUPPORTED = re.compile(r'NotImplemented\("(.*?)( \{.*|)"\)', re.DOTALL)
_REPORT = re.compile(r"\.?\s*This issue was likely caused by a bug in DataFusion's code.*", re.DOTALL)
_NO_PLAN = re.compile(r"Physical plan does not support logical expression (\w+)")
_ONE_NAME = re.compile(r'Schema contains duplicate unqualified field name "(.*)"', re.DOTALL)
_SHOWN = {
    "Exists": "EXISTS (SELECT ...) outside of a WHERE",
    "InSubquery": "IN (SELECT ...) outside of a WHERE",
    "ScalarSubquery": "a subquery that depends on the outer row in this way",
    "OuterReferenceColumn": "a LATERAL subquery that depends on the outer row in this way",
    "SetComparison": "ANY or ALL outside of a WHERE",
}


def is_datafusions(error: BaseException) -> bool:
    """Say whether code that only calls DataFusion raised this in earnest: pyo3's panics are no Exceptions."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def plain(error: BaseException) -> str:
    """Say what DataFusion's error is about: its cause, without the chain above it."""
    if type(error).__name__ == "PanicException":
        return f"DataFusion gave up on this query ({error}): write it in another way"
    text = str(error)
    failed_rule = re.search(r"Optimizer rule '\w+' failed", text) and "Assertion failed" in text
    text = _REPORT.sub("", text.rsplit("caused by\n", maxsplit=1)[-1]).strip()
    while (cut := _PREFIX.match(text)) is not None:
        text = text[cut.end() :]
    if failed_rule:
        return "DataFusion can't plan this query: write subqueries, ANY and ALL outside of a WHERE as joins"
    text = text.replace("Error during planning: ", "")  # of each signature that does not fit
    text = _UNSUPPORTED.sub(lambda m: f"not supported: {m[1]}", text)
    twice = _ONE_NAME.match(text)
    if twice is not None:
        return f"DataFusion takes two expressions for one another, both called {twice[1]}: compute one in a subquery"
    unsupported = _NO_PLAN.match(text)
    if unsupported is not None:
        shown = _SHOWN.get(unsupported[1], unsupported[1])
        return f"DataFusion can't run {shown}: write it as a join"
    return text
