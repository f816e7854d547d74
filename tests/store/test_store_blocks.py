"""What every block store promises, on both of them, in memory and on disk."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.errors import EngineError
from mmflow.exec.task import BlockRef, BlockStore
from mmflow.store import LocalStore, RunFolder, SharedStore
from mmflow.store.memory import compacted, retained_bytes

Make = Callable[[], BlockStore]


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


@pytest.fixture(params=["memory", "spilled", "shared", "shared on disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    spill, shm = tmp_path / "spill", tmp_path / "shm"
    match request.param:
        case "memory":
            return lambda: LocalStore(1 << 30, RunFolder(spill, "run"))
        case "spilled":
            return lambda: LocalStore(0, RunFolder(spill, "run"))
        case "shared":
            return lambda: SharedStore("run", 1 << 30, spill, str(shm))
        case _:
            return lambda: SharedStore("run", 0, spill, str(shm))


@pytest.fixture
def store(make: Make) -> Iterator[BlockStore]:
    made = make()
    yield made
    made.close()


def leftovers(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob("*") if "mmflow-" in str(p)]


def test_gives_back_what_was_put(store: BlockStore) -> None:
    batches = [sample(), sample(10, 5000), sample(0)]
    ref = store.put(iter(batches), batches[0].schema)
    assert ref.rows == 1010
    assert pa.Table.from_batches(store.get(ref)) == pa.Table.from_batches(batches)
    assert pa.Table.from_batches(store.get(ref)) == pa.Table.from_batches(batches)


def test_rows_without_columns_keep_their_number(store: BlockStore) -> None:
    batch = sample(17).select([])
    ref = store.put([batch, batch], batch.schema)
    assert ref.rows == 34
    assert [b.num_rows for b in store.get(ref)] == [17, 17]


def test_empty_block(store: BlockStore) -> None:
    ref = store.put([], sample().schema)
    assert ref.rows == 0
    assert list(store.get(ref)) == []


def test_views_outlive_block_and_store(store: BlockStore) -> None:
    ref = store.put([sample()], sample().schema)
    batches = store.get(ref)
    store.delete(ref)
    store.close()
    gc.collect()
    assert batches[0] == sample()


def test_deleted_block_is_gone(store: BlockStore) -> None:
    ref = store.put([sample()], sample().schema)
    store.delete(ref)
    store.delete(ref)
    with pytest.raises(EngineError, match="gone"):
        store.get(ref)


def test_close_leaves_nothing(make: Make, tmp_path: Path) -> None:
    store = make()
    for _ in range(3):
        store.put([sample()], sample().schema)
    assert leftovers(tmp_path)
    store.close()
    store.close()
    assert leftovers(tmp_path) == []


def test_failing_input_leaves_no_block(store: BlockStore, tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield sample()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        store.put(broken(), sample().schema)
    assert not [f for f in leftovers(tmp_path) if f.endswith(".block")]
    if isinstance(store, LocalStore):
        assert store.held == 0


def test_many_threads(store: BlockStore) -> None:
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
    store = SharedStore("run", 1 << 30, tmp_path / "a", str(tmp_path / "b"))
    ref = store.put([sample()], sample().schema)
    os.truncate(ref.token, keep)
    with pytest.raises(EngineError, match="damaged"):
        store.get(ref)
    store.close()


# ---- shared -----------------------------------------------------------------------------------


def test_attached_copy_reads_and_puts_but_does_not_own(tmp_path: Path) -> None:
    owner = SharedStore("run", 1 << 20, tmp_path / "a", str(tmp_path / "b"))
    copy = pickle.loads(pickle.dumps(owner))
    ref = owner.put([sample()], sample().schema)
    other = copy.put([sample(5)], sample().schema)
    assert copy.get(ref)[0] == sample()
    copy.close()
    assert owner.get(other)[0] == sample(5)
    owner.delete(other)
    with pytest.raises(EngineError, match="gone"):
        copy.get(other)
    owner.close()
    assert leftovers(tmp_path) == []


def test_goes_to_disk_in_mid_block_beyond_the_budget(tmp_path: Path) -> None:
    store = SharedStore("run", 100_000, tmp_path / "disk", str(tmp_path / "memory"))
    batches = [sample(1000, i) for i in range(10)]
    first = store.put(batches[:1], batches[0].schema)
    second = store.put(batches, batches[0].schema)
    assert "memory" in first.token.split(os.sep)
    assert "disk" in second.token.split(os.sep)
    assert not list((tmp_path / "memory").rglob(os.path.basename(second.token)))
    assert pa.Table.from_batches(store.get(second)) == pa.Table.from_batches(batches)
    store.close()


def test_room_comes_back_when_another_process_deletes(tmp_path: Path) -> None:
    store = SharedStore("run", 150_000, tmp_path / "disk", str(tmp_path / "memory"))
    other = pickle.loads(pickle.dumps(store))
    for _ in range(20):
        ref: BlockRef = store.put([sample()], sample().schema)
        assert "memory" in ref.token.split(os.sep)
        other.delete(ref)
    store.close()
