"""Decoded columns of text files: their encoding, and entries of files that a later scan reads instead of text."""
