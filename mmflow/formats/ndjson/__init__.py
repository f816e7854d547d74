"""Newline-delimited JSON."""
