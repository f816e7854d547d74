"""A driver that writes to S3 is killed, and its run resumed: nothing that was uploaded is computed again."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.runs.conftest import Workplace
from tests.sinks.object_rows import state, tidy


@pytest.mark.parametrize("line", [5, 11])
def test_killed_while_it_writes_to_s3(workplace: Workplace, s3: Callable[[], str], line: int) -> None:
    url = s3()
    done = workplace.run(f"{url}/whole", run_id="whole")  # type: ignore[arg-type]  # a URL
    assert done.returncode == 0, done.stderr
    died = workplace.run(f"{url}/out", place=f"journal:{line}")  # type: ignore[arg-type]  # a URL
    assert died.returncode == -signal.SIGKILL, died.stderr
    for _ in range(2):  # the second time it is done
        went_on = workplace.resume()
        assert went_on.returncode == 0, went_on.stderr
        assert state(f"{url}/out") == state(f"{url}/whole") != []
        assert tidy(f"{url}/out")
    assert any(e["event"] == "task_restored" for e in workplace.events())
