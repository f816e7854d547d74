from typing import Any, TypeAlias

# status, consumed, records, rows, lines, struct array capsule, offsets (int64)
Decoded: TypeAlias = tuple[int, int, int, int, int, Any, bytes]

def simd_available() -> list[str]: ...
def simd_use(name: str) -> None: ...
def simd_used() -> str: ...
def guard_install() -> int: ...
def guard_register(address: int, length: int) -> int: ...
def guard_release(token: int) -> None: ...
def guard_hit(token: int) -> bool: ...
def guard_count() -> int: ...
def threads_left() -> None: ...

class RecordReader: ...

class CsvReader(RecordReader):
    def __init__(
        self,
        fields: int,
        delimiter: int,
        quote: int,
        targets: list[Any],
        filters: list[Any],
        nulls: list[bytes],
        located: bool,
        quoted_null: bool = False,
    ) -> None: ...
    def decode(
        self, address: int, size: int, stop: int, final: bool, owner: object, most: int = 0
    ) -> Decoded: ...

# consumed, size of the output, records, lines, needed room, pieces, broken records, repairs (int64)
Normalised: TypeAlias = tuple[int, int, int, int, int, bytes, bytes, bytes]

class CsvNormaliser:
    def __init__(
        self,
        fields: int,
        delimiter: bytes,
        quote: int,
        escape: int,
        comment: bytes,
        flags: list[bool],
        out_delimiter: int,
        out_quote: int,
    ) -> None: ...
    def normalise(
        self, address: int, size: int, stop: int, final: bool, out: int, capacity: int
    ) -> Normalised: ...

class LinesReader(RecordReader):
    def __init__(self, targets: list[Any], located: bool, needle: bytes) -> None: ...
    def decode(
        self, address: int, size: int, stop: int, final: bool, owner: object, most: int = 0
    ) -> Decoded: ...

class JsonReader(RecordReader):
    def __init__(
        self,
        keys: list[Any],
        closed: bool,
        slots: int,
        targets: list[Any],
        filters: list[Any],
        located: bool,
        extra: int = -1,
    ) -> None: ...
    def decode(
        self, address: int, size: int, stop: int, final: bool, owner: object, most: int = 0
    ) -> Decoded: ...

# consumed, at_record, records, newlines, problem, its offset, cursor, places (int64), lines: (address, size, owner)
Walked: TypeAlias = tuple[
    int, bool, int, int, int, int, tuple[int, int, bool, bool, int, bool, int], bytes, tuple[int, int, object]
]

class JsonWalker:
    def __init__(self, steps: list[bytes | None]) -> None: ...
    def walk(
        self,
        address: int,
        size: int,
        stop: int,
        final: bool,
        copies: bool,
        cursor: tuple[int, int, bool, bool, int, bool, int],
    ) -> Walked: ...

# Values, text beside the texts, validity, each (address, size, owner), and the texts that need the fallback (int64).
Extracted: TypeAlias = tuple[tuple[int, int, object], tuple[int, int, object], tuple[int, int, object], bytes]

class JsonExtractor:
    def __init__(self, steps: list[bytes | int], result: int) -> None: ...
    def extract(self, views: int, buffers: list[int], bits: int, offset: int, count: int) -> Extracted: ...

class RecordsReader:
    def __init__(self, fields: list[tuple[int, int, int]], size: int) -> None: ...
    def decode(self, address: int, count: int, owner: object) -> Decoded: ...

class TextDictionary:
    def __init__(self, most_values: int, most_bytes: int) -> None: ...
    def encode(
        self, views: int, buffers: list[int], bits: int, offset: int, count: int, codes: int
    ) -> int: ...
    def values(self) -> tuple[bytes, bytes]: ...

# Addresses of Arrow buffers; `bits` is 0 where no value is null; `views` is 16 bytes a row.
def text_views(
    offsets: int, width: int, data: int, size: int, bits: int, count: int, piece: int, views: int
) -> int: ...

# Likewise; `state` is uint64[count].
def hash_whole(
    values: int, width: int, is_signed: bool, bits: int, offset: int, count: int, state: int, /
) -> None: ...
def hash_real(values: int, width: int, bits: int, offset: int, count: int, state: int, /) -> None: ...
def hash_fixed(values: int, width: int, bits: int, offset: int, count: int, state: int, /) -> None: ...
def hash_text(
    offsets: int, width: int, data: int, bits: int, offset: int, count: int, state: int, /
) -> None: ...
def hash_views(views: int, buffers: list[int], bits: int, offset: int, count: int, state: int, /) -> None: ...
def partition_rows(state: int, count: int, partitions: int, order: int, bounds: int, /) -> None: ...

# Columns by number, -1 for none; schemas and arrays are capsules of the Arrow C Data Interface.
class Aggregator:
    def __init__(
        self, rows: Any, keys: list[int], measures: list[tuple[int, int, int]], results: Any, states: Any
    ) -> None: ...
    def update(self, schema: Any, array: Any) -> None: ...
    def merge(self, schema: Any, array: Any) -> None: ...
    def groups(self) -> int: ...
    def bytes(self) -> int: ...
    def states(self, begin: int, end: int) -> Any: ...
    def results(self, begin: int, end: int) -> Any: ...

# `order` and `bounds` are addresses of int64; arrays are capsules.
class Partitions:
    def __init__(self, schema: Any, count: int) -> None: ...
    def append(self, schema: Any, array: Any, order: int, bounds: int) -> None: ...
    def bytes(self) -> int: ...
    def rows(self, partition: int) -> int: ...
    def take(self, partition: int) -> Any: ...

# Translation to UTF-8; addresses of arrays, 0 where there are none.
class TextTranslator:
    def __init__(
        self, form: int, superset: bool, singles: int, pairs: int, triples: int, fours: int
    ) -> None: ...
    def bound(self, data: int, size: int) -> int: ...
    def translate(self, data: int, size: int, final: bool, out: int, places: int) -> tuple[int, int, int]: ...
    def locate(
        self, data: int, size: int, places: int, place_count: int, offsets: int, count: int
    ) -> None: ...

class RowProgram:
    def __init__(
        self,
        instruction_set: str,
        columns: list[tuple[int, int]],
        nodes: list[tuple[int, int, list[int], int, int, bool, bytes]],
        conjuncts: list[tuple[int, bool]],
        outputs: list[tuple[int, int]],
    ) -> None: ...
    def run(self, batch: object, rows: int) -> tuple[int, int, bool, object]: ...

# Returns bytes consumed, records, lines, rows, and of these rows whose keys the decoder found.
def aggregate_records(
    reader: RecordReader,
    program: RowProgram | None,
    aggregator: Aggregator,
    address: int,
    size: int,
    stop: int,
    final: bool,
    batch_bytes: int,
    group_bytes: int,
) -> tuple[int, int, int, int, int]: ...
