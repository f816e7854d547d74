"""Shared memory between processes of one host: channels, tables, messages."""
