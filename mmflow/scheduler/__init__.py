"""Decisions on what runs next: the state machine of one run, without an engine or a clock."""
