"""Completion in shells: real ones, where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import sys
import time
from pathlib import Path

import pytest

from mmflow.cli.main import main

_START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(mmflow completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u -D; eval "$(mmflow completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "mmflow completion fish | source"),
}


@pytest.mark.parametrize(
    ("words", "number", "wanted"),
    [
        ("mmflow ", 1, {"plain,sql", "plain,run", "plain,completion"}),
        ("mmflow st", 1, {"plain,status"}),
        ("mmflow k8s ", 2, {"plain,render"}),
        ("mmflow sql --ou", 2, {"plain,--output"}),
        ("mmflow sql --engine ", 3, {"plain,local", "plain,ray", "plain,dask"}),
        ("mmflow run a.py --top 3 --io=m", 5, {"plain,mmap"}),
        ("mmflow run a.py --top 3 --io ", 6, {"plain,auto", "plain,mmap", "plain,pread"}),
        ("mmflow head ", 2, {"file,"}),
        ("mmflow logs ", 2, {"plain,nightly", "plain,other"}),
        ("mmflow run --resume n", 3, {"plain,nightly"}),
        ("mmflow sql --profile=x ", 3, set()),
    ],
)
def test_answers(
    words: str, number: int, wanted: set[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("nightly", "other"):
        (tmp_path / name).mkdir()
    for key, value in {
        "_MMFLOW_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number), "MMFLOW_RUNS_DIR": str(tmp_path)
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    assert main([]) == 0
    found = set(capsys.readouterr().out.split())
    assert found >= wanted
    assert found == wanted or words == "mmflow "


@pytest.mark.parametrize("shell", [s for s in _START if shutil.which(s)])
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    (tmp_path / "line item.csv").touch()
    command, load = _START[shell]
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "dumb",
        "HOME": str(tmp_path),
    }
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.execvpe(command[0], command, env)
    try:
        shown = b""
        for typed, wanted in (
            (f'{load}; echo load""ed\n', b"loaded"),
            ("mmflow insp\t", b"mmflow inspect "),
            ("line\t", b"line\\ item.csv"),
            (" --engine ra\t", b"--engine ray "),
            (" --memo\t", b"--memory "),
        ):
            os.write(terminal, typed.encode())
            deadline = time.monotonic() + 60
            while wanted not in shown:
                assert time.monotonic() < deadline, shown
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 1 << 16)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
