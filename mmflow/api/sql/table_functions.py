"""Table functions of SQL that read files: the readers of Python, with the same options.

    FROM read_csv('x/*.csv', delimiter => ';', schema => {'a': 'int64'}) AS x
         '--------------- "read_csv('x/*.csv', …)", the name of a table ---'

Values of options are expressions without columns; DataFusion computes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmflow.errors import PlanError
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.tokens import Token, closing, quoted, replaced, split_arguments, tokens

__all__ = ["READERS", "Call", "with_table_functions"]

#: Readers of a session by their names in SQL.
READERS = {
    "read": "read",
    "read_arrow": "read_arrow",
    "read_avro": "read_avro",
    "read_csv": "read_csv",
    "read_delta": "read_delta",
    "read_excel": "read_excel",
    "read_fwf": "read_fwf",
    "read_json": "read_json",
    "read_ndjson": "read_ndjson",
    "read_npy": "read_npy",
    "read_orc": "read_orc",
    "read_parquet": "read_parquet",
    "read_records": "read_records",
    "read_text": "read_text",
}
#: Types by their names in annotations. Options that accept others, too, are left to the reader.
_TYPES = {"str": str, "bool": bool, "int": int, "None": type(None)}
#: Options as DuckDB names them, and what they are here.
_OF_DUCKDB = {
    "columns": "schema", "dateformat": "date_format", "decimal_separator": "decimal", "dtypes": "schema",
    "escape_char": "escape", "hive_partitioning": "hive", "ignore_errors": "on_bad_record", "nullstr": "null",
    "quote_char": "quote", "sep": "delimiter", "timestampformat": "timestamp_format", "types": "schema",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """Call of a table function.

    Attributes:
        name: Name of the function.
        text: Call as the query writes it, which is the name of its table.
        arguments: Arguments by name; the first is `path`.
    """

    name: str
    text: str
    arguments: Mapping[str, Any]

    @property
    def reader(self) -> str:
        """Name of the session's method that reads."""
        return READERS[self.name]

    def options_of(self, reader: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments that are not null.

        Raises:
            PlanError: The path is missing, or the reader has no such option.
        """
        parameters = inspect.signature(reader).parameters
        known = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        for option in () if len(known) < len(parameters) else self.arguments:
            if option not in known:
                duckdb = _OF_DUCKDB.get(option)
                close = [duckdb] if duckdb in known else difflib.get_close_matches(option, known, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                options = ", ".join(known[1:])
                raise PlanError(f"SQL: {self.name} has no option {option!r}; {hint}its options are {options}")
            kinds = str(parameters[option].annotation if option in known else "").split(" | ")
            value = self.arguments[option]
            if (
                _TYPES.keys() >= set(kinds)
                and type(value) not in map(_TYPES.get, kinds)
                and value is not None
            ):
                kind = " or ".join(k for k in kinds if k != "None")
                raise PlanError(f"SQL: {self.name}: {option} => {value!r} must be of type {kind}")
        path = self.arguments.get("path")
        if not isinstance(path, str | list) or not all(isinstance(p, str) for p in path):
            raise PlanError(f"SQL: {self.name} needs a path, or a list of them: {self.name}('file')")
        return {option: value for option, value in self.arguments.items() if value is not None}


def with_table_functions(query: str, constant: Callable[[str], Any]) -> tuple[str, list[Call]]:
    """Return a query with the name of a table for each call of a reader, and the calls.

    Args:
        query: SQL.
        constant: Function that computes the value of an expression.

    Raises:
        PlanError: An argument is given twice, or is no constant.
    """
    listed = tokens(query)
    calls: dict[str, Call] = {}
    parts: list[tuple[int, int, str]] = []
    for number, token in enumerate(listed[:-1]):
        name = token.text.lower()
        if name not in READERS or token.kind != "word" or listed[number + 1].text != "(":
            continue
        end = closing(listed, number + 1)
        if end is None or (parts and token.start < parts[-1][1]):  # unclosed, or within another call
            continue
        text = query[token.start : listed[end].end]
        if text not in calls:
            calls[text] = Call(name, text, _arguments(name, query, listed[number + 2 : end], constant))
        parts.append((token.start, listed[end].end, quoted(text)))
    return replaced(query, parts), list(calls.values())


def _arguments(
    name: str, query: str, listed: Sequence[Token], constant: Callable[[str], Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name; the first is `path`."""
    given: dict[str, Any] = {}
    for argument in split_arguments(listed):
        named = (
            len(argument) > 2
            and argument[0].kind in ("word", "quoted")
            and argument[1].text in ("=>", ":=", "=")
        )
        option = argument[0].name if named else "path"
        if option in given:
            twice = (
                f"{option} is given twice" if named else "write the options behind the path as name => value"
            )
            raise PlanError(f"SQL: {name}: {twice}")
        value = argument[2:] if named else argument
        text = query[value[0].start : value[-1].end]
        try:
            given[option] = constant(text)
        except PlanError as error:
            raise PlanError(f"SQL: {name}: {option} => {text} is no constant") from error
    return given
