"""Blocks that other processes find by path: whose memory it is, how much of it they take, and what their errors say."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from mmflow.blocks import SharedStore, read_span, shared_host, shared_memory_folder
from mmflow.blocks.references import Span
from mmflow.errors import BlockLostError, EngineError
from mmflow.mapping.system.host import read_boot_id
from tests.forked import become_nobody, in_fork, mount_privately

_SHM = "/dev/shm"
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems, and becomes another user")
def test_processes_that_see_the_same_memory_have_one_name_for_it() -> None:
    def elsewhere() -> str:
        mount_privately(_SHM)
        assert shared_memory_folder() == _SHM
        return shared_host()

    def without() -> str:
        mount_privately("/dev")
        assert shared_memory_folder() is None
        return shared_host()

    def not_writable() -> str:
        mount_privately(_SHM, "mode=755")
        become_nobody()
        assert shared_memory_folder() is None
        return shared_host()

    here = shared_host()
    assert shared_memory_folder() == _SHM
    assert here == f"{read_boot_id()}-{os.stat(_SHM).st_dev}"
    assert in_fork(shared_host) == here
    assert in_fork(elsewhere) not in (here, f"{read_boot_id()}-")
    assert in_fork(without) == in_fork(not_writable) == f"{read_boot_id()}-"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_behind_full_memory_says_what_to_do(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()

    def message() -> str:
        mount_privately(small, "size=256k")
        store = SharedStore("run", 0, small, str(tmp_path / "memory"))
        with pytest.raises(EngineError) as caught:
            store.put([pa.py_buffer(bytes(1 << 20))])
        assert not list(small.rglob("*.block"))
        store.close()
        return str(caught.value)

    text = in_fork(message)
    assert text.startswith(f"no room left in {small}/mmflow-run-")
    assert text.endswith(
        "more don't fit; set spill_dir (MMFLOW_SPILL_DIR) to a larger disk, "
        "or give more memory (--memory, MMFLOW_MEMORY)"
    )


def test_files_that_fill_the_budget_to_the_last_byte_stay_in_memory(tmp_path: Path) -> None:
    blocks = [pa.py_buffer(bytes(1000))]
    measured = SharedStore("run", 1 << 20, tmp_path / "disk", str(tmp_path / "memory"))
    size = os.stat(measured.put(blocks)[0]).st_size
    measured.close()
    store = SharedStore("run", 2 * size, tmp_path / "disk", str(tmp_path / "memory"))
    places = [store.put(blocks)[0] for _ in range(3)]
    store.delete(places[2])  # which is on disk
    places.append(store.put(blocks)[0])
    for _ in range(2):
        store.delete(places[0])
        store.delete(places[0])
        places[0] = store.put(blocks)[0]
        places.append(store.put(blocks)[0])
    folders = [Path(place).relative_to(tmp_path).parts[0] for place in places]
    assert folders == ["memory", "memory", "disk", "disk", "disk", "disk"]
    assert len(set(places)) == len(places)
    store.close()


def test_all_goes_to_disk_without_a_folder_in_memory(tmp_path: Path) -> None:
    store = SharedStore("run", 0, tmp_path, None)
    path, (span,) = store.put([pa.py_buffer(b"block")])
    assert os.path.dirname(path) == str(tmp_path / f"mmflow-run-{os.getpid()}")
    assert read_span(path, span).to_pybytes() == b"block"
    store.delete(path)
    assert not os.path.exists(path)
    store.close()
    assert os.listdir(tmp_path) == []


def test_blocks_in_a_file_are_aligned(tmp_path: Path) -> None:
    store = SharedStore("run", 1 << 20, tmp_path / "disk", str(tmp_path / "memory"))
    _, spans = store.put(pa.py_buffer(bytes(size)) for size in (1, 64, 0, 63, 100))
    assert [(span.offset, span.length) for span in spans] == [
        (0, 1),
        (64, 64),
        (128, 0),
        (128, 63),
        (192, 100),
    ]
    store.close()


def test_a_store_that_cant_be_made_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"in .*file: File exists"):
        SharedStore("run", 1 << 20, tmp_path / "file", str(tmp_path / "memory"))
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_span_that_is_damaged_is_named(tmp_path: Path) -> None:
    store = SharedStore("run", 1 << 20, tmp_path / "disk", str(tmp_path / "memory"))
    path, (span,) = store.put([pa.py_buffer(b"block")])
    for wrong, why in (
        (Span(span.offset, span.length, span.crc ^ 1), f"was damaged: {path}: check disk and memory"),
        (Span(1 << 20, span.length, span.crc), f"is cut short: {path}"),
    ):
        with pytest.raises(BlockLostError) as caught:
            read_span(path, wrong)
        assert str(caught.value) == f"a file of intermediate rows {why}"
        assert caught.value.context == {"path": path}
    store.close()
