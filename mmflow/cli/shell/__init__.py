"""`mmflow shell`: statements one after the other, in one session.

lines ── statements ──> shell ── SQL ──────────> plan_query, emit
(prompt, stdin, .read)    └───── .commands ────> dot_commands

prompt        terminal: multi-line input, history, completion (prompt_toolkit, imported only here)
completion    what may stand at the cursor; columns come from a thread
statements    where statements end
"""
