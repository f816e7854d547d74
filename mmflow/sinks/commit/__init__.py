"""Commits: all of a result becomes visible, or none of it."""
