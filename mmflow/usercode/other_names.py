"""Names that Polars, pandas, DuckDB, Dask and Ray Data have for what mmflow calls otherwise, for error messages.

Only names whose nearest name of mmflow would mislead, or is none.
"""

from __future__ import annotations

__all__ = ["find_other_name"]

_AGGREGATES = (
    "first",
    "last",
    "max",
    "mean",
    "median",
    "min",
    "n_unique",
    "quantile",
    "std",
    "sum",
    "var",
)
_ROWS_OF_ALL = {name: f"agg(mf.selectors.numeric().{name}())" for name in _AGGREGATES}
_OF_GROUPS = {name: f"agg(mf.col('x').{name}())" for name in _AGGREGATES}
_OF_COLUMNS = {name: f"mf.col('x').{name}()" for name in _AGGREGATES}

#: What to write instead, by the owner of the name.
_OTHERS: dict[str, dict[str, str]] = {
    "Dataset": _ROWS_OF_ALL | {
        "aggregate": "agg()", "apply": "map_batches() or map()", "assign": "with_columns()", "cache": "persist()",
        "cast": "with_columns(mf.col('x').cast('int64'))", "collect": "to_polars(), to_arrow() or to_pandas()",
        "compute": "to_polars(), to_arrow() or to_pandas()", "dtypes": "schema", "fetch": "head()",
        "get_column": "select()", "glimpse": "show() or describe()", "groupby": "group_by()", "height": "count()",
        "is_empty": "len(ds) == 0", "item": "to_dicts()", "iter_rows": "iter_batches() or to_dicts()",
        "lazy": "the dataset as it is: it is lazy", "map_partitions": "map_batches()", "map_rows": "map()",
        "materialize": "persist()", "melt": "unpivot()", "merge": "join()", "null_count": "describe()",
        "order_by": "sort()", "query": "mf.sql()", "rows": "to_dicts()", "shape": "count() and columns",
        "sort_values": "sort()", "sql": "mf.sql()", "take_all": "to_dicts()", "to_dict": "to_dicts()",
        "values": "to_numpy()", "where": "filter()", "width": "len(ds.columns)", "with_column": "with_columns()",
    },
    "GroupedDataset": _OF_GROUPS | {"aggregate": "agg()", "apply": "agg()", "map_groups": "agg() with mf.udaf"},
    "Expr": {
        "apply": "mf.udf", "asc": "sort('x')", "astype": "cast()", "desc": "sort('x', descending=True)",
        "eq_missing": "(a == b) | (a.is_null() & b.is_null())",
        "explode": "list.explode(), or explode() of the dataset",
        "filter": "mf.when(condition).then(mf.col('x')) in front of the aggregate", "hash": "mf.udf",
        "is_finite": "abs() < float('inf')", "is_not_nan": "~x.is_nan()", "isin": "is_in()", "isna": "is_null()",
        "len": "mf.len()", "map_batches": "mf.udf", "map_elements": "mf.udf", "nunique": "n_unique()",
        "replace": "mf.when(x == old).then(new).otherwise(x)",
        "replace_strict": "mf.when(x == old).then(new)", "sort": "sort() of the dataset",
        "unique": "unique() of the dataset", "value_counts": "value_counts() of the dataset",
    },
    "str": {
        "to_date": "strptime('date', '%Y-%m-%d')", "to_datetime": "strptime('timestamp', '%Y-%m-%d %H:%M:%S')",
        "lower": "to_lowercase()", "upper": "to_uppercase()", "len": "len_chars()", "head": "slice(0, n)",
        "zfill": "mf.functions.lpad(x, mf.lit(n), mf.lit('0'))", "strip": "strip_chars()",
        "pad_start": "mf.functions.lpad(x, mf.lit(n))", "pad_end": "mf.functions.rpad(x, mf.lit(n))",
    },
    "mmflow": _OF_COLUMNS | {
        "DataFrame": "mf.from_arrow()", "LazyFrame": "mf.from_arrow()", "all": "mf.selectors.all()",
        "all_horizontal": "a & b", "any_horizontal": "a | b", "exclude": "mf.selectors.exclude()",
        "format": "mf.concat_str()", "from_dict": "mf.from_arrow()", "from_dicts": "mf.from_arrow()",
        "from_pandas": "mf.from_arrow()", "max_horizontal": "mf.functions.greatest()",
        "min_horizontal": "mf.functions.least()", "scan_csv": "mf.read_csv()", "scan_ndjson": "mf.read_ndjson()",
        "scan_parquet": "mf.read_parquet()", "sum_horizontal": "a + b", "struct": "mf.functions.named_struct()",
    },
    "read_csv": {"separator": "delimiter", "sep": "delimiter", "quote_char": "quote", "null_values": "null",
                 "na_values": "null", "schema_overrides": "schema", "dtypes": "schema", "dtype": "schema",
                 "columns": "select() of the dataset", "usecols": "select() of the dataset",
                 "n_rows": "head() of the dataset", "nrows": "head() of the dataset", "decimal_comma": "decimal=','",
                 "dateformat": "date_format", "timestampformat": "timestamp_format", "decimal_separator": "decimal",
                 "dayfirst": "date_format='%d/%m/%Y'", "parse_dates": "date_format"},
    "sort": {"by": "names as they are: sort('a', 'b')", "ascending": "descending", "reverse": "descending"},
}  # fmt: skip


def find_other_name(owner: str, name: str) -> str | None:
    """Return what to write for a name of another library; None: it is not known.

    >>> find_other_name("Dataset", "where")
    'filter()'
    """
    return _OTHERS.get(owner, {}).get(name)
