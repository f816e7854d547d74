"""Cold scan of one large object beside plain parallel range requests, and a listing of many keys, on a local server.

    python benchmarks/object_store.py FOLDER [--megabytes 512] [--latency 0.03] [--bandwidth 250] [--keys 100000]

The server runs in a process of its own, speaks HTTP and as much of S3 as reading takes, and waits `--latency` seconds
before each answer; all of its connections together send `--bandwidth` MB a second (0: as fast as they can). Ways take
turns, each in a process of its own, from an empty cache:

- plain: threads that request ranges of 4 MiB and drop them, with 4 to 64 requests in flight; the best number counts;
- http, s3: `SELECT count(*), sum(v)` by mmflow over the CSV file at that URL, after the same over a small one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_REQUEST = 4 << 20
_CHUNK = 256 << 10
_IN_FLIGHT = (4, 8, 16, 32, 64)
_PAGE = 1000
_MMFLOW = """
import sys, time
import mmflow as mf
session = mf.Session(cache_dir=cache, workers=2)
def total(url):
    rows = session.read_csv(url, schema="k:int64,text:string,v:int64", **options)
    return session.sql("SELECT count(*) AS n, sum(v) AS s FROM rows", rows=rows).to_arrow().to_pydict()
total(url.replace("rows", "small"))  # modules and connections
begin = time.perf_counter()
print(total(url), file=sys.stderr)
print(time.perf_counter() - begin)
"""
_LIST = """
import sys, time
import mmflow as mf
from mmflow.remote.options import storage_text, using_remote_options, RemoteOptions
from mmflow.shards import find_files, identify_files
import s3fs
storage = storage_text(options["storage_options"])
begin, spent = time.perf_counter(), time.process_time()
with using_remote_options(RemoteOptions(storage=storage)):
    files = find_files(url)
    found = time.perf_counter()
    entries = identify_files(files, storage)
print(len(entries), found - begin, time.process_time() - spent, file=sys.stderr)
print(time.perf_counter() - begin)
"""


class _Bucket:
    """Bandwidth that all connections share: `take` sleeps until its bytes may be sent."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate, self._lock, self._free = bytes_per_second, threading.Lock(), 0.0

    def take(self, count: int) -> None:
        if not self._rate:
            return
        with self._lock:
            begin = max(self._free, time.monotonic())
            self._free = begin + count / self._rate
        if (wait := self._free - time.monotonic()) > 0.001:
            time.sleep(wait)


def serve(folder: Path, latency: float, bandwidth: float, keys: int) -> None:
    """Serve a folder, and a bucket `many` of so many keys; print the port, and end with standard input."""
    bucket = _Bucket(bandwidth * 1e6)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            del args

        def _head(self, status: int, length: int, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def do_HEAD(self) -> None:
            time.sleep(latency)
            path = folder / unquote(urlsplit(self.path).path).strip("/")
            if not path.is_file():
                self._head(404, 0)
                return
            status = path.stat()
            self._head(200, status.st_size, **_version(status))

        def do_GET(self) -> None:
            time.sleep(latency)
            asked = urlsplit(self.path)
            if "list-type" in (query := parse_qs(asked.query)):
                self._list(query)
                return
            path = folder / unquote(asked.path).strip("/")
            if not path.is_file():
                self._head(404, 0)
                return
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                first, end = (
                    (int(part[1]), min(int(part[2]) + 1, status.st_size)) if part else (0, status.st_size)
                )
                more = {"Content_Range": f"bytes {first}-{end - 1}/{status.st_size}"} if part else {}
                self._head(
                    206 if part else 200, end - first, Accept_Ranges="bytes", **_version(status), **more
                )
                self.wfile.flush()
                while first < end:
                    count = min(_CHUNK, end - first)
                    bucket.take(count)
                    first += os.sendfile(self.connection.fileno(), file.fileno(), first, count)

        def _list(self, query: dict[str, list[str]]) -> None:
            after = int(query.get("continuation-token", ["0"])[0])
            last = min(after + _PAGE, keys)
            tag = hashlib.md5(b"").hexdigest()
            listed = "".join(
                f"<Contents><Key>part/{n:07d}.csv</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{tag}&quot;</ETag><Size>100</Size><StorageClass>STANDARD</StorageClass></Contents>"
                for n in range(after, last)
            )
            more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < keys else ""
            text = (
                '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>many</Name><Prefix>part/</Prefix>'
                f"<KeyCount>{last - after}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
                f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{listed}</ListBucketResult>"
            ).encode()
            self._head(200, len(text), Content_Type="application/xml")
            self.wfile.write(text)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *args: object) -> None:
            """Do nothing: clients go away as they end."""

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def _version(status: os.stat_result) -> dict[str, str]:
    return {
        "ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"',
        "Last_Modified": formatdate(status.st_mtime, usegmt=True),
    }


@contextlib.contextmanager
def serving(folder: Path, latency: float, bandwidth: float, keys: int) -> Iterator[int]:
    """Start the server; the port."""
    command = [sys.executable, __file__, str(folder), "--serve", "--latency", str(latency),
               "--bandwidth", str(bandwidth), "--keys", str(keys)]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def plain(port: int, size: int, in_flight: int) -> float:
    """Return the seconds of so many threads that request all ranges of the object once."""
    begins = iter(range(0, size, _REQUEST))
    lock = threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        memory = memoryview(bytearray(_REQUEST))
        while True:
            with lock:
                begin = next(begins, None)
            if begin is None:
                break
            end = min(begin + _REQUEST, size)
            connection.request("GET", "/data/rows.csv", headers={"Range": f"bytes={begin}-{end - 1}"})
            response = connection.getresponse()
            done = 0
            while done < end - begin:
                done += response.readinto(memory[done : end - begin])
            response.read()
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def measured(code: str, url: str, options: dict[str, object]) -> tuple[float, str]:
    """Return the seconds of some code of mmflow in a process of its own, and what it found."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory() as cache:
        given = f"url, options, cache = {url!r}, {options!r}, {cache!r}\n"
        done = subprocess.run([sys.executable, "-c", given + code], capture_output=True, check=False, text=True,
                              env=os.environ | keys)  # fmt: skip
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return float("nan"), ""
    return float(done.stdout.splitlines()[-1]), done.stderr.strip()


def make_object(path: Path, megabytes: int) -> None:
    """Write a CSV file of lines of about 80 bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(
        f"{n},{'some text that fills the line up to its end ' * 1}{n % 97},{n * 7}\n" for n in range(20_000)
    )
    with path.open("w") as file:
        file.write("k,text,v\n")
        while file.tell() < megabytes << 20:
            file.write(lines)


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--bandwidth", type=float, default=250)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.folder, given.latency, given.bandwidth, given.keys)
        return
    path = given.folder / "data" / "rows.csv"
    make_object(path, given.megabytes)
    make_object(path.with_name("small.csv"), 1)
    size = path.stat().st_size
    with serving(given.folder, given.latency, given.bandwidth, given.keys) as port:
        address = f"http://127.0.0.1:{port}"
        store = {"storage_options": {"endpoint_url": address}}
        best: dict[str, list[float]] = {"plain": [], "http": [], "s3": []}
        by_number: dict[int, list[float]] = {number: [] for number in _IN_FLIGHT}
        for _ in range(given.runs):
            for number in _IN_FLIGHT:
                by_number[number].append(plain(port, size, number))
            best["plain"].append(min(taken[-1] for taken in by_number.values()))
            best["http"].append(measured(_MMFLOW, f"{address}/data/rows.csv", {})[0])
            best["s3"].append(measured(_MMFLOW, "s3://data/rows.csv", store)[0])
        medians = {name: statistics.median(taken) for name, taken in best.items()}
        numbers = {number: round(statistics.median(taken), 3) for number, taken in by_number.items()}
        print(json.dumps({
            "what": "cold scan", "megabytes": size / 1e6, "latency": given.latency, "bandwidth": given.bandwidth,
            "plain by requests in flight": numbers, **medians,
            "http/plain": medians["plain"] / medians["http"], "s3/plain": medians["plain"] / medians["s3"],
        }))  # fmt: skip
        if given.keys:
            listed = [measured(_LIST, "s3://many/part", store) for _ in range(given.runs)]
            print(json.dumps({"what": "list", "keys": given.keys, "seconds": statistics.median(t for t, _ in listed),
                              "found, of which finding, processor time": listed[0][1]}))  # fmt: skip


if __name__ == "__main__":
    main()
