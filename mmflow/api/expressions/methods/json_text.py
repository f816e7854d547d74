"""Methods of text of JSON, `col("doc").json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmflow.api.expressions.methods.namespace import Namespace
from mmflow.api.expressions.tree.called import called
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError
from mmflow.plan.functions.json_values import JsonFunction, parse_value_path

if TYPE_CHECKING:
    from mmflow.api.expressions.expr import Expr

__all__ = ["JsonNamespace"]


class JsonNamespace(Namespace):
    """Methods of text of JSON. A path is a key, or `$` and steps: `$.a[0]["b c"]`."""

    __slots__ = ()

    _label = "json"
    _families = ("text",)

    def get(self, path: str | int) -> Expr:
        """Return the value at a path as text of JSON; null where there is none. A number is the index of an item.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"doc": ['{"a": [1, 2.50]}', "{}"]})
        >>> ds.select(mf.col("doc").json.get("$.a[1]")).to_arrow().to_pydict()
        {'doc': ['2.50', None]}
        """
        return self._call("get", "json_extract", path)

    def get_string(self, path: str | int) -> Expr:
        """Return the value at a path as text, without quotes and escapes; null for null, and where there is none.

        >>> import mmflow as mf
        >>> mf.from_arrow({"doc": ['{"a": "x"}']}).select(mf.col("doc").json.get_string("a")).to_arrow().to_pydict()
        {'doc': ['x']}
        """
        return self._call("get_string", "json_extract_string", path)

    def type(self, path: str | int = "$") -> Expr:
        """Return OBJECT, ARRAY, VARCHAR, BOOLEAN, NULL, BIGINT, UBIGINT or DOUBLE."""
        return self._call("type", "json_type", path)

    def array_length(self, path: str | int = "$") -> Expr:
        """Return the number of items of a list; 0 for other values."""
        return self._call("array_length", "json_array_length", path)

    def keys(self, path: str | int = "$") -> Expr:
        """Return the keys of an object as a list; an empty one for other values."""
        return self._call("keys", "json_keys", path)

    def valid(self) -> Expr:
        """Return whether text is JSON."""
        return self._call("valid", "json_valid", "$")

    def _call(self, method: str, function: str, path: str | int) -> Expr:
        if isinstance(path, bool) or not isinstance(path, str | int):
            raise ConfigError(f"json.{method}({path!r}): a path is text, or the number of an item")
        text = f"$[{path}]" if isinstance(path, int) else path
        try:
            parse_value_path(text)
        except ValueError as error:
            raise ConfigError(f"json.{method}: {error}") from error

        def build(operand: Resolved) -> Raw:
            made: Raw = called(JsonFunction(function))(operand.raw, literal(text))
            return made

        return self._apply(method, build)
