"""Pages of remote files: never wrong, within their bound, shared, whatever fails or dies."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmflow.errors import EngineError, SourceChangedError, SourceError, SourceUnreachableError
from mmflow.mapping import Window
from mmflow.remote.cache.blocks import BLOCK, absent_ranges, join_ranges, split_ranges
from mmflow.remote.cache.folder import PageCache, open_cache
from mmflow.remote.file import RemoteFile
from mmflow.remote.opening import open_file, read_identities
from mmflow.remote.options import RemoteOptions, storage_text
from tests.mapping.systems import MACOS
from tests.remote.web import Web, serving
from tests.runs.disks import disk


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "files").mkdir()
    with serving(tmp_path / "files") as server:
        yield server


@pytest.fixture
def remote_options(tmp_path: Path) -> RemoteOptions:
    return RemoteOptions(str(tmp_path / "cache"))


def data_of(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


def put(web: Web, data: bytes, name: str = "a.bin") -> str:
    (web.folder / name).write_bytes(data)
    return f"{web.url}/{name}"


def opened(url: str, remote_options: RemoteOptions, **options: Any) -> RemoteFile:
    file = open_file(url, remote_options=remote_options, **options)
    assert isinstance(file, RemoteFile)
    return file


def read(url: str, remote_options: RemoteOptions, window: int = 1 << 20) -> bytes:
    with opened(url, remote_options) as file:
        parts = [file.window(b, window).buffer.to_pybytes() for b in range(0, file.size, window)]
        file.check_unchanged()
    return b"".join(parts)


# ---- blocks --------------------------------------------------------------------------------------------


@given(
    st.lists(st.booleans(), max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6),
)
def test_ranges_of_blocks_are_what_sets_of_them_are(there: list[bool], ranges: list[tuple[int, int]]) -> None:
    present = np.array(there, np.uint8)
    wanted = {b for first, last in ranges for b in range(first, last)}
    apart = join_ranges(ranges, gap=0)
    assert [b for first, last in apart for b in range(first, last)] == sorted(wanted)
    inside = [(first, min(last, len(there))) for first, last in apart if first < len(there)]
    missing = absent_ranges(present, inside)
    assert [b for first, last in missing for b in range(first, last)] == [
        b for b in sorted(wanted) if b < len(there) and not there[b]
    ]
    cut = list(split_ranges(missing, 3))
    assert all(0 < last - first <= 3 for first, last in cut)
    assert join_ranges(cut, gap=0) == join_ranges(missing, gap=0)


# ---- windows -------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    size=st.integers(1, 12 * BLOCK),
    wanted=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5 * BLOCK), st.booleans()), max_size=12),
    blocks=st.sampled_from([0, 1, 3, 6, None]),
    io=st.sampled_from(["mmap", "pread"]),
)
def test_windows_are_the_files_bytes_and_stay_it(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    wanted: list[tuple[float, int, bool]],
    blocks: int | None,
    io: Any,
) -> None:
    """Held windows must not see what is evicted under later ones."""
    data = data_of(size)
    name = f"memory://windows/{size}"
    fsspec.filesystem("memory").pipe_file(name, data)
    limit = None if blocks is None else blocks * BLOCK
    remote_options = RemoteOptions(str(tmp_path_factory.getbasetemp() / f"held-{blocks}"), limit)
    held: list[Window] = []
    with opened(name, remote_options, io=io) as file:
        for begin, length, hold in wanted:
            window = file.window(int(begin * size), length)
            assert window.buffer == data[window.offset : window.offset + length]
            if hold:
                held.append(window)
            cache = open_cache(remote_options)
            assert cache is None or limit is None or cache.measure() <= limit
    for window in held:
        assert window.buffer == data[window.offset : window.end]
    fsspec.filesystem("memory").rm(name)


def test_a_file_larger_than_the_cache_is_read_in_its_bound(web: Web, tmp_path: Path) -> None:
    data = data_of(12 << 20)
    url = put(web, data)
    remote_options = RemoteOptions(str(tmp_path / "cache"), 2 << 20)
    cache = open_cache(remote_options)
    assert cache is not None
    got = hashlib.sha256()
    with opened(url, remote_options) as file:
        kinds = set()
        for begin in range(0, len(data), 1 << 20):
            file.prefetch(begin + (1 << 20), 1 << 20)
            window = file.window(begin, 1 << 20)
            kinds.add(window.kind)
            got.update(window.buffer)
            assert cache.measure() <= 2 << 20
    assert got.digest() == hashlib.sha256(data).digest()
    assert "mmap" in kinds


def test_what_was_used_last_stays(web: Web, tmp_path: Path) -> None:
    remote_options = RemoteOptions(str(tmp_path / "cache"), 3 << 20)
    urls = [put(web, data_of(1 << 20, seed), f"{seed}.bin") for seed in range(4)]
    for url in (*urls[:2], urls[0], urls[2], urls[0], urls[3]):
        read(url, remote_options)
    web.forget()
    read(urls[0], remote_options)
    assert web.sent == 0
    read(urls[1], remote_options)
    assert web.sent == 1 << 20


def test_bytes_are_fetched_once_by_many_threads(web: Web, remote_options: RemoteOptions) -> None:
    data = data_of(6 << 20)
    url = put(web, data)
    chance = random.Random(1)
    windows = [(chance.randrange(len(data)), chance.randrange(1 << 20)) for _ in range(80)]
    (identity,) = read_identities([url])

    def look(window: tuple[int, int]) -> bool:
        with opened(url, remote_options, expected=identity) as file:
            return bool(file.window(*window).buffer == data[window[0] : sum(window)])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, windows))
    assert web.sent <= len(data)


READER = """
import hashlib, sys
from mmflow.remote.opening import open_file
from mmflow.remote.options import RemoteOptions
url, cache, window = sys.argv[1], sys.argv[2], int(sys.argv[3])
got = hashlib.sha256()
with open_file(url, remote_options=RemoteOptions(cache)) as file:
    print("open", flush=True)
    for begin in range(0, file.size, window):
        got.update(file.window(begin, window).buffer)
print(got.hexdigest(), flush=True)
"""


def reader(url: str, remote_options: RemoteOptions, window: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READER, url, remote_options.cache_dir, str(window)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_what_they_fetch(web: Web, remote_options: RemoteOptions) -> None:
    data = data_of(8 << 20)
    url = put(web, data)
    web.trouble = lambda _path, _number: 0.01
    readers = [reader(url, remote_options, window) for window in (1 << 20, 3 << 19)]
    for process in readers:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.split() == ["open", hashlib.sha256(data).hexdigest()]
    assert web.sent == len(data)


def test_a_process_killed_while_it_fetches_leaves_only_what_is_right(
    web: Web, remote_options: RemoteOptions
) -> None:
    data = data_of(8 << 20)
    url = put(web, data)
    web.trouble = lambda _path, number: 0.02 if number < 12 else None
    for round_ in range(3):
        process = reader(url, remote_options, 1 << 19)
        assert process.stdout is not None
        process.stdout.readline()
        before = web.sent
        while web.sent - before < (round_ + 1) * (1 << 19):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    web.forget()
    assert read(url, remote_options) == data
    assert web.sent < len(data)  # what was there was used


# ---- versions ------------------------------------------------------------------------------------------


def test_another_version_is_another_file(web: Web, remote_options: RemoteOptions) -> None:
    old, new = data_of(1 << 20, 1), data_of(1 << 20, 2)
    url = put(web, old)
    (identity,) = read_identities([url])
    with opened(url, remote_options, expected=identity) as file:
        assert file.window(0, BLOCK).buffer == old[:BLOCK]
        put(web, new)
        os.utime(web.folder / "a.bin", (1_000_000_000, 1_000_000_000))  # whatever the clock's ticks are
        with pytest.raises(SourceChangedError, match=r"was replaced \(its ETag was"):
            file.window(BLOCK, BLOCK)
        with (
            pytest.raises(SourceChangedError, match=r"a\.bin changed while it was being read"),
            opened(url, remote_options, expected=identity) as other,
        ):
            other.window(8 * BLOCK, BLOCK)
    assert read(url, remote_options) == new
    cache = open_cache(remote_options)
    assert cache is not None
    gc.collect()  # tracebacks above may hold windows of the old file
    put(web, old + new)
    assert read(url, remote_options) == old + new
    assert len(list(Path(cache.folder).glob("*/*.data"))) == 1  # the old ones went


def test_nothing_of_a_version_that_came_too_early_is_kept(web: Web, remote_options: RemoteOptions) -> None:
    """The file is replaced between plan and fetch, and put back: the same identity must show the same bytes."""
    old, new = data_of(1 << 20, 1), data_of(1 << 20, 2)
    url = put(web, old)
    path = web.folder / "a.bin"
    status = path.stat()
    (identity,) = read_identities([url])
    path.write_bytes(new)
    with pytest.raises(SourceChangedError), opened(url, remote_options, expected=identity) as file:
        file.window(0, len(old))
    path.write_bytes(old)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with opened(url, remote_options, expected=identity) as file:
        assert file.window(0, len(old)).buffer == old


def test_a_file_that_is_gone_is_changed(
    web: Web, remote_options: RemoteOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmflow.remote.object._FRESH_SECONDS", 0.0)  # every check asks the server
    url = put(web, data_of(1 << 20))
    (identity,) = read_identities([url])
    with opened(url, remote_options, expected=identity) as file:
        file.window(0, BLOCK)
        (web.folder / "a.bin").unlink()
        with pytest.raises(SourceChangedError, match="it is gone"):
            file.window(1 << 19, BLOCK)
        with pytest.raises(SourceChangedError, match="it is gone"):
            file.check_unchanged()


@pytest.mark.parametrize("times", [True, False])
def test_without_tags_time_tells_and_without_both_nothing_is_used_again(
    web: Web, remote_options: RemoteOptions, times: bool
) -> None:
    web.tags, web.times = False, times
    old, new = data_of(1 << 19, 1), data_of(1 << 19, 2)
    url = put(web, old)
    os.utime(web.folder / "a.bin", (1_000_000_000, 1_000_000_000))
    assert read(url, remote_options) == old
    put(web, new)
    assert read(url, remote_options) == new


def test_pages_of_an_earlier_boot_are_not_looked_at(web: Web, remote_options: RemoteOptions) -> None:
    other = Path(remote_options.cache_dir) / "pages-1-01234567-89ab-cdef-0123-456789abcdef"
    (other / "url").mkdir(parents=True)
    (other / "lock").touch()
    (other / "url" / "x.data").write_bytes(b"0" * 100)
    read(put(web, b"abc"), remote_options)
    assert not other.exists()


def test_pages_are_their_users_alone(web: Web, remote_options: RemoteOptions, tmp_path: Path) -> None:
    read(put(web, b"abc"), remote_options)
    found = list(Path(remote_options.cache_dir).rglob("*"))
    assert {stat.S_IMODE(p.stat().st_mode) for p in found if p.is_file()} == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in found if p.is_dir()} == {0o700}
    place = tmp_path / "place"
    folder = Path(PageCache(str(place), None).folder)
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
        with pytest.raises(PermissionError, match="belongs to another user"):
            PageCache(str(place), None)
        os.chown(folder, 0, 0)
    folder.rename(place / "moved")
    folder.symlink_to(place / "moved")
    with pytest.raises(PermissionError, match="is a link"):
        PageCache(str(place), None)


# ---- trouble -------------------------------------------------------------------------------------------


def test_a_server_that_fails_now_and_then_is_asked_again(web: Web, remote_options: RemoteOptions) -> None:
    data = data_of(4 << 20)
    url = put(web, data)
    chance = random.Random(4)
    web.trouble = lambda _path, _number: chance.choice([None, None, None, None, 500, "cut", "reset"])
    assert read(url, remote_options, 1 << 18) == data
    assert read(url, RemoteOptions(cache_size=0), 1 << 20) == data


def test_answers_that_name_their_version_are_not_followed_by_another_look(
    web: Web, remote_options: RemoteOptions
) -> None:
    data = data_of(3 << 20)
    url = put(web, data)
    with opened(url, remote_options) as file:
        web.heads = 0
        assert file.window(0, 1 << 20).buffer.to_pybytes() == data[: 1 << 20]
        assert web.heads == 0
    # A weak tag does not say that the bytes are the same.
    web.lie = lambda _method, _path, headers: headers | {"ETag": f"W/{headers['ETag']}"}
    url = put(web, data, "weak.bin")
    with opened(url, remote_options) as file:
        web.heads = 0
        assert file.window(0, 1 << 20).buffer.to_pybytes() == data[: 1 << 20]
        assert web.heads == 1


def test_a_server_that_asks_for_fewer_requests_gets_them(web: Web, remote_options: RemoteOptions) -> None:
    data = data_of(32 << 20)
    url = put(web, data)
    times: list[float] = []

    def throttled(_path: str, number: int) -> Any:
        times.append(time.monotonic())
        # More than the attempts at a server that fails, and each of the requests in flight.
        return (503, {"Retry-After": "1"}) if number < 12 else None

    web.trouble = throttled
    assert read(url, remote_options, 32 << 20) == data
    # Whoever was refused waits as long as it was asked to.
    assert times[12] - times[0] >= 1


def test_a_server_that_throttles_for_too_long_is_an_error(
    web: Web, remote_options: RemoteOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmflow.remote.failures._THROTTLED_SECONDS", 2.0)
    url = put(web, data_of(1 << 18))
    web.trouble = lambda _path, _number: (429, {})
    with (
        opened(url, remote_options) as file,
        pytest.raises(SourceUnreachableError, match=r"429.*tried \d+ times"),
    ):
        file.window(0, BLOCK)
    assert 1 < len(web.gets) < 20


def test_a_server_that_only_fails_is_an_error_that_says_where(
    web: Web, remote_options: RemoteOptions
) -> None:
    url = put(web, data_of(1 << 20))
    with opened(url, remote_options) as file:
        web.trouble = lambda _path, _number: 500
        with pytest.raises(
            SourceUnreachableError, match=rf"can't read byte 65,536 and on of {url}: .*500.*tried 5 times"
        ):
            file.window(BLOCK, BLOCK)
        web.trouble = lambda _path, _number: "cut"
        with pytest.raises(SourceUnreachableError, match=rf"can't read byte 65,536 and on of {url}"):
            file.window(BLOCK, BLOCK)
        web.trouble = lambda _path, _number: None
        assert file.window(BLOCK, BLOCK).length == BLOCK


def test_a_server_that_says_nothing_is_given_up(web: Web, remote_options: RemoteOptions) -> None:
    url = put(web, data_of(1 << 18))
    slow = RemoteOptions(remote_options.cache_dir, storage=storage_text({"client_kwargs": {"timeout": 0.2}}))
    web.trouble = lambda _path, number: 0.6 if number < 2 else None
    assert len(read(url, slow)) == 1 << 18
    assert len(web.gets) > 2


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, SourceError, r"no such file or folder: http.*a\.bin\?\*\*\*; check the URL"),
        (403, SourceError, r"can't look at http.*: access denied; check which credentials"),
        (503, SourceUnreachableError, r"can't look at http.*503.*tried 5 times: check the network"),
        (418, SourceError, r"can't look at http.*418"),
    ],
)
def test_what_a_server_refuses(
    web: Web, remote_options: RemoteOptions, status: int, error: type[Exception], message: str
) -> None:
    url = put(web, b"abc")
    web.status = status
    with pytest.raises(error, match=message) as caught:
        opened(f"{url}?X-Amz-Signature=hush", remote_options)
    assert "hush" not in str(caught.value)


def test_a_host_that_nobody_is_at(remote_options: RemoteOptions) -> None:
    with pytest.raises(
        SourceUnreachableError, match=r"can't look at http://127.0.0.1:9/a.csv: .*tried 5 times"
    ):
        opened("http://127.0.0.1:9/a.csv", remote_options)


def test_a_server_without_ranges_is_asked_for_the_whole_once(web: Web, remote_options: RemoteOptions) -> None:
    web.ranges = False
    data = data_of(3 << 20)
    url = put(web, data)
    (identity,) = read_identities([url])
    with opened(url, remote_options, expected=identity) as file:
        assert file.window(2 << 20, BLOCK).buffer == data[2 << 20 : (2 << 20) + BLOCK]
        web.forget()
        assert file.window(0, len(data)).buffer == data
        assert not web.gets
    with pytest.raises(
        SourceError, match="sends whole files only, and its 3,145,728 bytes don't fit the cache"
    ):
        opened(url, RemoteOptions(f"{remote_options.cache_dir}-small", 1 << 20)).window(2 << 20, BLOCK)
    with pytest.raises(SourceError, match="sends whole files only"):
        opened(url, RemoteOptions(cache_size=0)).window(2 << 20, BLOCK)


def test_a_size_that_only_parts_tell(web: Web, remote_options: RemoteOptions) -> None:
    web.sizes = False
    assert opened(put(web, b"abc"), remote_options).window(0, 3).buffer.to_pybytes() == b"abc"


def test_a_size_that_is_not_told(web: Web, remote_options: RemoteOptions) -> None:
    web.sizes = web.ranges = False
    with pytest.raises(SourceError, match="doesn't say how large it is"):
        opened(put(web, b"abc"), remote_options)


def test_a_full_disk_is_done_without(web: Web, tmp_path: Path) -> None:
    data = data_of(2 << 20)
    url = put(web, data)
    with disk(tmp_path / "disk", "512k"):
        remote_options = RemoteOptions(str(tmp_path / "disk" / "cache"), 1 << 30)
        with opened(url, remote_options, io="mmap") as file:
            windows = [file.window(begin, 1 << 18) for begin in range(0, len(data), 1 << 18)]
            assert b"".join(w.buffer.to_pybytes() for w in windows) == data
            kinds = {w.kind for w in windows}  # blocks that are read ahead may take all of the room
            assert "pread" in kinds
            assert kinds <= {"mmap", "pread"}
            assert all("read into memory" in w.reason for w in windows if w.kind == "pread")
        del windows, file


def test_a_disk_without_any_room_left_is_done_without(web: Web, tmp_path: Path) -> None:
    """There is no room even for the flags of blocks, which are mapped."""
    data = data_of(1 << 20)
    url = put(web, data)
    with disk(tmp_path / "disk", "512k"):
        remote_options = RemoteOptions(str(tmp_path / "disk" / "cache"), 1 << 30)
        assert open_cache(remote_options) is not None
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "disk" / "full").write_bytes(bytes(1 << 20))
        with opened(url, remote_options) as file:
            assert file.window(0, len(data)).buffer == data
            assert "read into memory" in file.window(0, 100).reason + file.decision.reason


def test_a_cache_folder_that_is_removed_is_made_again(web: Web, remote_options: RemoteOptions) -> None:
    data = data_of(1 << 20)
    url = put(web, data)
    with opened(url, remote_options) as file:
        held = file.window(0, 1 << 19)
        shutil.rmtree(remote_options.cache_dir)
        assert held.buffer == data[: 1 << 19]
        assert file.window(0, len(data)).buffer == data
    assert read(url, remote_options) == data


def test_where_pages_are_kept_when_home_is_read_only(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no-folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-folder"))
    (tmp_path / "spill").mkdir()
    data = data_of(1 << 18)
    url = put(web, data)
    assert read(url, RemoteOptions(spill_dir=str(tmp_path / "spill"))) == data
    assert (tmp_path / "spill" / f"mmflow-cache-{os.geteuid()}").is_dir()
    assert read(url, RemoteOptions(spill_dir=str(tmp_path / "no-folder" / "x"))) == data
    with pytest.raises(EngineError, match=r"can't keep pages of remote files in .*no-folder.*set cache_dir"):
        opened(url, RemoteOptions(str(tmp_path / "no-folder")))


def test_reading_ahead_ends_with_the_file(web: Web, remote_options: RemoteOptions) -> None:
    url = put(web, data_of(8 << 20))
    gate = threading.Event()
    web.trouble = lambda _path, _number: float(not gate.wait(5))
    with opened(url, remote_options) as file:
        file.fetch([(0, 8 << 20)])
        while not web.gets:
            time.sleep(0.005)
    gate.set()
    assert len(read(url, remote_options)) == 8 << 20


def test_systems_without_locks_on_ranges_keep_nothing(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmflow.remote.cache.folder.system", MACOS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = data_of(1 << 18)
    url = put(web, data)
    assert read(url, RemoteOptions(spill_dir=str(tmp_path))) == data
    with pytest.raises(EngineError, match=r"can't keep pages of remote files in .*no locks on ranges"):
        opened(url, RemoteOptions(str(tmp_path / "cache")))
