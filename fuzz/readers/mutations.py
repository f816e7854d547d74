"""Mutations that keep most of a file's structure, so that readers get further than its first check."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

__all__ = ["binary", "compact_thrift", "flatbuffer", "json_value", "sealed_lines", "text"]

Mutation = Callable[[random.Random, bytes], bytes]

_TOKENS = (
    b'"', b'""', b'",', b',"', b"'", b"\n", b"\r", b"\r\n", b"\n\n", b",", b",,,", b"\t", b";", b"|", b"\\", b"\\\\",
    b'\\"', b"\\u0000", b"\\ud800", b"\\udbff\\udfff", b"{", b"}", b"[", b"]", b":", b"null", b"true", b"NaN",
    b"Infinity", b"-0", b"1e999", b"-1e-999", b"9223372036854775808", b"18446744073709551616", b"0x1F", b"1_000",
    b"0000000000000000000001", b"1.", b".5", b"+1", b"2024-02-30", b"0000-00-00", b"9999-12-31T23:59:60Z",
    b"1677-09-21T00:12:43", b"2024-01-01T00:00:00+99:99", b"\0", b"\0" * 70, b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff",
    b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x1a", b"\x85", b"\xe2\x80\xa8", b"#", b" ",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 4096, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31)
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "little", "big")
_WIDE = (*_NUMBERS, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 53, (1 << 62) - 1, (1 << 63) - 1, 1 << 63)


def _place(rng: random.Random, size: int) -> int:
    return rng.choice((0, size, rng.randrange(size + 1), rng.randrange(size + 1), rng.randrange(size + 1)))


def _cut(rng: random.Random, data: bytes, limit: int = 600) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.randrange(rng.choice((2, 16, limit))))


def text(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return damaged text: tokens, numbers, lines and splices of other files."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = _place(rng, len(data))
        match rng.randrange(11):
            case 0 | 1:
                token = rng.choice(_TOKENS)
                data = data[:at] + token + data[at + rng.choice((0, 0, len(token))) :]
            case 2:
                lines = data.split(b"\n")
                i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[i : i + rng.choice((0, 1))] = [lines[j]] * rng.choice((0, 1, 2, 40))
                data = b"\n".join(lines)
            case 3:
                begin, end = _cut(rng, data)
                data = data[:begin] + data[end:]
            case 4:
                begin, end = _cut(rng, data)
                data = data[:at] + data[begin:end] + data[at:]
            case 5:
                other = rng.choice(others)
                begin, end = _cut(rng, other, 9000)
                data = data[:at] + other[begin:end] + data[at:]
            case 6:
                data = data[:at]
            case 7:
                run = rng.choice((b"[", b'{"a":', b"x", b"9", b",", b'"', b"\n", b"\\", b" ", b"\0"))
                data = data[:at] + run * rng.choice((3, 30, 70, 1100, 5000)) + data[at:]
            case 8:
                line_end = rng.choice((b"\r\n", b"\r", b"\n"))
                data = data.replace(b"\n", line_end, rng.choice((-1, 1, 5)))
            case 9:
                encoding = rng.choice(("utf-16-le", "utf-16", "utf-32", "latin-1", "utf-8-sig"))
                data = data.decode("utf-8", "replace").encode(encoding, "replace")
            case _:
                data = bits(rng, data)
        data = data[: 1 << 16]
    return data


def bits(rng: random.Random, data: bytes) -> bytes:
    """Return a copy with one byte changed."""
    if not data:
        return data
    changed = bytearray(data)
    at = rng.randrange(len(data))
    changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), 0, 255, 128, rng.randrange(256)))
    return bytes(changed)


def binary(
    rng: random.Random, data: bytes, others: Sequence[bytes], *, head: int = 0, tail: int = 0
) -> bytes:
    """Return damaged bytes; `head` and `tail` are the sizes of what describes the rest, which suffers most."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 2, 4, 12))):
        size = len(changed)
        ranges = (
            [(0, size)]
            + [(0, min(head, size))] * 3 * bool(head)
            + [(max(0, size - tail), size)] * 3 * bool(tail)
        )
        begin, end = rng.choice(ranges)
        at = rng.randrange(begin, end) if begin < end else 0
        match rng.randrange(9):
            case 0 | 1:
                changed = bytearray(
                    bits(rng, bytes(changed[begin:end])).join((changed[:begin], changed[end:]))
                )
            case 2 | 3:
                width = rng.choice((1, 2, 4, 8))
                at -= at % rng.choice((1, width))
                value = rng.choice((*_WIDE, size, size - at, size + 1)) + rng.choice((0, 0, 1, -1))
                order = rng.choice(_ORDERS)
                changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)
            case 4:
                del changed[at : at + rng.choice((1, 4, 8, 64))]
            case 5:
                part = bytes(changed[at : at + rng.choice((1, 4, 8, 64, 512))])
                to = _place(rng, size)
                changed[to:to] = part
            case 6:
                other = rng.choice(others)
                first, last = _cut(rng, other, 2000)
                changed[at : at + rng.choice((0, last - first))] = other[first:last]
            case 7:
                if rng.random() < 0.3:
                    del changed[at:]
            case _:
                one, two = rng.randrange(size or 1), rng.randrange(size or 1)
                changed[one : one + 8], changed[two : two + 8] = (
                    changed[two : two + 8],
                    changed[one : one + 8],
                )
    return bytes(changed[: 1 << 17])


# ---- JSON ---------------------------------------------------------------------------------------------------


class _Raw(float):
    """A number as it is spelled."""


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**400, 1.5, 1e308, float("nan"), float("inf"),
    "", "x", "0", "a" * 5000, "\ud800", "\0", "../x", "x/y", "2024-01-01", "int64", "list<int64>",
    [], {}, [None], [[]], {"": None}, [1, 2, 3], {"a": {"b": [1]}},
)  # fmt: skip


def json_value(rng: random.Random, value: Any) -> Any:
    """Return a JSON value with one of its parts changed: of another type, missing, doubled, renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(10):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {
                    (rng.choice(("", "x", k.upper(), "v")) if k == key else k): v for k, v in value.items()
                }
            case 2:
                return {**value, rng.choice(("", "x", "kind", "t", key + "2")): rng.choice(_VALUES)}
            case _:
                return {**value, key: json_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        i = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:i] + value[i + 1 :]
            case 1:
                return value[:i] + [value[i]] * 3 + value[i:]
            case 2:
                return rng.sample(value, len(value))
            case _:
                return [*value[:i], json_value(rng, value[i]), *value[i + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + rng.choice((1, -1, 10, 1 << 20, -value * 2))
    if isinstance(value, str) and rng.random() < 0.3:
        return value + rng.choice(_VALUES[15:23])
    return rng.choice(_VALUES)


def json_file(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a damaged JSON file: mostly well-formed, with other values than were meant."""
    if rng.random() < 0.2:
        return text(rng, data, others)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return text(rng, data, others)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = json_value(rng, value)
    made = json.dumps(value).encode()
    if rng.random() < 0.05:
        made = made.replace(b"null", b"[" * 3000 + b"]" * 3000, 1)
    return made


def json_lines(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a log of JSON lines of which some have other values, or another order."""
    if rng.random() < 0.2:
        return text(rng, data, others)
    lines = data.splitlines()
    if lines:
        i = rng.randrange(len(lines))
        lines[i] = json_file(rng, lines[i], others)
        if rng.random() < 0.2:
            rng.shuffle(lines)
        if rng.random() < 0.2:
            del lines[rng.randrange(len(lines))]
    return b"\n".join((*lines, b""))


def sealed_lines(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a journal whose changed lines have right checksums."""
    lines = []
    for line in data.splitlines():
        body = line.partition(b" ")[2]
        if rng.random() < 0.3:
            body = json_file(rng, body, others).replace(b"\n", b"")
        lines.append(b"%08x %s" % (zlib.crc32(body), body))
    return b"\n".join((*lines, b""))


# ---- Thrift and flatbuffers -------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _zigzag(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))


class _Reader:
    """Reader of Thrift's compact protocol into lists `[id, type, value]`, of which a footer can be written again."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def value(self, kind: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self.byte() if kind == 3 else kind == 1
            case 4 | 5 | 6:
                raw = self.varint()
                return (raw >> 1) ^ -(raw & 1)
            case 7:
                self.at += 8
                return self.data[self.at - 8 : self.at]
            case 8:
                size = self.varint()
                self.at += size
                return self.data[self.at - size : self.at]
            case 9 | 10:
                head = self.byte()
                size = head >> 4 if head >> 4 < 15 else self.varint()
                inner = head & 15
                return [inner, [self.byte() if inner in (1, 2) else self.value(inner) for _ in range(size)]]
            case 12:
                return self.struct()
        raise ValueError(kind)

    def struct(self) -> list[list[Any]]:
        fields: list[list[Any]] = []
        last = 0
        while True:
            head = self.byte()
            if not head:
                return fields
            kind = head & 15
            last = last + (head >> 4) if head >> 4 else self.value(5)
            fields.append([last, kind, self.value(kind)])


def _write(kind: int, value: Any) -> bytes:
    match kind:
        case 1 | 2:
            return b""
        case 3:
            return bytes((value & 255,))
        case 4 | 5 | 6:
            return _zigzag(value)
        case 7:
            return bytes(value)
        case 8:
            return _varint(len(value)) + bytes(value)
        case 9 | 10:
            inner, items = value
            size = len(items)
            head = bytes((size << 4 | inner,)) if size < 15 else bytes((15 << 4 | inner,)) + _varint(size)
            if inner in (1, 2):
                return head + bytes(items)
            return head + b"".join(_write(inner, item) for item in items)
        case 12:
            return _write_struct(value)
    return b""


def _write_struct(fields: list[list[Any]]) -> bytes:
    made, last = b"", 0
    for number, kind, value in fields:
        step = number - last
        made += bytes((step << 4 | kind,)) if 0 < step < 16 else bytes((kind,)) + _zigzag(number)
        made += _write(kind, value)
        last = number
    return made + b"\0"


def _nodes(fields: list[list[Any]], found: list[tuple[list[list[Any]], int]]) -> None:
    for i, (_, kind, value) in enumerate(fields):
        found.append((fields, i))
        if kind == 12:
            _nodes(value, found)
        elif kind == 9 and value[0] == 12:
            for item in value[1]:
                _nodes(item, found)


def compact_thrift(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a struct of Thrift's compact protocol with fields changed, left out, doubled; else damaged bytes."""
    try:
        root = _Reader(data).struct()
    except (IndexError, ValueError, RecursionError):
        return binary(rng, data, others)
    for _ in range(rng.choice((1, 1, 2, 3))):
        found: list[tuple[list[list[Any]], int]] = []
        _nodes(root, found)
        if not found:
            break
        fields, i = rng.choice(found)
        number, kind, value = fields[i]
        match rng.randrange(12):
            case 0:
                del fields[i]
            case 1:
                fields.insert(i, [number, kind, value])
            case 2:
                fields[i] = [rng.choice((0, 1, 2, 3, 14, 30, 300, -1)), kind, value]
            case 3:
                fields[i] = [number, rng.choice((1, 2, 5, 6, 8)), rng.choice(_WIDE)]
                if fields[i][1] == 8:
                    fields[i][2] = rng.choice((b"", b"x", b"\xff\xfe", b"x" * 300))
            case _ if kind in (4, 5, 6):
                fields[i][2] = rng.choice((value + 1, value - 1, -value, value * 2, *_WIDE))
            case _ if kind == 8:
                fields[i][2] = rng.choice(
                    (b"", value[:-1], value + b"\0", b"\xff", bits(rng, value), value * 50)
                )
            case _ if kind in (1, 2):
                fields[i][1] = 3 - kind
            case _ if kind == 9:
                items = value[1]
                j = rng.randrange(len(items) + 1)
                match rng.randrange(4):
                    case 0:
                        del items[j : j + 1]
                    case 1:
                        items[j:j] = items[j : j + 1]
                    case 2:
                        rng.shuffle(items)
                    case _:
                        if items and value[0] in (4, 5, 6):
                            items[rng.randrange(len(items))] = rng.choice(_WIDE)
                        else:
                            items.clear()
            case _:
                del fields[i]
    try:
        return _write_struct(root)
    except (TypeError, ValueError):  # a type that does not fit its value
        return binary(rng, data, others)


def flatbuffer(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a flatbuffer of which aligned words are changed: offsets, counts, vtables, enumerations."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(changed) < 8:
            break
        width = rng.choice((1, 2, 4, 4, 8))
        at = rng.randrange(0, len(changed) - width + 1, width if rng.random() < 0.9 else 1)
        now = int.from_bytes(changed[at : at + width], "little")
        value = rng.choice((now + 1, now - 1, now + 4, now - 4, now * 2, *_WIDE, rng.randrange(len(changed))))
        changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed)


def ipc_messages(data: bytes) -> list[tuple[int, int]]:
    """Return where the metadata of an Arrow stream's messages begin and end."""
    found, at = [], data.find(b"\xff\xff\xff\xff")
    while at >= 0 and at + 8 <= len(data):
        (size,) = struct.unpack_from("<i", data, at + 4)
        if 0 < size < len(data) - at:
            found.append((at + 8, at + 8 + size))
        at = data.find(b"\xff\xff\xff\xff", at + 4)
    return found
