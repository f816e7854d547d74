"""The journal by itself: what is recorded comes back, and a damaged line is no line."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.blocks.references import Checkpoint, CheckpointBlock
from mmflow.errors import ConfigError
from mmflow.formats import ScanReport
from mmflow.plan.tasks import Done, TaskId
from mmflow.runs.journal import Replay, decode_line, encode_line, task_line
from mmflow.sinks import CommitResult, StagedFile

COUNTS = st.integers(0, 2**60)
NAMES = st.text(max_size=12)


def _block(path: str) -> st.SearchStrategy[CheckpointBlock]:
    return st.builds(CheckpointBlock, st.just(path), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


@st.composite
def finished(draw: st.DrawFn, key: str = "c4") -> Done:
    stem = f"/runs/a.b/checkpoints/{key}-a{draw(st.integers(0, 3))}"
    outputs = tuple(draw(st.lists(st.none() | _block(f"{stem}.blocks"), max_size=3)))
    retained = st.none() | _block(f"{stem}.retained")
    rejects, sample = draw(retained), draw(retained)
    reports = st.builds(
        ScanReport,
        **dict.fromkeys(
            ("first", "next", "records", "lines", "bytes_read", "bad", "pruned", "repaired"), COUNTS
        ),
    )
    done = Done(
        TaskId(-1, -1),
        -1,
        outputs,
        tuple(draw(st.lists(reports, max_size=2))),
        rejects,
        files=tuple(draw(st.lists(st.builds(StagedFile, NAMES, NAMES, COUNTS, COUNTS), max_size=2))),
        checkpoint=Checkpoint(outputs, rejects, sample),
        remainder=tuple(draw(st.lists(st.tuples(COUNTS, COUNTS), max_size=2))),
    )
    done.metrics.reasons = tuple(draw(st.lists(NAMES, max_size=2)))
    return done


@settings(deadline=None, max_examples=100)
@given(done=finished())
def test_a_finished_task_comes_back_as_it_was(done: Done) -> None:
    line = task_line("stage", "c4", done)
    assert line.isascii()
    assert "\n" not in line
    found = Replay.of([line]).finished_task("c4")
    assert found is not None
    assert (found.stage, found.done) == ("stage", done)
    assert found.done.metrics.reasons == done.metrics.reasons
    paths = {block.path for block in (*done.outputs, done.rejects) if isinstance(block, CheckpointBlock)}
    assert all(path in (f"{found.files}.blocks", f"{found.files}.retained") for path in paths)
    assert Replay.of([line]).finished_task("c5") is None


@settings(deadline=None, max_examples=100)
@given(done=finished(), data=st.data())
def test_a_damaged_line_is_no_line(done: Done, data: st.DataObject) -> None:
    line = task_line("stage", "c4", done)
    if data.draw(st.booleans(), "torn"):
        damaged = line[: data.draw(st.integers(0, len(line) - 1), "length")]
    else:
        at = data.draw(st.integers(0, len(line) - 1), "at")
        # A hexadecimal digit of the checksum in upper case is another checksum, too.
        other = data.draw(st.characters(min_codepoint=32, max_codepoint=126), "other")
        if other == line[at]:
            other = "!" if line[at] != "!" else "?"
        damaged = line[:at] + other + line[at + 1 :]
    consumed = encode_line({"kind": "consumed", "stage": "other"})
    replay = Replay.of([damaged, consumed])
    assert (replay.damaged, replay.tasks, replay.consumed) == (1, {}, {"other"})


@pytest.mark.parametrize("text", ["[1]", '"task"', "7", "{", ""])
def test_a_line_that_is_no_fact_is_damaged(text: str) -> None:
    line = f"{zlib.crc32(text.encode()):08x} {text}"
    assert decode_line(line) is None
    assert Replay.of([line, line]).damaged == 2


_WRONG: list[dict[str, object]] = [
    {"stage": 1},
    {"key": None},
    {"checkpoint": {"files": "", "outputs": [[0, 8, 1, 2]], "rejects": None, "sample": None}},
    {"checkpoint": {"files": "", "outputs": [], "rejects": [0, 8, 1, 2, "16"], "sample": None}},
    {"checkpoint": {"files": "", "outputs": [], "rejects": None, "sample": "01234"}},
    {"checkpoint": {"files": None, "outputs": [], "rejects": None, "sample": None}},
    {"reports": [[0, 1, 2, 3, 4, 5, 6]]},
    {"reports": [[0, 1, 2, 3, 4, 5, 6, "7"]]},
    {"reports": ["01234567"]},
    {"files": [["a", "b", "1", 2]]},
    {"files": [{"a": 1, "b": 2, "c": 3, "d": 4}]},
    {"reasons": [1]},
]


@pytest.mark.parametrize("wrong", _WRONG, ids=str)
def test_a_task_of_another_shape_is_damaged(wrong: dict[str, object]) -> None:
    blocks = {"files": "", "outputs": [None], "rejects": None, "sample": None}
    fact = {"kind": "task", "stage": "s", "key": "c4", "checkpoint": blocks}
    right = Replay.of([encode_line({**fact, "reports": [[0, 1, 2, 3, 4, 5, 6, None]]})])
    assert (list(right.tasks), right.damaged) == (["c4"], 0)
    damaged = Replay.of([encode_line({**fact, **wrong})])
    assert (damaged.tasks, damaged.damaged) == ({}, 1)


def test_a_line_of_another_version_is_refused_with_its_folder() -> None:
    text = json.dumps({"v": 999, "kind": "consumed", "stage": "s"})
    line = f"{zlib.crc32(text.encode()):08x} {text}"
    with pytest.raises(ConfigError, match="/runs/a"):
        Replay.of([line], "/runs/a")
    with pytest.raises(ConfigError, match=r"^ is the journal of a run of version 999"):
        decode_line(line)
    with pytest.raises(ConfigError, match=r"^ is the journal of a run of version 999"):
        Replay.of([line])


def _done(stem: str, key: str = "c4") -> str:
    block = CheckpointBlock(f"{stem}.blocks", 0, 8, 1, 2, 16)
    return task_line("s", key, Done(TaskId(0, 0), 0, (block,), checkpoint=Checkpoint((block,), None, None)))


def test_what_is_lost_is_forgotten_and_its_stage_is_needed_again() -> None:
    lines = [_done("/r.d/c4-a1"), _done("/r.d/c5-a0", "c5"), encode_line({"kind": "consumed", "stage": "s"})]
    replay = Replay.of([*lines, encode_line({"kind": "lost", "path": "/r.d/c4-a1.blocks"})])
    assert (list(replay.tasks), replay.consumed, replay.damaged) == (["c5"], set(), 0)
    attempt = "/r.d/c4-a1-a7"
    assert Replay.of([_done(attempt), encode_line({"kind": "lost", "path": f"{attempt}.blocks"})]).tasks == {}
    # Another attempt's file, and that of a task which is not recorded, change nothing.
    for path in ("/r.d/c4-a0.blocks", "/r.d/c9-a0.blocks"):
        replay = Replay.of([*lines, encode_line({"kind": "lost", "path": path})])
        assert (list(replay.tasks), replay.consumed) == (["c4", "c5"], {"s"})
    # The task may finish once more, and the last line of a task counts.
    replay = Replay.of(
        [*lines, encode_line({"kind": "lost", "path": "/r.d/c4-a1.blocks"}), _done("/r.d/c4-a2")]
    )
    again = replay.finished_task("c4")
    assert again is not None
    assert again.files == "/r.d/c4-a2"


def test_what_is_published_is_known_with_its_progress() -> None:
    fact = {"kind": "committed", "run": "r", "path": "out", "files": 3, "rows": 20, "bytes": 100}
    replay = Replay.of([encode_line(fact), encode_line({**fact, "run": "q", "progress": {"rows": 7}})])
    made = CommitResult("out", 3, 20, 100)
    assert (replay.committed, replay.counts) == ({"r": made, "q": made}, {"q": {"rows": 7}})
    # A kind that this version does not write is no fault of the line.
    assert Replay.of([encode_line({"kind": "?"})]) == Replay()


def test_tasks_without_blocks_have_no_files() -> None:
    done = Done(TaskId(0, 0), 0, (None,), checkpoint=Checkpoint((None,), None, None))
    found = Replay.of([task_line("s", "c4", done)]).finished_task("c4")
    assert found is not None
    assert (found.files, found.done.outputs) == ("", (None,))
    with pytest.raises(AssertionError, match="have checkpoints"):
        task_line("s", "c4", Done(TaskId(0, 0), 0))
