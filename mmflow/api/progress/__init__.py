"""Display of runs while they go on: a bar on terminals, a line in notebooks, plain lines elsewhere.

    choice       which display, if any: mf.progress, notebook, terminal
    meter        what is shown of a run: share, stage, bytes, rows, time left
    terminal     one line at the cursor, wiped before anything else is printed
    plain        lines for logs
    notebook     one output of a cell, changed in place

Invariant: a stream that nobody reads any more does not end a run.
"""

from mmflow.api.progress.choice import Display, Ending, open_display, progress, showing_progress

__all__ = ["Display", "Ending", "open_display", "progress", "showing_progress"]
