"""Files and output of a run hold no secrets, are their owner's alone, and are never executed."""

from __future__ import annotations

import ast
import json
import os
import pickle
import signal
import stat
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.runs.conftest import HERE, ROOT, Workplace, files_of

PASSWORD = 'pass"wörd\\7'
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7'MDENG",
    "db_password": PASSWORD,
    "url": "hunter2345",
    "token": "tokentokentoken",
}
URL = "postgres://ada:hunter2345@db.example/shop"
SHY = HERE / "secret_job.py"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AWS_SECRET_ACCESS_KEY"])


def _shy(
    workplace: Workplace, run: str, *more: str, place: str = "never"
) -> subprocess.CompletedProcess[str]:
    return workplace.mmflow(
        "run", str(SHY), "--orders", str(workplace.orders), "--output", str(workplace.folder / f"out-{run}"),
        "--format", "csv", "--name", run, "--db-password", PASSWORD, "--url", URL, "--tokens", SECRETS["token"],
        *more, *workplace.flags(), place=place,
    )  # fmt: skip


def _spellings(secret: str) -> set[bytes]:
    """Return a secret as text, and as JSON and Python may write it."""
    plain = json.dumps(secret, ensure_ascii=False)
    return {s.encode() for s in (secret, json.dumps(secret)[1:-1], plain[1:-1], repr(secret)[1:-1])}


def _nowhere(workplace: Workplace, run: str, done: subprocess.CompletedProcess[str]) -> None:
    files = [p for p in (workplace.runs / run).rglob("*") if p.is_file()]
    assert len(files) > 4
    written = {str(p): p.read_bytes() for p in files}
    for where, data in {**written, "stderr": done.stderr.encode(), "stdout": done.stdout.encode()}.items():
        for name, secret in SECRETS.items():
            assert not any(s in data for s in _spellings(secret)), f"{name} in {where}"


def test_secrets_are_in_no_file_of_a_run(workplace: Workplace) -> None:
    done = _shy(workplace, "r1")
    assert done.returncode == 0, done.stderr
    facts = json.loads((workplace.runs / "r1" / "run.json").read_text())
    hidden = {"db_password": "***", "url": "postgres://***@db.example/shop", "tokens": ["***"]}
    assert hidden.items() <= facts["parameters"].items()
    _nowhere(workplace, "r1", done)


@pytest.mark.parametrize("where", ["here", "task"])
def test_secrets_in_errors_are_told_to_nobody(workplace: Workplace, where: str) -> None:
    failed = _shy(workplace, "r1", "--fail", where)
    assert failed.returncode == 1
    assert "no login at postgres://***@db.example/shop with ***, ***, ['***']" in failed.stderr
    summary = json.loads((workplace.runs / "r1" / "summary.json").read_text())
    assert "no login" in summary["error"]["message"]
    _nowhere(workplace, "r1", failed)


def test_a_run_that_goes_on_asks_for_its_secrets(workplace: Workplace) -> None:
    assert _shy(workplace, "whole").returncode == 0
    assert _shy(workplace, "r1", place="journal:3").returncode == -signal.SIGKILL
    refused = workplace.resume()
    assert refused.returncode == 2
    assert "give --db-password, --url, --tokens again" in refused.stderr
    went_on = workplace.mmflow(
        "run", "--resume", "r1", "--db-password", PASSWORD, "--url", URL, "--tokens", SECRETS["token"]
    )
    assert went_on.returncode == 0, went_on.stderr
    assert files_of(workplace.folder / "out-r1") == files_of(workplace.folder / "out-whole")
    assert any(e["event"] == "task_restored" for e in workplace.events())
    _nowhere(workplace, "r1", went_on)


def test_an_address_with_a_password_is_asked_for(workplace: Workplace) -> None:
    assert (
        _shy(workplace, "r1", "--address", "tls://ada:hunter2345@host:8786", place="journal:3").returncode < 0
    )
    facts = json.loads((workplace.runs / "r1" / "run.json").read_text())
    assert facts["settings"]["address"] == "tls://***@host:8786"
    refused = workplace.mmflow("run", "--resume", "r1", "--db-password", PASSWORD)
    assert refused.returncode == 2
    assert "give --address again" in refused.stderr


# ---- whose it is ------------------------------------------------------------------------------------------


def test_a_run_is_its_owners_alone(workplace: Workplace) -> None:
    assert workplace.run(workplace.folder / "out", place="journal:6").returncode == -signal.SIGKILL
    run = workplace.runs / "r1"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    for path in run.rglob("*"):
        wanted = 0o600 if path.is_file() else 0o700
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert (run / "blocks").is_dir()


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_folder_of_somebody_else_is_refused(workplace: Workplace) -> None:
    run = workplace.runs / "r1"
    run.mkdir(parents=True)
    os.chown(run, 12345, 12345)
    _refused(workplace, workplace.run(workplace.folder / "out"))
    os.chown(run, 0, 0)
    assert workplace.run(workplace.folder / "out", place="journal:3").returncode == -signal.SIGKILL
    os.chown(run, 12345, 12345)
    _refused(workplace, workplace.resume())


def test_a_link_in_place_of_a_run_is_refused(workplace: Workplace) -> None:
    assert workplace.run(workplace.folder / "out", place="journal:3").returncode == -signal.SIGKILL
    moved = workplace.folder / "moved"
    (workplace.runs / "r1").rename(moved)
    (workplace.runs / "r1").symlink_to(moved)
    _refused(workplace, workplace.resume())
    _refused(workplace, workplace.run(workplace.folder / "out"))


def _refused(workplace: Workplace, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done.stderr
    assert f"{workplace.runs / 'r1'} is not a folder of yours" in done.stderr
    assert not (workplace.folder / "out").exists()


# ---- what it may do ---------------------------------------------------------------------------------------

FORBIDDEN = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


@pytest.mark.parametrize("path", sorted((ROOT / "mmflow" / "runs").glob("*.py")), ids=lambda p: p.name)
def test_nothing_that_reads_runs_executes_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                assert not {n.name.partition(".")[0] for n in names} & FORBIDDEN
            case ast.ImportFrom(module=str(module)):
                assert module.partition(".")[0] not in FORBIDDEN
            case ast.Call(func=ast.Name(id=name)):
                assert name not in ("eval", "exec", "compile", "__import__")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path(os.environ["BOMB"]) / "exploded"),)


def test_a_journal_of_pickles_does_nothing(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(workplace.folder))
    assert workplace.run(workplace.folder / "whole", run_id="whole").returncode == 0
    assert workplace.run(workplace.folder / "out", place="journal:4").returncode == -signal.SIGKILL
    journal = workplace.runs / "r1" / "journal"
    lines = []
    for protocol in (0, 2, 5):
        bomb = pickle.dumps(_Bomb(), protocol).replace(b"\n", b"\r")
        text = bomb.decode(errors="replace")  # as the journal is read
        lines += [bomb, f"{zlib.crc32(text.encode()):08x} {text}".encode()]
    for text in ('"text"', "[1]", '{"v":3}', '{"v":3,"kind":"other"}', "{", "NaN"):
        lines.append(f"{zlib.crc32(text.encode()):08x} {text}".encode())
    with (journal / "000000.jsonl").open("ab") as file:
        file.write(b"\n".join(lines) + b"\n")
    (journal / "000000.pickle").write_bytes(pickle.dumps(_Bomb()) + b"\n")
    went_on = workplace.resume()
    assert went_on.returncode == 0, went_on.stderr
    assert files_of(workplace.folder / "out") == files_of(workplace.folder / "whole")
    assert not (workplace.folder / "exploded").exists()
    assert any("damaged lines" in e["message"] for e in workplace.events() if e["event"] == "warning")
