"""Rows by their number, without reading what lies before them. See docs/random-access.md."""
