"""A process killed at any step of a commit to S3 leaves the old state or the new; resumed once, swept by the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from _pytest.mark.structures import ParameterSet

from mmflow.sinks import open_commit, sink_spec
from mmflow.sinks.commit import object_lock
from tests.sinks.conftest import Crash
from tests.sinks.object_rows import rows, state, tidy
from tests.sinks.sink_rows import write, write_all

CASES = {
    # name: destination, mode of the run that dies, old state, new state
    "new folder": ("out", "error", None, ["new", "new"]),
    "replace folder": ("out", "replace", ["old", "old", "old"], ["new", "new"]),
    "append": ("out", "append", ["old", "old"], ["new", "new", "old", "old"]),
    "new file": ("out.csv", "error", None, ["new"]),
    "replace file": ("out.csv", "replace", ["old"], ["new"]),
}
_FOLDER = ["locked", "opened", "prepared", "staged", "intended", "copied", "checked", "published", "noted"]
_FOLDER += ["cleared", "settled", "cleaned"]
_FILE = [
    "locked",
    "opened",
    "prepared",
    "staged",
    "intended",
    "checked",
    "published",
    "noted",
    "settled",
    "cleaned",
]
#: A server's answers take a second of each. `make test` dies at every step of a run that replaces a folder, and of other runs
#: at those around the publication; `make nightly` at the others from the intent on. The simulated world dies at all calls.
_OTHERS = ("copied", "checked", "published", "noted")


def _points() -> Iterator[ParameterSet]:
    for name in CASES:
        for n, step in enumerate(_FILE if "file" in name else _FOLDER):
            if name == "replace folder" or step in _OTHERS:
                yield pytest.param(name, n + 1, step)
            elif n >= _FOLDER.index("intended"):  # before, all of them do the same
                yield pytest.param(name, n + 1, step, marks=pytest.mark.nightly)


POINTS = list(_points())
_PUBLISHED = ("published", "noted", "cleared", "settled", "cleaned")


pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_lock, "SETTLE_SECONDS", 0.01)


def dead_run(s3: Callable[[], str], crash: Crash, name: str, die_at: int, step: str) -> str:
    """A destination whose run was killed right after `step`."""
    target, mode, old, _ = CASES[name]
    url = f"{s3()}/deep/{target}"
    if old is not None:
        write_all(url, [[rows("old")]] * len(old), format="csv", run="r-old")
    died, reached = crash(url, "r-dead", mode, "new", die_at)
    assert died
    assert reached[-1] == step
    return url


@pytest.mark.parametrize(("name", "die_at", "step"), POINTS)
def test_a_crash_leaves_old_or_new_and_the_next_run_sweeps(
    s3: Callable[[], str], crash: Crash, name: str, die_at: int, step: str
) -> None:
    url = dead_run(s3, crash, name, die_at, step)
    _, _, old, new = CASES[name]
    expected = new if step in _PUBLISHED else old
    assert state(url) == expected
    spec = sink_spec(url, "csv", if_exists="replace")
    with open_commit(spec, "r-next") as commit:
        commit.prepare()
        assert state(url) == expected
    assert state(url) == expected
    assert tidy(url)  # also if the next run stops without a result


# Once its staging is gone, nothing could tell that a new file is this run's.
@pytest.mark.parametrize(
    ("name", "die_at", "step"),
    [p for p in POINTS if p.values[0] != "new file" or p.values[2] not in ("settled", "cleaned")],
)
def test_a_run_that_died_can_be_resumed(
    s3: Callable[[], str], crash: Crash, name: str, die_at: int, step: str
) -> None:
    url = dead_run(s3, crash, name, die_at, step)
    _, mode, _, new = CASES[name]
    spec = sink_spec(url, "csv", if_exists=mode)  # type: ignore[arg-type]  # of str
    tasks = range(2 if spec.is_folder else 1)
    with open_commit(spec, "r-dead") as commit:
        commit.prepare()
        published = step in _PUBLISHED if spec.is_folder else step in ("published", "noted")
        assert commit.done is published
        schema = rows("new").schema
        # Its tasks run again; what they wrote before doesn't count.
        again = (
            [] if published else [write(spec, [rows("new")], schema, run="r-dead", number=n) for n in tasks]
        )
        commit.commit([f for files in again for f in files], schema)
    assert state(url) == new
    assert tidy(url)


@pytest.mark.parametrize("die_at", [6, 8, *(pytest.param(n, marks=pytest.mark.nightly) for n in (5, 9))])
def test_a_resumed_run_may_die_again(s3: Callable[[], str], crash: Crash, die_at: int) -> None:
    url = f"{s3()}/out"
    write_all(url, [[rows("old")]], format="csv", run="r-old")
    for _ in range(2):
        crash(url, "r-dead", "replace", "new", die_at)
        assert state(url) == (["new", "new"] if die_at >= 8 else ["old"])
    died, _ = crash(url, "r-dead", "replace", "new", 99)
    assert not died
    assert state(url) == ["new", "new"]
    assert tidy(url)
