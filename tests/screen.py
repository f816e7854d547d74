"""Screen of a real terminal, by tmux."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.waiting import wait_until

__all__ = ["Screen", "shows"]


class Screen:
    """Terminal of a tmux server of its own."""

    def __init__(self, socket: Path, folder: Path, lines: int = 24) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", os.devnull]
        self._folder = folder
        environment = {
            k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TMUX", "COLUMNS")
        }
        self._call("new-session", "-d", "-x", "80", "-y", str(lines), "sh", env=environment)
        self.type(f"PS1='$ '; cd {folder}; clear", "Enter")

    def _call(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run(
            [*self._tmux, *arguments], check=True, capture_output=True, text=True, env=env
        ).stdout

    def type(self, *keys: str) -> None:
        """Press keys by their names ("Enter", "C-c"); anything else is text."""
        # A semicolon at the end would begin another command of tmux.
        self._call("send-keys", *(f"{k[:-1]}\\;" if k.endswith(";") else k for k in keys))

    def kill(self, number: int) -> None:
        """Send a signal to the command that runs."""
        shell = self._call("display-message", "-p", "#{pane_pid}").strip()
        for child in Path(f"/proc/{shell}/task/{shell}/children").read_text().split():
            os.kill(int(child), number)

    def resize(self, columns: int) -> None:
        self._call("resize-window", "-x", str(columns), "-y", "24")

    def lines(self, *, history: bool = False) -> list[str]:
        """Return the lines that are not empty, with those that were scrolled out of sight."""
        above = ("-S", "-") if history else ()
        return [line for line in self._call("capture-pane", "-p", *above).splitlines() if line]

    def close(self) -> None:
        self._call("kill-server")


def shows(screen: Screen, found: Callable[[list[str]], bool]) -> list[str]:
    """Wait until the screen shows something, and return its lines."""
    wait_until(lambda: found(screen.lines()), f"the screen: {screen.lines()}")
    return screen.lines()
