"""The ten most common mistakes: what people are told is short, and changes on purpose only."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path

import pytest

import mmflow as mf
from tests.errors.mistakes import folder_of_mistakes, told_by_command, transcript

_GOLDEN = Path(__file__).parent / "mistakes.txt"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    with folder_of_mistakes(tmp_path_factory.mktemp("mistakes")):
        return transcript()


def test_messages_are_those_of_the_golden_file(told: str) -> None:
    assert told == _GOLDEN.read_text(), (
        "if this is on purpose: python -m tests.errors.mistakes > tests/errors/mistakes.txt"
    )


def test_a_message_has_at_most_three_lines(told: str) -> None:
    errors = re.findall(
        r"^    (?:error: |\S*Error: )(?:.*\n)(?:(?!    \(exit|    code: |\n).*\n)*", told, re.MULTILINE
    )
    assert len(errors) >= 18
    for error in errors:
        assert error.count("\n") <= 3, error


def test_status_and_report_show_where_a_function_failed(tmp_path: Path) -> None:
    with folder_of_mistakes(tmp_path):
        told = told_by_command(["run", "ratio.py"])
        found = re.search(r"^run (\w+)$", told, re.MULTILINE)
        assert found is not None
        status = told_by_command(["status", found[1]])
        where = re.search(r"^report +(\S+)$", status, re.MULTILINE)
        assert where is not None, status
        report = Path(where[1]).read_text()
    for text in (status, report):
        assert "division by zero" in text
        assert "ratio.py:4" in text
        assert "begins with row 0" in text
        assert "in inverse" in text  # the frame of the traceback
    assert "mmflow/" not in status.partition("ZeroDivisionError")[2].partition("resume")[0]


def test_traceback_of_the_command_line_shows_all_and_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMFLOW_TRACEBACK", raising=False)
    with folder_of_mistakes(tmp_path), pytest.raises(mf.MmflowError) as caught:
        told_by_command(["sql", "SELECT hots FROM 'access.csv'", "--traceback"])
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 8
    assert "MMFLOW_TRACEBACK" not in os.environ
