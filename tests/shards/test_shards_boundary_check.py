"""The boundary check, driven over toy record formats as the scheduler drives it over real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.errors import SourceError
from mmflow.shards import BoundaryCheck, Shard, StartMismatch, Valid


@dataclass
class Report:
    first: int
    next: int
    records: int
    lines: int
    rows: list[bytes] = field(default_factory=list)


RecordEnd = Callable[[bytes, int], int]


def plain_end(data: bytes, begin: int) -> int:
    """Return the end of a line."""
    found = data.find(b"\n", begin)
    return len(data) if found < 0 else found + 1


def quoted_end(data: bytes, begin: int) -> int:
    """Return the end of a line that quoted newlines don't end."""
    inside = False
    for at in range(begin, len(data)):
        if data[at : at + 1] == b'"':
            inside = not inside
        elif data[at : at + 1] == b"\n" and not inside:
            return at + 1
    return len(data)


def read(data: bytes, shard: Shard, end_of: RecordEnd, *, header: bool, start: int | None = None) -> Report:
    """Read a shard like the decoders of formats: guess its start behind a newline, own the records that begin in it.

    NULs where a record would begin are blank.
    """
    if start is not None:
        at = start
    elif shard.fresh:
        at = shard.begin
    else:
        at = plain_end(
            data, shard.begin - 1
        )  # a newline as the last byte before counts: a record begins here
    began = at
    rows: list[bytes] = []
    first: int | None = None
    if header and shard.begin == 0 and at == 0:
        at = end_of(data, 0)
    while at < shard.end:
        if data[at] == 0:
            at += 1
            continue
        if first is None:
            first = at
        stop = end_of(data, at)
        rows.append(data[at:stop])
        at = stop
    first = at if first is None else first
    known = start is not None or shard.fresh
    return Report(first, at, len(rows), data.count(b"\n", began if known else first, at), rows)


def run(
    data: bytes, shards: list[Shard], end_of: RecordEnd, *, header: bool = False
) -> tuple[list[bytes], int]:
    """Read all shards with guesses, verify them in order, rerun those that were wrong; return rows and reruns."""
    check = BoundaryCheck("toy")
    rows: list[bytes] = []
    reruns = 0
    for shard in shards:
        expected = check.expected_start(shard)
        report = read(data, shard, end_of, header=header)
        result = check.verify(shard, report)
        if isinstance(result, StartMismatch):
            reruns += 1
            lines = data.count(b"\n", 0, expected)
            assert result == StartMismatch(expected, len(rows), lines)
            known = check.known(shard)
            assert known == replace(shard, known_start=expected, lines_before=lines)
            assert check.known(known) is known
            report = read(data, shard, end_of, header=header, start=result.start)
            result = check.verify(known, report)
        assert isinstance(result, Valid)
        assert result.records_before == len(rows)
        if report.records:
            assert result.lines_before == data.count(b"\n", 0, expected)
        rows.extend(report.rows)
    check.finish(len(data))
    assert check.records_before == len(rows)
    assert check.lines_before == data.count(b"\n")
    return rows, reruns


def whole(data: bytes, end_of: RecordEnd, *, header: bool = False) -> list[bytes]:
    return read(data, Shard(0, 0, len(data), True), end_of, header=header).rows


def cut(size: int, step: int) -> list[Shard]:
    return [Shard(0, begin, min(begin + step, size), begin == 0) for begin in range(0, size, step)]


TEXT = st.text(alphabet='a,"\n', max_size=120).map(str.encode)


@settings(max_examples=400, deadline=None)
@given(data=TEXT, step=st.integers(1, 40), header=st.booleans())
def test_verifies_lines_for_any_shard_size_without_reruns(data: bytes, step: int, header: bool) -> None:
    rows, _ = run(data, cut(len(data), step), plain_end, header=header)
    assert rows == whole(data, plain_end, header=header)


@settings(max_examples=600, deadline=None)
@given(data=TEXT, step=st.integers(1, 40), header=st.booleans())
def test_verifies_quoted_newlines_for_any_shard_size(data: bytes, step: int, header: bool) -> None:
    rows, _ = run(data, cut(len(data), step), quoted_end, header=header)
    assert rows == whole(data, quoted_end, header=header)


def test_guesses_plain_lines_right() -> None:
    data = b"".join(b"row %d\n" % n for n in range(200))
    rows, reruns = run(data, cut(len(data), 64), plain_end)
    assert (len(rows), reruns) == (200, 0)


def test_a_guess_inside_quotes_costs_one_rerun() -> None:
    data = b'a\n"b\nc\nd"\ne\n' + b"x\n" * 20
    rows, reruns = run(data, cut(len(data), 6), quoted_end)
    assert rows == whole(data, quoted_end)
    assert reruns == 1


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.text(alphabet="ab\n", min_size=1, max_size=30), st.integers(0, 3)), max_size=6
    ),
    step=st.integers(1, 4),
    header=st.booleans(),
)
def test_holes_between_shards_are_blank(pieces: list[tuple[str, int]], step: int, header: bool) -> None:
    page = 8
    data = b""
    shards: list[Shard] = []
    for text, hole in pieces:
        # Records end before a hole, as a writer that seeks leaves them; the page is filled with NULs.
        block = (text + "\n").encode()
        block += bytes(-len(block) % page)
        begin = len(data)
        data += block
        for at in range(begin, len(data), step * page):
            after_hole = at == begin and (not shards or shards[-1].end < begin)
            shards.append(Shard(0, at, min(at + step * page, len(data)), after_hole))
        data += bytes(hole * page)
    check = BoundaryCheck("toy")
    rows: list[bytes] = []
    for shard in shards:
        report = read(data, shard, plain_end, header=header)
        result = check.verify(shard, report)
        if isinstance(result, StartMismatch):
            report = read(data, shard, plain_end, header=header, start=result.start)
            assert isinstance(check.verify(check.known(shard), report), Valid)
        rows.extend(report.rows)
    check.finish(len(data))
    assert rows == whole(data, plain_end, header=header)


def test_owns_record_longer_than_shards_once() -> None:
    data = b"short\n" + b"l" * 100 + b"\nend\n"
    rows, _ = run(data, cut(len(data), 10), plain_end)
    assert rows == [b"short\n", b"l" * 100 + b"\n", b"end\n"]


def test_reruns_shard_inside_long_quoted_record_that_found_records() -> None:
    data = b'"' + b"x\n" * 30 + b'"\nend\n'
    check = BoundaryCheck("toy")
    shards = cut(len(data), 16)
    assert isinstance(check.verify(shards[0], read(data, shards[0], quoted_end, header=False)), Valid)
    wrong = read(data, shards[1], quoted_end, header=False)
    assert wrong.records > 0
    result = check.verify(shards[1], wrong)
    assert result == StartMismatch(63, 1, 31)
    rerun = read(data, shards[1], quoted_end, header=False, start=63)
    assert rerun.records == 0
    assert check.verify(replace(shards[1], known_start=63), rerun) == Valid(1, 31)
    assert check.next == 63


@settings(max_examples=300, deadline=None)
@given(data=TEXT.filter(lambda d: d.count(b"\n") > 3), step=st.integers(1, 30), pick=st.integers(0, 1000))
def test_a_lost_or_doubled_record_never_passes(data: bytes, step: int, pick: int) -> None:
    """Tamper with one shard's `next`: some later check, or finish, must object."""
    shards = cut(len(data), step)
    victim = pick % len(shards)
    check = BoundaryCheck("toy")
    objected = False
    try:
        for number, shard in enumerate(shards):
            report = read(data, shard, plain_end, header=False)
            if number == victim and report.records:
                lost = report.rows.pop()
                report.records -= 1
                report.next -= len(lost)  # stops one record early
            elif number == victim:
                return
            result = check.verify(shard, report)
            if isinstance(result, StartMismatch):
                # The true decoder agrees with all true shards, so a StartMismatch is an objection if it asks
                # for bytes that the victim should have owned.
                report = read(data, shard, plain_end, header=False, start=result.start)
                assert isinstance(check.verify(check.known(shard), report), Valid)
        check.finish(len(data))
    except SourceError as error:
        objected = "lost its place" in str(error)
    assert objected


def test_the_start_of_a_shard_is_known_unless_it_is_its_fresh_begin() -> None:
    check = BoundaryCheck("toy")
    first = Shard(0, 0, 8, True)
    assert check.known(first) is first
    check.verify(first, Report(0, 8, 2, 3))
    assert check.known(Shard(0, 8, 16)) == Shard(0, 8, 16, known_start=8, lines_before=3)
    # Behind a hole the start is right as it is; the lines before it are not.
    assert check.known(Shard(0, 24, 32, True)) == Shard(0, 24, 32, True, lines_before=3)
    check.verify(Shard(0, 8, 16, known_start=8), Report(8, 30, 1, 1))
    assert check.known(Shard(0, 24, 32, True)) == Shard(0, 24, 32, True, known_start=30, lines_before=4)
    # Lines that changed since the start was known are brought up to date, and so is a start with the right lines.
    assert check.known(Shard(0, 16, 32, known_start=30)) == Shard(0, 16, 32, known_start=30, lines_before=4)
    assert check.known(Shard(0, 16, 32, lines_before=4)) == Shard(0, 16, 32, known_start=30, lines_before=4)


@pytest.mark.parametrize("following", [16, 30])
def test_refuses_decoder_that_disobeys_its_start(following: int) -> None:
    check = BoundaryCheck("toy")
    check.verify(Shard(0, 0, 8, True), Report(0, following, 1, 1))
    with pytest.raises(SourceError, match="found 2 records where none begins") as refused:
        check.verify(Shard(0, 8, 16, known_start=following), Report(9, 17, 2, 2))
    assert refused.value.context["path"] == "toy"


def test_refuses_a_shard_that_was_not_read_to_its_end() -> None:
    check = BoundaryCheck("toy")
    check.verify(Shard(0, 0, 8, True), Report(0, 6, 1, 1))
    with pytest.raises(
        SourceError,
        match=r"ends at byte 8 was read up to byte 6 only.*\(run again\), or its decoder lost its place \(report it\)$",
    ):
        check.finish(8)
    with pytest.raises(SourceError, match="ends at byte 8 was read up to byte 6 only"):
        check.verify(Shard(0, 8, 16), Report(8, 16, 1, 1))


@pytest.mark.parametrize("size", [1, 8])
def test_finish_objects_to_records_past_the_end(size: int) -> None:
    check = BoundaryCheck("toy")
    check.verify(Shard(0, 0, size, True), Report(0, size + 1, 1, 1))
    with pytest.raises(SourceError, match=f"up to byte {size + 1}, past its end at {size}"):
        check.finish(size)


def test_verifies_group_numbers_by_the_same_rule() -> None:
    check = BoundaryCheck("t.parquet", grouped=True)
    assert check.verify(Shard(0, 0, 4096, True), Report(0, 2, 500, 0)) == Valid(0, 0)
    assert check.verify(Shard(0, 4096, 8192), Report(0, 0, 0, 0)) == Valid(500, 0)  # no group begins here
    assert check.verify(Shard(0, 8192, 9000), Report(2, 3, 10, 0)) == Valid(500, 0)
    check.finish(9000)
    assert check.verify(Shard(0, 9000, 9100), Report(3, 4, 0, 0)) == Valid(510, 0)  # a group without rows
    assert check.next == 4
    with pytest.raises(SourceError, match="groups 5 to 6, not from 4 on"):
        check.verify(Shard(0, 9100, 9999), Report(5, 6, 10, 0))
