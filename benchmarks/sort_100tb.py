"""Simulation of the exchange of a sort of 100 TB on 1,000 hosts, from rates that are measured on one machine.

    python benchmarks/sort_100tb.py [--terabytes 100] [--hosts 1000] [--cores 16] [--memory-gb 64]
        [--network 1.25] [--disk 2.0]

Each design is driven through the same parts in virtual time. Tasks of the first stage scan, and put the rows of each
partition into blocks; the driver takes note of each block; readers of a partition fetch its blocks, sort, and write.
Hosts work side by side, the driver is one process, and the cores of a host share its network and its disk. Prints how
long each part takes, and what each design needs.

Rates of this machine (docs/benchmarks.md): the scheduler took 5 ms a task, and held 373 MiB, in an exchange of 1,000 by
1,000 partitions (`driver_overhead.py`). A core scans and sorts as `--scan` and `--sort` say; a read of a block costs a
reader `--request` microseconds beside its bytes. Hosts, networks and disks are options, for no such cluster is here.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass

from timing import table

#: Of `driver_overhead.py`: an exchange of 1,000 by 1,000 partitions.
DRIVER_SECONDS = 5e-6  # a block of a task: 5 ms for 1,000
DRIVER_BYTES = 373 * 1.048576  # 373 MiB for a million blocks
TASK_SECONDS = 34e-6  # an empty task, to an exchange
#: What a note of a block takes that is two numbers (its offset and its rows) in an array instead of an object.
NOTED_SECONDS, NOTED_BYTES = 2e-8, 16


@dataclass(frozen=True)
class Cluster:
    terabytes: float
    hosts: int
    cores: int
    memory: float  # bytes of a host
    network: float  # bytes a second of a host
    disk: float
    scan: float  # bytes a second of a core
    sort: float
    request: float  # seconds of a read beside its bytes

    @property
    def nbytes(self) -> float:
        return self.terabytes * 1e12

    @property
    def share(self) -> float:
        """Bytes that a task may hold."""
        return self.memory / self.cores / 3


@dataclass(frozen=True)
class Design:
    name: str
    task_bytes: float
    partitions: int
    noted: tuple[float, float]  # seconds and bytes of the driver for a block
    merged_by_host: bool  # blocks of a partition are merged on the host that made them before they are read


def blocks_noted(cluster: Cluster, design: Design) -> float:
    """Return how many blocks the driver knows: those of each task, or of each host."""
    makers = cluster.hosts if design.merged_by_host else -(-cluster.nbytes // design.task_bytes)
    return makers * design.partitions


def first_stage(cluster: Cluster, design: Design) -> tuple[float, float]:
    """Return when the last result of the first stage is noted, and for how long the driver was busy with them.

    Each core takes tasks as it comes to their ends, and one waits ready beside it; the driver notes results one after
    the other.
    """
    tasks = int(-(-cluster.nbytes // design.task_bytes))
    rate = min(
        cluster.scan, cluster.disk / cluster.cores / 2
    )  # what is scanned is written once, on the same disk
    each = design.task_bytes / rate
    note = TASK_SECONDS + blocks_noted(cluster, design) / tasks * design.noted[0]
    slots = min(cluster.hosts * cluster.cores, tasks)
    ends = [each * (1 + slot / slots / 10) for slot in range(slots)]
    driver = 0.0
    for _ in range(tasks):
        ended = heapq.heappop(ends)
        driver = max(driver, ended) + note
        heapq.heappush(ends, max(ended, driver - each) + each)
    return driver, tasks * note


def second_stage(cluster: Cluster, design: Design) -> dict[str, float]:
    """Return what reading, sorting and writing the partitions takes. The parts overlap, so the longest counts."""
    tasks = -(-cluster.nbytes // design.task_bytes)
    blocks = cluster.hosts if design.merged_by_host else tasks  # that a reader of one partition reads
    reads = blocks * design.partitions
    size = cluster.nbytes / design.partitions
    busy = min(design.partitions, cluster.hosts * cluster.cores)
    passes = 1 if size <= cluster.share else 2  # what exceeds a task's share goes to disk and comes back
    merge = 2 * cluster.nbytes / cluster.hosts / cluster.disk if design.merged_by_host else 0.0
    return {
        "network": cluster.nbytes / (min(cluster.hosts, busy) * cluster.network),
        "requests": reads * cluster.request / busy,
        "disk": cluster.nbytes * (1 + passes) / cluster.hosts / cluster.disk + merge,
        "sort": cluster.nbytes / (busy * cluster.sort),
        "read": size / blocks,
        "share": size / cluster.share,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--terabytes", type=float, default=100)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--memory-gb", type=float, default=64)
    parser.add_argument("--network", type=float, default=1.25, help="GB/s of a host")
    parser.add_argument("--disk", type=float, default=2.0, help="GB/s of a host")
    parser.add_argument("--scan", type=float, default=400, help="MB/s of a core that scans and partitions")
    parser.add_argument("--sort", type=float, default=250, help="MB/s of a core that sorts and writes")
    parser.add_argument("--request", type=float, default=200, help="microseconds of a read beside its bytes")
    o = parser.parse_args()
    cluster = Cluster(
        o.terabytes, o.hosts, o.cores, o.memory_gb * 1e9, o.network * 1e9, o.disk * 1e9, o.scan * 1e6, o.sort * 1e6,
        o.request / 1e6,
    )  # fmt: skip
    objects, arrays = (DRIVER_SECONDS, DRIVER_BYTES), (NOTED_SECONDS, NOTED_BYTES)
    fine = int(-(-cluster.nbytes // cluster.share))
    designs = [
        Design("now", 128 << 20, 4096, objects, merged_by_host=False),
        Design("tasks of 1 GiB", 1 << 30, 4096, objects, merged_by_host=False),
        Design("notes in arrays", 1 << 30, 4096, arrays, merged_by_host=False),
        Design("and partitions that fit", 1 << 30, fine, arrays, merged_by_host=False),
        Design("and blocks merged by host", 1 << 30, fine, arrays, merged_by_host=True),
    ]
    rows = []
    for design in designs:
        tasks = -(-cluster.nbytes // design.task_bytes)
        first, driver = first_stage(cluster, design)
        second = second_stage(cluster, design)
        last = max(second[part] for part in ("network", "requests", "disk", "sort"))
        rows.append(
            {
                "design": design.name,
                "tasks x partitions": f"{tasks:,.0f} x {design.partitions:,}",
                "driver": f"{driver:,.0f} s",
                "its memory": f"{blocks_noted(cluster, design) * design.noted[1] / 1e9:,.1f} GB",
                "first stage": f"{first:,.0f} s",
                **{part: f"{second[part]:,.0f} s" for part in ("network", "requests", "disk", "sort")},
                "a read": f"{second['read'] / 1e3:,.1f} kB",
                "partition / share": f"{second['share']:.1f}",
                "whole": f"{first + last:,.0f} s",
            }
        )
    print(table(rows))


if __name__ == "__main__":
    main()
