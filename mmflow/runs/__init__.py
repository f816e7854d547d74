"""Runs: their folder, journal, events, resumption, and report."""
