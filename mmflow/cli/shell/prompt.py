"""Terminal of the shell: multi-line input, history, completion, highlighting, by prompt_toolkit."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import Lexer, PygmentsLexer
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from mmflow.cli.shell.completion import Completer as Candidates
from mmflow.cli.shell.shell import Shell
from mmflow.cli.shell.statements import is_complete
from mmflow.cli.signals import EndingSignal
from mmflow.config import state_dir
from mmflow.distribution import VERSION
from mmflow.sinks.screen import cut_text, has_colors

__all__ = ["converse"]

_PROMPT, _MORE = "mmflow> ", "   ...> "
_MENU_LINES = 8
_KIND_WIDTH = 40


def converse(shell: Shell) -> None:
    """Read statements from the terminal and run them, until Ctrl-D or `.quit`."""
    with contextlib.closing(Candidates(shell)) as candidates:
        _converse(shell, candidates)


def _converse(shell: Shell, candidates: Candidates) -> None:
    output = create_output(always_prefer_tty=True)
    prompt: PromptSession[str] = PromptSession(
        _PROMPT,
        multiline=True,
        prompt_continuation=_MORE,
        history=_open_history(),
        completer=_PromptCompleter(candidates),
        complete_in_thread=True,
        complete_while_typing=False,
        complete_style=CompleteStyle.COLUMN,
        reserve_space_for_menu=_MENU_LINES,
        key_bindings=_bindings(),
        lexer=_lexer(),
        enable_suspend=True,
        output=output,
    )
    print(f"mmflow {VERSION}. Statements end with ;  .help lists commands, Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            text = prompt.prompt()
        except EndingSignal:
            raise
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if not shell.run_typed(text):
            return
        candidates.forget()


class _PromptCompleter(Completer):
    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        del complete_event
        for each in self._candidates.candidates(document.text, document.cursor_position):
            yield Completion(
                each.text, -each.length, display=each.shown, display_meta=cut_text(each.kind, _KIND_WIDTH)
            )


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER) & ~is_searching)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        state = buffer.complete_state
        if state is not None and state.current_completion is not None:
            buffer.apply_completion(state.current_completion)
        elif is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    return bindings


def _lexer() -> Lexer | None:
    """Return the highlighting of SQL. None: there are no colors, or no pygments."""
    if not has_colors(sys.stdout):
        return None
    try:
        from pygments.lexers.sql import SqlLexer  # noqa: PLC0415  (optional)
    except ImportError:
        return None
    return PygmentsLexer(SqlLexer)


class _PrivateHistory(FileHistory):
    """History in a file that only its owner reads: statements may hold what is secret."""

    def store_string(self, string: str) -> None:
        """Append a statement, or keep it for this shell only where the file can't be written."""
        with contextlib.suppress(OSError):
            super().store_string(string)


def _open_history() -> History:
    path = Path(os.environ.get("MMFLOW_HISTORY") or state_dir() / "history")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        print(f"warning: no history is kept: {path}: {error.strerror}", file=sys.stderr)
        return InMemoryHistory()
    return _PrivateHistory(path)
