"""An S3 server on this machine, and processes that die while they write to it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

CRASHER = Path(__file__).with_name("crash_commit.py")
ROOT = Path(__file__).parents[2]

Crash = Callable[..., tuple[bool, list[str]]]


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[], str]]:
    """Makes a new bucket, and says its URL. The environment is that of the server, for child processes too."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    numbers = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)

        def make() -> str:
            import fsspec

            bucket = f"bucket-{next(numbers)}"
            fsspec.filesystem("s3").mkdir(bucket)
            return f"s3://{bucket}"

        yield make
    server.stop()


@pytest.fixture(scope="module")
def crash() -> Iterator[Crash]:
    """Runs `crash_commit.py`; says whether the process died, and which checkpoints it reached."""
    process = subprocess.Popen(
        [sys.executable, str(CRASHER), "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(*arguments: object) -> tuple[bool, list[str]]:
        assert process.stdin is not None
        assert process.stdout is not None
        store = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        process.stdin.write(json.dumps([store, [str(a) for a in arguments]]) + "\n")
        process.stdin.flush()
        code, steps = json.loads(process.stdout.readline())
        assert code in (0, -9), steps
        return code != 0, steps

    yield run
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
