"""Methods of text, `col("s").str`: regular expressions are those of Rust's regex crate, as in Polars."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as types
from datafusion import functions as F  # noqa: N812

from mmflow.api.expressions.comparing import family
from mmflow.api.expressions.methods.namespace import Namespace
from mmflow.api.expressions.tree.literals import literal
from mmflow.api.expressions.tree.nodes import Raw
from mmflow.api.expressions.tree.scope import Resolved
from mmflow.errors import ConfigError, PlanError
from mmflow.formats.schemas.schema import parse_type
from mmflow.lazy.patterns import lazy_regex

if TYPE_CHECKING:
    from mmflow.api.expressions.expr import Expr

__all__ = ["TextNamespace"]

#: White space of Unicode, which `strip_chars()` removes.
_BLANKS = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)


class TextNamespace(Namespace):
    """Methods of text. Arguments that are no expressions are literals."""

    __slots__ = ()

    _label = "str"
    _families = ("text",)

    def contains(self, pattern: str, *, literal: bool = False) -> Expr:
        """Return whether a regular expression matches anywhere; `literal`: whether text is contained.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"s": ["item 12", "other"]})
        >>> ds.filter(mf.col("s").str.contains("[0-9]+")).to_arrow().to_pydict()
        {'s': ['item 12']}
        """
        function = F.contains if literal else F.regexp_like
        return self._apply("contains", lambda e, p: function(e.raw, _text("contains", p)), pattern)

    def starts_with(self, prefix: str | Expr) -> Expr:
        """Return whether text starts with a prefix."""
        return self._apply("starts_with", lambda e, p: F.starts_with(e.raw, _text("starts_with", p)), prefix)

    def ends_with(self, suffix: str | Expr) -> Expr:
        """Return whether text ends with a suffix."""
        return self._apply("ends_with", lambda e, p: F.ends_with(e.raw, _text("ends_with", p)), suffix)

    def extract(self, pattern: str, group_index: int = 1) -> Expr:
        """Return a group of the first match of a regular expression; 0 is the match. Null where nothing matches.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"s": ["a=1", "b"]})
        >>> ds.select(mf.col("s").str.extract("([a-z])=([0-9])", 2)).to_arrow().to_pydict()
        {'s': ['1', None]}
        """
        if isinstance(group_index, bool) or not isinstance(group_index, int) or group_index < 0:
            raise ConfigError(f"str.extract(group_index={group_index!r}): must be an integer of at least 0")
        whole = f"({_pattern('extract', pattern)})"
        return self._apply(
            "extract",
            lambda e: F.array_element(F.regexp_match(e.raw, literal(whole)), literal(group_index + 1)),
        )

    def replace(self, pattern: str, value: str, *, literal: bool = False) -> Expr:
        r"""Return text with the first match of a regular expression replaced; `$1` in `value` is a group.

        Parameters
        ----------
        pattern
            Regular expression.
        value
            Text in its place. `$1` and `${1}` are groups, `$$` is a dollar.
        literal
            Whether both are plain text.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"s": ["a1b2"]}).select(mf.col("s").str.replace("([0-9])", "<$1>")).to_arrow().to_pydict()
        {'s': ['a<1>b2']}
        """
        return self._replace("replace", pattern, value, literal, "")

    def replace_all(self, pattern: str, value: str, *, literal: bool = False) -> Expr:
        """Return text with every match of a regular expression replaced. Parameters are those of `replace`."""
        return self._replace("replace_all", pattern, value, literal, "g")

    def _replace(self, method: str, pattern: str, value: str, plain: bool, flags: str) -> Expr:
        _pattern(method, pattern)
        if plain and not pattern:
            raise ConfigError(f"str.{method}(): an empty text can't be replaced")
        if plain and flags:
            return self._apply(method, lambda e: F.replace(e.raw, literal(pattern), literal(value)))
        if plain:
            return self._apply(method, lambda e: _replaced_once(e.raw, pattern, value))
        put = _replacement(method, value)
        return self._apply(
            method,
            lambda e: F.regexp_replace(
                e.raw, literal(pattern), literal(put), literal(flags) if flags else None
            ),
        )

    def split(self, by: str) -> Expr:
        """Return the parts of text between separators, as a list.

        >>> import mmflow as mf
        >>> mf.from_arrow({"s": ["a,b"]}).select(mf.col("s").str.split(",")).to_arrow().to_pydict()
        {'s': [['a', 'b']]}
        """
        if not isinstance(by, str) or not by:
            raise ConfigError("str.split() takes a separator that is not empty")

        def build(operand: Resolved) -> Raw:
            # DataFusion makes no part of an empty text.
            empty = F.make_array(literal(""))
            return F.when(operand.raw == literal(""), empty).otherwise(
                F.string_to_array(operand.raw, literal(by))
            )

        return self._apply("split", build)

    def strip_chars(self, characters: str | None = None) -> Expr:
        """Return text without these characters at both ends; by default without white space.

        >>> import mmflow as mf
        >>> mf.from_arrow({"s": [" a "]}).select(mf.col("s").str.strip_chars()).to_arrow().to_pydict()
        {'s': ['a']}
        """
        return self._strip("strip_chars", F.btrim, characters)

    def strip_chars_start(self, characters: str | None = None) -> Expr:
        """Return text without these characters at its start; by default without white space."""
        return self._strip("strip_chars_start", F.ltrim, characters)

    def strip_chars_end(self, characters: str | None = None) -> Expr:
        """Return text without these characters at its end; by default without white space."""
        return self._strip("strip_chars_end", F.rtrim, characters)

    def _strip(self, method: str, function: Any, characters: str | None) -> Expr:
        removed = _BLANKS if characters is None else characters
        if not isinstance(removed, str):
            raise ConfigError(f"str.{method}({characters!r}): takes text")
        return self._apply(method, lambda e: function(e.raw, literal(removed)) if removed else e.raw)

    def strip_prefix(self, prefix: str) -> Expr:
        """Return text without a prefix, where it has it."""
        _pattern("strip_prefix", prefix)
        start = literal(len(prefix) + 1)
        return self._apply(
            "strip_prefix",
            lambda e: F.when(F.starts_with(e.raw, literal(prefix)), F.substr(e.raw, start)).otherwise(e.raw),
        )

    def strip_suffix(self, suffix: str) -> Expr:
        """Return text without a suffix, where it has it."""
        if not _pattern("strip_suffix", suffix):
            return self._apply("strip_suffix", lambda e: e.raw)
        kept = literal(-len(suffix))
        return self._apply(
            "strip_suffix",
            lambda e: F.when(F.ends_with(e.raw, literal(suffix)), F.left(e.raw, kept)).otherwise(e.raw),
        )

    def to_lowercase(self) -> Expr:
        """Return text in lower case.

        >>> import mmflow as mf
        >>> mf.from_arrow({"s": ["Ä"]}).select(mf.col("s").str.to_lowercase()).to_arrow().to_pydict()
        {'s': ['ä']}
        """
        return self._apply("to_lowercase", lambda e: F.lower(e.raw))

    def to_uppercase(self) -> Expr:
        """Return text in upper case."""
        return self._apply("to_uppercase", lambda e: F.upper(e.raw))

    def len_chars(self) -> Expr:
        """Return the number of characters (code points).

        >>> import mmflow as mf
        >>> s = mf.col("s").str
        >>> mf.from_arrow({"s": ["né"]}).select(chars=s.len_chars(), bytes=s.len_bytes()).to_arrow().to_pydict()
        {'chars': [2], 'bytes': [3]}
        """
        return self._apply("len_chars", lambda e: F.character_length(e.raw))

    def len_bytes(self) -> Expr:
        """Return the number of bytes in UTF-8."""
        return self._apply("len_bytes", lambda e: F.octet_length(e.raw))

    def slice(self, offset: int, length: int | None = None) -> Expr:
        """Return `length` characters from one on; a negative offset counts from the end.

        >>> import mmflow as mf
        >>> mf.from_arrow({"s": ["abcdef"]}).select(mf.col("s").str.slice(-3, 2)).to_arrow().to_pydict()
        {'s': ['de']}
        """
        for given in (offset, 0 if length is None else length):
            if isinstance(given, bool) or not isinstance(given, int):
                raise ConfigError(f"str.slice({offset!r}, {length!r}): takes integers")
        if length is not None and length < 0:
            raise ConfigError(f"str.slice({offset}, {length}): a length is 0 at least")
        return self._apply("slice", lambda e: _slice(e.raw, offset, length))

    def strptime(self, to: str | pa.DataType, format: str) -> Expr:
        """Return text as dates or timestamps; text of another form fails the run.

        Parameters
        ----------
        to
            `"date32"` or a timestamp type, such as `"timestamp[us]"`.
        format
            Form of the text, such as `"%Y-%m-%d %H:%M:%S"`, as in Polars.

        Raises
        ------
        ConfigError
            The type is no date and no timestamp without a zone.

        Examples
        --------
        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"s": ["31/12/1969"]})
        >>> ds.select(mf.col("s").str.strptime("date32", "%d/%m/%Y")).to_arrow()["s"][0].as_py().isoformat()
        '1969-12-31'
        """
        kind = parse_type(to)
        if types.is_date32(kind):
            return self._apply("strptime", lambda e: F.to_date(e.raw, literal(format)))
        if not types.is_timestamp(kind) or kind.tz is not None:
            raise ConfigError(f"str.strptime({kind}): must be date32, or a timestamp without a zone")
        read = {
            "s": F.to_timestamp_seconds, "ms": F.to_timestamp_millis, "us": F.to_timestamp_micros,
            "ns": F.to_timestamp_nanos,
        }[kind.unit]  # fmt: skip
        return self._apply("strptime", lambda e: read(e.raw, literal(format)))

    def to_integer(self, *, strict: bool = True) -> Expr:
        """Return decimal text as int64; `strict`: text of another form fails the run, otherwise it becomes null.

        >>> import mmflow as mf
        >>> ds = mf.from_arrow({"s": ["12", "x"]})
        >>> ds.select(mf.col("s").str.to_integer(strict=False)).to_arrow().to_pydict()
        {'s': [12, None]}
        """
        kind = pa.int64()
        return self._apply("to_integer", lambda e: e.raw.cast(kind) if strict else e.raw.try_cast(kind))


def _text(method: str, operand: Resolved) -> Raw:
    if family(operand.type) not in ("text", "null"):
        raise PlanError(f"str.{method}() takes text, but not {operand.shown()}")
    return operand.raw


def _pattern(method: str, pattern: object) -> str:
    if not isinstance(pattern, str):
        raise ConfigError(f"str.{method}({pattern!r}): takes text, no expression")
    return pattern


def _replaced_once(raw: Raw, text: str, value: str) -> Raw:
    place = F.strpos(raw, literal(text)).cast(pa.int64())
    before, behind = F.left(raw, place - literal(1)), F.substr(raw, place + literal(len(text)))
    return F.when(place > literal(0), F.concat(before, literal(value), behind)).otherwise(raw)


_DOLLAR = lazy_regex(r"\$(?:(\$)|(\d+)(?!\w)|\{(\d+)\}|)")


def _replacement(method: str, value: str) -> str:
    """Return Polars' replacement in the form of DataFusion's SQL, where a group is `\\1`."""
    _pattern(method, value)

    def changed(match: re.Match[str]) -> str:
        dollar, *groups = match.groups()
        number = next((g for g in groups if g), None)
        if dollar:
            return "$"
        if number is None or int(number) > 9:
            raise ConfigError(
                f"str.{method}(): {value!r} has a dollar that is no group from $0 to $9; write $$ for a dollar, and "
                "${1} where a letter or digit follows"
            )
        return rf"\{number}"

    if re.search(r"\\[0-9]", value):
        raise ConfigError(
            f"str.{method}(): {value!r} has a backslash before a digit, which is a group in SQL"
        )
    return _DOLLAR.sub(changed, value)


def _slice(raw: Raw, offset: int, length: int | None) -> Raw:
    if offset >= 0:
        start = literal(offset + 1)
        return F.substr(raw, start) if length is None else F.substring(raw, start, literal(length))
    tail = F.right(raw, literal(-offset))
    if length is None:
        return tail
    # As many characters of the length as lie before the text count.
    missing = literal(-offset) - F.least(F.character_length(raw).cast(pa.int64()), literal(-offset))
    return F.left(tail, F.greatest(literal(length) - missing, literal(0)))
