"""Several datasets in one: joins and unions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeVar, get_args

import pyarrow as pa
from datafusion import functions

from mmflow.api import expressions as ex
from mmflow.api.verbs.common_types import cast_column, common_type, shown_type
from mmflow.api.verbs.core import DatasetCore
from mmflow.errors import ConfigError, PlanError
from mmflow.plan.catalog import planning
from mmflow.usercode.tracebacks import public

if TYPE_CHECKING:
    from mmflow.api.expressions import Raw

__all__ = ["JoinKind", "JoiningVerbs", "concat"]

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti", "cross"]


class JoiningVerbs(DatasetCore):
    """Verbs that combine datasets of one session."""

    def join(
        self,
        other: Self,
        on: str | Sequence[str] | None = None,
        how: JoinKind = "inner",
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        suffix: str = "_right",
    ) -> Self:
        """Return rows of both datasets with equal keys.

        Parameters
        ----------
        other
            Dataset, of any session.
        on
            Key columns of both sides; they come once. Nulls equal nothing.
        how
            `inner`, `left`, `right`, `full`, `semi` (rows with a match), `anti` (rows without one), or `cross` (every
            row with every other, without keys).
        left_on, right_on
            Key columns of the two sides, where their names differ.
        suffix
            Text added to columns of the other side whose name is taken.

        Raises
        ------
        PlanError
            An unknown column or kind of join, keys of types that no type holds exactly, or a name that is there twice.
        ConfigError
            Keys are missing, or given both ways.
        Examples
        --------
        >>> import mmflow as mf
        >>> left, right = mf.from_arrow({"k": [1, 2], "a": [5, 6]}), mf.from_arrow({"k": [2], "b": [7]})
        >>> left.join(right, "k", "left").sort("k").to_arrow().to_pydict()
        {'k': [1, 2], 'a': [5, 6], 'b': [None, 7]}
        """
        if how not in get_args(JoinKind):
            raise PlanError(f"how = {how!r}: must be inner, left, right, full, semi, anti or cross")
        if how == "cross" and not (on is left_on is right_on is None):
            raise ConfigError("join: a cross join has no keys; give none, or another how")
        left_keys, right_keys = ([], []) if how == "cross" else _keys(on, left_on, right_on)
        self._check(left_keys)
        other._check(right_keys)
        mark = "__right_"
        while any(n.startswith(mark) for n in self.columns):
            mark = f"_{mark}"
        marked = {n: f"{mark}{i}" for i, n in enumerate(other.columns)}
        with planning("join"):
            right = other.frame.select(*[ex.quoted_column(n).alias(m) for n, m in marked.items()])
            # By expressions: names that `join` is given are parsed as SQL's, so that "Id" is id and "a.b" the b of a.
            equal = [self._equal(other, k, r, marked[r]) for k, r in zip(left_keys, right_keys, strict=True)]
            if how == "cross":
                joined = self.frame.join_on(right, ex.literal(True), how="inner")
            else:
                joined = self.frame.join_on(right, *equal, how=how)
            if how in ("semi", "anti"):
                return self._new(joined)
            made = self._joined(other, marked, how, on is not None, left_keys, right_keys, suffix)
            return self._new(joined.select(*made))

    def _equal(self, other: Self, left: str, right: str, marked: str) -> Raw:
        """Return the condition that two keys are equal, as a type that holds both exactly."""
        one, two = self._plan_schema().field(left).type, other._plan_schema().field(right).type
        both = common_type(one, two)
        if both is None:
            raise PlanError(
                f"join: the keys {left!r} ({shown_type(one)}) and {right!r} ({shown_type(two)}) are of types that no "
                "type holds exactly; cast one of them"
            )
        return cast_column(left, one, both) == cast_column(marked, two, both)

    def _joined(
        self,
        other: Self,
        marked: Mapping[str, str],
        how: str,
        shared: bool,
        left_keys: Sequence[str],
        right_keys: Sequence[str],
        suffix: str,
    ) -> list[Raw]:
        """Return the output columns of a join: shared keys once, from whichever side has them."""
        made, taken = [], set()
        for name in self.columns:
            value = ex.quoted_column(name)
            if shared and name in left_keys and how in ("right", "full"):
                value = functions.coalesce(value, ex.quoted_column(marked[right_keys[left_keys.index(name)]]))
            made.append(value.alias(name))
            taken.add(name)
        for name in other.columns:
            if shared and name in right_keys:
                continue
            new = name if name not in taken else name + suffix
            if new in taken:
                raise PlanError(f"join: there would be two columns {new!r}; give another suffix")
            taken.add(new)
            made.append(ex.quoted_column(marked[name]).alias(new))
        return made

    def union(self, *others: Self) -> Self:
        """Return the rows of all datasets, one behind the other, duplicates kept, columns matched by position.

        `mf.concat` matches them by name.

        Raises
        ------
        PlanError
            Another number of columns, or other types.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"a": [1]})
        >>> ds.union(ds, ds).count()
        3
        """
        own = self._plan_schema()
        for number, other in enumerate(others, 2):
            given = other._plan_schema()
            if len(given) != len(own):
                raise PlanError(f"union: dataset {number} has {len(given)} columns, the first one {len(own)}")
            for mine, its in zip(own, given, strict=True):
                if mine.type != its.type:
                    raise PlanError(
                        f"union: column {its.name!r} of dataset {number} is {shown_type(its.type)}, and column "
                        f"{mine.name!r} of the first one {shown_type(mine.type)}; cast one of them, or match columns "
                        "by name: mf.concat"
                    )
        frame = self.frame
        with planning("union"):
            for other in others:
                frame = frame.union(other.frame)
            return self._new(frame)

    def _aligned(self, schema: pa.Schema) -> Self:
        """Return the columns of a schema by name: those that are missing are null."""
        made, own = self, self.columns
        missing = [f for f in schema if f.name not in own]
        # Substrait's casts lose the names of the fields of structs.
        if nested := [f for f in missing if pa.types.is_nested(f.type)]:
            wide = pa.schema([*self._plan_schema(), *nested])
            from mmflow.worker.row_streams import append_nulls  # noqa: PLC0415  (slow)

            made, own = self._streamed(partial(append_nulls, nested), wide, "nulls"), wide.names
        with planning("concat"):
            columns = [
                ex.quoted_column(f.name) if f.name in own else ex.literal(None).cast(f.type).alias(f.name)
                for f in schema
            ]
            return made._new(made.frame.select(*columns))


_D = TypeVar("_D", bound=JoiningVerbs)


@public
def concat(datasets: Iterable[_D], how: Literal["vertical", "diagonal"] = "vertical") -> _D:
    """Return the rows of all datasets, one behind the other, with columns matched by name.

    Parameters
    ----------
    datasets
        Datasets of one session.
    how
        `vertical`: all have the same columns, in any order. `diagonal`: a column that one does not have is null there.

    Returns
    -------
    Dataset
        Columns in the order in which they first come.

    Raises
    ------
    PlanError
        No dataset, another word for `how`, columns that are missing, or columns of one name and different types.

    Examples
    --------
    >>> import mmflow as mf
    >>> one, other = mf.from_arrow({"a": [1], "b": ["x"]}), mf.from_arrow({"b": ["y"], "c": [2.5]})
    >>> mf.concat([one, other], how="diagonal").to_arrow().to_pydict()
    {'a': [1, None], 'b': ['x', 'y'], 'c': [None, 2.5]}
    """
    given = list(datasets)
    if how not in ("vertical", "diagonal"):
        raise PlanError(f"concat: how = {how!r}: must be vertical or diagonal")
    if not given:
        raise PlanError("concat: give at least one dataset")
    fields: dict[str, pa.Field] = {}
    for number, dataset in enumerate(given, 1):
        schema = dataset._plan_schema()
        for field in schema:
            before = fields.setdefault(field.name, field)
            if before.type != field.type:
                raise PlanError(
                    f"concat: column {field.name!r} is {shown_type(field.type)} in dataset {number}, and "
                    f"{shown_type(before.type)} before; cast one of them"
                )
        if how == "vertical" and (other := set(fields).symmetric_difference(schema.names)):
            raise PlanError(
                f"concat: column {min(other)!r} is not in every dataset; how='diagonal' has nulls where it is missing"
            )
    wanted = pa.schema(list(fields.values()))
    first, *others = [d if d.columns == wanted.names else d._aligned(wanted) for d in given]
    return first.union(*others)


def _keys(
    on: str | Sequence[str] | None, left_on: str | Sequence[str] | None, right_on: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    def listed(value: str | Sequence[str] | None) -> list[str]:
        return [value] if isinstance(value, str) else list(value or ())

    if on is not None and (left_on is not None or right_on is not None):
        raise ConfigError("join: give either on, or left_on and right_on")
    left, right = (listed(on), listed(on)) if on is not None else (listed(left_on), listed(right_on))
    if not left or len(left) != len(right):
        raise ConfigError("join: give on, or as many left_on as right_on columns")
    return left, right
