"""Errors of planning and of running a plan, in words for people who wrote a query.

DataFusion's         55 raises Exception, ValueError and RuntimeError, whose text is a chain: rules that failed,
                     prefixes that name its own modules, the cause last. The cause is what helps
of plan functions    DataFusion puts its own text around what they raise
the planner's bugs   a message that asks for a report, without a traceback
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mmflow.errors import MmflowError, PlanError
from mmflow.lazy.patterns import lazy_regex
from mmflow.plan.missing_functions import missing_function, missing_type

__all__ = [
    "RefusedError",
    "build_refusal",
    "explain_datafusion_error",
    "explain_failed_value",
    "find_refusal",
    "is_datafusion_error",
    "kind_of",
    "report_planner_bugs",
]

_PREFIX = lazy_regex(
    r"(DataFusion error|Error during planning|SQL error|External error|Execution error|Schema error"
    r"|Arrow error|Cast error|Internal error|Substrait error|Invalid argument error|Parser error"
    r"|This feature is not implemented): ?"
)
_UNSUPPORTED = lazy_regex(r'NotImplemented\("(.*?)( \{.*|)"\)', re.DOTALL)
#: Names that mmflow gives to tables, and the list of all columns by those.
_LEAF, _FIELDS = lazy_regex(r"\bleaf[0-9]+\."), lazy_regex(r"\s*Valid fields are (.*)", re.DOTALL)
_FIELD = lazy_regex(r'(?:(?:"(?:[^"]|"")*"|[^".,\s]+)\.)*("(?:[^"]|"")*"|[^".,\s]+)(?:, |\.?$)')
#: Most columns that a message lists.
_MOST_COLUMNS = 20
#: Characters at both ends of a message that are shown.
_SHOWN_END = 1000
_REPORT = lazy_regex(r"\.?\s*This issue was likely caused by a bug in DataFusion's code.*", re.DOTALL)
_NO_PLAN = lazy_regex(r"Physical plan does not support logical expression (\w+)")
_ONE_NAME = lazy_regex(r'Schema contains duplicate unqualified field name "(.*)"', re.DOTALL)
_SHOWN = {
    "Exists": "EXISTS (SELECT ...) outside of a WHERE",
    "InSubquery": "IN (SELECT ...) outside of a WHERE",
    "ScalarSubquery": "a subquery that depends on the outer row in this way",
    "OuterReferenceColumn": "a LATERAL subquery that depends on the outer row in this way",
    "SetComparison": "ANY or ALL outside of a WHERE",
}


class RefusedError(PlanError):
    """Query that DataFusion would compute wrongly, however it runs."""


def is_datafusion_error(error: BaseException) -> bool:
    """Return whether code that only calls DataFusion failed with this error. Panics of pyo3 are no Exceptions."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def explain_datafusion_error(error: BaseException) -> str:
    """Return the cause of DataFusion's error, without the chain above it."""
    if type(error).__name__ == "PanicException":
        return f"DataFusion gave up on this query ({error}): write it in another way"
    return _in_words(_cause(str(error)))


def kind_of(why: str) -> str | None:
    """Return the code of DataFusion's error, in the words of mmflow; None: it has that of its class.

    >>> kind_of("there is no column nope; the columns are a, b")
    'MMF-PLN-002'
    """
    return next((code for begin, code in _CODES.items() if why.startswith(begin)), None)


def explain_failed_value(text: str) -> str:
    """Return DataFusion's error at a value, without its prefixes and names of types."""
    return _in_words(_without_prefixes(text))


def _without_prefixes(text: str) -> str:
    while (cut := _PREFIX.match(text)) is not None:
        text = text[cut.end() :]
    return text


def _in_words(text: str) -> str:
    """Return a message of DataFusion 55 in the words of mmflow, without the middle of a long one."""
    if len(text) > 2 * _SHOWN_END:  # it holds a value: patterns would take hours of a megabyte
        text = f"{text[:_SHOWN_END]} … {text[-_SHOWN_END:]}"
    for pattern, words in _MESSAGES:
        text = pattern.sub(words, text)
    return _TYPES.sub(lambda m: _TYPE_NAMES.get(m[0], m[0].lower()), text)


_TYPES = lazy_regex(
    r"\b(?:U?Int(?:8|16|32|64)|Float(?:16|32|64)|Date(?:32|64)|Boolean|(?:Large)?Utf8(?:View)?)\b"
)
_TYPE_NAMES = {"Boolean": "bool", "Utf8": "string", "LargeUtf8": "string", "Utf8View": "string"}
_KINDS = r"\S.*? \(DataType: (.*?)\)(?=[.,]|$)"
_CASTS = dict.fromkeys(("Utf8", "Utf8View", "LargeUtf8"), ", as in CAST(x AS DOUBLE)")
_CASTS |= dict.fromkeys(("Int32", "Int64", "UInt64", "Float32", "Float64"), ", as in CAST(x AS VARCHAR)")
#: Messages of DataFusion 55, and how mmflow says them.
_MESSAGES = [
    (lazy_regex(pattern, re.DOTALL), words)
    for pattern, words in (
        (
            r"^Function '(\w+)' expects (1) arguments but received (\d+).*",
            r"\1() takes \2 argument, and \3 are given",
        ),
        (
            r"^Function '(\w+)' expects (\d+) arguments but received (\d+).*",
            r"\1() takes \2 arguments, and \3 are given",
        ),
        (
            rf"^Function '(\w+)' (?:failed to match any signature|requires).*?but received {_KINDS}.*",
            lambda m: f"{m[1]}() takes no {m[2]}: cast the argument{_CASTS.get(m[2], '')}",
        ),
        (
            r"^Cannot coerce arithmetic expression (.*) to valid types.*",
            r"\1 has no meaning: cast one of them, as in CAST(x AS DOUBLE)",
        ),
        (r"^Invalid function '(.*?)'\.\s*Did you mean '(.*?)'.*", lambda m: missing_function(m[1], m[2])),
        (
            r"^No field named \"?([^\"\n]*?)\"?\. Did you mean '(?:\"[^\"]*\"\.)?(.*?)'.*",
            r"there is no column \1; did you mean \2?",
        ),
        (r"^No field named \"?([^\"\n]*?)\"?\.(; the columns are .*)?$", r"there is no column \1\2"),
        (r"^Ambiguous reference to unqualified field (.*)", r"several tables have a column \1: write t.\1"),
        (
            r"^Schema contains qualified field name .* and unqualified field name (.*) which would be ambiguous",
            r"two columns are named \1: give one of them another name with AS, or a name to a subquery in FROM",
        ),
        (
            r"^Aggregate functions are not allowed in the WHERE clause.*",
            "an aggregate is not known in WHERE: write HAVING, behind GROUP BY",
        ),
        (
            r"^Aggregate function calls cannot be nested.*",
            "an aggregate of an aggregate: write one in a subquery",
        ),
        (
            r"^HAVING clause references: .*",
            "HAVING takes aggregates and columns of GROUP BY: conditions on rows stand in WHERE",
        ),
        (r"^regex parse error:.*\nerror: (.*)$", r"the pattern is no regular expression: \1"),
        (r"^Divide by zero error$", "division by zero"),
        (
            r"^Cannot create filter with non-boolean predicate '(?:.*\.)?(.*?)' returning (\w+)",
            r"a condition must be true or false, and \1 is \2: compare it, as in x > 0",
        ),
        (
            r"^Schema contains duplicate qualified field name (.*)\..*",
            r"\1 is joined with itself: give each of both another name, as in t AS x JOIN t AS y",
        ),
        (
            r"^Projections require unique .*? but the .*?\"(?:[^\"]* AS |[^\"() ]*\.(?=\w+\"))?(.*?)\" at .*",
            r"two columns are named \1: give one of them another name with AS",
        ),
        (
            r"^Cannot cast string '(.*)' to value of (\w+) type$",
            r"'\1' is no \2; TRY_CAST, or cast(..., strict=False), gives null for such values",
        ),
        (
            r"^Error parsing timestamp from '(.*)' using formats? '(.*)': .*",
            r"'\1' is no date or time of the form \2",
        ),
        (r"^Error parsing timestamp from '(.*)': .*", r"'\1' is no timestamp"),
        (r"^Unable to cast to date32 for converting from i64 to i32 failed$", "a number is beyond the dates"),
        (
            r"^Column in SELECT must be.*?column \"(?:[^\"]*\.)?([^\".]*)\" must appear.*",
            r"column \1 must be in GROUP BY or within an aggregate",
        ),
        (r'^(?:Parser|Tokenizer)Error\("(.*)"\)$', r"\1"),
        (r"^Expected: (.*), found: EOF$", r"expected \1, but the query ends"),
        (r"^Expected: (.*), found: (.*)$", r"expected \1, found \2"),
        (r" at Line: (\d+), Column: (\d+)$", r" (line \1, column \2)"),
        (r"\.? No function matches the given name and argument types.*", ""),
        (r"^'(.*)' does not support zero arguments$", r"\1() needs arguments"),
        (r"^Function '(\w+)' user-defined coercion failed with: (?:\w+ error: )?(.*)", r"\1(): \2"),
        (
            r"^Failed to coerce arguments to satisfy a call to '(.*?)' .*?coercion from (.*?) to the signature (.*)$",
            lambda m: _wrong_arguments(m[1], m[2], m[3]),
        ),
        (
            r"^Can not find compatible types to compare (\S+) with \[List\(.*",
            r"\1 can't be compared with a list: for the values of a list, write IN $name without brackets",
        ),
        (
            r"^Cannot get result type for temporal operation (.*?) \* (.*?): .*",
            "an interval can't be multiplied: write INTERVAL '2 days', or INTERVAL $n DAY with a parameter",
        ),
        (
            r"^expected identifier, found (\$\w+) .*",
            r"\1 stands where the name of a table does: a file whose path is a parameter is read(\1)",
        ),
        (
            r"^Invalid qualifier (.*)",
            r"there is no table \1; unnest(\1) in SELECT makes columns of the fields of a struct",
        ),
        (
            r"^The context currently only supports a single SQL statement$",
            "the query has several statements: give them one by one",
        ),
        (r"^Unsupported SQL type (\w+).*", lambda m: missing_type(m[1])),
        (r"^Operator (\S+) is not yet supported$", r"there is no operator \1"),
        (r"^Unsupported binary operator: (\S+)$", r"there is no operator \1"),
        (
            r"^Dot access not supported.*?: Identifier\(Ident \{ value: \"(.*?)\".*",
            r'the name before .\1 is a word of SQL: put it in double quotes, as in "user".\1',
        ),
        (
            r"^Dot access not supported.*?: Function.*?value: \"(.*?)\".* args: None,.*",
            r'\1 is a word of SQL: put it in double quotes, "\1"',
        ),
        (r"^Dot access not supported.*", "a function is called as f(x), not x.f()"),
        (r"^Unsupported ast node in sqltorel: (\w+).*", lambda m: f"{m[1].upper()} is not supported"),
        (r",? ?(?:got|found)?:? ?\w+ ?[({].*\bspan: Span\(.*", ""),
        (r"^Unsupported ast node (\w+) \{.*", lambda m: f"{m[1].upper()} is not supported"),
        (
            r"^table 'datafusion\.(?!public\.)(.*)' not found$",
            r"there is no table \1: write FROM '\1' for a file",
        ),
        (r"^table function '(.*)' not found$", r"there is no table function \1()"),
        (r"^DDL not supported: CreateMemoryTable$", "SELECT INTO is not supported"),
    )
]

#: Codes of messages by their beginning, as `_MESSAGES` says them.
_CODES = {"there is no column ": "MMF-PLN-002", "there is no table ": "MMF-PLN-006"}


def _cause(text: str) -> str:
    failed_rule = re.search(r"Optimizer rule '\w+' failed", text) and "Assertion failed" in text
    text = _without_prefixes(_REPORT.sub("", text.rsplit("caused by\n", maxsplit=1)[-1]).strip())
    if failed_rule:
        return "DataFusion can't plan this query: write subqueries, ANY and ALL outside of a WHERE as joins"
    text = text.replace("Error during planning: ", "")  # of each signature that does not fit
    text = _FIELDS.sub(_listed_columns, _LEAF.sub("", text))
    text = _UNSUPPORTED.sub(lambda m: f"not supported: {m[1]}", text)
    twice = _ONE_NAME.match(text)
    if twice is not None:
        return f"DataFusion takes two expressions for one another, both called {twice[1]}: compute one in a subquery"
    unsupported = _NO_PLAN.match(text)
    if unsupported is not None:
        shown = _SHOWN.get(unsupported[1], unsupported[1])
        return f"DataFusion can't run {shown}: write it as a join"
    return text


def _listed_columns(match: re.Match[str]) -> str:
    names = [*dict.fromkeys(name.strip('"').replace('""', '"') for name in _FIELD.findall(match[1]))]
    shown = [*names[:_MOST_COLUMNS], "…"] if len(names) > _MOST_COLUMNS else names
    return f"; the columns are {', '.join(shown)}" if names else ""


def _wrong_arguments(function: str, given: str, signature: str) -> str:
    """Return the error for arguments that a function does not take: too many or few, or of other types."""
    exact = re.fullmatch(r"Exact\((.*)\)(?: failed)?", signature)
    wanted, count = _count(exact[1] if exact else given), _count(given)
    if wanted == count:
        return f"{function}() takes no {given}: cast the arguments"
    return f"{function}() takes {wanted} argument{'s' * (wanted > 1)}, and {count} are given"


def _count(listed: str) -> int:
    """Return the number of types in a list of them, some of which may be nested."""
    while (flat := re.sub(r"[(<\[{][^(<\[{)>\]}]*[)>\]}]", "", listed)) != listed:
        listed = flat
    return listed.count(",") + 1


_BEGIN, _END = "mmflow refuses: ", " :refused"


def build_refusal(message: str) -> PlanError:
    """Return an error to raise in a function that DataFusion calls."""
    return PlanError(f"{_BEGIN}{message}{_END}")


def find_refusal(text: str) -> str | None:
    """Return the message of a `build_refusal` from the text of DataFusion's error. None: it holds no refusal."""
    _, begin, rest = text.partition(_BEGIN)
    message, end, _ = rest.partition(_END)
    return message.replace("\\'", "'").replace("\\\\", "\\") if begin and end else None


@contextmanager
def report_planner_bugs(action: str) -> Iterator[None]:
    """Turn an unexpected error of the planner into one that asks for a report.

    Tests let unexpected errors through (`tests/conftest.py`), so that none is taken for a refusal.

    Raises:
        PlanError: The block raised an error that is no MmflowError.
    """
    try:
        yield
    except MmflowError:
        raise
    except Exception as error:
        raise bug_error(error, action) from error


def build_bug_report(error: Exception, action: str) -> Exception:
    """Return the error for people who wrote the query."""
    return PlanError(
        f"mmflow could not {action}, a bug: {type(error).__name__}: {error}; "
        "please report it (--traceback shows where)"
    )


#: Error for a bug. Tests replace it by one that leaves the bug as it is.
bug_error = build_bug_report
