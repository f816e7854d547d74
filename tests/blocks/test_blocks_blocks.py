"""Contract of block stores, in memory and on disk; blocks that others find by path."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.blocks import LocalStore, RunFolder, SharedStore, memory, read_span
from mmflow.blocks.files import read_block_file
from mmflow.blocks.memory import compacted, compacted_views, retained_bytes
from mmflow.blocks.references import CheckpointBlock, MessageBlock, Span
from mmflow.blocks.streams import write_stream
from mmflow.errors import BlockLostError, EngineError
from mmflow.formats.decoding.compact import without_views

Make = Callable[[], LocalStore]


def sample(rows: int = 1000, base: int = 0) -> pa.RecordBatch:
    numbers = list(range(base, base + rows))
    text = [None if i % 7 == 0 else f"value {i} of a text that is long" for i in numbers]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(numbers, pa.int64()),
            pa.array(text, pa.string()).cast(pa.string_view()),
            pa.array([f"kind {base % 3 + i % 3}" for i in numbers], pa.string()).dictionary_encode(),
            pa.array([[i, i + 1] for i in numbers], pa.list_(pa.int64())),
        ],
        names=["number", "text", "kind", "pair"],
    )


@pytest.fixture(params=["memory", "spilled"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    budget = 1 << 30 if request.param == "memory" else 0
    return lambda: LocalStore(budget, RunFolder(tmp_path / "spill", "run"))


@pytest.fixture
def store(make: Make) -> Iterator[LocalStore]:
    made = make()
    yield made
    made.close()


def leftovers(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob("*") if "mmflow-" in str(p)]


def test_gives_back_what_was_put(store: LocalStore) -> None:
    batches = [sample(), sample(10, 5000), sample(0)]
    ref = store.put(iter(batches), batches[0].schema)
    assert ref.rows == 1010
    assert pa.Table.from_batches(store.get(ref)) == pa.Table.from_batches(batches)
    assert pa.Table.from_batches(store.get(ref)) == pa.Table.from_batches(batches)


def test_rows_without_columns_keep_their_number(store: LocalStore) -> None:
    batch = sample(17).select([])
    ref = store.put([batch, batch], batch.schema)
    assert ref.rows == 34
    assert [b.num_rows for b in store.get(ref)] == [17, 17]


def test_empty_block(store: LocalStore) -> None:
    ref = store.put([], sample().schema)
    assert ref.rows == 0
    assert list(store.get(ref)) == []


def test_views_outlive_block_and_store(store: LocalStore) -> None:
    ref = store.put([sample()], sample().schema)
    batches = store.get(ref)
    store.delete(ref)
    store.close()
    gc.collect()
    assert batches[0] == sample()


def test_deleted_block_is_gone(store: LocalStore) -> None:
    ref = store.put([sample()], sample().schema)
    store.delete(ref)
    store.delete(ref)
    with pytest.raises(EngineError, match="gone"):
        store.get(ref)


def test_close_leaves_nothing(make: Make, tmp_path: Path) -> None:
    store = make()
    for _ in range(3):
        store.put([sample()], sample().schema)
    assert bool(leftovers(tmp_path)) != bool(store.held), "no folder as long as all is in memory"
    store.close()
    store.close()
    assert leftovers(tmp_path) == []


def test_failing_input_leaves_no_block(store: LocalStore, tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield sample()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.put(broken(), sample().schema)
    assert not [f for f in leftovers(tmp_path) if f.endswith(".block")]
    if isinstance(store, LocalStore):
        assert store.held == 0


def test_many_threads(store: LocalStore) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                ref = store.put([sample(50, number * 1000 + i)], sample().schema)
                assert store.get(ref)[0] == sample(50, number * 1000 + i)
                store.delete(ref)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    if isinstance(store, LocalStore):
        assert (store.held, store.spilled) == (0, 0)


def test_a_block_is_exported_as_a_stream_of_its_size(store: LocalStore) -> None:
    batches = [sample(), sample(10, 5000), sample(0)]
    ref = store.put(iter(batches), batches[0].schema)
    stream = store.exported(ref)
    assert pa.ipc.open_stream(stream).read_all() == pa.Table.from_batches(batches)
    written = pa.BufferOutputStream()
    write_stream(written, batches[0].schema, batches)
    assert stream.size == len(written.getvalue())
    store.delete(ref)
    store.close()
    assert pa.ipc.open_stream(stream).read_all().num_rows == 1010
    with pytest.raises(EngineError, match="closed"):
        store.exported(ref)


def test_what_lies_on_disk_and_how_large_it_is(store: LocalStore) -> None:
    refs = [store.put([sample()], sample().schema) for _ in range(2)]
    is_spilled = store.budget == 0
    assert [store.on_disk(ref) for ref in refs] == [is_spilled] * 2
    total = sum(ref.nbytes for ref in refs)
    assert (store.held, store.spilled) == ((0, total) if is_spilled else (total, 0))
    store.delete(refs[0])
    assert [store.on_disk(ref) for ref in refs] == [False, is_spilled]
    assert (store.held, store.spilled) == ((0, refs[1].nbytes) if is_spilled else (refs[1].nbytes, 0))
    for look in (store.get, store.exported):
        with pytest.raises(EngineError) as raised:
            look(refs[0])
        assert str(raised.value) == f"{refs[0]} is gone: it was deleted before all its readers were done"
    with pytest.raises(AssertionError, match="is of another store"):
        store.get(MessageBlock(0, 0, 1, 1))
    checkpoint = CheckpointBlock("/nowhere/t0-a0.blocks", 0, 8, 0, 1, 8)
    store.delete(checkpoint)
    with pytest.raises(BlockLostError, match="a checkpoint of a finished task is lost: /nowhere/t0-a0"):
        store.get(checkpoint)


def test_a_closed_store_takes_and_gives_nothing(store: LocalStore, tmp_path: Path) -> None:
    ref = store.put([sample()], sample().schema)

    def closing() -> Iterator[pa.RecordBatch]:
        yield sample()
        store.close()

    for work in (
        lambda: store.put(closing(), sample().schema),
        lambda: store.put([sample()], sample().schema),
        lambda: store.put([], sample().schema),
        lambda: store.get(ref),
    ):
        with pytest.raises(EngineError, match=r"^the block store is closed: the run has ended$"):
            work()
    assert not store.on_disk(ref)
    assert leftovers(tmp_path) == []


def test_a_spilled_block_is_checked_when_it_is_first_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[bool] = []
    read = read_block_file

    def reading(path: str, *, check: bool) -> list[pa.RecordBatch]:
        checks.append(check)
        return read(path, check=check)

    monkeypatch.setattr(memory, "read_block_file", reading)
    store = LocalStore(0, RunFolder(tmp_path, "run"))
    refs = [store.put([sample()], sample().schema) for _ in range(2)]
    for ref in (*refs, *refs):
        store.get(ref)
    assert checks == [True, True, False, False]
    store.close()


# ---- what a batch keeps alive --------------------------------------------------------------------


def view_of(size: int, rows: int = 8) -> pa.RecordBatch:
    """A batch of some integers at the beginning of a buffer of `size` bytes."""
    window = pa.py_buffer(bytearray(size))
    numbers = pa.Array.from_buffers(pa.int64(), rows, [None, window.slice(0, 8 * rows)])
    return pa.RecordBatch.from_arrays([numbers], names=["n"])


def test_a_batch_is_copied_where_it_keeps_far_more_than_its_rows() -> None:
    least = 1 << 16
    rows = 20_000  # more than half of what they keep alive, so that both limits count
    for batch, is_copied in (
        (view_of(least), False),
        (view_of(least + 80), False),  # a quarter more than the rows, and 64 KiB
        (view_of(least + 81), True),
        (view_of(rows * 10 + least, rows), False),
        (view_of(rows * 10 + least + 1, rows), True),
    ):
        made = compacted(batch)
        assert made == batch
        assert (made is not batch) is is_copied, retained_bytes(batch)
        assert retained_bytes(made) <= retained_bytes(batch)
        assert compacted_views(batch) is batch, "IPC cuts it to size"
    texts = pa.array(["y" * 40] * 10_000).cast(pa.string_view())
    batch = pa.RecordBatch.from_arrays([texts.slice(5, 10)], names=["v"])
    for cut in (compacted, compacted_views):
        made = cut(batch)
        assert made == batch
        assert retained_bytes(made) < 5_000


def test_buffers_of_one_allocation_count_once() -> None:
    window = pa.py_buffer(bytearray(1000))
    columns = [
        pa.Array.from_buffers(pa.int64(), 10, [None, window.slice(begin, 80)]) for begin in (0, 8, 400)
    ]
    whole = pa.Array.from_buffers(pa.int64(), 125, [None, window]).slice(0, 10)
    batch = pa.RecordBatch.from_arrays([*columns, whole], names=["a", "b", "c", "d"])
    assert retained_bytes(batch) == 1000
    assert retained_bytes(pa.RecordBatch.from_arrays([pa.array([], pa.int64())], names=["n"])) == 0
    # Of two that begin at one address, without a parent, the longer.
    short, long = (pa.foreign_buffer(window.address, size, window) for size in (80, 1000))
    for buffers in ((short, long), (long, short)):
        columns = [pa.Array.from_buffers(pa.int64(), 10, [None, buffer]) for buffer in buffers]
        assert retained_bytes(pa.RecordBatch.from_arrays(columns, names=["a", "b"])) == 1000
    kinds = pa.array(["x", "y", "x"]).dictionary_encode()
    parts = [b.size for b in (*kinds.indices.buffers(), *kinds.dictionary.buffers()) if b is not None]
    assert retained_bytes(pa.RecordBatch.from_arrays([kinds], names=["k"])) == sum(parts)


def test_the_bytes_that_rows_need() -> None:
    texts = ["", "a" * 12, "b" * 13, "c" * 40, "d", "e" * 100]
    views = pa.array(texts, pa.string_view())
    numbers = pa.array(range(6), pa.int32())
    assert memory._row_bytes(numbers) == 24
    assert memory._row_bytes(views) == 6 * 16 + 13 + 40 + 100
    assert memory._row_bytes(views.slice(2, 2)) == 2 * 16 + 13 + 40
    assert memory._row_bytes(views.slice(3)) == 3 * 16 + 40 + 100
    assert memory._row_bytes(views.slice(0, 0)) == 0
    for array in (
        pa.array([*texts, None], pa.string_view()),
        pa.array([texts, None, texts[:2]], pa.list_(pa.string_view())),
    ):
        for part in (array, array.slice(len(array) - 2)):
            assert memory._row_bytes(part) == without_views(part).nbytes


# ---- memory and disk ------------------------------------------------------------------------


def test_budget_holds_and_the_rest_goes_to_disk(tmp_path: Path) -> None:
    size = retained_bytes(compacted(sample()))
    store = LocalStore(size * 3 + 1000, RunFolder(tmp_path, "run"))
    refs = [store.put([sample(1000, i)], sample().schema) for i in range(10)]
    assert 0 < store.held <= size * 3 + 1000
    assert len(list(tmp_path.rglob("*.block"))) == 7
    assert all(store.get(r)[0] == sample(1000, i) for i, r in enumerate(refs))
    for ref in refs:
        store.delete(ref)
    assert (store.held, store.spilled, list(tmp_path.rglob("*.block"))) == (0, 0, [])
    store.close()


def test_a_block_that_goes_to_disk_midway_keeps_its_rows_in_order(tmp_path: Path) -> None:
    batches = [sample(1000, base) for base in (0, 7000, 20_000, 90_000)]
    store = LocalStore(
        sum(retained_bytes(compacted(b)) for b in batches[:3]) + 1000, RunFolder(tmp_path, "run")
    )
    ref = store.put(iter(batches), batches[0].schema)
    assert (store.on_disk(ref), store.held, ref.rows) == (True, 0, 4000)
    assert pa.Table.from_batches(store.get(ref)) == pa.Table.from_batches(batches)
    assert not store.on_disk(store.put(batches[:3], batches[0].schema))
    store.close()


def test_block_larger_than_memory_streams_to_disk(tmp_path: Path) -> None:
    """While a long block streams by, no more than the budget stays allocated."""
    batch = sample(20_000)
    size = retained_bytes(batch)
    store = LocalStore(size * 3 + 1000, RunFolder(tmp_path, "run"))
    before = pa.total_allocated_bytes()
    most = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for i in range(15):
            most = max(most, pa.total_allocated_bytes() - before)
            yield sample(20_000, i)

    ref = store.put(stream(), batch.schema)
    assert ref.rows == 300_000
    assert store.held == 0
    assert most < size * 7, "three kept, one in work, copies of it: not fifteen"
    store.close()


def test_small_view_does_not_keep_its_window(tmp_path: Path) -> None:
    window = pa.py_buffer(bytearray(b"x" * (4 << 20)))
    views = pa.array(["y" * 40] * 100_000).cast(pa.string_view())
    numbers = pa.Array.from_buffers(pa.int64(), 1000, [None, window.slice(0, 8000)])
    batch = pa.RecordBatch.from_arrays([views.slice(0, 1000), numbers], names=["v", "n"])
    assert retained_bytes(batch) > 8 << 20
    store = LocalStore(1 << 20, RunFolder(tmp_path, "run"))
    ref = store.put([batch], batch.schema)
    assert 0 < store.held < 100_000
    assert store.get(ref)[0] == batch
    store.close()


def test_owned_batches_are_kept_by_reference(tmp_path: Path) -> None:
    batch = sample(100_000)
    store = LocalStore(1 << 30, RunFolder(tmp_path, "run"))
    ref = store.put([batch], batch.schema)
    assert store.get(ref)[0].column(0).buffers()[1].address == batch.column(0).buffers()[1].address
    store.close()


def test_mapped_back_without_a_copy(tmp_path: Path) -> None:
    batch = sample(100_000)
    store = LocalStore(0, RunFolder(tmp_path, "run"))
    ref = store.put([batch], batch.schema)
    before = pa.total_allocated_bytes()
    got = store.get(ref)
    assert pa.total_allocated_bytes() - before < 10_000
    assert got[0] == batch
    store.close()


@pytest.mark.parametrize("where", [100, -40, -10])
def test_damage_is_noticed(tmp_path: Path, where: int) -> None:
    store = LocalStore(0, RunFolder(tmp_path, "run"))
    ref = store.put([sample()], sample().schema)
    (path,) = tmp_path.rglob("*.block")
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineError, match=r"damaged on disk.*\.block"):
        store.get(ref)
    store.close()


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_cut_short_is_noticed(tmp_path: Path, keep: int) -> None:
    store = LocalStore(0, RunFolder(tmp_path, "run"))
    ref = store.put([sample()], sample().schema)
    (path,) = tmp_path.rglob("*.block")
    os.truncate(path, keep)
    with pytest.raises(EngineError, match="damaged"):
        store.get(ref)
    store.close()


# ---- shared -----------------------------------------------------------------------------------


def stream(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def found(path: str, spans: list[Span]) -> list[pa.RecordBatch]:
    return [b for span in spans for b in pa.ipc.open_stream(read_span(path, span))]


def test_shared_blocks_are_found_by_path(tmp_path: Path) -> None:
    store = SharedStore("run", 1 << 20, tmp_path / "a", str(tmp_path / "b"))
    batches = [sample(), sample(0), sample(5000, 7), sample(3)]
    path, spans = store.put(stream(b) for b in batches)
    assert path.startswith(str(tmp_path / "b"))
    assert store.put([]) == ("", [])
    got = found(path, spans)
    assert got == batches
    store.delete(path)
    store.delete(path)
    with pytest.raises(FileNotFoundError):
        read_span(path, spans[0])
    store.close()
    store.close()
    gc.collect()
    assert got == batches, "views outlive file and store"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("rows", [5, 5000])
def test_damage_of_a_shared_block_is_noticed(tmp_path: Path, rows: int) -> None:
    store = SharedStore("run", 1 << 30, tmp_path / "a", str(tmp_path / "b"))
    path, (span,) = store.put([stream(sample(rows))])
    data = bytearray(Path(path).read_bytes())
    data[span.length // 2] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(BlockLostError, match="damaged"):
        read_span(path, span)
    for keep in (0, 10, span.length - 1):
        os.truncate(path, keep)
        with pytest.raises(BlockLostError, match="cut short"):
            read_span(path, span)
    store.close()


def test_failing_input_leaves_no_shared_file(tmp_path: Path) -> None:
    store = SharedStore("run", 1 << 30, tmp_path / "a", str(tmp_path / "b"))

    def broken() -> Iterator[pa.Buffer]:
        yield stream(sample())
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.put(broken())
    assert not [f for f in leftovers(tmp_path) if f.endswith(".block")]
    store.close()


def test_goes_to_disk_in_mid_file_beyond_the_budget(tmp_path: Path) -> None:
    store = SharedStore("run", 100_000, tmp_path / "disk", str(tmp_path / "memory"))
    batches = [sample(1000, i) for i in range(10)]
    first, _ = store.put([stream(batches[0])])
    second, spans = store.put(stream(b) for b in batches)
    assert "memory" in first.split(os.sep)
    assert "disk" in second.split(os.sep)
    assert len(list((tmp_path / "memory").rglob("*.block"))) == 1
    assert found(second, spans) == batches
    store.close()


def test_room_comes_back_when_a_file_is_deleted(tmp_path: Path) -> None:
    store = SharedStore("run", 150_000, tmp_path / "disk", str(tmp_path / "memory"))
    for _ in range(20):
        path, _ = store.put([stream(sample())])
        assert "memory" in path.split(os.sep)
        store.delete(path)
    store.close()


def test_files_share_the_budget_of_memory_and_leave_no_descriptor_open(tmp_path: Path) -> None:
    budget = 300_000
    store = SharedStore("run", budget, tmp_path / "disk", str(tmp_path / "memory"))
    store.put([stream(sample())])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(9):
        store.put([stream(sample())])
    assert len(os.listdir("/proc/self/fd")) == before
    sizes = [p.stat().st_size for p in (tmp_path / "memory").rglob("*.block")]
    assert 0 < sum(sizes) <= budget
    assert len(list((tmp_path / "disk").rglob("*.block"))) == 10 - len(sizes) > 0
    store.close()


def test_what_goes_to_disk_uses_no_memory_where_both_folders_have_one_parent(tmp_path: Path) -> None:
    store = SharedStore("run", 150_000, tmp_path, str(tmp_path))
    on_disk, _ = store.put(stream(sample()) for _ in range(10))
    in_memory, _ = store.put([stream(sample())])
    assert os.path.dirname(on_disk) == os.path.dirname(in_memory) + "-1"
    store.close()
