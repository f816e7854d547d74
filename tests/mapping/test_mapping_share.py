"""A shared folder whose server fails or disappears: a clear error, and no endless or silent wait."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mmflow as mf
from mmflow.mapping import MappedFile, answering
from tests.mapping.share import Share, why_no_share
from tests.waiting import wait_until

REASON = why_no_share()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
]
ROWS = 100_000
_LONGEST_SECONDS = 60.0


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    with Share(tmp_path) as share:
        # What waits in the kernel can't be ended: if a test fails so, the server answers in the end.
        thaw = threading.Timer(_LONGEST_SECONDS, share.thaw)
        thaw.daemon = True
        thaw.start()
        (share.behind / "a.csv").write_text("n\n" + "".join(f"{n:07}\n" for n in range(ROWS)))
        yield share
        thaw.cancel()


def _read(share: Share) -> None:
    with mf.Session(shard_size="64KiB") as session:
        assert session.read_csv(share.folder / "a.csv").count() == ROWS


def _write(share: Share) -> None:
    mf.from_arrow({"n": list(range(1000))}).write_csv(str(share.folder / "out"), if_exists="replace")


def _change(share: Share) -> None:
    with mf.create_array(share.folder / "x.npy", "int64", (5000,), overwrite=True) as array:
        array[:] = 1
        array.flush()


def test_a_shared_folder_works(share: Share) -> None:
    for act in (_read, _write, _change):
        act(share)
    assert np.load(share.behind / "x.npy").sum() == 5000


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_failed_requests_are_errors_with_their_place(share: Share, number: int) -> None:
    failed = 0
    for kind in ("look", "open", "read", "write", "fsync", "rename", "all"):
        for act in (_read, _write, _change):
            share.fail(number, kind)
            try:
                act(share)
            except mf.MmflowError as error:  # not every act makes each of these requests
                failed += 1
                assert str(share.folder) in str(error)
                assert "report it" not in str(error)
            share.fail(0)
    assert failed > 10
    for act in (_read, _write, _change):
        act(share)


def _double(array: mf.MappedArray) -> None:
    array[100:200] = 2
    array.flush()


def test_an_open_array_whose_file_server_fails_is_an_error_and_goes_on_after_it(share: Share) -> None:
    with mf.create_array(share.folder / "x.npy", "int64", (5000,)) as array:
        array[:] = 1
        array.flush()
        for kind in ("look", "write", "fsync"):
            share.fail(errno.ESTALE, kind)
            with pytest.raises(mf.MmflowError, match=r"x\.npy"):
                _double(array)
            share.fail(0)
            array.roll_back()
        assert array[:].sum() == 5000


def test_refuses_page_that_can_not_be_read(share: Share) -> None:
    (share.behind / "b.bin").write_bytes(b"x" * (8 << 20))
    with MappedFile.open(share.folder / "b.bin", io="mmap") as file:
        window = file.window(4 << 20, 1 << 20, populate=False)
        share.fail(errno.EIO, "read")
        assert not np.frombuffer(window.buffer, "u1").all()  # zeros instead of a SIGBUS
        share.fail(0)
        with pytest.raises(mf.SourceChangedError, match="file server failed"):
            file.check_unchanged()


def test_names_server_that_is_gone(share: Share) -> None:
    share.kill()
    for act in (_read, _write, _change):
        with pytest.raises(mf.MmflowError, match="the file server is gone"):
            act(share)


# ---- silence ----------------------------------------------------------------------------------------


def test_silent_server_is_a_warning_and_then_an_error(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "WARN_SECONDS", 0.2)
    monkeypatch.setattr(answering, "FAIL_SECONDS", 0.5)
    share.freeze()
    for act in (_read, _write, lambda share: mf.open_array(share.folder / "x.npy")):
        with (
            pytest.warns(mf.SilentServerWarning, match=r"share \(fuse.share, share\) has not answered"),
            pytest.raises(mf.MmflowError, match="has not answered for"),
        ):
            act(share)
    share.thaw()
    _read(share)


_RUN = """
    import sys
    import mmflow.engines.loop as run, mmflow.mapping.answering as answering
    from mmflow.cli.main import main
    answering.WARN_SECONDS = run.WARN_SECONDS = 0.5
    answering.FAIL_SECONDS = run.FAIL_SECONDS = 1.5
    run.QUIET_SECONDS = 1.0
    sys.exit(main(sys.argv[1:]))
"""
_JOB = """
    import pathlib, time
    import mmflow as mf

    @mf.job
    def slow(session, *, source: str, begun: str) -> mf.Dataset:
        def wait(batch):
            if batch.num_rows:
                pathlib.Path(begun).touch()
                time.sleep(0.05)
            return batch
        return session.read_csv(source, schema={"n": "int64"}).map_batches(wait)
"""


@pytest.mark.parametrize("written", [True, False])
def test_server_that_disappears_during_a_run_ends_it_with_an_error(
    share: Share, tmp_path: Path, written: bool
) -> None:
    job, begun = tmp_path / "job.py", tmp_path / "begun"
    job.write_text(textwrap.dedent(_JOB))
    output = (share.folder if written else tmp_path) / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_RUN), "run", str(job), f"--source={share.folder / 'a.csv'}",
         f"--begun={begun}", f"--output={output}", "--shard-size=4KiB", "--io=pread", "--workers=2"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        wait_until(lambda: begun.exists() or process.poll() is not None, "the run to begin")
        share.freeze()
        said = ""
        while (
            "error: " not in said
        ):  # then the process may have to wait for the kernel, which waits for the server
            line = process.stderr.readline()
            assert line, said
            said += line
    finally:
        share.thaw()
        process.stderr.close()
        process.kill()
        process.wait()
    assert "SilentServerWarning" in said
    assert "has not answered for" in said.partition("error: ")[2]
    assert not (share.behind / "out").exists()
