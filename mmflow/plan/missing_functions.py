"""Functions and types that DataFusion 55 does not have: what to write for those of DuckDB."""

from __future__ import annotations

from mmflow.lazy import difflib

__all__ = ["missing_function", "missing_type"]

#: What to write for functions of DuckDB.
_OF_DUCKDB = {
    "approx_count_distinct": "approx_distinct(x)",
    "approx_quantile": "approx_percentile_cont(x, 0.5)",
    "arg_max": "first_value(x ORDER BY y DESC NULLS LAST)",
    "arg_min": "first_value(x ORDER BY y)",
    "array": "array_agg(x)",
    "count_if": "count(*) FILTER (WHERE condition)",
    "date_add": "d + INTERVAL '1 day'",
    "date_diff": "d2 - d1, or date_part('year', d2) - date_part('year', d1)",
    "date_sub": "d - INTERVAL '1 day'",
    "datediff": "d2 - d1, or date_part('year', d2) - date_part('year', d1)",
    "day": "date_part('day', d)",
    "dayofweek": "date_part('dow', d)",
    "dayofyear": "date_part('doy', d)",
    "epoch": "date_part('epoch', t)",
    "epoch_ms": "date_part('epoch', t) * 1000",
    "first": "first_value(x ORDER BY y)",
    "format": "concat(…), or to_char(d, '%Y')",
    "hour": "date_part('hour', t)",
    "if": "CASE WHEN condition THEN x ELSE y END",
    "iff": "CASE WHEN condition THEN x ELSE y END",
    "last": "last_value(x ORDER BY y)",
    "last_day": "date_trunc('month', d) + INTERVAL '1 month' - INTERVAL '1 day'",
    "len": "length(text), or array_length(list)",
    "list": "array_agg(x)",
    "list_aggregate": "unnest(list), and aggregate its rows",
    "list_contains": "array_has(list, x)",
    "list_filter": "a function of Python (mf.udf)",
    "list_reduce": "a function of Python (mf.udf)",
    "list_transform": "a function of Python (mf.udf)",
    "list_value": "[x, y]",
    "max_by": "first_value(x ORDER BY y DESC NULLS LAST)",
    "min_by": "first_value(x ORDER BY y)",
    "minute": "date_part('minute', t)",
    "mod": "a % b",
    "month": "date_part('month', d)",
    "printf": "concat(…), or to_char(d, '%Y')",
    "quarter": "date_part('quarter', d)",
    "regexp_extract": "(regexp_match(text, 'pattern'))[1]",
    "regexp_matches": "regexp_like(text, 'pattern')",
    "second": "date_part('second', t)",
    "sign": "signum(x)",
    "str_split": "string_to_array(text, '-')",
    "strftime": "to_char(d, '%Y-%m')",
    "string_split": "string_to_array(text, '-')",
    "strlen": "octet_length(text)",
    "strptime": "to_timestamp(text, '%Y-%m-%d')",
    "struct_pack": "{'a': x}",
    "time_bucket": "date_bin(INTERVAL '15 minutes', t)",
    "try_strptime": "to_timestamp(text, '%Y-%m-%d')",
    "typeof": "arrow_typeof(x)",
    "week": "date_part('week', d)",
    "year": "date_part('year', d)",
}
#: Window functions, which are not found without OVER.
_WINDOWS = frozenset(
    ("cume_dist", "dense_rank", "lag", "lead", "ntile", "percent_rank", "rank", "row_number"),
)
#: Types as DataFusion calls them, by their names in DuckDB.
_TYPES = {
    "BIT": "BYTEA", "BLOB": "BYTEA", "HUGEINT": "DECIMAL(38, 0)", "UBIGINT": "BIGINT UNSIGNED",
    "UHUGEINT": "DECIMAL(38, 0)", "UINTEGER": "INT UNSIGNED", "USMALLINT": "SMALLINT UNSIGNED",
    "UTINYINT": "TINYINT UNSIGNED",
}  # fmt: skip


def missing_type(name: str) -> str:
    """Return the error for a type that does not exist."""
    written = _TYPES.get(name.upper(), "BIGINT, DOUBLE, DECIMAL(38, 0), VARCHAR or BYTEA, for instance")
    return f"there is no type {name}: write {written}"


def missing_function(name: str, near: str) -> str:
    """Return the error for a function that does not exist.

    Args:
        name: Name of the function.
        near: Name that DataFusion proposes, however far it is.
    """
    if name in _WINDOWS:
        return f"{name}() is a function of windows: write {name}(…) OVER (ORDER BY …)"
    if name in _OF_DUCKDB:
        return f"there is no function {name}(): write {_OF_DUCKDB[name]}"
    close = difflib.get_close_matches(name, [near], 1)
    return f"there is no function {name}()" + (f"; did you mean {near}()?" if close else "")
