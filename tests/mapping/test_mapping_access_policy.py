"""decide() as a table; parsers of /proc and of cgroups on recorded texts."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mmflow.errors import EngineError, SourceChangedError
from mmflow.mapping import Access, Advice, Decision, FileFacts, Io, MappedFile, decide, read_facts
from mmflow.mapping.access_policy import SMALL
from mmflow.mapping.system import limits
from mmflow.mapping.system.cgroup import cgroup_memory, find_memory_group, parse_limit, read_memory_group
from mmflow.mapping.system.mounts import parse_mountinfo
from mmflow.storage.os_errors import read_error

GIB = 1 << 30


@pytest.mark.parametrize(
    ("facts", "io", "access", "kind", "advice", "reason"),
    [
        (FileFacts(GIB, "ext4"), "auto", "sequential", "mmap", "SEQUENTIAL POPULATE PREFETCH", "local.*ext4"),
        (FileFacts(GIB, "tmpfs"), "auto", "random", "mmap", "RANDOM", "random access"),
        (
            FileFacts(9 * GIB, "xfs"),
            "auto",
            "sequential",
            "mmap",
            "EVICT_BEHIND POPULATE",
            "exceed the budget",
        ),
        (FileFacts(9 * GIB, "xfs"), "auto", "random", "mmap", "RANDOM EVICT_BEHIND", "exceed the budget"),
        (FileFacts(GIB, "nfs4"), "auto", "sequential", "pread", "PREFETCH", "network file system"),
        (FileFacts(GIB, "cifs"), "auto", "random", "pread", "RANDOM", "network file system"),
        (FileFacts(GIB, "fuse.sshfs"), "auto", "sequential", "pread", "PREFETCH", "FUSE"),
        (FileFacts(GIB, "9p"), "auto", "sequential", "pread", "PREFETCH", "9p"),
        (FileFacts(GIB, "fuseblk"), "auto", "sequential", "mmap", "POPULATE", "local"),
        (FileFacts(GIB, ""), "auto", "sequential", "mmap", "POPULATE", "unknown"),
        (FileFacts(GIB, "nfs"), "mmap", "sequential", "mmap", "POPULATE", "asked for"),
        (FileFacts(GIB, "ext4"), "pread", "sequential", "pread", "PREFETCH", "asked for"),
        (FileFacts(SMALL, "ext4"), "auto", "sequential", "pread", "", "as a whole"),
        (FileFacts(SMALL, "ext4"), "auto", "random", "pread", "", "as a whole"),
        (FileFacts(SMALL + 1, "ext4"), "auto", "sequential", "mmap", "POPULATE", "local"),
        (FileFacts(SMALL, "ext4"), "mmap", "sequential", "mmap", "POPULATE", "asked for"),
        (FileFacts(SMALL, "nfs4"), "auto", "sequential", "pread", "PREFETCH", "network file system"),
        (FileFacts(0, "ext4", regular=False), "mmap", "sequential", "pread", "PREFETCH", "not a regular"),
    ],
)
def test_decisions(facts: FileFacts, io: Io, access: Access, kind: str, advice: str, reason: str) -> None:
    decision = decide(facts, io=io, budget=2 * GIB, access=access)
    assert decision.kind == kind
    for name in advice.split():
        assert Advice[name] in decision.advice
    assert (Advice.POPULATE in decision.advice) == (kind == "mmap" and access == "sequential")
    assert (Advice.EVICT_BEHIND in decision.advice) == (facts.size > 2 * GIB)
    assert re.search(reason, decision.reason)


def test_fallback_keeps_the_advice_that_still_makes_sense() -> None:
    decision = Decision("mmap", Advice.POPULATE | Advice.PREFETCH | Advice.EVICT_BEHIND, "local")
    assert decision.fallback("why") == Decision("pread", Advice.PREFETCH | Advice.EVICT_BEHIND, "why")


def test_reads_facts_of_this_machine(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"1" * (SMALL + 1))
    with open(target, "rb") as f:
        facts = read_facts(f.fileno())
    assert (facts.size, facts.regular) == (SMALL + 1, True)
    assert facts.file_system
    with open("/proc/self/status", "rb") as f:
        assert read_facts(f.fileno()).file_system == "proc"
    with MappedFile.open(target) as file:
        assert facts.file_system in file.decision.reason


def test_mountinfo_with_optional_fields_and_junk() -> None:
    text = (
        "22 1 259:2 / / rw,relatime shared:1 master:7 - ext4 /dev/root rw\n"
        "51 22 0:46 / /mnt/a\\040b rw - fuse.sshfs host:/ rw\n"
        "junk\n- - -\n"
    )
    assert parse_mountinfo(text) == {(259, 2): "ext4", (0, 46): "fuse.sshfs"}


@pytest.mark.root
def test_a_device_number_that_another_file_system_takes(tmp_path: Path) -> None:
    """A FUSE disk that takes the number of a disk that was unmounted is not mapped as that was."""
    seen: list[tuple[int, str]] = []
    for kind in ("tmpfs", "ramfs") * 10:
        mounted = subprocess.run(
            ["mount", "-t", kind, kind, tmp_path], check=False, capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"can't mount a {kind} here: {mounted.stderr.strip()}")
        (tmp_path / "a").touch()
        with (tmp_path / "a").open() as file:
            device = os.fstat(file.fileno()).st_dev
            found = read_facts(file.fileno()).file_system
        subprocess.run(["umount", tmp_path], check=True)
        assert found == kind
        if any(device == number and kind != other for number, other in seen):
            return
        seen.append((device, kind))
    pytest.skip("the kernel gave every file system a number of its own")


def _tree(files: dict[str, str]) -> Callable[[str], str]:
    return lambda path: files.get(path, "")


def test_cgroup_v2_takes_the_smallest_of_max_and_high_on_the_way_up() -> None:
    mounts = "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    found = find_memory_group("0::/user.slice/app.service\n", mounts)
    assert found == (2, "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/app.service")
    files = {
        "/sys/fs/cgroup/user.slice/app.service/memory.max": "max\n",
        "/sys/fs/cgroup/user.slice/app.service/memory.high": "3000000\n",
        "/sys/fs/cgroup/user.slice/app.service/memory.current": "10\n",
        "/sys/fs/cgroup/user.slice/memory.max": "2000000\n",
        "/sys/fs/cgroup/user.slice/memory.high": "max\n",
        "/sys/fs/cgroup/user.slice/memory.current": "1500000\n",
        "/sys/fs/cgroup/user.slice/memory.stat": "anon 5\ninactive_file 400000\nactive_file 7\n",
    }
    group = read_memory_group(*found, read=_tree(files))
    assert (group.limit, group.high, group.usage, group.reclaimable) == (2000000, 3000000, 1500000, 400000)
    assert group.room == 900000


def test_cgroup_v1_inside_a_container_whose_mount_shows_its_own_group() -> None:
    mounts = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    found = find_memory_group("4:memory:/docker/abc\n0::/\n", mounts)
    assert found == (1, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory")
    files = {
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": "2000000000\n",
        "/sys/fs/cgroup/memory/memory.stat": "cache 9\ntotal_inactive_file 1000\n",
    }
    group = read_memory_group(*found, read=_tree(files))
    assert (group.limit, group.room) == (GIB, 0)


def test_cgroup_without_limits() -> None:
    assert parse_limit("9223372036854771712\n") is None
    assert parse_limit("") is None
    assert find_memory_group("", "") is None
    group = read_memory_group(2, "/c", "/c/a", read=lambda path: "")
    assert (group.limit, group.room, group.usage) == (None, None, 0)


def test_limits_of_this_process() -> None:
    found = limits.read_limits()
    assert found.max_mappings == int(Path("/proc/sys/vm/max_map_count").read_text())
    assert found.mappings is not None
    assert 10 < found.mappings < found.max_mappings
    assert (
        0
        < found.available_memory
        <= found.total_memory
        <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    group = cgroup_memory()
    assert group is None or Path(group.path).is_dir()


def test_memory_of_a_process() -> None:
    """Measure in another process: in this one the memory of other tests comes and goes."""
    code = """
        import os
        from mmflow.mapping.system import limits
        memory = limits.process_memory()
        held = bytearray(os.urandom(1)) * (32 << 20)
        assert limits.process_memory().anonymous - memory.anonymous > (24 << 20)
        assert limits.process_memory().peak >= memory.anonymous + len(held) - (8 << 20)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_errors_name_path_and_remedy() -> None:
    assert "ulimit -n" in str(read_error("p", OSError(errno.EMFILE, "x")))
    assert isinstance(read_error("p", OSError(errno.EMFILE, "x")), EngineError)
    assert isinstance(read_error("p", OSError(errno.ESTALE, "x")), SourceChangedError)
    assert "p/*" in str(read_error("p", OSError(errno.EISDIR, "x")))
    assert "dmesg" in str(read_error("p", OSError(errno.EIO, "x"), "read"))
